"""One function for every store: what a URL names is imported, and made, when it is asked for."""

from __future__ import annotations

import inspect
import os
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypeAlias
from urllib.parse import unquote

from swarmstate.errors import ArgumentTypeError, ArgumentValueError
from swarmstate.protocols import StoreLike
from swarmstate.shown import shown

if TYPE_CHECKING:
    from swarmstate.backends.disk import AsyncDiskStore
    from swarmstate.backends.memory import AsyncStore
    from swarmstate.backends.redis import AsyncRedisStore

    AsyncStoreLike: TypeAlias = AsyncStore | AsyncDiskStore | AsyncRedisStore

__all__ = ["open_async_store", "open_store"]


class _Stores(NamedTuple):
    """What a scheme stands for, each as "module:attr"."""

    blocking: str
    awaited: str


_REDIS = _Stores(
    "swarmstate.backends.redis:RedisStore", "swarmstate.backends.redis:AsyncRedisStore"
)
_SCHEMES = {
    "memory": _Stores("swarmstate:Store", "swarmstate.backends.memory:AsyncStore"),
    "sqlite": _Stores(
        "swarmstate.backends.disk:DiskStore", "swarmstate.backends.disk:AsyncDiskStore"
    ),
    **{
        f"{name}{cluster}": _REDIS
        for name in ("redis", "rediss", "valkey", "valkeys")
        for cluster in ("", "+cluster")
    },
    "unix": _REDIS,
}
# What a URL says, or what is no option of a store's.
_POSITIONS = {"backend", "path", "url", "client"}


def open_store(url: str, **options: Any) -> StoreLike:
    """Return the store that a URL names.

    ======================================================= =======================================
    URL                                                     store
    ======================================================= =======================================
    ``memory://``                                           :class:`swarmstate.Store`
    ``sqlite:///relative.db``, ``sqlite:////absolute.db``   ``swarmstate.backends.disk.DiskStore``
    ``redis://``, ``rediss://``, ``valkey://``,             ``swarmstate.backends.redis.RedisStore``
    ``valkeys://``, each also ``+cluster``, ``unix://``
    ======================================================= =======================================

    Args:
        url: the URL. The path of a file is percent-decoded, as in any URL.
        options: the keyword arguments of that store, such as ``codec`` or ``ttl``.

    Raises:
        ArgumentTypeError, ArgumentValueError: there is no such scheme, or no such option.
        ImportError: a library is missing; the text names it.
        AccessDenied, StoreUnavailable: a file cannot be opened. A server is not asked before the
            first call.
    """
    made: StoreLike = _opened(url, options, 0)
    return made


def open_async_store(url: str, **options: Any) -> AsyncStoreLike:
    """Return the awaited store that a URL names; URLs and options are those of :func:`open_store`.

    A file is opened at once, which blocks for some milliseconds.
    """
    made: AsyncStoreLike = _opened(url, options, 1)
    return made


def _opened(url: object, options: dict[str, Any], which: int) -> Any:
    if isinstance(url, os.PathLike):
        raise ArgumentTypeError(
            f"url must be a str, not {type(url).__name__} ({shown(os.fspath(url))}): of a path "
            "make DiskStore(path)"
        )
    if not isinstance(url, str):
        raise ArgumentTypeError(f"url must be a str, not {type(url).__name__} ({shown(url)})")
    scheme, separator, rest = url.partition("://")
    name = scheme.lower()
    if not separator or name not in _SCHEMES:
        _refuse(url, scheme if separator else "")
    module, _, attribute = _SCHEMES[name][which].partition(":")
    if name == "memory":
        if rest:
            _refuse_rest(url, rest, "memory://, with nothing after it")
        given: list[str] = []
    elif name == "sqlite":
        given = [_path(url, rest)]
    else:
        given = [f"{name}://{rest}"]
    store = getattr(import_module(module), attribute)
    accepted = [
        parameter.name
        for parameter in inspect.signature(store).parameters.values()
        if parameter.name not in _POSITIONS
    ]
    for option in options:
        if option not in accepted:
            raise ArgumentTypeError(
                f"a {name}:// store has no option {option}; it has {', '.join(accepted)}"
            )
    return store(*given, **options)


def _path(url: str, rest: str) -> str:
    """Return the path of a file that a URL names."""
    host, _, path = rest.partition("/")
    if (not host and not path) or unquote(path) == ":memory:" or host == ":memory:":
        raise ArgumentValueError(
            f"url {shown(url)} names no file: memory:// is a store in memory, and a file is "
            "sqlite:///relative.db or sqlite:////absolute/path.db"
        )
    if "?" in rest or "#" in rest:
        _refuse_rest(url, rest, "sqlite:///path")
    if host:
        raise ArgumentValueError(
            f"url {shown(url)} names a host: a file is sqlite:///{shown(rest)[1:-1]} (relative) or "
            f"sqlite:////{shown(rest)[1:-1]} (absolute)"
        )
    return unquote(path)


def _refuse_rest(url: str, rest: str, form: str) -> NoReturn:
    """Refuse what a URL has too much; a query is most likely meant to be options."""
    _, question, query = rest.partition("?")
    names = [part.partition("=")[0] for part in query.split("&") if part]
    words = [name for name in names if name.isidentifier()]
    hint = ""
    if question and words:
        given = ", ".join(f"{name}=..." for name in words)
        hint = f": options are keywords, as in open_store(url, {given})"
    elif question or "#" in rest:
        hint = "; in a path, ? is written %3F and # is written %23"
    raise ArgumentValueError(f"url {shown(url.partition('?')[0])} must be {form}{hint}")


def _refuse(url: str, scheme: str) -> NoReturn:
    known = ", ".join(f"{name}://" for name in _SCHEMES)
    hint = ""
    if url in (":memory:", "memory", "memory:"):
        hint = "; a store in memory is memory://"
    elif not scheme and url.startswith(("sqlite:", "file:")):
        hint = "; a file is sqlite:///relative.db or sqlite:////absolute/path.db"
    elif not scheme and url and "@" not in url and "?" not in url and ":" not in url:
        name = shown(url)[1:-1]
        hint = f"; if this is a file, it is sqlite:///{name}, or DiskStore({shown(url)})"
    # Whatever is not known may hold a password anywhere.
    what = f"{scheme[:20]}://..." if scheme.replace("+", "").isalnum() else "of this form"
    raise ArgumentValueError(f"no store has a url {what}: it must start with one of {known}{hint}")
