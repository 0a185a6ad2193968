"""Stored values as what can be shown: of JSON's types, and without making anything of the user's.

A serializer gives objects back by importing their classes and calling them. Here nothing is
imported or called: an object is shown by the kind, module and name that its bytes say, with the
data that it would be made from. What JSON has no type for is a dict with one key that begins with
``$`` and says what it is, and what cannot be decoded is shown by its size and its first bytes.
"""

from __future__ import annotations

import json
import math
import pickletools
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import msgpack  # type: ignore[import-untyped]

from swarmstate import codecs
from swarmstate.checkpoints.protocol import Blob
from swarmstate.errors import DecodeError

__all__ = ["Inert", "named_in_pickle", "of_blob", "of_stored", "shape_of"]

_FIRST = 32
"""How many bytes are shown of what is only bytes."""

_DEEPEST = 300
# The extension types of LangGraph's JsonPlusSerializer. Most hold (module, name, data, ...).
_KINDS = {0: "call", 1: "call", 2: "call", 3: "method", 4: "pydantic", 5: "pydantic"}
_METHOD = 3
_ARRAY = 6
_SNAPSHOT = 7
# Opcodes of pickle that push a text, and those that take module and name from the stack.
_TEXTS = {"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE"}


def of_stored(data: bytes, codec: str) -> Any:
    """Return the value of a key of a store, given as it is stored."""
    try:
        value = codecs.loads(data, codec)
    except DecodeError as error:
        return _undecodable(data, codecs.get(codec).wire, str(error))
    return _shown(value, 0)


def of_blob(blob: Blob) -> Any:
    """Return what a checkpoint serializer wrote: a type tag and bytes."""
    tag, data = blob
    try:
        if tag == "null":
            return None
        if tag == "msgpack":
            return _shown(_unpacked(data), 0)
        if tag == "json":
            return _shown(json.loads(data), 0)
        if tag in ("bytes", "bytearray"):
            return _bytes(data)
        if tag == "pickle":
            return {"$pickle": named_in_pickle(data), **_summary(data)}
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException) as error:
        return _undecodable(data, tag, f"{type(error).__name__}: {error}".rstrip(": "))
    return _undecodable(data, tag, "the command does not know this serializer")


def named_in_pickle(data: bytes) -> list[str]:
    """Return the names of what unpickling would import, without doing it."""
    found: dict[str, None] = {}
    texts: list[str] = []
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name in _TEXTS:
            texts.append(str(argument))
        elif opcode.name == "GLOBAL":
            found[str(argument).replace(" ", ".")] = None
        elif opcode.name == "STACK_GLOBAL" and len(texts) > 1:
            found[".".join(texts[-2:])] = None
    return list(found)


def shape_of(value: Any) -> str:
    """Return in a word or two what kind of value one is that was made to be shown."""
    if isinstance(value, dict):
        for name in value:
            if name == "$object":
                named: str = value[name]
                return named
            if name.startswith("$"):
                kind: str = name[1:]
                return kind
        return f"map of {len(value)}"
    if isinstance(value, list):
        return f"list of {len(value)}"
    if value is None:
        return "null"
    names = {bool: "boolean", int: "integer", float: "number", str: "text"}
    return names.get(type(value), type(value).__name__)


class Inert:
    """A checkpoint serializer that only shows, for what reads metadata to decide something."""

    def dumps_typed(self, obj: Any) -> Blob:
        """Raise: nothing is written with this."""
        raise NotImplementedError("this serializer only reads")

    def loads_typed(self, data: Blob) -> Any:
        """Return what :func:`of_blob` does."""
        return of_blob(data)


def _unpacked(data: bytes) -> Any:
    return msgpack.unpackb(
        data,
        ext_hook=_object,
        object_pairs_hook=_map,
        strict_map_key=False,
        unicode_errors="surrogatepass",
        timestamp=0,
    )


def _object(code: int, data: bytes) -> Any:
    """Return what an extension type says of an object."""
    if code == _SNAPSHOT:
        return {"$delta_snapshot": _unpacked(data)}
    if code not in _KINDS and code != _ARRAY:
        return {"$extension": code, **_summary(data)}
    held = _unpacked(data)
    if not isinstance(held, list) or len(held) < _METHOD:
        return {"$extension": code, **_summary(data)}
    if code == _ARRAY:
        return {"$array": held[0], "$shape": held[1], **_summary(held[-1])}
    made = {"$object": f"{held[0]}.{held[1]}", "$kind": _KINDS[code], "$value": held[2]}
    if code == _METHOD and len(held) > _METHOD:
        made["$kind"] = f"method {held[3]}"
    return made


def _map(pairs: Iterable[tuple[Any, Any]]) -> Any:
    """Return a map; as a list of pairs where JSON could not keep its keys."""
    entries = list(pairs)
    if all(type(key) is str for key, _ in entries):
        return dict(entries)
    return {"$map": [list(pair) for pair in entries]}


def _shown(value: Any, depth: int) -> Any:
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"$float": repr(value)}
    if isinstance(value, (bytes, bytearray)):
        return _bytes(value)
    if isinstance(value, datetime):
        return {"$timestamp": value.isoformat()}
    if isinstance(value, msgpack.Timestamp):
        return {"$timestamp": value.seconds + value.nanoseconds / 1e9}
    if depth > _DEEPEST:
        return {"$deeper": type(value).__name__}
    if isinstance(value, (list, tuple)):
        return [_shown(each, depth + 1) for each in value]
    shown = [(_shown_key(key), _shown(each, depth + 1)) for key, each in value.items()]
    return _map(shown)


def _shown_key(key: Any) -> Any:
    return key if isinstance(key, str) else _shown(key, 0)


def _bytes(data: Any) -> Any:
    return {"$bytes": len(data), "$hex": bytes(data[:_FIRST]).hex()}


def _summary(data: Any) -> dict[str, Any]:
    if not isinstance(data, (bytes, bytearray)):
        return {}
    return {"$size": len(data), "$hex": bytes(data[:_FIRST]).hex()}


def _undecodable(data: bytes, kind: str, reason: str) -> Any:
    return {"$undecodable": kind, "$reason": reason, **_summary(data)}
