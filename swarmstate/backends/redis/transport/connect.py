"""From a URL or a client of the user's to a topology."""

from __future__ import annotations

from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

from swarmstate.arguments import shown
from swarmstate.backends.redis.transport.pool import Pool
from swarmstate.backends.redis.transport.topology import Cluster, Single, Topology
from swarmstate.errors import ArgumentTypeError, ArgumentValueError

__all__ = ["connect"]

_SCHEMES = {
    "redis": ("redis", False),
    "rediss": ("rediss", False),
    "valkey": ("redis", False),
    "valkeys": ("rediss", False),
    "unix": ("unix", False),
    "redis+cluster": ("redis", True),
    "rediss+cluster": ("rediss", True),
    "valkey+cluster": ("redis", True),
    "valkeys+cluster": ("rediss", True),
}
_KINDS = {"Redis": False, "Valkey": False, "RedisCluster": True, "ValkeyCluster": True}
_ACCEPTED = (
    "a redis.Redis, redis.RedisCluster, valkey.Valkey or valkey.ValkeyCluster client, "
    "or a master client of a Sentinel"
)


def connect(url: str, client: Any, *, timeout: float, max_connections: int) -> Topology:
    """Return the topology behind ``client``, or behind ``url`` if there is no client.

    Connects to nothing yet.

    Raises:
        InvalidArgumentError: what was given is no such client, or no such URL.
        ImportError: the ``redis`` extra is not installed.
    """
    if client is not None:
        return _borrow(client)
    return _open(url, timeout, max_connections)


def _borrow(client: Any) -> Topology:
    for base in type(client).__mro__:
        library, _, rest = base.__module__.partition(".")
        if library not in ("redis", "valkey") or base.__name__ not in _KINDS:
            continue
        if rest.startswith("asyncio"):
            raise ArgumentTypeError(
                f"client must be a synchronous client, not {base.__module__}.{base.__name__}: "
                "AsyncRedisStore drives a synchronous one without blocking the event loop"
            )
        clustered = _KINDS[base.__name__]
        if client.get_encoder().decode_responses:
            raise ArgumentValueError(
                "client must return bytes: make it without decode_responses=True, "
                "because stored values are not text"
            )
        if clustered:
            nodes = client.get_primaries()
            address = ", ".join(sorted(str(node.name) for node in nodes)) or "a cluster"
            return Cluster(lambda: client, library, address)
        return Single(client.connection_pool, library, owned=False)
    raise ArgumentTypeError(
        f"client must be {_ACCEPTED}, not {type(client).__module__}.{type(client).__qualname__} "
        f"({shown(client)})"
    )


def _open(url: str, timeout: float, max_connections: int) -> Topology:
    if not isinstance(url, str):
        raise ArgumentTypeError(f"url must be a str, not {type(url).__name__} ({shown(url)})")
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in _SCHEMES:
        raise ArgumentValueError(
            f"url {shown(_hidden(url))} is not accepted: it must start with one of "
            + ", ".join(f"{name}://" for name in _SCHEMES)
        )
    try:
        redis: Any = import_module("redis")
    except ImportError as error:
        raise ImportError(
            "RedisStore needs the redis client library: pip install 'swarmstate[redis]'"
        ) from error
    scheme, clustered = _SCHEMES[scheme]
    options = {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        # Attempts are counted in one place, the driver, which knows what may be repeated.
        "retry": import_module("redis.retry").Retry(import_module("redis.backoff").NoBackoff(), 0),
        "protocol": 2,
        "socket_keepalive": True,
    }
    plain = f"{scheme}://{rest}"
    try:
        if scheme == "unix":
            # A socket file knows no keep-alive.
            del options["socket_keepalive"]
        # Made for a cluster too, whose client looks at its URL only when it connects.
        template = redis.ConnectionPool.from_url(plain, **options)
        # Connects to nothing: it only looks at the parameters.
        template.make_connection()
        if template.connection_kwargs.get("decode_responses"):
            raise ArgumentValueError(
                "url must not ask for decode_responses, because stored values are not text"
            )
        if clustered:
            parts = urlsplit(plain)
            address = f"the cluster at {parts.hostname or 'localhost'}:{parts.port or 6379}"
            return Cluster(
                lambda: redis.RedisCluster.from_url(plain, **options),
                "redis",
                address,
                lambda template: Pool(template, max_connections, timeout),
            )
    except ArgumentValueError:
        raise
    except (TypeError, ValueError) as error:
        raise ArgumentValueError(f"url {shown(_hidden(url))} is not accepted: {error}") from None
    return Single(Pool(template, max_connections, timeout), "redis", owned=True)


def _hidden(url: str) -> str:
    """Return a URL without its password, for an error text."""
    head, at, tail = url.rpartition("@")
    if not at:
        return url
    scheme, separator, login = head.partition("://")
    user = login.partition(":")[0]
    return f"{scheme}{separator}{user}:***@{tail}"
