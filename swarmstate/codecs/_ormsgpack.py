"""The fast codec: ormsgpack."""

from __future__ import annotations

from typing import Any

import ormsgpack

from swarmstate.errors import DecodeError, EncodeError
from swarmstate.protocols import Default


class OrmsgpackCodec:
    """ormsgpack."""

    name = "ormsgpack"
    wire = "msgpack"

    def encode(self, value: object, *, default: Default | None = None) -> bytes:
        """Return ``value`` as msgpack bytes."""
        try:
            data: bytes = ormsgpack.packb(value, default=default, option=ormsgpack.OPT_NON_STR_KEYS)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise EncodeError(f"cannot encode {type(value).__name__}: {error}") from error
        return data

    def decode(self, data: bytes) -> Any:
        """Return the value that ``data`` holds."""
        try:
            return ormsgpack.unpackb(data, option=ormsgpack.OPT_NON_STR_KEYS)
        except (ValueError, TypeError, RecursionError, MemoryError) as error:
            raise DecodeError(f"cannot decode {len(data)} bytes: {error}") from error


codec = OrmsgpackCodec()
