"""Types of the compiled msgpack code; a test compares them with it."""

from collections.abc import Callable
from typing import Any, final

MAX_DEPTH: int
MAX_KEY_DEPTH: int
TIMES: int
OTHER_KEYS: int
TUPLE_KEYS: int
DEEP: int
REFUSED: int

def pack(value: object, /) -> bytes: ...
def scan(data: bytes, /) -> int: ...
def examine(data: bytes, /) -> tuple[int, str, int]: ...
def know_zone_info(zone_info: type, /) -> None: ...

@final
class MsgpackUnpacker:
    def __init__(self, unpackb: Callable[..., Any]) -> None: ...
    def unpack(self, data: bytes, /) -> Any: ...
