"""Which codecs there are, by name; each is imported when it is first asked for.

A name leads to an instance, or to ``"module:attribute"`` where the instance will be found. Packages
offer codecs through the entry-point group ``swarmstate.codecs``. Nothing replaces a codec that is
there already unless it is told to.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import operator
import threading
from dataclasses import dataclass
from typing import NamedTuple

from swarmstate.arguments import shown
from swarmstate.errors import ArgumentTypeError, ArgumentValueError, UnknownCodecError
from swarmstate.protocols import Codec

__all__ = ["GROUP", "Availability", "available", "get", "register"]

GROUP = "swarmstate.codecs"
"""The entry-point group in which packages offer codecs: ``name = "module:attribute"``."""


class Availability(NamedTuple):
    """What :func:`available` knows of a codec."""

    installed: bool
    """Whether it can be used now."""

    install: str
    """How to get it where it cannot, such as ``pip install 'swarmstate[zstd]'``; else empty."""


@dataclass(frozen=True)
class _Lazy:
    """A codec that has not been imported yet."""

    target: str  # "module:attribute"
    needs: str  # the module without which it cannot be imported
    install: str  # how to get that
    source: str = ""  # the distribution that offers it, if it came by entry point


_lock = threading.Lock()
_codecs: dict[str, Codec | _Lazy] = {
    "msgpack": _Lazy("swarmstate.codecs._msgpack:codec", "msgpack", "pip install msgpack"),
    "ormsgpack": _Lazy("swarmstate.codecs._ormsgpack:codec", "ormsgpack", "pip install ormsgpack"),
    "zstd": _Lazy("swarmstate.codecs.zstd:codec", "zstandard", "pip install 'swarmstate[zstd]'"),
}
_discovered = False


def get(name: str) -> Codec:
    """Return the codec registered as ``name``, importing it on first use.

    Cost: a dict look-up; the first time an import, and for a name that is not known yet a look at
    the entry points of all installed packages.

    Raises:
        UnknownCodecError: there is no such codec, or it cannot be imported; the text names those
            that exist, or what to install.
        InvalidArgumentError: ``name`` is no str.
    """
    try:
        found = _codecs[name]
    except (KeyError, TypeError):
        found = _look_up(name)
    return _imported(name, found) if isinstance(found, _Lazy) else found


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
    _check_name(name)
    entry: Codec | _Lazy
    if isinstance(codec, str):
        module, colon, attribute = codec.partition(":")
        parts = [*module.split("."), *attribute.split(".")]
        if not colon or not all(part.isidentifier() for part in parts):
            raise ArgumentValueError(f"codec must be 'module:attribute', not {shown(codec)}")
        top = module.partition(".")[0]
        entry = _Lazy(codec, top, f"install the package that has the module {top!r}")
    else:
        _check_codec(codec, "codec")
        entry = codec
    _discover()
    with _lock:
        if name in _codecs and not replace:
            raise ArgumentValueError(
                f"codec {name!r} is registered already: pass replace=True to replace it"
            )
        _codecs[name] = entry


def available() -> dict[str, Availability]:
    """Return every codec that is known, by name, and whether it is installed.

    Nothing is imported. Cost: a look at the entry points of all installed packages.
    """
    _discover(again=True)
    with _lock:
        known = sorted(_codecs.items())
    return {name: _availability(entry) for name, entry in known}


def _check_name(name: object) -> None:
    if not isinstance(name, str):
        raise ArgumentTypeError(
            f"a codec's name must be a str, not {type(name).__name__} ({shown(name)})"
        )
    if not name:
        raise ArgumentValueError("a codec's name must not be empty")


def _check_codec(codec: object, what: str) -> None:
    lacks = [
        *(a for a in ("name", "wire") if not isinstance(getattr(codec, a, None), str)),
        *(a for a in ("encode", "decode") if not callable(getattr(codec, a, None))),
    ]
    if isinstance(codec, type):
        wrong = "is a class, not an instance"
    elif lacks:
        wrong = f"lacks {', '.join(lacks)}"
    else:
        return
    raise ArgumentTypeError(
        f"{what} must be a codec (with str attributes name and wire, and methods encode and "
        f"decode): {shown(codec)} {wrong}"
    )


def _look_up(name: str) -> Codec | _Lazy:
    """Return what a name leads to that was not known a moment ago."""
    _check_name(name)
    _discover(again=True)
    try:
        return _codecs[name]
    except KeyError:
        names = ", ".join(
            repr(known) if there.installed else f"{known!r} (not installed: {there.install})"
            for known, there in available().items()
        )
        raise UnknownCodecError(f"unknown codec {shown(name)}: known are {names}") from None


def _imported(name: str, lazy: _Lazy) -> Codec:
    """Import a codec and remember it, unless the name leads elsewhere by now."""
    module, _, attribute = lazy.target.partition(":")
    offered = f" of the package {lazy.source!r}" if lazy.source else ""
    try:
        codec: Codec = operator.attrgetter(attribute)(importlib.import_module(module))
    except ImportError as error:
        hint = lazy.install if error.name == lazy.needs else f"{error}"
        raise UnknownCodecError(
            f"codec {name!r}{offered} needs {error.name or lazy.needs!r}, which cannot be "
            f"imported: {hint}"
        ) from error
    except AttributeError as error:
        raise UnknownCodecError(
            f"codec {name!r}{offered} is not at {lazy.target!r}: {error}"
        ) from error
    _check_codec(codec, f"codec {name!r}{offered}, found at {lazy.target!r},")
    with _lock:
        if _codecs.get(name) is lazy:
            _codecs[name] = codec
    return codec


def _discover(*, again: bool = False) -> None:
    """Make known what installed packages offer; a name that is taken stays as it is."""
    global _discovered
    if _discovered and not again:
        return
    # Else Python looks at a folder again only when its time stamp has changed: after a clock tick.
    importlib.invalidate_caches()
    importlib.metadata.MetadataPathFinder().invalidate_caches()  # included since Python 3.13
    points = importlib.metadata.entry_points(group=GROUP)
    with _lock:
        for point in points:
            source = point.dist.name if point.dist else ""
            entry = _Lazy(
                point.value, point.value.partition(":")[0], f"pip install {source}", source
            )
            _codecs.setdefault(point.name, entry)
        _discovered = True


def _availability(entry: Codec | _Lazy) -> Availability:
    if not isinstance(entry, _Lazy):
        return Availability(True, "")
    try:
        installed = importlib.util.find_spec(entry.needs.partition(".")[0]) is not None
    except (ImportError, ValueError):  # a module without a spec; it is there all the same
        installed = True
    return Availability(installed, "" if installed else entry.install)
