"""What type checkers and editors see of the stores: every method written out.

The module makes the methods from their steps, which static tools do not follow. Made by
``make stubs``; a test compares it with the module, docstrings included.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from typing_extensions import Self

from swarmstate._core import Snapshot
from swarmstate.backends.opened import Awaited, Blocking, Opened
from swarmstate.backends.redis.steps import StoreSteps
from swarmstate.backends.redis.transport.driver import Driver
from swarmstate.checkpoints.protocol import CheckpointEngine
from swarmstate.items.protocol import ItemEngine
from swarmstate.protocols import Default, Pair, SnapshotLike

__all__ = ["AsyncRedisStore", "RedisStore"]

class _Opened(Opened):
    """A store's connection and its logic: what both stores are made of."""

    steps: StoreSteps
    driver: Driver

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
    ) -> None: ...
    @property
    def prefix(self) -> str:
        """What all keys start with."""

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

    def item_engine(self) -> ItemEngine:
        """Return how LangGraph's long-term memory keeps its items here."""

    def scratch(self) -> Self:
        """Return the store's place for what need not last, such as a cache; sends nothing.

        It is a store of the same kind, among what is derived on the same server, and no part of
        this one: not of ``snapshot``, ``restore``, ``clear``, ``len`` or any listing. It uses the
        connections of this store, which alone closes them.
        """

    def __repr__(self) -> str: ...

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
    def set(self, namespace: str, key: str, value: Any) -> None:
        """Store one value. One round trip; sent again if the connection broke."""

    def get(self, namespace: str, key: str, default: Any = None) -> Any:
        """Return one value, or ``default`` where there is none. One round trip."""

    def contains(self, namespace: str, key: str) -> bool:
        """Return whether the key exists. One round trip."""

    def set_default(self, namespace: str, key: str, value: Any) -> bool:
        """Store ``value`` only if the key is absent; return whether it was stored.

        One round trip; not sent again if the connection broke after it was sent.
        """

    def delete(self, namespace: str, key: str) -> bool:
        """Remove a key; return whether it existed.

        One round trip; not sent again if the connection broke after it was sent.
        """

    def update(
        self, namespace: str, key: str, fn: Callable[[Any], Any], default: Any = None
    ) -> Any:
        """Replace a value by ``fn(value)`` atomically, across processes; return the new value.

        Optimistic: a script stores the new value if the old one is still there, otherwise ``fn``
        is called again with what is there now. Two round trips, and one more for every writer that
        was faster. Needs EVALSHA and EVAL. Not sent again if the connection broke after it was
        sent.

        Raises:
            AccessDenied: the user may not run scripts; nothing was stored.
            StoreUnavailable: other writers were faster 1,000 times in a row.
        """

    def set_many(self, items: Iterable[tuple[str, str, Any]]) -> None:
        """Store all the (namespace, key, value) triples at once, or none.

        One round trip (on a cluster one per node, atomic per slot; where a node fails, the error
        says so and what went to the others stays); sent again if the connection broke. Above 64 MB
        or a million arguments for several namespaces it goes in parts, one round trip each, and
        needs RENAME and PERSIST.
        """

    def get_many(self, pairs: Iterable[Pair]) -> list[Any]:
        """Return the values at one moment, in input order; a missing one is None.

        One round trip (on a cluster one per node, one moment per slot); one or two more on a full
        server before Redis 7.2, and where the call is larger than the server's transactions.
        """

    def delete_many(self, pairs: Iterable[Pair]) -> int:
        """Remove all the keys at once; return how many existed.

        One round trip (on a cluster one per node, atomic per slot); not sent again if the
        connection broke after it was sent.
        """

    def delete_namespace(self, namespace: str) -> int:
        """Remove a namespace with all its keys; return how many there were.

        One round trip, two without scripting; not sent again if the connection broke after it was
        sent.
        """

    def expire(self, namespace: str, seconds: float) -> bool:
        """Let a namespace be gone, with all its keys, from some time on.

        Writes of a store that was made without a ttl do not put that off; calling this again does.
        A namespace that is removed, restored or loses its last key before then, and comes back,
        stays. One round trip, two without scripting; sent again if the connection broke.

        Args:
            namespace: the namespace.
            seconds: from 0.001 to 10**10.

        Returns:
            Whether there is such a namespace.

        Raises:
            AccessDenied: the user may not let keys expire.
        """

    def keys(self, namespace: str, prefix: str | None = None) -> list[str]:
        """Return the keys of a namespace, or those that start with ``prefix``.

        One round trip; O(keys of the namespace).
        """

    def items(self, namespace: str) -> list[tuple[str, Any]]:
        """Return the (key, value) pairs of a namespace at one moment. One round trip."""

    def max_key(self, namespace: str) -> str | None:
        """Return the greatest key of a namespace (by code point), or None if it has none.

        One round trip; O(keys of the namespace), because Redis does not order the fields of a
        hash.
        """

    def commit(
        self,
        items: Iterable[tuple[str, str, Any]] = (),
        delete: Iterable[Pair] = (),
        *,
        expect: Mapping[Pair, Any] | None = None,
    ) -> bool:
        """Store and remove keys if others hold what is expected: everything or nothing.

        Values are compared as their encoded bytes. Where these differ, what is stored is decoded
        and encoded again, because another program may have encoded the same value otherwise; that
        takes one round trip more. One round trip; two without scripting, and two more for every
        writer that was faster. Not sent again if the connection broke after it was sent.

        Args:
            items: (namespace, key, value) triples to store; of two for one key the later counts.
            delete: (namespace, key) pairs to remove; one that does not exist is passed over.
            expect: (namespace, key) -> the value that must be there, or ``ABSENT`` for none.

        Returns:
            Whether all expectations held before anything was done; if not, nothing was changed.

        Raises:
            InvalidArgumentError: a pair is both in items and in delete; on a cluster, the
                namespaces are not of one slot; it is more than a server takes in one command.
            StoreUnavailable: others were faster 50 times in a row, or the connection broke, and
                then the text says whether it may have been carried out.
        """

    def append(self, namespace: str, values: Iterable[Any]) -> list[str]:
        """Add values to the end of a log, all or none.

        One round trip, two without scripting; O(values), and O(keys of the namespace) up to 1,000
        keys or where another program changed them. Not sent again if the connection broke after it
        was sent.

        Args:
            namespace: the namespace of the log.
            values: an iterable of values.

        Returns:
            Their keys, in order: each of exactly 16 digits, and above all such keys that are there.

        Raises:
            EncodeError: the codec does not accept a value; nothing was written.
            ArgumentValueError: there are not enough keys of 16 digits above the last one, or more
                values than a server takes in one command.
        """

    def tail(
        self, namespace: str, limit: int | None = None, *, before: str | None = None
    ) -> list[tuple[str, Any]]:
        """Return the last (key, value) pairs of a log at one moment, oldest first.

        One round trip. With a limit, O(what is returned), and O(keys of the namespace) up to 1,000
        keys or where another program changed them; without one, or without scripting, the whole
        namespace is fetched.

        Args:
            namespace: the namespace of the log; its keys that are not of 16 digits are ignored.
            limit: how many at most; None: all.
            before: a key of 16 digits; only entries before it are returned.
        """

    def pop(self, namespace: str) -> tuple[str, Any] | None:
        """Remove the last entry of a log; return its (key, value), or None if there is none.

        The key may be given again by :meth:`append`. One round trip, two without scripting; O(1),
        and O(keys of the namespace) up to 1,000 keys or where another program changed them. Not
        sent again if the connection broke after it was sent.

        Raises:
            DecodeError: the bytes are not a valid value; the entry was put back.
        """

    def namespaces(self, prefix: str | None = None) -> list[str]:
        """Return the namespaces, or those that start with ``prefix``.

        One round trip (on a cluster one per node, two while slots move); O(keys on the server), as
        every enumeration.
        """

    def clear(self) -> None:
        """Remove every namespace and everything derived; history and held snapshots stay.

        One round trip, sent again if the connection broke.
        """

    def snapshot(self) -> Snapshot:
        """Freeze the whole store at one moment (on a cluster: one moment per namespace).

        One round trip; the server is busy in proportion to its keys.
        """

    def restore(self, snapshot: SnapshotLike) -> None:
        """Make the store what ``snapshot`` holds, all of it or nothing (per slot on a cluster).

        One round trip, up to four without scripting or on a cluster; sent again if the connection
        broke.

        Raises:
            ArgumentValueError: another program keeps something else at the key of a namespace.
            WireFormatError: the snapshot's values are of another wire format.
        """

    def __len__(self) -> int:
        """Return the number of keys in all namespaces, at one moment. One round trip."""

    def __contains__(self, namespace: object) -> bool:
        """Return whether the namespace has a key. One round trip."""

class AsyncRedisStore(_Opened, Awaited):
    """The methods of :class:`RedisStore`, awaited; the arguments are the same.

    Calls from any number of tasks and event loops share pipelines: one thread sends whatever is
    waiting, over one connection (per node). A cancelled task harms no other; what it had asked for
    may still be carried out. ``len(store)`` is ``await store.count()`` here and
    ``namespace in store`` is ``await store.has_namespace(namespace)``.
    """
    async def set(self, namespace: str, key: str, value: Any) -> None:
        """Store one value. One round trip; sent again if the connection broke."""

    async def get(self, namespace: str, key: str, default: Any = None) -> Any:
        """Return one value, or ``default`` where there is none. One round trip."""

    async def contains(self, namespace: str, key: str) -> bool:
        """Return whether the key exists. One round trip."""

    async def set_default(self, namespace: str, key: str, value: Any) -> bool:
        """Store ``value`` only if the key is absent; return whether it was stored.

        One round trip; not sent again if the connection broke after it was sent.
        """

    async def delete(self, namespace: str, key: str) -> bool:
        """Remove a key; return whether it existed.

        One round trip; not sent again if the connection broke after it was sent.
        """

    async def update(
        self, namespace: str, key: str, fn: Callable[[Any], Any], default: Any = None
    ) -> Any:
        """Replace a value by ``fn(value)`` atomically, across processes; return the new value.

        Optimistic: a script stores the new value if the old one is still there, otherwise ``fn``
        is called again with what is there now. Two round trips, and one more for every writer that
        was faster. Needs EVALSHA and EVAL. Not sent again if the connection broke after it was
        sent.

        Raises:
            AccessDenied: the user may not run scripts; nothing was stored.
            StoreUnavailable: other writers were faster 1,000 times in a row.
        """

    async def set_many(self, items: Iterable[tuple[str, str, Any]]) -> None:
        """Store all the (namespace, key, value) triples at once, or none.

        One round trip (on a cluster one per node, atomic per slot; where a node fails, the error
        says so and what went to the others stays); sent again if the connection broke. Above 64 MB
        or a million arguments for several namespaces it goes in parts, one round trip each, and
        needs RENAME and PERSIST.
        """

    async def get_many(self, pairs: Iterable[Pair]) -> list[Any]:
        """Return the values at one moment, in input order; a missing one is None.

        One round trip (on a cluster one per node, one moment per slot); one or two more on a full
        server before Redis 7.2, and where the call is larger than the server's transactions.
        """

    async def delete_many(self, pairs: Iterable[Pair]) -> int:
        """Remove all the keys at once; return how many existed.

        One round trip (on a cluster one per node, atomic per slot); not sent again if the
        connection broke after it was sent.
        """

    async def delete_namespace(self, namespace: str) -> int:
        """Remove a namespace with all its keys; return how many there were.

        One round trip, two without scripting; not sent again if the connection broke after it was
        sent.
        """

    async def expire(self, namespace: str, seconds: float) -> bool:
        """Let a namespace be gone, with all its keys, from some time on.

        Writes of a store that was made without a ttl do not put that off; calling this again does.
        A namespace that is removed, restored or loses its last key before then, and comes back,
        stays. One round trip, two without scripting; sent again if the connection broke.

        Args:
            namespace: the namespace.
            seconds: from 0.001 to 10**10.

        Returns:
            Whether there is such a namespace.

        Raises:
            AccessDenied: the user may not let keys expire.
        """

    async def keys(self, namespace: str, prefix: str | None = None) -> list[str]:
        """Return the keys of a namespace, or those that start with ``prefix``.

        One round trip; O(keys of the namespace).
        """

    async def items(self, namespace: str) -> list[tuple[str, Any]]:
        """Return the (key, value) pairs of a namespace at one moment. One round trip."""

    async def max_key(self, namespace: str) -> str | None:
        """Return the greatest key of a namespace (by code point), or None if it has none.

        One round trip; O(keys of the namespace), because Redis does not order the fields of a
        hash.
        """

    async def commit(
        self,
        items: Iterable[tuple[str, str, Any]] = (),
        delete: Iterable[Pair] = (),
        *,
        expect: Mapping[Pair, Any] | None = None,
    ) -> bool:
        """Store and remove keys if others hold what is expected: everything or nothing.

        Values are compared as their encoded bytes. Where these differ, what is stored is decoded
        and encoded again, because another program may have encoded the same value otherwise; that
        takes one round trip more. One round trip; two without scripting, and two more for every
        writer that was faster. Not sent again if the connection broke after it was sent.

        Args:
            items: (namespace, key, value) triples to store; of two for one key the later counts.
            delete: (namespace, key) pairs to remove; one that does not exist is passed over.
            expect: (namespace, key) -> the value that must be there, or ``ABSENT`` for none.

        Returns:
            Whether all expectations held before anything was done; if not, nothing was changed.

        Raises:
            InvalidArgumentError: a pair is both in items and in delete; on a cluster, the
                namespaces are not of one slot; it is more than a server takes in one command.
            StoreUnavailable: others were faster 50 times in a row, or the connection broke, and
                then the text says whether it may have been carried out.
        """

    async def append(self, namespace: str, values: Iterable[Any]) -> list[str]:
        """Add values to the end of a log, all or none.

        One round trip, two without scripting; O(values), and O(keys of the namespace) up to 1,000
        keys or where another program changed them. Not sent again if the connection broke after it
        was sent.

        Args:
            namespace: the namespace of the log.
            values: an iterable of values.

        Returns:
            Their keys, in order: each of exactly 16 digits, and above all such keys that are there.

        Raises:
            EncodeError: the codec does not accept a value; nothing was written.
            ArgumentValueError: there are not enough keys of 16 digits above the last one, or more
                values than a server takes in one command.
        """

    async def tail(
        self, namespace: str, limit: int | None = None, *, before: str | None = None
    ) -> list[tuple[str, Any]]:
        """Return the last (key, value) pairs of a log at one moment, oldest first.

        One round trip. With a limit, O(what is returned), and O(keys of the namespace) up to 1,000
        keys or where another program changed them; without one, or without scripting, the whole
        namespace is fetched.

        Args:
            namespace: the namespace of the log; its keys that are not of 16 digits are ignored.
            limit: how many at most; None: all.
            before: a key of 16 digits; only entries before it are returned.
        """

    async def pop(self, namespace: str) -> tuple[str, Any] | None:
        """Remove the last entry of a log; return its (key, value), or None if there is none.

        The key may be given again by :meth:`append`. One round trip, two without scripting; O(1),
        and O(keys of the namespace) up to 1,000 keys or where another program changed them. Not
        sent again if the connection broke after it was sent.

        Raises:
            DecodeError: the bytes are not a valid value; the entry was put back.
        """

    async def namespaces(self, prefix: str | None = None) -> list[str]:
        """Return the namespaces, or those that start with ``prefix``.

        One round trip (on a cluster one per node, two while slots move); O(keys on the server), as
        every enumeration.
        """

    async def clear(self) -> None:
        """Remove every namespace and everything derived; history and held snapshots stay.

        One round trip, sent again if the connection broke.
        """

    async def snapshot(self) -> Snapshot:
        """Freeze the whole store at one moment (on a cluster: one moment per namespace).

        One round trip; the server is busy in proportion to its keys.
        """

    async def restore(self, snapshot: SnapshotLike) -> None:
        """Make the store what ``snapshot`` holds, all of it or nothing (per slot on a cluster).

        One round trip, up to four without scripting or on a cluster; sent again if the connection
        broke.

        Raises:
            ArgumentValueError: another program keeps something else at the key of a namespace.
            WireFormatError: the snapshot's values are of another wire format.
        """

    async def count(self) -> int:
        """Return the number of keys in all namespaces, at one moment. One round trip."""

    async def has_namespace(self, namespace: object) -> bool:
        """Return whether the namespace has a key. One round trip."""
