"""The fast codec: ormsgpack, which writes the same bytes as msgpack-python."""

from __future__ import annotations

import sys
from typing import Any

from swarmstate._core import DEEP, REFUSED, TIMES, OrmsgpackCalls, scan
from swarmstate.codecs import _reference
from swarmstate.protocols import Default, FastPath

# Whoever imports it first knows that none of its objects exists yet; see OrmsgpackCalls.
_first = "ormsgpack" not in sys.modules

import ormsgpack  # noqa: E402

_unpackb = ormsgpack.unpackb
_calls = OrmsgpackCalls(
    ormsgpack.packb,
    # Refuse what it would otherwise turn into something else.
    ormsgpack.OPT_PASSTHROUGH_SUBCLASS
    | ormsgpack.OPT_PASSTHROUGH_DATACLASS
    | ormsgpack.OPT_PASSTHROUGH_DATETIME
    | ormsgpack.OPT_PASSTHROUGH_ENUM
    | ormsgpack.OPT_PASSTHROUGH_UUID,
    _reference.calls,
    ormsgpack.Ext,
    # ormsgpack 1.12, the last one for Python 3.10, has no such type.
    getattr(ormsgpack, "Fragment", ormsgpack.Ext),
)
if _first and hasattr(ormsgpack, "Fragment"):
    _calls.count_references()
_pack = _calls.pack
_ANY_KEYS = ormsgpack.OPT_NON_STR_KEYS


class OrmsgpackCodec:
    """ormsgpack for what it handles exactly; the reference for the rest."""

    name = "ormsgpack"
    wire = "msgpack"
    # Without the option, unpackb refuses keys that are no str, and the store asks `decode`.
    fast = FastPath(_pack, (), _unpackb, ())

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
            return _pack(value)
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
        if type(data) is bytes:
            found = scan(data)
            try:
                if not found:
                    return _unpackb(data)
                if not found & (REFUSED | TIMES | DEEP):
                    return _unpackb(data, option=_ANY_KEYS)
            except ValueError:  # a text that is not UTF-8
                pass
        return _reference.decode(data)


codec = OrmsgpackCodec()
