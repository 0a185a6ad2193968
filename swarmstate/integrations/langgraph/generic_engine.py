"""Checkpoints over any store, built from the calls that every store offers.

Its guarantees are those of these calls: a put is one ``set_many`` and so appears whole or not at
all; a positional write is a ``set_default`` and so is never replaced; everything that decides what
to remove holds a lock that all engines over one store object share. The operations never wait for
anything but the store itself, so both drivers run them inline.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from swarmstate.checkpoints import (
    THREADS,
    decode_record,
    decode_write,
    encode_record,
    names,
    record_fields,
    thread_namespace,
    thread_of,
    unreadable,
)
from swarmstate.protocols import (
    Blob,
    CheckpointRecord,
    Pair,
    Steps,
    StoredCheckpoint,
    StoreLike,
)

__all__ = ["GenericEngine"]

T = TypeVar("T")

# Reentrant: the garbage collector may run a finalizer that uses the saver while we hold one.
_locks: WeakKeyDictionary[StoreLike, threading.RLock] = WeakKeyDictionary()
_locks_guard = threading.Lock()


def _lock_of(store: StoreLike) -> threading.RLock:
    with _locks_guard:
        try:
            return _locks.setdefault(store, threading.RLock())
        except TypeError:  # a store of somebody's that has no weak references or no hash
            return threading.RLock()


class GenericEngine:
    """A :class:`~swarmstate.protocols.CheckpointEngine` over any :class:`StoreLike`."""

    def __init__(self, store: StoreLike) -> None:
        self._store = store
        self._lock = _lock_of(store)

    def run(self, steps: Steps[T]) -> T:
        """Run an operation; it never yields."""
        try:
            next(steps)
        except StopIteration as stop:
            result: T = stop.value
            return result
        raise RuntimeError("an operation of the generic engine waited for something")

    async def arun(self, steps: Steps[T]) -> T:
        """Run an operation inline: no thread, no switch to another task."""
        return self.run(steps)

    def put(
        self,
        thread: str,
        namespace: str,
        checkpoint_id: str,
        record: CheckpointRecord,
        values: Mapping[str, Blob],
        inherited: Sequence[str],
        *,
        count: bool,
    ) -> Steps[tuple[int, list[str]]]:
        """Store a checkpoint by one ``set_many``."""
        store = self._store
        where = names(thread, namespace)
        items: list[tuple[str, str, Any]] = [
            (where.thread, namespace, 1),
            (where.checkpoints, checkpoint_id, encode_record(record)),
        ]
        items += [(where.values, key, value) for key, value in values.items()]
        with self._lock:
            missing = [key for key in inherited if not store.contains(where.values, key)]
            if not missing:
                store.set_many(items)
                if store.contains(where.strays, checkpoint_id):
                    store.delete(where.strays, checkpoint_id)
            held = len(store.keys(where.checkpoints)) if count else 0
        return held, missing
        yield

    def put_writes(
        self, thread: str, namespace: str, checkpoint_id: str, writes: Mapping[str, Any]
    ) -> Steps[None]:
        """Store writes, those at a positional index by ``set_default``."""
        store = self._store
        where = names(thread, namespace)
        target = where.writes + checkpoint_id
        with self._lock:
            if not store.contains(where.checkpoints, checkpoint_id):
                store.set_many([(where.thread, namespace, 1), (where.strays, checkpoint_id, 1)])
            special: list[tuple[str, str, Any]] = []
            for key, value in writes.items():
                if key[0] == "-":
                    special.append((target, key, value))
                else:
                    store.set_default(target, key, value)
            if special:
                store.set_many(special)
        return
        yield

    def get(
        self, thread: str, namespace: str, checkpoint_id: str | None
    ) -> Steps[StoredCheckpoint | None]:
        """Return a checkpoint; the latest is found by ``max_key``."""
        store = self._store
        where = names(thread, namespace)
        key = checkpoint_id
        while True:
            if checkpoint_id is None:
                key = store.max_key(where.checkpoints)
            if key is None:
                return None
            raw = store.get(where.checkpoints, key)
            if raw is not None:
                found = self._whole(thread, namespace, key, raw)
                if found is not None:
                    return found
            # It went away after it was found to be the latest: now another one is, or none.
            elif checkpoint_id is not None or store.max_key(where.checkpoints) == key:
                return None
        yield

    def _whole(
        self,
        thread: str,
        namespace: str,
        checkpoint_id: str,
        raw: Any,
        channels: Collection[str] | None = None,
    ) -> StoredCheckpoint | None:
        """Return a checkpoint with its values and writes; None if it went away meanwhile."""
        store = self._store
        where = names(thread, namespace)
        record = decode_record(raw, thread, namespace, checkpoint_id)
        fields = record_fields(record)
        if channels is not None:
            fields = {channel: key for channel, key in fields.items() if channel in channels}
        kept = store.get_many([(where.values, key) for key in fields.values()])
        values: dict[str, Blob] = {}
        for channel, value in zip(fields, kept, strict=True):
            if value is not None:
                try:
                    kind, data = value
                except (TypeError, ValueError):
                    raise unreadable(thread, namespace, checkpoint_id, channel, value) from None
                values[channel] = (kind, data)
        writes = [
            decode_write(key, value, thread, namespace, checkpoint_id)
            for key, value in store.items(where.writes + checkpoint_id)
        ]
        if len(writes) > 1:
            writes.sort(key=lambda write: write.order)
        if len(values) < len(fields):
            wanted = record.stored if channels is None else fields.keys() & record.stored
            lost = not all(map(values.__contains__, wanted))
            if lost and not store.contains(where.checkpoints, checkpoint_id):
                return None
        return StoredCheckpoint(namespace, checkpoint_id, record, values, writes)

    def scan(
        self, thread: str, namespace: str | None, before: str | None, limit: int | None
    ) -> Steps[list[Pair]]:
        """Return the greatest ids; sorts all of the namespace."""
        store = self._store
        if namespace is None:
            found = [
                (name, checkpoint_id)
                for name in store.keys(thread_namespace(thread))
                for checkpoint_id in store.keys(names(thread, name).checkpoints)
            ]
        else:
            found = [
                (namespace, checkpoint_id)
                for checkpoint_id in store.keys(names(thread, namespace).checkpoints)
            ]
        if before is not None:
            found = [pair for pair in found if pair[1] < before]
        found.sort(key=lambda pair: (pair[1], pair[0]), reverse=True)
        return found if limit is None else found[:limit]
        yield

    def load(
        self,
        thread: str,
        pairs: Sequence[Pair],
        *,
        channels: Collection[str] | None,
        writes: bool,
    ) -> Steps[list[StoredCheckpoint | None]]:
        """Return checkpoints by name."""
        kept = self._store.get_many(
            [(names(thread, ns).checkpoints, checkpoint_id) for ns, checkpoint_id in pairs]
        )
        found: list[StoredCheckpoint | None] = []
        for (namespace, checkpoint_id), raw in zip(pairs, kept, strict=True):
            if raw is None:
                found.append(None)
            elif writes or channels is None or channels:
                found.append(self._whole(thread, namespace, checkpoint_id, raw, channels))
            else:
                record = decode_record(raw, thread, namespace, checkpoint_id)
                found.append(StoredCheckpoint(namespace, checkpoint_id, record, {}, []))
        return found
        yield

    def ancestors(
        self, thread: str, namespace: str, checkpoint_id: str, limit: int
    ) -> Steps[list[StoredCheckpoint]]:
        """Follow the parents, one ``get`` each."""
        where = names(thread, namespace)
        found: list[StoredCheckpoint] = []
        next_id: str | None = checkpoint_id
        while next_id is not None and len(found) < limit:
            raw = self._store.get(where.checkpoints, next_id)
            if raw is None:
                break
            record = decode_record(raw, thread, namespace, next_id)
            found.append(StoredCheckpoint(namespace, next_id, record, {}, []))
            next_id = record.parent
        return found
        yield

    def delete(
        self, thread: str, namespace: str, ids: Sequence[str], *, strays_before: str | None = None
    ) -> Steps[None]:
        """Remove checkpoints and what only they refer to by one ``delete_many``."""
        store = self._store
        where = names(thread, namespace)
        gone = set(ids)
        with self._lock:
            if not any(store.contains(where.checkpoints, checkpoint_id) for checkpoint_id in gone):
                return
            if strays_before is not None:
                gone.update(
                    stray
                    for stray in store.keys(where.strays)
                    if stray < strays_before and not store.contains(where.checkpoints, stray)
                )
            used: set[str] = set()
            for checkpoint_id, raw in store.items(where.checkpoints):
                if checkpoint_id not in gone:
                    record = decode_record(raw, thread, namespace, checkpoint_id)
                    used.update(record_fields(record).values())
            doomed = [(where.checkpoints, checkpoint_id) for checkpoint_id in gone]
            doomed += [(where.values, key) for key in store.keys(where.values) if key not in used]
            for checkpoint_id in gone:
                doomed.append((where.strays, checkpoint_id))
                doomed += [
                    (where.writes + checkpoint_id, key)
                    for key in store.keys(where.writes + checkpoint_id)
                ]
            store.delete_many(doomed)
            if where.checkpoints not in store and where.strays not in store:
                store.delete(where.thread, namespace)
        return
        yield

    def _namespaces(self, thread: str) -> list[tuple[str, str]]:
        """Return every (checkpoint namespace, namespace of the store) of a thread."""
        store = self._store
        found: list[tuple[str, str]] = []
        for namespace in store.keys(thread_namespace(thread)):
            where = names(thread, namespace)
            found += [(namespace, n) for n in (where.checkpoints, where.values, where.strays)]
            for checkpoint_id in {*store.keys(where.checkpoints), *store.keys(where.strays)}:
                found.append((namespace, where.writes + checkpoint_id))
        return found

    def delete_thread(self, thread: str) -> Steps[None]:
        """Remove everything of a thread by one ``delete_many``."""
        store = self._store
        first = thread_namespace(thread)
        with self._lock:
            doomed = [(first, key) for key in store.keys(first)]
            for _, name in self._namespaces(thread):
                doomed += [(name, key) for key in store.keys(name)]
            store.delete_many(doomed)
        return
        yield

    def copy_thread(self, source: str, target: str) -> Steps[None]:
        """Copy a thread by one ``set_many``."""
        store = self._store
        if source == target:
            return
        with self._lock:
            items: list[tuple[str, str, Any]] = []
            for namespace in store.keys(thread_namespace(source)):
                here, there = names(source, namespace), names(target, namespace)
                items.append((there.thread, namespace, 1))
                pairs = [
                    (here.checkpoints, there.checkpoints),
                    (here.values, there.values),
                    (here.strays, there.strays),
                ]
                pairs += [
                    (here.writes + checkpoint_id, there.writes + checkpoint_id)
                    for checkpoint_id in {*store.keys(here.checkpoints), *store.keys(here.strays)}
                ]
                for old, new in pairs:
                    items += [(new, key, value) for key, value in store.items(old)]
            store.set_many(items)
        return
        yield

    def threads(self) -> Steps[list[str]]:
        """Return the ids of all threads by enumerating the namespaces."""
        found = (thread_of(name) for name in self._store.namespaces(THREADS))
        return [thread for thread in found if thread is not None]
        yield
