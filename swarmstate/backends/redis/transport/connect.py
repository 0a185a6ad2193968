"""From a URL or a client of the user's to a topology."""

from __future__ import annotations

import functools
from collections.abc import Callable
from importlib import import_module
from inspect import signature
from typing import Any, Concatenate, ParamSpec, TypeVar

from swarmstate.backends.redis.transport.pool import BorrowedPool, Pool, apart, without_greeting
from swarmstate.backends.redis.transport.redaction import Redaction, secrets_of
from swarmstate.backends.redis.transport.topology import (
    Address,
    Cluster,
    Node,
    Single,
    Topology,
    name_of,
)
from swarmstate.backends.redis.transport.urls import parse
from swarmstate.errors import ArgumentTypeError, ArgumentValueError

__all__ = ["connect", "explained"]

P = ParamSpec("P")
S = TypeVar("S")

_OLDEST = (5, 0, 1)
_KINDS = {"Redis": False, "Valkey": False, "RedisCluster": True, "ValkeyCluster": True}
_ACCEPTED = (
    "a redis.Redis, redis.RedisCluster, valkey.Valkey or valkey.ValkeyCluster client, "
    "or a master client of a Sentinel"
)


def connect(url: str, client: Any, *, timeout: float, max_connections: int) -> Topology:
    """Return the topology behind ``client``, or behind ``url`` if there is no client.

    Connects to nothing yet.

    Args:
        url: where the server is.
        client: a client of the redis or valkey library, or None.
        timeout: how long connecting and a cluster's answer are waited for, in seconds.
        max_connections: how many connections to open at most (on a cluster: to each node).

    Raises:
        InvalidArgumentError: what was given is not such a client, or not such a URL.
        ImportError: the client library is missing or too old.
    """
    if client is not None:
        return _borrow(client, timeout, max_connections)
    return _open(url, timeout, max_connections)


# From a URL --------------------------------------------------------------------------------------


def _open(url: str, timeout: float, max_connections: int) -> Topology:
    scheme, options = parse(url)
    redis = _library("redis")
    options |= {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        # Attempts are counted in one place, the driver, which knows what may be repeated.
        "retry": import_module("redis.retry").Retry(import_module("redis.backoff").NoBackoff(), 0),
    }
    options.setdefault("protocol", 2)
    if scheme.transport == "unix":
        kind = redis.UnixDomainSocketConnection
    else:
        kind = redis.SSLConnection if scheme.transport == "tls" else redis.Connection
        options.setdefault("socket_keepalive", True)
    _try(kind, options)
    redaction = Redaction(secrets_of(options))
    if scheme.clustered:
        seed = (options.pop("host"), options.pop("port"))
        return Cluster(
            lambda: [seed],
            functools.partial(_own_node, kind, options, max_connections),
            library="redis",
            address=f"the cluster at {name_of(seed)}",
            timeout=timeout,
        )
    pool = Pool(kind, options, max_connections)
    return Single(Node(pool, _address(options), redaction), "redis")


def _library(name: str) -> Any:
    """Return a client library; RedisStore says what is wrong with one that cannot be used."""
    try:
        library = import_module(name)
    except ImportError as error:
        if error.name not in (name, None) and not str(error.name).startswith(f"{name}."):
            raise
        library = None
    if library is None:
        raise ImportError(
            f"RedisStore needs the client library {name}: pip install {name}", name=name
        )
    if name == "redis" and not hasattr(library, "RedisError"):
        raise ImportError(
            "RedisStore needs the client library redis, but another module of this name is found "
            f"first: {getattr(library, '__file__', None) or library}",
            name=name,
        )
    version = str(getattr(library, "__version__", ""))
    numbers = tuple(int(part) for part in version.split(".")[:3] if part.isdecimal())
    if name == "redis" and numbers and numbers < _OLDEST:
        raise ImportError(
            f"RedisStore needs redis {'.'.join(map(str, _OLDEST))} or newer, and {version} is "
            "installed: pip install --upgrade redis",
            name=name,
        )
    return library


def _try(kind: Any, options: dict[str, Any]) -> None:
    """Raise if the library does not take the options; connects to nothing."""
    wrong = None
    try:
        kind(**{**without_greeting(kind), **options})
    except Exception as error:  # noqa: BLE001 (whatever it objects to, the URL asked for it)
        wrong = str(error)
    if wrong is not None:
        text = Redaction(secrets_of(options)).text(wrong)
        raise ArgumentValueError(f"url is not accepted by the client library: {text}")


def _own_node(kind: Any, options: dict[str, Any], size: int, address: Address) -> Node:
    """Return a node of a cluster with connections of our own."""
    host, port = address
    pool = Pool(kind, {**options, "host": host, "port": port}, size)
    return Node(pool, name_of(address), Redaction(secrets_of(options)))


def _address(options: dict[str, Any]) -> str:
    if "path" in options:
        return f"unix://{options['path']}"
    return name_of((options.get("host", "localhost"), options.get("port", 6379)))


# From a client -----------------------------------------------------------------------------------


def _borrow(client: Any, timeout: float, max_connections: int) -> Topology:
    library, clustered = _kind(client)
    _library(library)
    if client.get_encoder().decode_responses:
        raise ArgumentValueError(
            "client must return bytes: make it without decode_responses=True, "
            "because stored values are not text"
        )
    _refuse_rewriting(client, _REWRITING)
    if clustered:
        return _borrow_cluster(client, library, timeout, max_connections)
    pool = client.connection_pool
    _refuse_rewriting_pool(pool)
    options = pool.connection_kwargs
    named = "service_name" in vars(pool)
    address = f"the master of {pool.service_name!r}" if named else _address(options)
    node = Node(BorrowedPool(pool, max_connections), address, Redaction(secrets_of(options)))
    return Single(node, library)


def _kind(client: Any) -> tuple[str, bool]:
    """Return the library of a client, and whether it is a cluster's."""
    bases = type(client).__mro__
    for base in bases:
        library, _, rest = base.__module__.partition(".")
        if library not in ("redis", "valkey"):
            continue
        if rest.startswith("asyncio") and base.__name__ in _KINDS:
            raise ArgumentTypeError(
                f"client must be a synchronous client, not {base.__module__}.{base.__name__}: "
                "AsyncRedisStore drives a synchronous one without blocking the event loop"
            )
        if base.__name__ in ("Pipeline", "ClusterPipeline"):
            raise ArgumentTypeError(f"client must be {_ACCEPTED}, not a pipeline of one")
        if base.__name__ in _KINDS:
            return library, _KINDS[base.__name__]
    # What it is, but not what it holds.
    raise ArgumentTypeError(
        f"client must be {_ACCEPTED}, not {_described(client)}" + _way_out(client)
    )


def _described(value: object) -> str:
    if isinstance(value, type):
        return f"the class {value.__module__}.{value.__qualname__}"
    kind = type(value)
    return f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")


def _way_out(client: object) -> str:
    if isinstance(client, (str, bytes)):
        return "; a URL goes first, without a keyword: RedisStore('redis://localhost:6379/0')"
    if hasattr(type(client), "master_for"):
        return "; of a Sentinel, client=sentinel.master_for(name)"
    if hasattr(type(client), "get_connection"):
        return "; of a pool, client=redis.Redis(connection_pool=pool)"
    return ""


# What a client or its connections would do to commands, which we send ourselves.
_REWRITING = (
    *("execute_command", "_execute_command", "parse_response", "pipeline", "execute_pipeline"),
    "_send_command_parse_response",
)
_REWRITING_CONNECTION = ("pack_command", "pack_commands", "send_command")


def _refuse_rewriting(subject: Any, names: tuple[str, ...]) -> None:
    for name in names:
        owner = _owner(subject, name)
        if owner is not None:
            raise ArgumentValueError(
                f"client must not change commands on their way: {owner} would be bypassed, because "
                "the store sends its commands over the client's connections itself. Give it a "
                "client without that, and the keyword prefix= for a prefix of its keys"
            )


def _owner(subject: Any, name: str) -> str | None:
    """Return the name of a method that is not the library's, or None.

    What instruments the library itself, or wraps a method of one client with wrapt, as tracers do,
    only looks on.
    """
    kind = subject if isinstance(subject, type) else type(subject)
    wrapper = None if kind is subject else vars(subject).get(name)
    if wrapper is not None and not type(wrapper).__module__.startswith("wrapt"):
        return f"{name}() of this client"
    for base in kind.__mro__:
        if name in vars(base):
            if base.__module__.partition(".")[0] in ("redis", "valkey"):
                return None
            return f"{base.__module__}.{base.__qualname__}.{name}()"
    return None


def _refuse_rewriting_pool(pool: Any) -> None:
    kind = pool.connection_class
    if isinstance(kind, type):
        _refuse_rewriting(kind, _REWRITING_CONNECTION)
    if pool.connection_kwargs.get("command_packer") is not None:
        raise ArgumentValueError(
            "client must not change commands on their way: its command_packer would be bypassed, "
            "because the store packs its commands itself"
        )


class _ClientMap:
    """What a user's client knows of its cluster."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def primaries(self) -> list[Address]:
        """Return the addresses of the primaries, ordered by name."""
        return sorted(map(_address_of, self._client.get_primaries()), key=name_of)

    def owner(self, slot: int) -> Address:
        """Return the address of the primary that serves a slot."""
        return _address_of(self._client.nodes_manager.get_node_from_slot(slot))


def _address_of(member: Any) -> Address:
    return str(member.host), int(member.port)


def _borrow_cluster(client: Any, library: str, timeout: float, max_connections: int) -> Topology:
    nodes = client.nodes_manager

    def members() -> list[Any]:
        # Only looked at, without the client's locks.
        return [*nodes.nodes_cache.values(), *nodes.startup_nodes.values()]

    def pool_of(member: Any) -> Any:
        return getattr(getattr(member, f"{library}_connection"), "connection_pool", None)

    known = next(filter(None, map(pool_of, members())), None)
    if known is not None:
        _refuse_rewriting_pool(known)
        kind, options = known.connection_class, apart(known)
    else:
        kind, options = import_module(library).Connection, dict(nodes.connection_kwargs)
    redaction = Redaction(secrets_of(options))

    def make(address: Address) -> Node:
        for member in members():
            pool = pool_of(member)
            if _address_of(member) == address and pool is not None:
                return Node(BorrowedPool(pool, max_connections), name_of(address), redaction)
        return _own_node(kind, options, max_connections, address)

    return Cluster(
        lambda: [_address_of(member) for member in members()],
        make,
        library=library,
        address=", ".join(sorted({name_of(_address_of(each)) for each in client.get_primaries()}))
        or "a cluster",
        timeout=timeout,
        lent=_ClientMap(client),
        remap=getattr(nodes, "address_remap", None),
    )


# Arguments ---------------------------------------------------------------------------------------

_PLACES = {
    *("db", "host", "password", "path", "port", "socket_path", "ssl", "unix_socket_path"),
    *("user", "username"),
}


def explained(
    init: Callable[Concatenate[S, P], None],
) -> Callable[Concatenate[S, P], None]:
    """Let a store's ``__init__`` tell of arguments that it does not have in the user's words.

    Raises:
        ArgumentTypeError: an argument that there is not, with the way to say the same.
    """
    names = list(signature(init).parameters)[1:]

    @functools.wraps(init)
    def explaining(self: S, /, *args: P.args, **kwargs: P.kwargs) -> None:
        kind = type(self).__name__
        unknown = [name for name in kwargs if name not in names]
        if _PLACES.intersection(unknown) or len(args) > 1:
            given = (
                ", ".join(f"{name}=" for name in unknown) or "more than one argument by position"
            )
            raise ArgumentTypeError(
                f"{kind} does not take {given}: put them into the URL, as in "
                f"{kind}('redis://user:password@localhost:6379/0'), or give a client, as in "
                f"{kind}(client=redis.Redis(host='localhost'))"
            )
        if unknown:
            raise ArgumentTypeError(
                f"{kind} does not take {unknown[0]}=; its arguments: {', '.join(names)}"
            )
        init(self, *args, **kwargs)

    return explaining
