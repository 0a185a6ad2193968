"""The fast codec: the default one, decoded by ormsgpack."""

from __future__ import annotations

from typing import Any

import ormsgpack

from swarmstate._codec import DEEP, MANY_KEYS, REFUSED, TIMES, pack, scan
from swarmstate.codecs import _reference
from swarmstate.codecs._msgpack import MsgpackCodec
from swarmstate.protocols import FastPath

_unpackb = ormsgpack.unpackb
_ANY_KEYS = ormsgpack.OPT_NON_STR_KEYS


class OrmsgpackCodec(MsgpackCodec):
    """The encoder of the default codec; ormsgpack decodes what it handles exactly."""

    name = "ormsgpack"
    # Without the option, unpackb refuses keys that are not str, and the store asks `decode`.
    fast = FastPath(pack, (), _unpackb, ())

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
                if not found & (REFUSED | TIMES | DEEP | MANY_KEYS):
                    return _unpackb(data, option=_ANY_KEYS)
            except ValueError:  # a text that is not UTF-8
                pass
        return _reference.decode(data)


codec = OrmsgpackCodec()
