"""What "the same" means in the codec tests: types, order, every bit of a float, every letter."""

from __future__ import annotations

import struct
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any


def exact(value: Any) -> list[Any]:
    """Turn a decoded value into something that is equal only if the value is the same.

    A flat list, because comparing deep structures is recursive.
    """
    tokens: list[Any] = []
    todo = [value]
    while todo:
        value = todo.pop()
        kind = type(value)
        if kind is float:
            tokens.append(("float", struct.pack(">d", value)))
        elif kind is list or kind is tuple:
            tokens.append((kind.__name__, len(value)))
            todo.extend(reversed(value))
        elif kind is dict:
            tokens.append(("dict", len(value)))
            todo.extend(part for pair in reversed(value.items()) for part in reversed(pair))
        elif kind is datetime:
            assert value.tzinfo is timezone.utc
            tokens.append(("datetime", value.isoformat(), value.fold))
        else:
            assert kind in (type(None), bool, int, str, bytes), kind
            tokens.append((kind.__name__, value))
    return tokens


def outcome(call: Callable[[], Any]) -> Any:
    """Return what a call gives, or the class and the text of what it raises."""
    try:
        result = call()
    except Exception as error:
        return (type(error), str(error))
    return ("returned", exact(result))


def returned(value: Any) -> Any:
    """Model of what a value of the domain looks like after a trip through bytes."""
    if isinstance(value, datetime):
        return value.astimezone(timezone.utc).replace(fold=0)
    if isinstance(value, dict):
        return {_returned_key(key): returned(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [returned(item) for item in value]
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    return value


def _returned_key(key: Any) -> Any:
    return tuple(_returned_key(item) for item in key) if isinstance(key, tuple) else key


def nested(depth: int, kinds: str, leaf: Any = None) -> Any:
    """Return ``leaf`` within ``depth`` containers; ``kinds`` repeats: l(ist), t(uple), d(ict)."""
    value = leaf
    for level in range(depth):
        kind = kinds[level % len(kinds)]
        value = [value] if kind == "l" else (value,) if kind == "t" else {"k": value}
    return value
