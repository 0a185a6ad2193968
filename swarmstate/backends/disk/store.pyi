"""What type checkers and editors see of the stores: every method written out.

The module makes the methods from their steps, which static tools do not follow. Made by
``make stubs``; a test compares it with the module, docstrings included.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from typing_extensions import Self

from swarmstate._core import Snapshot
from swarmstate.backends.disk.driver import Driver
from swarmstate.backends.disk.steps import StoreSteps
from swarmstate.backends.opened import Awaited, Blocking, Opened
from swarmstate.checkpoints.protocol import CheckpointEngine
from swarmstate.items.protocol import ItemEngine
from swarmstate.protocols import Default, Pair, SnapshotLike

__all__ = ["AsyncDiskStore", "DiskStore"]

class _Opened(Opened):
    """A store's file and its logic: what both stores are made of."""

    steps: StoreSteps
    driver: Driver

    def __init__(
        self,
        path: str | os.PathLike[str] = "swarmstate.db",
        *,
        codec: str = "msgpack",
        default: Default | None = None,
        max_history: int | None = 0,
        synchronous: str = "NORMAL",
        ttl: float | None = None,
        ttl_on_read: bool = False,
        timeout: float = 5.0,
        read_only: bool = False,
    ) -> None: ...
    @property
    def path(self) -> str:
        """Where the file is, as an absolute path."""

    def checkpoint_engine(
        self, *, ttl: float | None = None, ttl_on_read: bool = False
    ) -> CheckpointEngine:
        """Return how a checkpointer does its operations here.

        Args:
            ttl: seconds that a thread lives after it was last renewed, from 0.001 to 10**10; None:
                as the store's namespaces.
            ttl_on_read: whether reading a thread renews it too.

        Raises:
            ArgumentTypeError, ArgumentValueError: a ttl out of bounds, or none to renew; or this is
                :meth:`scratch`, where threads do not expire and cannot be awaited.
        """

    def item_engine(self) -> ItemEngine:
        """Return how LangGraph's long-term memory keeps its items here."""

    def scratch(self) -> Self:
        """Return the store's place for what need not last, such as a cache; never touches the file.

        It is a store of the same kind, apart in the same file, and no part of this one: not of
        ``snapshot``, ``restore``, ``clear``, ``len`` or any listing. It uses the connections of
        this store, which alone closes them. ``backup`` and ``compact`` are about the whole file.
        """

    def __repr__(self) -> str: ...

class DiskStore(_Opened, Blocking):
    """A store in one file, with the interface of :class:`swarmstate.Store` and no server.

    Any number of threads and processes of one machine may use the file at the same time. Every
    write that has returned survives the end of the process, however it ends. The file is SQLite's,
    in its WAL mode, so there are two more beside it while it is in use, ``-wal`` and ``-shm``.

    Args:
        path: the file, which is made if there is none, for its owner alone (mode 0600).
        codec: the name of the codec.
        default: encodes what the codec does not know.
        max_history: how many snapshots ``history()`` keeps: 0 none, n the last n, None all.
        synchronous: ``"FULL"``: a write that has returned survives a power cut too. ``"NORMAL"``:
            the last ones may be lost then, newest first and each one whole; much faster.
        ttl: seconds that a namespace lives after the last write to it, from 0.001 to 10**10; None:
            until it is deleted.
        ttl_on_read: whether a read restarts that time.
        timeout: seconds to wait for other processes that write.
        read_only: whether to refuse every write; the file must be there.

    Raises:
        ArgumentTypeError, ArgumentValueError: an argument that is not accepted, or a file of
            another program or a newer format, which is not touched.
        UnknownCodecError: there is no such codec.
        AccessDenied: the file may not be opened or made.
        StoreUnavailable: it cannot be opened for another reason.
    """
    def set(self, namespace: str, key: str, value: Any) -> None:
        """Store one value. One commit, shared with those who write at the same time. O(log n)."""

    def get(self, namespace: str, key: str, default: Any = None) -> Any:
        """Return one value, or ``default`` where there is none. O(log n)."""

    def contains(self, namespace: str, key: str) -> bool:
        """Return whether the key exists. O(log n)."""

    def set_default(self, namespace: str, key: str, value: Any) -> bool:
        """Store ``value`` only if the key is absent; return whether it was stored. O(log n)."""

    def delete(self, namespace: str, key: str) -> bool:
        """Remove a key; return whether it existed. O(log n)."""

    def update(
        self, namespace: str, key: str, fn: Callable[[Any], Any], default: Any = None
    ) -> Any:
        """Replace a value by ``fn(value)`` atomically, across processes; return the new value.

        Optimistic: nothing is locked while ``fn`` runs. The new value is stored if the old one is
        still there, otherwise ``fn`` is called again with what is there now.

        Raises:
            StoreUnavailable: other writers were faster 1,000 times in a row.
        """

    def set_many(self, items: Iterable[tuple[str, str, Any]]) -> None:
        """Store all the (namespace, key, value) triples at once, or none. One commit."""

    def get_many(self, pairs: Iterable[Pair]) -> list[Any]:
        """Return the values at one moment, in input order; a missing one is None."""

    def delete_many(self, pairs: Iterable[Pair]) -> int:
        """Remove all the keys at once; return how many existed. One commit."""

    def delete_namespace(self, namespace: str) -> int:
        """Remove a namespace with all its keys; return how many there were. O(its keys)."""

    def expire(self, namespace: str, seconds: float) -> bool:
        """Let a namespace be gone, with all its keys, from some time on. One commit, O(log n).

        Writes of a store that was made without a ttl do not put that off; calling this again does.
        A namespace that is removed, restored or loses its last key before then, and comes back,
        stays.

        Args:
            namespace: the namespace.
            seconds: from 0.001 to 10**10.

        Returns:
            Whether there is such a namespace.

        Raises:
            ArgumentValueError: seconds out of bounds, or a namespace of the pending writes of one
                LangGraph checkpoint, which has no time of its own.
        """

    def keys(self, namespace: str, prefix: str | None = None) -> list[str]:
        """Return the keys of a namespace, in order, or those that start with ``prefix``.

        O(log n) and what is returned.
        """

    def items(self, namespace: str) -> list[tuple[str, Any]]:
        """Return the (key, value) pairs of a namespace at one moment, in order. O(its keys)."""

    def max_key(self, namespace: str) -> str | None:
        """Return the greatest key of a namespace (by code point), or None if it has none.

        O(log n).
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
        takes another transaction. One commit, O(log n) for each key.

        Args:
            items: (namespace, key, value) triples to store; of two for one key the later counts.
            delete: (namespace, key) pairs to remove; one that does not exist is passed over.
            expect: (namespace, key) -> the value that must be there, or ``ABSENT`` for none.

        Returns:
            Whether all expectations held before anything was done; if not, nothing was changed.

        Raises:
            InvalidArgumentError: a pair is both in items and in delete.
            StoreUnavailable: it could not be committed, and nothing was changed; or another program
                that encodes otherwise was faster 1,000 times in a row.
        """

    def append(self, namespace: str, values: Iterable[Any]) -> list[str]:
        """Add values to the end of a log, all or none. One commit, O(log n) for each value.

        Args:
            namespace: the namespace of the log.
            values: an iterable of values.

        Returns:
            Their keys, in order: each of exactly 16 digits, and above all such keys that are there.

        Raises:
            EncodeError: the codec does not accept a value; nothing was written.
            ArgumentValueError: there are not enough keys of 16 digits above the last one.
        """

    def tail(
        self, namespace: str, limit: int | None = None, *, before: str | None = None
    ) -> list[tuple[str, Any]]:
        """Return the last (key, value) pairs of a log at one moment, oldest first.

        O(log n), what is returned, and whatever other keys that start with a digit lie in between.

        Args:
            namespace: the namespace of the log; its keys that are not of 16 digits are ignored.
            limit: how many at most; None: all.
            before: a key of 16 digits; only entries before it are returned.
        """

    def pop(self, namespace: str) -> tuple[str, Any] | None:
        """Remove the last entry of a log; return its (key, value), or None if there is none.

        The key may be given again by :meth:`append`. One commit, O(log n).

        Raises:
            DecodeError: the bytes are not a valid value; the entry is still there.
        """

    def namespaces(self, prefix: str | None = None) -> list[str]:
        """Return the namespaces, or those that start with ``prefix``. O(namespaces)."""

    def clear(self) -> None:
        """Remove every namespace; history and held snapshots stay. O(keys)."""

    def snapshot(self) -> Snapshot:
        """Freeze the whole store at one moment.

        The first reads all of the file. While a snapshot is held, the content is kept in memory,
        and the next one costs O(what has changed since), unless another process wrote, or most of
        it has changed: then it reads all.
        """

    def restore(self, snapshot: SnapshotLike) -> None:
        """Make the store what ``snapshot`` holds, all of it or nothing. One commit.

        Writes what differs. To find it costs O(what has changed) for a snapshot of this very store
        while no other process writes, else O(all keys).

        Raises:
            WireFormatError: the snapshot's values are of another wire format.
        """

    def backup(self, path: str | os.PathLike[str]) -> None:
        """Write a copy of the store, as it is at one moment, to another file.

        Others may write meanwhile. The copy appears whole or not at all; one that is there already
        is replaced. O(size of the file).

        Args:
            path: where the copy is to be; a file of another program there is refused.

        Raises:
            ArgumentTypeError, ArgumentValueError: no copy can be made there.
            AccessDenied, StoreUnavailable: it could not be written; nothing is left of it.
        """

    def compact(self) -> int:
        """Give the disk back what is not needed; return how many bytes that is.

        Removes all that has expired, and writes the file again without the room that deleted
        entries have left. Nobody can write meanwhile. O(size of the file), which is also the room
        that it needs.

        Raises:
            StoreUnavailable: there is not that much room, or the file was locked all the time.
        """

    def __len__(self) -> int:
        """Return the number of keys in all namespaces, at one moment. O(keys)."""

    def __contains__(self, namespace: object) -> bool:
        """Return whether the namespace has a key. O(log n)."""

class AsyncDiskStore(_Opened, Awaited):
    """The methods of :class:`DiskStore`, awaited; the arguments are the same.

    One thread does what any number of tasks and event loops want, and commits together what was
    asked for together. A cancelled task harms no other; what it had asked for may still be done.
    ``len(store)`` is ``await store.count()`` here and ``namespace in store`` is
    ``await store.has_namespace(namespace)``. Only making the store itself opens the file at once.
    """
    async def set(self, namespace: str, key: str, value: Any) -> None:
        """Store one value. One commit, shared with those who write at the same time. O(log n)."""

    async def get(self, namespace: str, key: str, default: Any = None) -> Any:
        """Return one value, or ``default`` where there is none. O(log n)."""

    async def contains(self, namespace: str, key: str) -> bool:
        """Return whether the key exists. O(log n)."""

    async def set_default(self, namespace: str, key: str, value: Any) -> bool:
        """Store ``value`` only if the key is absent; return whether it was stored. O(log n)."""

    async def delete(self, namespace: str, key: str) -> bool:
        """Remove a key; return whether it existed. O(log n)."""

    async def update(
        self, namespace: str, key: str, fn: Callable[[Any], Any], default: Any = None
    ) -> Any:
        """Replace a value by ``fn(value)`` atomically, across processes; return the new value.

        Optimistic: nothing is locked while ``fn`` runs. The new value is stored if the old one is
        still there, otherwise ``fn`` is called again with what is there now.

        Raises:
            StoreUnavailable: other writers were faster 1,000 times in a row.
        """

    async def set_many(self, items: Iterable[tuple[str, str, Any]]) -> None:
        """Store all the (namespace, key, value) triples at once, or none. One commit."""

    async def get_many(self, pairs: Iterable[Pair]) -> list[Any]:
        """Return the values at one moment, in input order; a missing one is None."""

    async def delete_many(self, pairs: Iterable[Pair]) -> int:
        """Remove all the keys at once; return how many existed. One commit."""

    async def delete_namespace(self, namespace: str) -> int:
        """Remove a namespace with all its keys; return how many there were. O(its keys)."""

    async def expire(self, namespace: str, seconds: float) -> bool:
        """Let a namespace be gone, with all its keys, from some time on. One commit, O(log n).

        Writes of a store that was made without a ttl do not put that off; calling this again does.
        A namespace that is removed, restored or loses its last key before then, and comes back,
        stays.

        Args:
            namespace: the namespace.
            seconds: from 0.001 to 10**10.

        Returns:
            Whether there is such a namespace.

        Raises:
            ArgumentValueError: seconds out of bounds, or a namespace of the pending writes of one
                LangGraph checkpoint, which has no time of its own.
        """

    async def keys(self, namespace: str, prefix: str | None = None) -> list[str]:
        """Return the keys of a namespace, in order, or those that start with ``prefix``.

        O(log n) and what is returned.
        """

    async def items(self, namespace: str) -> list[tuple[str, Any]]:
        """Return the (key, value) pairs of a namespace at one moment, in order. O(its keys)."""

    async def max_key(self, namespace: str) -> str | None:
        """Return the greatest key of a namespace (by code point), or None if it has none.

        O(log n).
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
        takes another transaction. One commit, O(log n) for each key.

        Args:
            items: (namespace, key, value) triples to store; of two for one key the later counts.
            delete: (namespace, key) pairs to remove; one that does not exist is passed over.
            expect: (namespace, key) -> the value that must be there, or ``ABSENT`` for none.

        Returns:
            Whether all expectations held before anything was done; if not, nothing was changed.

        Raises:
            InvalidArgumentError: a pair is both in items and in delete.
            StoreUnavailable: it could not be committed, and nothing was changed; or another program
                that encodes otherwise was faster 1,000 times in a row.
        """

    async def append(self, namespace: str, values: Iterable[Any]) -> list[str]:
        """Add values to the end of a log, all or none. One commit, O(log n) for each value.

        Args:
            namespace: the namespace of the log.
            values: an iterable of values.

        Returns:
            Their keys, in order: each of exactly 16 digits, and above all such keys that are there.

        Raises:
            EncodeError: the codec does not accept a value; nothing was written.
            ArgumentValueError: there are not enough keys of 16 digits above the last one.
        """

    async def tail(
        self, namespace: str, limit: int | None = None, *, before: str | None = None
    ) -> list[tuple[str, Any]]:
        """Return the last (key, value) pairs of a log at one moment, oldest first.

        O(log n), what is returned, and whatever other keys that start with a digit lie in between.

        Args:
            namespace: the namespace of the log; its keys that are not of 16 digits are ignored.
            limit: how many at most; None: all.
            before: a key of 16 digits; only entries before it are returned.
        """

    async def pop(self, namespace: str) -> tuple[str, Any] | None:
        """Remove the last entry of a log; return its (key, value), or None if there is none.

        The key may be given again by :meth:`append`. One commit, O(log n).

        Raises:
            DecodeError: the bytes are not a valid value; the entry is still there.
        """

    async def namespaces(self, prefix: str | None = None) -> list[str]:
        """Return the namespaces, or those that start with ``prefix``. O(namespaces)."""

    async def clear(self) -> None:
        """Remove every namespace; history and held snapshots stay. O(keys)."""

    async def snapshot(self) -> Snapshot:
        """Freeze the whole store at one moment.

        The first reads all of the file. While a snapshot is held, the content is kept in memory,
        and the next one costs O(what has changed since), unless another process wrote, or most of
        it has changed: then it reads all.
        """

    async def restore(self, snapshot: SnapshotLike) -> None:
        """Make the store what ``snapshot`` holds, all of it or nothing. One commit.

        Writes what differs. To find it costs O(what has changed) for a snapshot of this very store
        while no other process writes, else O(all keys).

        Raises:
            WireFormatError: the snapshot's values are of another wire format.
        """

    async def backup(self, path: str | os.PathLike[str]) -> None:
        """Write a copy of the store, as it is at one moment, to another file.

        Others may write meanwhile. The copy appears whole or not at all; one that is there already
        is replaced. O(size of the file).

        Args:
            path: where the copy is to be; a file of another program there is refused.

        Raises:
            ArgumentTypeError, ArgumentValueError: no copy can be made there.
            AccessDenied, StoreUnavailable: it could not be written; nothing is left of it.
        """

    async def compact(self) -> int:
        """Give the disk back what is not needed; return how many bytes that is.

        Removes all that has expired, and writes the file again without the room that deleted
        entries have left. Nobody can write meanwhile. O(size of the file), which is also the room
        that it needs.

        Raises:
            StoreUnavailable: there is not that much room, or the file was locked all the time.
        """

    async def count(self) -> int:
        """Return the number of keys in all namespaces, at one moment. O(keys)."""

    async def has_namespace(self, namespace: object) -> bool:
        """Return whether the namespace has a key. O(log n)."""
