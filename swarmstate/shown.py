"""Values in error texts: short, safe to print, and for no more work than what is shown.

``repr`` is none of these. That of a list goes through all of it, that of a user's class runs the
user's code, that of a long int raises, and that of a URL shows its password.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from types import BuiltinFunctionType, FunctionType
from typing import Any

__all__ = ["place", "shown"]

_PLAIN = {
    *(type(None), type(...), type(NotImplemented), bool, float, complex),
    *(FunctionType, BuiltinFunctionType),
}
_MAX_BITS = 2000  # of an int that is shown in digits; Python can be told to refuse 641 digits
_MAX_DEPTH = 4  # of containers
_LOOKED_AT = 512  # characters past the shown ones in which the end of a password is looked for
_CREDENTIALS = re.compile(r"://.*@", re.DOTALL)
_SECRET = re.compile(r"passw|secret|token|api_?key|credential", re.IGNORECASE)
_SECRET_ARGUMENT = re.compile(rf"((?:{_SECRET.pattern})\w*\s*=)[^&\s]*", re.IGNORECASE)


def shown(value: object, limit: int = 60) -> str:
    """Return a value for an error text, like ``repr`` but safe.

    Subclasses of built-in types are shown as their base, and objects of other classes by the name
    of their class, so none of the user's code runs. Passwords in URLs are left out.

    Args:
        value: Anything.
        limit: How many characters the text may have.

    Cost: O(limit), whatever the value; it never raises.
    """
    try:
        text = _text(value, limit, _MAX_DEPTH)
    except Exception:  # noqa: BLE001 - e.g. a dict that another thread changes; the error comes first
        text = _of_its_class(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def place(namespace: str, key: str) -> str:
    """Return where in a store something is, for an error text."""
    return f"key {shown(key)} of namespace {shown(namespace)}"


def _text(value: Any, room: int, depth: int) -> str:
    """Return a value like ``repr``; what has more than ``room`` characters may end anywhere."""
    kind = type(value)
    if kind in _PLAIN:
        return repr(value)
    if issubclass(kind, str):
        return repr(_without_secrets(str.__getitem__(value, slice(room + _LOOKED_AT)))[:room])
    if issubclass(kind, (bytes, bytearray)):
        start = bytes(memoryview(value)[: room + _LOOKED_AT]).decode("latin-1")
        text = repr(_without_secrets(start)[:room].encode("latin-1"))
        return text if issubclass(kind, bytes) else f"bytearray({text})"
    if issubclass(kind, int):
        bits = int.bit_length(value)
        return int.__repr__(value) if bits <= _MAX_BITS else f"<int of {bits} bits>"
    if issubclass(kind, float):
        return float.__repr__(value)
    if issubclass(kind, complex):
        return complex.__repr__(value)
    if issubclass(kind, dict):
        return _joined("{", _entries(value), room, depth, "}")
    if issubclass(kind, list):
        return _joined("[", list.__iter__(value), room, depth, "]")
    if issubclass(kind, tuple):
        return _joined("(", tuple.__iter__(value), room, depth, _end(value))
    if issubclass(kind, (set, frozenset)):
        base = set if issubclass(kind, set) else frozenset
        if not base.__len__(value):
            return f"{base.__name__}()"
        text = _joined("{", base.__iter__(value), room, depth, "}")
        return text if base is set else f"frozenset({text})"
    return type.__repr__(value) if issubclass(kind, type) else _of_its_class(value)


class _Entry:
    """A key of a dict with its value."""

    def __init__(self, key: Any, value: Any) -> None:
        self.key, self.value = key, value

    def text(self, room: int, depth: int) -> str:
        secret = type(self.key) is str and isinstance(self.value, (str, bytes))
        if secret and _SECRET.search(self.key[:_LOOKED_AT]):
            return f"{_text(self.key, room, depth)}: '***'"
        key = _text(self.key, room, depth)
        return f"{key}: {_text(self.value, max(room - len(key), 0), depth)}"


def _entries(items: dict[Any, Any]) -> Iterator[_Entry]:
    return (_Entry(key, value) for key, value in dict.items(items))


def _joined(start: str, items: Iterable[Any], room: int, depth: int, end: str) -> str:
    """Return as many items as there is room for."""
    if depth == 0:
        return f"{start}...{end}"
    text = start
    for item in items:
        if len(text) > room:
            return text
        if len(text) > len(start):
            text += ", "
        left = max(room - len(text), 0)
        if type(item) is _Entry:
            text += item.text(left, depth - 1)
        else:
            text += _text(item, left, depth - 1)
    return text + end


def _end(items: tuple[Any, ...]) -> str:
    return ",)" if tuple.__len__(items) == 1 else ")"


def _without_secrets(text: str) -> str:
    """Leave out what could be the password of a URL, or of one that is cut."""
    scheme, found, rest = text.partition("://")
    if found:
        if "@" in rest:
            text = _CREDENTIALS.sub("://***@", text)
        elif len(rest) >= _LOOKED_AT:
            text = f"{scheme}://***"
    return _SECRET_ARGUMENT.sub(r"\1***", text)


def _of_its_class(value: object) -> str:
    return f"<{type(value).__name__} object>"
