"""The default codec: msgpack, decoded by msgpack-python.

Both built-in codecs encode with one code, :func:`swarmstate._codec.pack`, whose bytes the tests
compare with msgpack-python's; they differ only in who decodes.
"""

from __future__ import annotations

from typing import Any

from swarmstate._codec import REFUSED, TUPLE_KEYS, pack, scan
from swarmstate.codecs import _reference
from swarmstate.protocols import Default, FastPath


class MsgpackCodec:
    """msgpack at C speed for what is plain; the reference for the rest."""

    name = "msgpack"
    wire = "msgpack"
    fast = FastPath(pack, (), _reference.unpack, ())

    def encode(self, value: object, *, default: Default | None = None) -> bytes:
        """Return ``value`` in msgpack.

        Args:
            value: Anything in the domain of :mod:`swarmstate.codecs`.
            default: Turns other values and keys into supported ones.

        Raises:
            EncodeError: ``value`` is outside the domain; the text names the type and the path.
            Exception: whatever ``default`` raises, unchanged.
        """
        try:
            return pack(value)
        except Exception:  # noqa: BLE001, S110 (whatever it is, the reference says it better)
            pass
        return _reference.encode(value, default)

    def decode(self, data: bytes) -> Any:
        """Return the value that ``data`` holds.

        Args:
            data: Exactly one value in msgpack; it may come from anywhere.

        Raises:
            DecodeError: it is not; the text names the fault and the byte.
        """
        if type(data) is bytes and not scan(data) & (REFUSED | TUPLE_KEYS):
            try:
                return _reference.unpack(data)
            except ValueError:  # a text that is not UTF-8
                pass
        return _reference.decode(data)


codec = MsgpackCodec()
