"""Which codecs there are, by name; each is imported when it is first asked for.

A name leads to an instance, or to ``"module:attribute"`` where the instance will be found. Packages
offer codecs through the entry-point group ``swarmstate.codecs``. Nothing replaces a codec that is
there already unless it is told to.

There is no lock, which a forked child could inherit held, and which a finalizer could meet within
its own thread: every change is one operation on a dict, or on the entry that is filled in.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import operator
import sys
from dataclasses import dataclass
from typing import NamedTuple

from swarmstate.arguments import shown
from swarmstate.errors import ArgumentTypeError, ArgumentValueError, UnknownCodecError
from swarmstate.protocols import Codec, FastPath

__all__ = ["GROUP", "Availability", "available", "get", "lasts", "register"]

GROUP = "swarmstate.codecs"
"""The entry-point group in which packages offer codecs: ``name = "module:attribute"``."""


class Availability(NamedTuple):
    """What :func:`available` knows of a codec."""

    installed: bool
    """Whether it can be used now."""

    install: str
    """How to get it where it cannot, such as ``pip install zstandard``; else empty."""


@dataclass(eq=False)
class _Entry:
    """What a name leads to."""

    codec: Codec | None = None  # None: not imported yet
    target: str = ""  # "module:attribute"
    needs: str = ""  # the module without which it cannot be imported
    install: str = ""  # how to get that
    source: str = ""  # the distribution that offers it, if it came by entry point


def _built_in(module: str, needs: str) -> _Entry:
    return _Entry(None, f"swarmstate.codecs.{module}:codec", needs, f"pip install {needs}")


_entries = {
    "msgpack": _built_in("_msgpack", "msgpack"),
    "ormsgpack": _built_in("_ormsgpack", "ormsgpack"),
    "zstd": _built_in("zstd", "zstandard"),
}
_discovered = False


def get(name: str) -> Codec:
    """Return the codec registered as ``name``, importing it on first use.

    Cost: a dict look-up; the first time an import, and for a name that is not known yet a look at
    the entry points of all installed packages.

    Raises:
        UnknownCodecError: there is no such codec, or it cannot be imported; the text names those
            that exist, or what to install.
        InvalidArgumentError: ``name`` is not a str.
    """
    try:
        entry = _entries[name]
    except (KeyError, TypeError):
        entry = _look_up(name)
    return entry.codec if entry.codec is not None else _imported(name, entry)


def register(name: str, codec: Codec | str, *, replace: bool = False) -> None:
    """Make a codec known.

    Stores that exist keep the codec that they were made with.

    Args:
        name: What to ask for it by.
        codec: The instance, or ``"module:attribute"`` where one is found on first use.
        replace: Take the name even if it leads to another codec.

    Raises:
        InvalidArgumentError: the name is taken and ``replace`` is not set; or ``codec`` is neither
            a codec nor ``"module:attribute"``. Nothing was changed.
    """
    name = _check_name(name)
    if isinstance(codec, str):
        module, colon, attribute = codec.partition(":")
        parts = [*module.split("."), *attribute.split(".")]
        if not colon or not all(part.isidentifier() for part in parts):
            raise ArgumentValueError(f"codec must be 'module:attribute', not {shown(codec)}")
        top = module.partition(".")[0]
        install = f"install the package that has the module {shown(top)}"
        entry = _Entry(None, codec, top, install)
    else:
        _check_codec(codec, "codec")
        entry = _Entry(codec)
    _discover()
    if replace:
        _entries[name] = entry
    elif _entries.setdefault(name, entry) is not entry:
        raise ArgumentValueError(
            f"codec {shown(name)} is registered already: pass replace=True to replace it"
        )


def available() -> dict[str, Availability]:
    """Return every codec that is known, by name, and whether it is installed.

    Nothing is imported. Cost: a look at the entry points of all installed packages.
    """
    _discover(again=True)
    return {name: _availability(entry) for name, entry in sorted(_entries.items())}


def lasts(codec: Codec) -> bool:
    """Return whether a codec is one of ours that lives as long as the package."""
    module = type(codec).__module__
    return module in _OURS and getattr(sys.modules.get(module), "codec", None) is codec


_OURS = frozenset(entry.target.partition(":")[0] for entry in _entries.values())


def _check_name(name: object) -> str:
    if not isinstance(name, str):
        raise ArgumentTypeError(
            f"a codec's name must be a str, not {type(name).__name__} ({shown(name)})"
        )
    plain = str.__str__(name)
    if not plain:
        raise ArgumentValueError("a codec's name must not be empty")
    return plain


def _check_codec(codec: object, what: str) -> None:
    lacks = [
        *(a for a in ("name", "wire") if not isinstance(getattr(codec, a, None), str)),
        *(a for a in ("encode", "decode") if not callable(getattr(codec, a, None))),
    ]
    if isinstance(codec, type):
        wrong = "is a class, not an instance"
    elif lacks:
        wrong = f"lacks {', '.join(lacks)}"
    elif not _is_fast_path(getattr(codec, "fast", None)):
        wrong = "has an attribute fast that is not a FastPath"
    else:
        return
    raise ArgumentTypeError(
        f"{what} must be a codec (with str attributes name and wire, and methods encode and "
        f"decode): {shown(codec)} {wrong}"
    )


def _is_fast_path(path: object) -> bool:
    if path is None:
        return True
    if not isinstance(path, tuple) or len(path) != len(FastPath._fields):
        return False
    pack, pack_args, unpack, unpack_args = path
    tuples = type(pack_args) is tuple and type(unpack_args) is tuple
    return callable(pack) and callable(unpack) and tuples


def _look_up(name: str) -> _Entry:
    """Return what a name leads to that was not known a moment ago."""
    name = _check_name(name)
    _discover(again=True)
    try:
        return _entries[name]
    except KeyError:
        names = ", ".join(
            repr(known) if there.installed else f"{known!r} (not installed: {there.install})"
            for known, there in available().items()
        )
        raise UnknownCodecError(f"unknown codec {shown(name)}: known are {names}") from None


def _imported(name: str, entry: _Entry) -> Codec:
    """Import a codec and remember it in its entry."""
    module, _, attribute = entry.target.partition(":")
    which = f"codec {shown(name)}"
    if entry.source:
        which += f" of the package {shown(entry.source)}"
    try:
        codec: Codec = operator.attrgetter(attribute)(importlib.import_module(module))
    except ImportError as error:
        hint = entry.install if error.name == entry.needs else f"{error}"
        raise UnknownCodecError(
            f"{which} needs {error.name or entry.needs!r}, which cannot be imported: {hint}"
        ) from error
    except AttributeError as error:
        raise UnknownCodecError(f"{which} is not at {shown(entry.target)}: {error}") from error
    _check_codec(codec, f"{which}, found at {shown(entry.target)},")
    entry.codec = codec
    return codec


def _discover(*, again: bool = False) -> None:
    """Make known what installed packages offer; a name that is taken stays as it is."""
    global _discovered
    if _discovered and not again:
        return
    # Else Python looks at a folder again only when its time stamp has changed: after a clock tick.
    importlib.invalidate_caches()
    importlib.metadata.MetadataPathFinder().invalidate_caches()  # included since Python 3.13
    for point in importlib.metadata.entry_points(group=GROUP):
        source = point.dist.name if point.dist else ""
        needs = point.value.partition(":")[0]
        entry = _Entry(None, point.value, needs, f"pip install {source}", source)
        _entries.setdefault(point.name, entry)
    _discovered = True


def _availability(entry: _Entry) -> Availability:
    if entry.codec is not None:
        return Availability(True, "")
    try:
        installed = importlib.util.find_spec(entry.needs.partition(".")[0]) is not None
    except (ImportError, ValueError):  # a module without a spec; it is there all the same
        installed = True
    return Availability(installed, "" if installed else entry.install)
