"""How values become bytes: a codec is found by its name.

Built in are ``"msgpack"`` (the default) and ``"ormsgpack"``: they accept the same values, write the
same bytes, return the same values and raise the same errors with the same text, so a store written
with one is read with the other. ``"zstd"`` compresses them and needs the library ``zstandard``.

What they accept: None, bool, int (-2**63 to 2**64-1), float (every bit is kept), str, bytes,
bytearray and memoryview of data (return as bytes), list, tuple (returns as list), dict with keys
None, bool, int, float, str, bytes or tuples of these, and subclasses of these built-in types as
their base. A datetime with a time zone returns in UTC. Everything else is refused, and so is what
could not be kept exactly, such as nanoseconds, unless ``default=`` turns it into something of the
above.
"""

from __future__ import annotations

from typing import Any

from swarmstate.arguments import check_default
from swarmstate.codecs.registry import Availability, available, get, register
from swarmstate.errors import UnknownCodecError
from swarmstate.protocols import Default

__all__ = [
    "Availability",
    "UnknownCodecError",
    "available",
    "dumps",
    "get",
    "loads",
    "register",
]


def dumps(value: object, codec: str = "msgpack", *, default: Default | None = None) -> bytes:
    """Return ``value`` as bytes.

    Args:
        value: Anything in the codec's domain.
        codec: The name of a registered codec.
        default: Turns other values and keys into supported ones.

    Raises:
        EncodeError: ``value`` is outside the domain; the text names the type and the path.
        UnknownCodecError: there is no such codec, or its package is not installed.
        Exception: whatever ``default`` raises, unchanged.
    """
    check_default(default)
    return get(codec).encode(value, default=default)


def loads(data: bytes, codec: str = "msgpack") -> Any:
    """Return the value that ``data`` holds.

    Args:
        data: Exactly one value; it may come from anywhere.
        codec: The name of a registered codec.

    Raises:
        DecodeError: ``data`` is not exactly one value; the text names the fault.
        UnknownCodecError: there is no such codec, or its package is not installed.
    """
    return get(codec).decode(data)
