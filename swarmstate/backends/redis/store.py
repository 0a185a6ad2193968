"""The two stores: one logic, run blocking or awaited."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from swarmstate.arguments import check_count, check_number
from swarmstate.backends.opened import Awaited, Blocking, Opened
from swarmstate.backends.redis.keys import Layout
from swarmstate.backends.redis.steps import ScratchSteps, StoreSteps
from swarmstate.backends.redis.transport.connect import connect, explained
from swarmstate.backends.redis.transport.driver import Driver
from swarmstate.backends.redis.transport.topology import Topology, slot_of
from swarmstate.checkpoints.protocol import CheckpointEngine
from swarmstate.items.protocol import ItemEngine
from swarmstate.protocols import Default
from swarmstate.steps import awaited, blocking, introduced

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["AsyncRedisStore", "RedisStore"]


def _neighbours(topology: Topology) -> Callable[[bytes, bytes], bool] | None:
    """Return whether two keys of a cluster are served by one node, as far as is known."""
    if not topology.clustered:
        return None

    def near(one: bytes, other: bytes) -> bool:
        try:
            return topology.node(slot_of(one)) is topology.node(slot_of(other))
        except topology.failures:
            return False

    return near


class _Opened(Opened):
    """A store's connection and its logic: what both stores are made of."""

    _found_again_by = "url and prefix"

    steps: StoreSteps
    driver: Driver

    @explained
    def __init__(
        self,
        url: str = "redis://localhost:6379/0",
        *,
        client: Any = None,
        prefix: str = "swarmstate",
        codec: str = "msgpack",
        default: Default | None = None,
        max_history: int | None = 0,
        ttl: float | None = None,
        ttl_on_read: bool = False,
        timeout: float = 5.0,
        retries: int = 3,
        max_connections: int = 16,
    ) -> None:
        check_number("timeout", timeout, 0.001)
        check_count("retries", retries, 0)
        check_count("max_connections", max_connections, 1)
        layout = Layout(prefix)
        topology = connect(url, client, timeout=timeout, max_connections=max_connections)
        self.steps = StoreSteps(
            layout,
            codec=codec,
            default=default,
            max_history=max_history,
            ttl=ttl,
            ttl_on_read=ttl_on_read,
            near=_neighbours(topology),
        )
        self.driver = Driver(topology, timeout=timeout, retries=retries)
        self._scratch = None

    @property
    def prefix(self) -> str:
        """What all keys start with."""
        return self.steps.layout.prefix

    def checkpoint_engine(
        self, *, ttl: float | None = None, ttl_on_read: bool = False
    ) -> CheckpointEngine:
        """Return how a checkpointer does its operations here.

        Args:
            ttl: seconds that a thread lives after it was last renewed, from 0.001 to 10**10; None:
                as the store's namespaces.
            ttl_on_read: whether reading a thread renews it too.

        Raises:
            ArgumentTypeError, ArgumentValueError: a ttl out of bounds, or none to renew.
        """
        from swarmstate.backends.redis.checkpoints.engine import RedisCheckpoints

        return RedisCheckpoints(self.steps, self.driver, ttl=ttl, ttl_on_read=ttl_on_read)

    def item_engine(self) -> ItemEngine:
        """Return how LangGraph's long-term memory keeps its items here."""
        from swarmstate.backends.redis.items import RedisItems

        return RedisItems(self.steps, self.driver)

    def scratch(self) -> Self:
        """Return the store's place for what need not last, such as a cache; sends nothing.

        It is a store of the same kind, among what is derived on the same server, and no part of
        this one: not of ``snapshot``, ``restore``, ``clear``, ``len`` or any listing. It uses the
        connections of this store, which alone closes them.
        """
        return self._apart(ScratchSteps)

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} prefix={self.prefix!r} codec={self.codec!r} "
            f"at {self.driver.address}>"
        )


@introduced
class RedisStore(_Opened, Blocking):
    """A store over plain Redis or Valkey, with the interface of :class:`swarmstate.Store`.

    Each namespace is the Redis hash ``{prefix}:{namespace}``, each value msgpack bytes. Reads,
    ``set``, ``set_many``, ``clear`` and ``restore`` are sent again when the connection broke before
    the reply was there: carrying them out twice leaves what once would have left. ``delete``,
    ``delete_many``, ``delete_namespace``, ``set_default``, ``update``, ``commit``, ``append`` and
    ``pop`` are not, because their answer or their effect would be another one; they raise
    :class:`~swarmstate.errors.StoreUnavailable`, which says that they may have been carried out.

    Args:
        url: ``redis://``, ``rediss://`` (TLS), ``valkey://``, ``valkeys://`` (TLS), ``unix://`` or,
            for a cluster, one of the first four with ``+cluster``, as in ``redis+cluster://``.
        client: a client to use instead of ``url``: ``redis.Redis``, ``redis.RedisCluster``,
            ``valkey.Valkey``, ``valkey.ValkeyCluster`` or a Sentinel's master client; it is not
            closed by the store.
        prefix: what all keys start with, taken literally, but for those of what is derived, which
            start with ``!`` and the prefix.
        codec: the name of the codec.
        default: encodes what the codec does not know.
        max_history: how many snapshots ``history()`` keeps: 0 none, n the last n, None all.
        ttl: seconds that a namespace lives after the last write to it; None: until it is deleted.
        ttl_on_read: whether a read restarts that time. Where the server refuses that (a replica, a
            user without PEXPIRE) the read succeeds, and one warning says so.
        timeout: seconds to wait for a connection, for a free one, and for each reply. A call gives
            up after at most ``(retries + 1) * timeout`` and the pauses between the attempts. A
            given client's own timeouts hold for its connections.
        retries: how often a call is tried again after its connection broke, where that is safe.
        max_connections: how many connections the store opens (on a cluster: per node).

    Nothing is sent before the first call.

    Raises:
        InvalidArgumentError: an argument that is not accepted, with what would be.
        UnknownCodecError: there is no such codec.
    """

    _counterpart = "AsyncRedisStore"

    set = blocking(StoreSteps.set)
    get = blocking(StoreSteps.get)
    contains = blocking(StoreSteps.contains)
    set_default = blocking(StoreSteps.set_default)
    delete = blocking(StoreSteps.delete)
    update = blocking(StoreSteps.update)
    set_many = blocking(StoreSteps.set_many)
    get_many = blocking(StoreSteps.get_many)
    delete_many = blocking(StoreSteps.delete_many)
    delete_namespace = blocking(StoreSteps.delete_namespace)
    expire = blocking(StoreSteps.expire)
    keys = blocking(StoreSteps.keys)
    items = blocking(StoreSteps.items)
    max_key = blocking(StoreSteps.max_key)
    commit = blocking(StoreSteps.commit)
    append = blocking(StoreSteps.append)
    tail = blocking(StoreSteps.tail)
    pop = blocking(StoreSteps.pop)
    namespaces = blocking(StoreSteps.namespaces)
    clear = blocking(StoreSteps.clear)
    snapshot = blocking(StoreSteps.snapshot)
    restore = blocking(StoreSteps.restore)
    __len__ = blocking(StoreSteps.count)
    __contains__ = blocking(StoreSteps.has_namespace)


@introduced
class AsyncRedisStore(_Opened, Awaited):
    """The methods of :class:`RedisStore`, awaited; the arguments are the same.

    Calls from any number of tasks and event loops share pipelines: one thread sends whatever is
    waiting, over one connection (per node). A cancelled task harms no other; what it had asked for
    may still be carried out. ``len(store)`` is ``await store.count()`` here and
    ``namespace in store`` is ``await store.has_namespace(namespace)``.
    """

    set = awaited(StoreSteps.set)
    get = awaited(StoreSteps.get)
    contains = awaited(StoreSteps.contains)
    set_default = awaited(StoreSteps.set_default)
    delete = awaited(StoreSteps.delete)
    update = awaited(StoreSteps.update)
    set_many = awaited(StoreSteps.set_many)
    get_many = awaited(StoreSteps.get_many)
    delete_many = awaited(StoreSteps.delete_many)
    delete_namespace = awaited(StoreSteps.delete_namespace)
    expire = awaited(StoreSteps.expire)
    keys = awaited(StoreSteps.keys)
    items = awaited(StoreSteps.items)
    max_key = awaited(StoreSteps.max_key)
    commit = awaited(StoreSteps.commit)
    append = awaited(StoreSteps.append)
    tail = awaited(StoreSteps.tail)
    pop = awaited(StoreSteps.pop)
    namespaces = awaited(StoreSteps.namespaces)
    clear = awaited(StoreSteps.clear)
    snapshot = awaited(StoreSteps.snapshot)
    restore = awaited(StoreSteps.restore)
    count = awaited(StoreSteps.count)
    has_namespace = awaited(StoreSteps.has_namespace)
