"""The reference codec: msgpack-python."""

from __future__ import annotations

from typing import Any

import msgpack

from swarmstate.errors import DecodeError, EncodeError
from swarmstate.protocols import Default


class MsgpackCodec:
    """msgpack-python, strict."""

    name = "msgpack"
    wire = "msgpack"

    def encode(self, value: object, *, default: Default | None = None) -> bytes:
        """Return ``value`` as msgpack bytes."""
        try:
            data: bytes = msgpack.packb(value, use_bin_type=True, datetime=True, default=default)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise EncodeError(f"cannot encode {type(value).__name__}: {error}") from error
        return data

    def decode(self, data: bytes) -> Any:
        """Return the value that ``data`` holds."""
        try:
            return msgpack.unpackb(data, raw=False, timestamp=3, strict_map_key=False)
        except (ValueError, TypeError, RecursionError, MemoryError) as error:
            raise DecodeError(f"cannot decode {len(data)} bytes: {error}") from error


codec = MsgpackCodec()
