"""Checkpoints over any store, built from the calls that every store offers.

Its guarantees are those of these calls: a put is one ``set_many`` and so appears whole or not at
all; a positional write is a ``set_default`` and so is never replaced; everything that decides what
to remove holds a lock that all engines over one store object share. The operations never wait for
anything but the store itself, so both drivers run them inline.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping, Sequence
from inspect import signature
from typing import Any, cast
from weakref import WeakKeyDictionary

from swarmstate.arguments import milliseconds
from swarmstate.checkpoints.completed import completed
from swarmstate.checkpoints.format import (
    LOST,
    THREADS,
    ThreadNames,
    assemble,
    check_id,
    decode_record,
    encode_record,
    id_of,
    is_id,
    mark_of_parent,
    mark_of_writes,
    names,
    record_fields,
    segments_among,
    thread_namespace,
    thread_of,
)
from swarmstate.checkpoints.limits import Limits
from swarmstate.checkpoints.protocol import (
    NO_VALUES,
    Blob,
    CheckpointEngine,
    CheckpointName,
    CheckpointRecord,
    SeveredCheckpoint,
    StoredCheckpoint,
    Surplus,
)
from swarmstate.checkpoints.references import within
from swarmstate.errors import ArgumentValueError
from swarmstate.protocols import StoreLike
from swarmstate.steps import InlineDriver

__all__ = ["GenericEngine", "engine_of", "lock_of", "newest_first", "refuse_expiry", "size_of"]

# Reentrant: the garbage collector may run a finalizer that uses the saver while we hold one.
_locks: WeakKeyDictionary[StoreLike, threading.RLock] = WeakKeyDictionary()
_locks_guard = threading.Lock()


def lock_of(store: StoreLike) -> threading.RLock:
    """Return the lock that all engines over one store share."""
    with _locks_guard:
        try:
            return _locks.setdefault(store, threading.RLock())
        except TypeError:  # a third-party store without weak references or a hash
            return threading.RLock()


def engine_of(store: StoreLike, ttl: float | None, ttl_on_read: bool) -> CheckpointEngine:
    """Return the engine that a store offers, or else one built from its calls.

    Args:
        store: The store.
        ttl: Seconds after which a thread that is not written to expires, or None.
        ttl_on_read: Whether reading a thread renews it too.

    Raises:
        ArgumentTypeError, ArgumentValueError: these are not accepted, or threads cannot expire in
            this store.
    """
    milliseconds(ttl)
    offer = getattr(store, "checkpoint_engine", None)
    if offer is None:
        refuse_expiry(store, ttl, ttl_on_read)
        return GenericEngine(completed(store, lock_of(store)), store)
    if ttl is None and not ttl_on_read:
        return cast("CheckpointEngine", offer())
    # An engine that cannot be told of a ttl would silently ignore it.
    if not {"ttl", "ttl_on_read"} <= signature(offer).parameters.keys():
        refuse_expiry(store, ttl, ttl_on_read)
    return cast("CheckpointEngine", offer(ttl=ttl, ttl_on_read=ttl_on_read))


def refuse_expiry(store: StoreLike, ttl: float | None, ttl_on_read: bool) -> None:
    """Raise if threads are to expire, of a store where they cannot.

    Raises:
        ArgumentTypeError, ArgumentValueError: they are.
    """
    milliseconds(ttl)
    if ttl is not None or ttl_on_read:
        asked = f"ttl={ttl}" if ttl is not None else f"ttl_on_read={ttl_on_read}"
        raise ArgumentValueError(
            f"{asked} needs a store whose threads can expire, such as RedisStore; those of a "
            f"{type(store).__name__} cannot"
        )


def size_of(found: StoredCheckpoint) -> int:
    """Return how many bytes the values and writes of a checkpoint have."""
    blobs = [*found.values.values(), *(write.value for write in found.writes)]
    return sum(len(data) for _, data in blobs)


def newest_first(found: list[CheckpointName], limit: int | None) -> list[CheckpointName]:
    """Return names of checkpoints by descending id, at most ``limit``."""
    found.sort(key=lambda name: (name.id, name.thread, name.checkpoint_ns), reverse=True)
    return found if limit is None else found[:limit]


class GenericEngine(InlineDriver):
    """A :class:`~swarmstate.checkpoints.protocol.CheckpointEngine` over any :class:`StoreLike`.

    Args:
        store: The store.
        owner: By whom engines share a lock, if not by the store: what it was made of.
    """

    def __init__(self, store: StoreLike, owner: StoreLike | None = None) -> None:
        self._store = store
        self._lock = lock_of(store if owner is None else owner)
        self._limits = Limits(store, owner)

    def put(
        self,
        name: CheckpointName,
        record: CheckpointRecord,
        values: Mapping[str, Blob],
        inherited: Sequence[str],
        *,
        keep: int | None = None,
        caller: CheckpointName | None = None,
    ) -> tuple[Surplus | None, list[str]]:
        """Store a checkpoint by one ``set_many``."""
        store = self._store
        thread, checkpoint_ns, checkpoint_id = name
        check_id(checkpoint_id)
        where = names(thread, checkpoint_ns)
        items: list[tuple[str, str, Any]] = [
            (where.thread, checkpoint_ns, 1),
            (where.checkpoints, checkpoint_id, encode_record(record)),
        ]
        kept = set(inherited)
        with self._lock:
            missing = [
                key
                for key in inherited
                if key not in values and not store.contains(where.values, key)
            ]
            if missing:
                return None, missing
            self._bury(where, checkpoint_ns)
            parent = record.parent
            if record.deltas and parent and not store.contains(where.checkpoints, parent):
                items.append((where.checkpoints, mark_of_parent(checkpoint_id), 1))
            # What was there first stays: the caller may have changed its objects since.
            items += [
                (where.values, key, value)
                for key, value in values.items()
                if key not in kept or not store.contains(where.values, key)
            ]
            noted = self._limits.before(where, checkpoint_id, keep)
            store.set_many(items)
            if store.contains(where.orphans, checkpoint_id):
                store.delete(where.orphans, checkpoint_id)
            if keep is None:
                return None, []
            fields = tuple(
                record_fields(record).values() if record.deltas else {*values, *inherited}
            )
            return self._limits.after(where, name, record, fields, keep, caller, noted), []

    def _bury(self, where: ThreadNames, checkpoint_ns: str) -> None:
        """Remove what is left of a checkpoint namespace that is not listed, but for its values.

        A value is the same for whoever names it, so nothing can come back to life by it.
        """
        store = self._store
        if store.contains(where.thread, checkpoint_ns):
            return
        spaces = [where.checkpoints, where.orphans]
        spaces += [where.writes + each for each in self._named(where)]
        store.delete_many([(space, key) for space in spaces for key in store.keys(space)])

    def _named(self, where: ThreadNames) -> set[str]:
        """Return every checkpoint id under which there may be pending writes."""
        store = self._store
        return {*store.keys(where.orphans), *map(id_of, store.keys(where.checkpoints))}

    def put_writes(
        self,
        name: CheckpointName,
        writes: Mapping[str, Any],
        values: Mapping[str, Blob] = NO_VALUES,
        inherited: Sequence[str] = (),
    ) -> list[str]:
        """Store writes, those at a positional index by ``set_default``."""
        store = self._store
        thread, checkpoint_ns, checkpoint_id = name
        check_id(checkpoint_id)
        if not writes:
            return []
        where = names(thread, checkpoint_ns)
        target = where.writes + checkpoint_id
        mark = mark_of_writes(checkpoint_id)
        with self._lock:
            missing = [
                key
                for key in inherited
                if key not in values and not store.contains(where.values, key)
            ]
            if missing:
                return missing
            self._bury(where, checkpoint_ns)
            if not store.contains(where.checkpoints, checkpoint_id):
                store.set_many(
                    [(where.thread, checkpoint_ns, 1), (where.orphans, checkpoint_id, 1)]
                )
            if values:
                store.set_many([(where.values, key, value) for key, value in values.items()])
            segments = segments_among(writes)
            if segments:
                self._limits.need(where, checkpoint_id, segments)
            marked = store.contains(where.checkpoints, mark)
            special: list[tuple[str, str, Any]] = []
            if marked and target not in store:
                special.append((target, LOST, 1))
            # What says which segments a write needs comes before the write: readers take no lock.
            for key, value in sorted(writes.items(), key=lambda one: one[0][:2] != "\0s"):
                if key[0] == "-":
                    special.append((target, key, value))
                else:
                    store.set_default(target, key, value)
            if special:
                store.set_many(special)
            if not marked:
                # Last: whoever reads meanwhile must not miss what it announces.
                store.set(where.checkpoints, mark, 1)
        return []

    def get(self, name: CheckpointName) -> StoredCheckpoint | None:
        """Return a checkpoint; the latest is found by ``max_key``."""
        store = self._store
        thread, checkpoint_ns, key = name
        where = names(thread, checkpoint_ns)
        if not store.contains(where.thread, checkpoint_ns):
            return None
        checkpoints = where.checkpoints
        while True:
            if not name.id:
                latest = self._latest(checkpoints)
                if latest is None:
                    return None
                key = latest
            elif not is_id(key):
                return None
            raw = store.get(checkpoints, key)
            if raw is not None or store.contains(checkpoints, key):  # None is not a record
                found = self._whole(CheckpointName(thread, checkpoint_ns, key), raw)
                if found is not None:
                    return found
            # It went away after it was found to be the latest: now another one is, or none.
            elif name.id or self._latest(checkpoints) == key:
                return None

    def _latest(self, checkpoints: str) -> str | None:
        """Return the greatest id."""
        key = self._store.max_key(checkpoints)
        if key is None or is_id(key):
            return key
        # A mark comes before every usual id.
        return max(filter(is_id, self._store.keys(checkpoints)), default=None)

    def _whole(
        self,
        name: CheckpointName,
        raw: Any,
        channels: Collection[str] | None = None,
        *,
        writes: bool = True,
    ) -> StoredCheckpoint | None:
        """Return a checkpoint with its values and writes; None if it went away meanwhile."""
        store = self._store
        where = names(name.thread, name.checkpoint_ns)
        record = decode_record(raw, name)
        fields = record_fields(record, channels)
        marked = False
        written: Sequence[tuple[str, Any]] = ()
        if writes:
            written = store.items(where.writes + name.id)
            if not written:
                marked = store.contains(where.checkpoints, mark_of_writes(name.id))
                if marked:
                    # They are there before their mark, so these came a moment ago, or are lost.
                    written = store.items(where.writes + name.id)
        wanted: Collection[str] = fields.values()
        if written:
            wanted = [*wanted, *segments_among(key for key, _ in written)]
        kept = store.get_many([(where.values, key) for key in wanted])
        held = dict(zip(wanted, kept, strict=True))
        seems_whole = None not in kept and (written or not writes)
        if not seems_whole and not store.contains(where.checkpoints, name.id):
            return None
        return assemble(name, record, fields, held, written, marked=marked)

    def list_ids(
        self,
        threads: Sequence[str],
        checkpoint_ns: str | None,
        before: str | None,
        limit: int | None,
    ) -> list[CheckpointName]:
        """Return the greatest ids; sorts all of the namespaces."""
        store = self._store
        if checkpoint_ns is None:
            spaces = [
                (one, space) for one in threads for space in store.keys(thread_namespace(one))
            ]
        else:
            spaces = [(one, checkpoint_ns) for one in threads if self._exists(one, checkpoint_ns)]
        found = [
            CheckpointName(thread, space, checkpoint_id)
            for thread, space in spaces
            for checkpoint_id in filter(is_id, store.keys(names(thread, space).checkpoints))
            if before is None or checkpoint_id < before
        ]
        return newest_first(found, limit)

    def _exists(self, thread: str, checkpoint_ns: str) -> bool:
        return self._store.contains(names(thread, checkpoint_ns).thread, checkpoint_ns)

    def load(
        self,
        names: Sequence[CheckpointName],
        *,
        channels: Collection[str] | None,
        writes: bool,
        most: int | None = None,
    ) -> list[StoredCheckpoint | None]:
        """Return checkpoints by name, as many as ``most`` bytes allow."""
        kept = self._store.get_many([(_checkpoints(name), name.id) for name in names])
        spaces = {name[:2]: self._exists(*name[:2]) for name in names}
        found: list[StoredCheckpoint | None] = []
        size, room = 0, most or 0
        for name, raw in zip(names, kept, strict=True):
            if most is not None and size > room:
                break
            is_gone = raw is None and not self._store.contains(_checkpoints(name), name.id)
            if is_gone or not spaces[name[:2]] or not is_id(name.id):
                found.append(None)
            elif writes or channels is None or channels:
                one = self._whole(name, raw, channels, writes=writes)
                has = 0 if most is None or one is None else size_of(one)
                if found:
                    size += has
                else:
                    room = max(room, has)
                found.append(one)
            else:
                found.append(StoredCheckpoint(name, decode_record(raw, name), {}, []))
        return found

    def ancestors(self, name: CheckpointName, limit: int) -> list[StoredCheckpoint]:
        """Follow the parents, one ``get`` each."""
        checkpoints = _checkpoints(name)
        found: list[StoredCheckpoint] = []
        cursor: CheckpointName | None = name
        if not self._exists(name.thread, name.checkpoint_ns):
            return []
        while cursor is not None and len(found) < limit:
            raw = self._store.get(checkpoints, cursor.id) if is_id(cursor.id) else None
            if raw is None:
                break
            record = decode_record(raw, cursor)
            found.append(StoredCheckpoint(cursor, record, {}, []))
            cursor = None if record.parent is None else cursor._replace(id=record.parent)
        if found and cursor is not None and found[-1].record.deltas:
            mark = mark_of_parent(found[-1].name.id)
            contains = self._store.contains
            if not contains(checkpoints, cursor.id) and contains(checkpoints, mark):
                found[-1] = SeveredCheckpoint(*found[-1])
        return found

    def delete(
        self,
        thread: str,
        checkpoint_ns: str,
        ids: Sequence[str],
        *,
        orphans_before: str | None = None,
    ) -> None:
        """Remove checkpoints and what only they refer to by one ``delete_many``."""
        store = self._store
        where = names(thread, checkpoint_ns)
        gone = set(ids)
        with self._lock:
            self._limits.forget(where)
            if not any(store.contains(where.checkpoints, checkpoint_id) for checkpoint_id in gone):
                return
            if orphans_before is not None:
                gone.update(
                    orphan
                    for orphan in self._named(where)
                    if orphan < orphans_before and not store.contains(where.checkpoints, orphan)
                )
            used: set[str] = set()
            for checkpoint_id, raw in store.items(where.checkpoints):
                if checkpoint_id not in gone and is_id(checkpoint_id):
                    record = decode_record(
                        raw, CheckpointName(thread, checkpoint_ns, checkpoint_id)
                    )
                    used.update(record_fields(record).values())
            for checkpoint_id in self._named(where) - gone:
                used.update(segments_among(store.keys(where.writes + checkpoint_id)))
            doomed = [(where.values, key) for key in store.keys(where.values) if key not in used]
            for checkpoint_id in gone:
                doomed += [
                    (where.checkpoints, checkpoint_id),
                    (where.checkpoints, mark_of_writes(checkpoint_id)),
                    (where.checkpoints, mark_of_parent(checkpoint_id)),
                    (where.orphans, checkpoint_id),
                ]
                doomed += [
                    (where.writes + checkpoint_id, key)
                    for key in store.keys(where.writes + checkpoint_id)
                ]
            store.delete_many(doomed)
            if where.checkpoints not in store and where.orphans not in store:
                store.delete(where.thread, checkpoint_ns)

    def surplus(self, thread: str, checkpoint_ns: str, keep: int) -> Surplus | None:
        """Return what a namespace holds beyond its newest checkpoints; reads all of it."""
        with self._lock:
            return self._limits.surplus(thread, checkpoint_ns, keep)

    def inspect(
        self, surplus: Surplus, ids: Sequence[str], *, gates: bool
    ) -> tuple[dict[str, list[str]], Mapping[str, CheckpointRecord]]:
        """Return the keys of pending writes; a surplus of this engine has its gates."""
        writes = names(surplus.thread, surplus.checkpoint_ns).writes
        return {each: self._store.keys(writes + each) for each in ids}, surplus.gates or {}

    def release(
        self,
        surplus: Surplus,
        doomed: Sequence[tuple[str, Sequence[str]]],
        spaces: Sequence[str],
        calls: Mapping[str, Sequence[str]] | None = None,
    ) -> bool:
        """Remove a part of a surplus by one ``delete_many``."""
        store = self._store
        thread = surplus.thread
        where = names(thread, surplus.checkpoint_ns)
        with self._lock:
            if not self._limits.is_current(surplus):
                return False
            went = {each for each, _ in doomed}
            staying = {key for one in surplus.older if one.id not in went for key in one.fields}
            references = surplus.state[0]
            gone = self._limits.parts(where, doomed, surplus.oldest, references, staying)
            if surplus.calls is not None:
                gone += self._limits.strays(where, surplus)
            for space in within(spaces, store.keys(where.thread)) if spaces else ():
                self._limits.forget(names(thread, space))
                gone.append((where.thread, space))
                for part in self._parts(thread, space):
                    gone += [(part, key) for key in store.keys(part)]
            store.delete_many(gone)
            self._limits.removed(surplus, doomed, calls)
        return True

    def spaces(self, thread: str) -> list[str]:
        """Return the checkpoint namespaces of a thread."""
        return self._store.keys(thread_namespace(thread))

    def _parts(self, thread: str, checkpoint_ns: str) -> list[str]:
        """Return every namespace of the store that holds a part of a checkpoint namespace."""
        where = names(thread, checkpoint_ns)
        writes = [where.writes + each for each in self._named(where)]
        return [where.checkpoints, where.values, where.orphans, *writes]

    def delete_thread(self, thread: str) -> None:
        """Remove everything of a thread by one ``delete_many``."""
        store = self._store
        first = thread_namespace(thread)
        with self._lock:
            doomed = [(first, key) for key in store.keys(first)]
            # Also where the thread has lost the list of its namespaces: the root is one of them.
            for checkpoint_ns in dict.fromkeys(("", *store.keys(first))):
                self._limits.forget(names(thread, checkpoint_ns))
                for part in self._parts(thread, checkpoint_ns):
                    doomed += [(part, key) for key in store.keys(part)]
            store.delete_many(doomed)

    def copy_thread(self, source: str, target: str) -> None:
        """Copy a thread by one ``set_many``."""
        store = self._store
        if source == target:
            return
        with self._lock:
            items: list[tuple[str, str, Any]] = []
            for checkpoint_ns in store.keys(thread_namespace(source)):
                here, there = names(source, checkpoint_ns), names(target, checkpoint_ns)
                self._limits.forget(there)
                self._bury(there, checkpoint_ns)
                items.append((there.thread, checkpoint_ns, 1))
                pairs = [
                    (here.checkpoints, there.checkpoints),
                    (here.values, there.values),
                    (here.orphans, there.orphans),
                ]
                pairs += [(here.writes + each, there.writes + each) for each in self._named(here)]
                for old, new in pairs:
                    items += [(new, key, value) for key, value in store.items(old)]
            store.set_many(items)

    def threads(self) -> list[str]:
        """Return the ids of all threads by enumerating the namespaces."""
        found = (thread_of(name) for name in self._store.namespaces(THREADS))
        return [thread for thread in found if thread is not None]


def _checkpoints(name: CheckpointName) -> str:
    return names(name.thread, name.checkpoint_ns).checkpoints
