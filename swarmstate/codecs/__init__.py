"""The codec registry, and :func:`dumps` / :func:`loads` over it.

A codec is found by name. Built in are ``"msgpack"`` (the default) and ``"ormsgpack"``: they accept
the same values, write the same bytes and raise the same errors, so a store written with one is
read with the other.
"""

from __future__ import annotations

import importlib
import threading

from swarmstate.errors import ArgumentTypeError, ArgumentValueError, UnknownCodecError
from swarmstate.protocols import Codec, Default

__all__ = ["available", "dumps", "get", "loads", "register"]

_lock = threading.Lock()
_codecs: dict[str, Codec | str] = {
    "msgpack": "swarmstate.codecs._msgpack:codec",
    "ormsgpack": "swarmstate.codecs._ormsgpack:codec",
}


def get(name: str) -> Codec:
    """Return the codec registered as ``name``, importing it on first use.

    Raises:
        UnknownCodecError: there is no such codec; the text names those that exist.
    """
    try:
        entry = _codecs[name]
    except (KeyError, TypeError):
        raise UnknownCodecError(
            f"unknown codec {name!r}: known are {', '.join(map(repr, sorted(_codecs)))}"
        ) from None
    if isinstance(entry, str):
        module, _, attribute = entry.partition(":")
        entry = getattr(importlib.import_module(module), attribute)
        with _lock:
            _codecs[name] = entry
    return entry


def register(name: str, codec: Codec | str, *, replace: bool = False) -> None:
    """Make ``codec``, an instance or a lazy ``"module:attribute"``, known as ``name``.

    Raises:
        InvalidArgumentError: the name is taken and ``replace`` is not set.
    """
    if not isinstance(name, str):
        raise ArgumentTypeError(f"codec name must be a str, not {type(name).__name__}")
    with _lock:
        if name in _codecs and not replace:
            raise ArgumentValueError(
                f"codec {name!r} is registered already: pass replace=True to replace it"
            )
        _codecs[name] = codec


def available() -> list[str]:
    """Return the names of the registered codecs, sorted."""
    return sorted(_codecs)


def dumps(value: object, codec: str = "msgpack", *, default: Default | None = None) -> bytes:
    """Return ``value`` encoded with ``codec``."""
    return get(codec).encode(value, default=default)


def loads(data: bytes, codec: str = "msgpack") -> object:
    """Return the value that ``data`` holds."""
    return get(codec).decode(data)
