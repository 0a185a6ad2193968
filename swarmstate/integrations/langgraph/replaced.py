"""Which objects LangGraph's serializer gives back as something else than what was stored.

``JsonPlusSerializer`` never fails for an object that it cannot rebuild: its class is gone, was
renamed, or raises. It logs that once per class and process, if at all, and gives back the data from
which the object would have been made, or None, or for a pydantic model an instance whose values
nobody has checked. Here the objects within a stored value are looked at one by one.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import ormsgpack
from langgraph.checkpoint.serde.base import SerializerProtocol

from swarmstate.checkpoints.protocol import Blob

__all__ = ["replaced"]

# How the serializer marks what is not plain data: extension types of msgpack. Most hold
# (module, name, data, ...); a snapshot of a DeltaChannel holds a value, an array its bytes.
_PYDANTIC = (4, 5)
_ARRAY = 6
_SNAPSHOT = 7
_KEYS = ormsgpack.OPT_NON_STR_KEYS


def replaced(serde: SerializerProtocol, blob: Blob) -> str | None:
    """Return the name of an object in a stored value that the serializer does not rebuild, if any.

    Args:
        serde: A ``JsonPlusSerializer``.
        blob: The value as it wrote it.
    """
    found: list[str] = []
    kind, data = blob

    def look(code: int, inner: bytes) -> Any:
        whole = serde.loads_typed(("msgpack", ormsgpack.packb(ormsgpack.Ext(code, inner))))
        if found:
            return None
        if whole is None and code > _SNAPSHOT:
            found.append(f"extension type {code}")
            return None
        # Unpacking comes here for each object that lies within.
        held = ormsgpack.unpackb(inner, ext_hook=look, option=_KEYS)
        if code == _ARRAY:
            if whole is None:
                found.append("numpy.ndarray")
        elif code != _SNAPSHOT and not found:
            given = serde.loads_typed(("msgpack", inner))[2]
            unchecked = code in _PYDANTIC and not _is_valid(type(whole), given)
            if whole is None or unchecked or _is_same(whole, given):
                found.append(f"{held[0]}.{held[1]}")
        return held

    def look_at_json(value: dict[str, Any]) -> dict[str, Any]:
        if value.get("lc") == 2 and value.get("type") == "constructor" and not found:
            whole = serde.loads_typed(("json", json.dumps(value).encode()))
            if whole is None or isinstance(whole, dict):
                found.append(".".join(map(str, value.get("id") or ())))
        return value

    if kind == "msgpack":
        ormsgpack.unpackb(data, ext_hook=look, option=_KEYS)
    elif kind == "json":
        json.loads(data, object_hook=look_at_json)
    return found[0] if found else None


def _is_same(whole: Any, given: Any) -> bool:
    """Return whether an object came back as the plain data that it is made from."""
    if type(whole) is not type(given):
        return False
    try:
        return bool(whole == given)
    except Exception:  # noqa: BLE001 (any object may be compared; of one type, it is that data)
        return True


def _is_valid(cls: Any, given: Any) -> bool:
    """Return whether a pydantic model accepts the values from which it was made unchecked."""
    names = {key: getattr(each, "alias", None) or key for key, each in _fields(cls).items()}
    for values in (given, {names.get(key, key): value for key, value in given.items()}):
        with suppress(Exception):  # what a user's validator raises says no more than that
            cls(**values)
            return True
    return False


def _fields(cls: Any) -> dict[str, Any]:
    """Return the fields of a model, whichever version of pydantic it is of."""
    return getattr(cls, "model_fields", None) or getattr(cls, "__fields__", None) or {}
