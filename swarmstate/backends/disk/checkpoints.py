"""LangGraph checkpoints in a file: each operation is one transaction.

What is stored is that of :mod:`swarmstate.checkpoints.format`. A checkpoint namespace of a thread
has four spaces, and the thread one more, however many checkpoints there are.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any, ParamSpec, TypeVar, cast

from swarmstate.arguments import milliseconds
from swarmstate.backends.disk.driver import Driver, Read, Write
from swarmstate.backends.disk.reading import (
    IS_ID,
    Found,
    add_values,
    add_writes,
    assembled,
    read,
)
from swarmstate.backends.disk.rows import HAS, UPSERT, drop_if_empty
from swarmstate.backends.disk.rows import milliseconds_now as now_ms
from swarmstate.backends.disk.schema import beyond
from swarmstate.backends.disk.steps import StoreSteps
from swarmstate.backends.disk.threads import (
    Spaces,
    listed,
    listed_in,
    missing_fields,
    of_any_age,
    of_thread,
    ready_to_put,
    ready_to_write,
)
from swarmstate.checkpoints.format import (
    LOST,
    THREADS,
    check_id,
    encode_record,
    mark_of_parent,
    mark_of_writes,
    names,
    record_fields,
    segments_among,
    thread_of,
)
from swarmstate.checkpoints.generic import GenericEngine, newest_first
from swarmstate.checkpoints.limits import Limits
from swarmstate.checkpoints.protocol import (
    NO_VALUES,
    Blob,
    CheckpointName,
    CheckpointRecord,
    SeveredCheckpoint,
    StoredCheckpoint,
    Surplus,
)
from swarmstate.errors import ArgumentValueError
from swarmstate.protocols import StoreLike
from swarmstate.steps import Steps

__all__ = ["DiskCheckpoints"]

_MOST_ASKED = 200  # values, by one statement: SQLite before 3.32 takes 999
T = TypeVar("T")
P = ParamSpec("P")

_KEEP = "INSERT INTO entry VALUES(?,?,?,?) ON CONFLICT(space,sub,key) DO NOTHING"
_ANY = "SELECT 1 FROM entry WHERE space=? AND sub=? LIMIT 1"
_IDS = f"SELECT key FROM entry WHERE {IS_ID}"


class DiskCheckpoints:
    """A :class:`~swarmstate.checkpoints.protocol.CheckpointEngine` over one file.

    Args:
        steps: The logic of the store.
        driver: What runs it.
        ttl: Seconds that a thread lives after it was last renewed; None: as the store's namespaces.
        ttl_on_read: Whether reading a thread renews it too.
    """

    def __init__(
        self,
        steps: StoreSteps,
        driver: Driver,
        *,
        ttl: float | None = None,
        ttl_on_read: bool = False,
    ) -> None:
        lifetime = milliseconds(ttl)
        if lifetime is None:
            lifetime = steps.ttl_ms
            ttl_on_read = ttl_on_read or steps.ttl_on_read
        if ttl_on_read and lifetime is None:
            raise ArgumentValueError(
                "ttl_on_read=True needs a ttl, the checkpointer's or the store's: without one "
                "there is nothing to renew"
            )
        self._store = steps
        self._encode = steps.encode
        self._driver = driver
        self._ttl_ms = lifetime
        self._ttl_on_read = ttl_on_read
        self._one = steps.encode(1)
        # What it knows of namespaces with a limit is shared by all engines over one store; it is
        # used within a write only, so by one thread at a time.
        self._entries = steps.entries
        self._generic = GenericEngine(cast("StoreLike", self._entries))
        self._limits = Limits(cast("StoreLike", self._entries))

    def run(self, steps: Steps[T]) -> T:
        """Run an operation in the caller's thread."""
        return self._driver.run(steps)

    async def arun(self, steps: Steps[T]) -> T:
        """Run an operation without blocking; those of many tasks share transactions."""
        return await self._driver.arun(steps)

    # Writing -----------------------------------------------------------------------------------

    def put(
        self,
        name: CheckpointName,
        record: CheckpointRecord,
        values: Mapping[str, Blob],
        inherited: Sequence[str],
        *,
        keep: int | None = None,
        caller: CheckpointName | None = None,
    ) -> Steps[tuple[Surplus | None, list[str]]]:
        """Store a checkpoint. One commit."""
        check_id(name.id)
        thread, checkpoint_ns, checkpoint_id = name
        where = names(thread, checkpoint_ns)
        encode = self._encode
        encoded = encode(encode_record(record))
        kept = set(inherited)
        asked = [key for key in inherited if key not in values] if values else inherited
        new = [(key, encode(value)) for key, value in values.items()]
        size = len(encoded) + sum(len(data) for _, data in new)
        # Only of interest where something is rebuilt from it.
        parent = (record.parent or "") if record.deltas else ""
        limits = self._limits

        def work(connection: sqlite3.Connection) -> tuple[Surplus | None, list[str]]:
            now = now_ms()
            space: Spaces | None = None
            ready = None
            if len(asked) < _MOST_ASKED:
                ready = ready_to_put(connection, where, checkpoint_ns, parent, asked, now)
            if ready is not None and ready[5] == len(asked):
                checkpoints, held, expires, orphans, continued, _ = ready
            else:
                space = Spaces(connection, where, now)
                known = space.known(where.values)
                missing = missing_fields(connection, known, asked) if asked else []
                if missing:
                    return None, missing
                space.list(checkpoint_ns, self._one)
                checkpoints = space.made(where.checkpoints)
                held = space.made(where.values) if new else -1
                expires, orphans = space.expires, space.known(where.orphans)
                continued = connection.execute(HAS, (checkpoints, "", parent)).fetchone()
            rows: list[tuple[int, str, str, bytes]] = [(checkpoints, "", checkpoint_id, encoded)]
            if parent and not continued:
                rows.append((checkpoints, "", mark_of_parent(checkpoint_id), self._one))
            if new:
                # What was there first stays: the caller may have changed its objects since.
                rows += [(held, "", key, data) for key, data in new if key not in kept]
                again = [(held, "", key, data) for key, data in new if key in kept]
                if again:
                    connection.executemany(_KEEP, again)
            noted = None
            if keep is None:
                with self._entries.lock:
                    limits.forget(where)
            else:
                noted = self._within(connection, limits.before, where, checkpoint_id, keep)
            connection.executemany(UPSERT, rows)
            if orphans is not None:
                connection.execute(
                    "DELETE FROM entry WHERE space=? AND sub='' AND key=?", (orphans, checkpoint_id)
                )
                drop_if_empty(connection, (orphans,))
            if space is not None or self._is_due(expires, now):
                self._renew(space or Spaces(connection, where, now))
            if keep is None:
                return None, []
            fields = tuple(
                record_fields(record).values() if record.deltas else {*values, *inherited}
            )
            found = self._within(
                connection, limits.after, where, name, record, fields, keep, caller, noted
            )
            return found, []

        return (yield from self._written(work, size, thread, checkpoint_ns))

    def put_writes(
        self,
        name: CheckpointName,
        writes: Mapping[str, Any],
        values: Mapping[str, Blob] = NO_VALUES,
        inherited: Sequence[str] = (),
    ) -> Steps[list[str]]:
        """Store pending writes. One commit for any number."""
        check_id(name.id)
        if not writes:
            return []
        thread, checkpoint_ns, checkpoint_id = name
        where = names(thread, checkpoint_ns)
        encode, one = self._encode, self._one
        data = [(key, encode(value)) for key, value in writes.items()]
        new = [(key, encode(value)) for key, value in values.items()] if values else []
        asked = [key for key in inherited if key not in values] if inherited else []
        segments = segments_among(writes)
        mark = mark_of_writes(checkpoint_id)

        def work(connection: sqlite3.Connection) -> list[str]:
            now = now_ms()
            space: Spaces | None = None
            held: int | None = None
            ready = ready_to_write(connection, where, checkpoint_ns, checkpoint_id, mark, now)
            if asked or new:
                space = Spaces(connection, where, now)
                held = space.known(where.values)
                missing = missing_fields(connection, held, asked) if asked else []
                if missing:
                    return missing
            if segments:
                self._within(connection, self._limits.need, where, checkpoint_id, segments)
            if ready is not None and ready[3]:
                checkpoints, target, expires, _, marked, written = ready
            else:
                space = space or Spaces(connection, where, now)
                space.list(checkpoint_ns, one)
                checkpoints, target = space.made(where.checkpoints), space.made(where.writes)
                expires = space.expires
                has = connection.execute
                if not has(HAS, (checkpoints, "", checkpoint_id)).fetchone():
                    has(UPSERT, (space.made(where.orphans), "", checkpoint_id, one))
                marked = has(HAS, (checkpoints, "", mark)).fetchone()
                written = has(_ANY, (target, checkpoint_id)).fetchone()
            if new and space is not None:
                held = space.made(where.values)
                connection.executemany(UPSERT, [(held, "", *row) for row in new])
            rows: list[tuple[int, str, str, bytes]] = []
            special: list[tuple[int, str, str, bytes]] = []
            for key, encoded in data:
                (special if key[0] == "-" else rows).append((target, checkpoint_id, key, encoded))
            if not marked:
                rows.append((checkpoints, "", mark, one))
            elif not written:
                special.append((target, checkpoint_id, LOST, one))
            if rows:
                connection.executemany(_KEEP, rows)
            if special:
                connection.executemany(UPSERT, special)
            if space is not None or self._is_due(expires, now):
                self._renew(space or Spaces(connection, where, now))
            return []

        size = sum([len(row[1]) for row in (*data, *new)])
        if segments:
            return (yield from self._written(work, size, thread, checkpoint_ns))
        missing: list[str] = yield Write(work, size)
        return missing

    def _within(
        self, connection: sqlite3.Connection, decide: Callable[P, T], *args: P.args, **kw: P.kwargs
    ) -> T:
        """Return what is decided by calls on the entries, in the transaction under way."""
        entries = self._entries
        with entries.lock:
            if entries.use(connection):
                self._limits.doubt()
            return decide(*args, **kw)

    def _written(
        self, work: Callable[[sqlite3.Connection], T], size: int, thread: str, *spaces: str
    ) -> Steps[T]:
        """Have work done that changes what is known of namespaces with a limit."""
        done = False
        try:
            result: T = yield Write(work, size)
            done = True
            return result
        finally:
            if not done:
                # It may have been noted, but was not committed.
                with self._entries.lock:
                    for space in spaces:
                        self._limits.forget(names(thread, space))

    def _is_due(self, expires: int | None, now: int) -> bool:
        """Return whether a write has to change when a thread expires."""
        ttl = self._ttl_ms
        if ttl is None or expires is None:
            return ttl is not None or expires is not None
        return not ttl / 2 <= expires - now <= ttl

    def _renew(self, space: Spaces) -> None:
        """Let all of a thread live as long as the last write to it says."""
        ttl = self._ttl_ms
        if self._is_due(space.expires, space.now):
            space.renew(None if ttl is None else space.now + ttl)
        else:
            space.align()

    # Reading -----------------------------------------------------------------------------------

    def get(self, name: CheckpointName) -> Steps[StoredCheckpoint | None]:
        """Return a checkpoint. One transaction, O(log n) and its size."""
        found = yield from self._loaded([name], None, writes=True)
        return found[0]

    def load(
        self,
        names: Sequence[CheckpointName],
        *,
        channels: Collection[str] | None,
        writes: bool,
        most: int | None = None,
    ) -> Steps[list[StoredCheckpoint | None]]:
        """Return checkpoints by name, as many as ``most`` bytes allow. One transaction."""
        return (yield from self._loaded(names, channels, writes=writes, most=most))

    def _loaded(
        self,
        wanted: Sequence[CheckpointName],
        channels: Collection[str] | None,
        *,
        writes: bool,
        most: int | None = None,
    ) -> Steps[list[StoredCheckpoint | None]]:
        late: set[str] = set()

        def work(connection: sqlite3.Connection) -> list[Found | None]:
            connection.execute("BEGIN")
            late.clear()
            now = now_ms()
            spaces: dict[tuple[str, str], Any] = {}
            found: list[Found | None] = []
            values: dict[int, dict[str, Any]] = {}
            room, size = most or 0, 0
            for name in wanted:
                if most is not None and size > room:
                    break
                thread, checkpoint_ns, _ = name
                if (thread, checkpoint_ns) not in spaces:
                    spaces[thread, checkpoint_ns] = space = listed(
                        connection, thread, checkpoint_ns, now
                    )
                    if space is not None and self._outdated(space[3], now):
                        late.add(thread)
                space = spaces[thread, checkpoint_ns]
                one = (
                    None if space is None else read(connection, self._store, name, space, channels)
                )
                if one is not None:
                    assert space is not None  # noqa: S101 (for the type checker)
                    if writes:
                        add_writes(connection, one, space)
                    has = add_values(connection, one, space[1], values)
                    if found:
                        size += has
                    else:
                        room = max(room, has)
                found.append(one)
            return found

        def made(found: list[Found | None]) -> list[StoredCheckpoint | None]:
            decoded: dict[tuple[str, str], Any] = {}
            return [None if one is None else assembled(self._store, one, decoded) for one in found]

        loaded: list[StoredCheckpoint | None] = yield Read(work, made)
        for thread in late:
            yield from self._renewed_by_reading(thread)
        return loaded

    def list_ids(
        self,
        threads: Sequence[str],
        checkpoint_ns: str | None,
        before: str | None,
        limit: int | None,
    ) -> Steps[list[CheckpointName]]:
        """Return the greatest ids. One transaction, O(log n) and what is returned."""
        statement = _IDS
        more: list[Any] = []
        if before is not None:
            statement += " AND key<?"
            more.append(before)
        statement += " ORDER BY key DESC"
        if limit is not None:
            statement += " LIMIT ?"
            more.append(max(limit, 0))

        def work(connection: sqlite3.Connection) -> list[CheckpointName]:
            connection.execute("BEGIN")
            now = now_ms()
            found: list[CheckpointName] = []
            for thread in threads:
                if checkpoint_ns is None:
                    spaces = listed_in(connection, thread, now)
                else:
                    spaces = [checkpoint_ns]
                for each in spaces:
                    space = listed(connection, thread, each, now)
                    if space is not None:
                        ids = connection.execute(statement, (space[0], *more)).fetchall()
                        found += [CheckpointName(thread, each, key) for (key,) in ids]
            return found

        return newest_first((yield Read(work)), limit)

    def ancestors(self, name: CheckpointName, limit: int) -> Steps[list[StoredCheckpoint]]:
        """Follow the parents, in one transaction."""

        def work(connection: sqlite3.Connection) -> list[StoredCheckpoint]:
            connection.execute("BEGIN")
            found: list[StoredCheckpoint] = []
            space = listed(connection, *name[:2], now_ms())
            cursor: CheckpointName | None = name if space is not None else None
            while cursor is not None and len(found) < limit:
                one = read(connection, self._store, cursor, space, ()) if cursor.id else None
                if one is None:
                    break
                found.append(StoredCheckpoint(cursor, one.record, {}, []))
                parent = one.record.parent
                cursor = None if parent is None else cursor._replace(id=parent)
            if space is not None and found and cursor is not None and found[-1].record.deltas:
                last = found[-1]
                there = connection.execute(HAS, (space[0], "", cursor.id)).fetchone()
                mark = (space[0], "", mark_of_parent(last.name.id))
                if not there and connection.execute(HAS, mark).fetchone():
                    found[-1] = SeveredCheckpoint(*last)
            return found

        ancestors: list[StoredCheckpoint] = yield Read(work)
        return ancestors

    def spaces(self, thread: str) -> Steps[list[str]]:
        """Return the checkpoint namespaces of a thread."""
        found: list[str] = yield Read(lambda connection: listed_in(connection, thread, now_ms()))
        return found

    def threads(self) -> Steps[list[str]]:
        """Return the ids of all threads. O(spaces of threads)."""

        def work(connection: sqlite3.Connection) -> list[Any]:
            return connection.execute(
                "SELECT name FROM space WHERE name>=? AND name<?"
                " AND (expires IS NULL OR expires>?)",
                (THREADS, beyond(THREADS), now_ms()),
            ).fetchall()

        found = (thread_of(name) for (name,) in (yield Read(work)))
        return [thread for thread in found if thread is not None]

    def _outdated(self, expires: int | None, now: int) -> bool:
        """Return whether reading a thread is to renew it."""
        return self._ttl_on_read and expires is not None and self._is_due(expires, now)

    def _renewed_by_reading(self, thread: str) -> Steps[None]:
        where = names(thread, "")

        def work(connection: sqlite3.Connection) -> None:
            space = Spaces(connection, where, now_ms())
            if self._outdated(space.expires, space.now):
                self._renew(space)

        yield Write(work)

    # Removing ----------------------------------------------------------------------------------

    def delete(
        self,
        thread: str,
        checkpoint_ns: str,
        ids: Sequence[str],
        *,
        orphans_before: str | None = None,
    ) -> Steps[None]:
        """Remove checkpoints and what only they refer to. One commit, O(the namespace)."""

        def work(connection: sqlite3.Connection) -> None:
            delete = partial(self._generic.delete, orphans_before=orphans_before)
            self._within(connection, delete, thread, checkpoint_ns, ids)

        yield from self._written(work, 0, thread, checkpoint_ns)

    def surplus(self, thread: str, checkpoint_ns: str, keep: int) -> Steps[Surplus | None]:
        """Return what a namespace holds beyond its newest checkpoints. Reads all of it."""

        def work(connection: sqlite3.Connection) -> Surplus | None:
            return self._within(connection, self._generic.surplus, thread, checkpoint_ns, keep)

        # What it finds is noted for the puts to come, so nothing may be written meanwhile.
        return (yield from self._written(work, 0, thread, checkpoint_ns))

    def inspect(
        self, surplus: Surplus, ids: Sequence[str], *, gates: bool
    ) -> Steps[tuple[dict[str, list[str]], Mapping[str, CheckpointRecord]]]:
        """Return the keys of pending writes; a surplus of this engine has its gates."""
        where = names(surplus.thread, surplus.checkpoint_ns)

        def work(connection: sqlite3.Connection) -> dict[str, list[str]]:
            statement = (
                "SELECT e.key FROM space s JOIN entry e ON e.space=s.id WHERE s.name=? AND e.sub=?"
            )
            rows = {each: connection.execute(statement, (where.writes, each)) for each in ids}
            return {each: [key for (key,) in found.fetchall()] for each, found in rows.items()}

        return (yield Read(work)), surplus.gates or {}

    def release(
        self,
        surplus: Surplus,
        doomed: Sequence[tuple[str, Sequence[str]]],
        spaces: Sequence[str],
        calls: Mapping[str, Sequence[str]] | None = None,
    ) -> Steps[bool]:
        """Remove a part of a surplus. One commit."""

        def work(connection: sqlite3.Connection) -> bool:
            release = self._generic.release
            return self._within(connection, release, surplus, doomed, spaces, calls)

        thread, checkpoint_ns = surplus[:2]
        return (yield from self._written(work, 0, thread, checkpoint_ns, *spaces))

    def delete_thread(self, thread: str) -> Steps[None]:
        """Remove everything of a thread. One commit, O(its entries)."""

        def work(connection: sqlite3.Connection) -> None:
            with self._entries.lock:
                for checkpoint_ns in of_any_age(connection, thread):
                    self._limits.forget(names(thread, checkpoint_ns))
            for space in of_thread(connection, names(thread, "")):
                connection.execute("DELETE FROM entry WHERE space=?", (space,))
                connection.execute("DELETE FROM space WHERE id=?", (space,))

        yield Write(work)

    def copy_thread(self, source: str, target: str) -> Steps[None]:
        """Add everything of one thread to another. One commit, O(its entries)."""
        if source == target:
            return

        def work(connection: sqlite3.Connection) -> None:
            now = now_ms()
            there: Spaces | None = None
            for checkpoint_ns in listed_in(connection, source, now):
                old, new = names(source, checkpoint_ns), names(target, checkpoint_ns)
                with self._entries.lock:
                    self._limits.forget(new)
                here = Spaces(connection, old, now)
                there = Spaces(connection, new, now)
                there.list(checkpoint_ns, self._one)
                for one, other in zip(old[1:5], new[1:5], strict=True):
                    space = here.known(one)
                    if space is not None:
                        connection.execute(
                            "INSERT INTO entry SELECT ?, sub, key, value FROM entry WHERE space=?"
                            " ON CONFLICT(space,sub,key) DO UPDATE SET value=excluded.value",
                            (there.made(other), space),
                        )
                there.align()
            if there is not None:
                self._renew(there)

        yield Write(work)
