"""Types of the compiled msgpack code; a test compares them with it."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, final

MAX_DEPTH: int
MAX_KEY_DEPTH: int
MAX_SAME_HASH: int
TIMES: int
OTHER_KEYS: int
TUPLE_KEYS: int
DEEP: int
REFUSED: int
MANY_KEYS: int

def pack(value: object, /) -> bytes: ...
def same_hash(items: dict[Any, Any], /) -> bool: ...
def scan(data: bytes, /) -> int: ...
def examine(data: bytes, /) -> tuple[int, str, int]: ...
def plain_datetime(value: object, /) -> datetime | None: ...
def know_zone_info(zone_info: type, /) -> None: ...

@final
class MsgpackUnpacker:
    def __init__(self, unpackb: Callable[..., Any]) -> None: ...
    def unpack(self, data: bytes, /) -> Any: ...
