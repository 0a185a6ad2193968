"""What has changed since the last snapshot, so that the next one costs no more than that.

While snapshots are held, a mirror of the content is kept in memory, from which they are taken; they
share with each other what has not changed. Triggers on the writer's connection note which keys its
transactions change, whoever makes them and however they end. That another connection has changed
something shows in SQLite's ``data_version``: then all is read again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from functools import partial
from typing import Any

from swarmstate._core import Mirror, Snapshot
from swarmstate.backends.disk.database import Database, release
from swarmstate.backends.disk.rows import (
    UPSERT,
    bury,
    drop_if_empty,
    make_space,
    milliseconds_now,
)
from swarmstate.backends.disk.schema import CONTENT, Part, split
from swarmstate.errors import DecodeError
from swarmstate.protocols import SnapshotLike
from swarmstate.shown import shown
from swarmstate.snapshots import History, contents

__all__ = ["Tracker"]

Change = tuple[str, str, bytes | None]

_LIVING = "({row}.name = '' OR {row}.name >= char(1))"
# Not INSERT OR IGNORE: in a trigger, what its statement does about conflicts decides.
_NEW = "NOT EXISTS(SELECT 1 FROM changed c WHERE c.namespace = s.name || e.sub AND c.key = e.key)"


def _noting_entry(row: str) -> str:
    return (
        f"INSERT INTO changed SELECT s.name || e.sub, e.key FROM"
        f" (SELECT {row}.space AS space, {row}.sub AS sub, {row}.key AS key) e"
        f" JOIN main.space s ON s.id=e.space WHERE {_LIVING.format(row='s')} AND {_NEW};"
    )


def _noting_space(row: str) -> str:
    return (
        f"INSERT INTO changed SELECT s.name || e.sub, e.key FROM"
        f" (SELECT {row}.id AS id, {row}.name AS name) s"
        f" JOIN main.entry e ON e.space=s.id WHERE {_LIVING.format(row='s')} AND {_NEW};"
    )


_TRIGGERS = (
    "CREATE TEMP TABLE changed(namespace TEXT, key TEXT, PRIMARY KEY(namespace, key))"
    " WITHOUT ROWID",
    f"CREATE TEMP TRIGGER noted_new AFTER INSERT ON main.entry BEGIN {_noting_entry('new')} END",
    "CREATE TEMP TRIGGER noted_other AFTER UPDATE ON main.entry BEGIN"
    f" {_noting_entry('old')} {_noting_entry('new')} END",
    f"CREATE TEMP TRIGGER noted_gone AFTER DELETE ON main.entry BEGIN {_noting_entry('old')} END",
    "CREATE TEMP TRIGGER noted_name AFTER UPDATE OF name ON main.space BEGIN"
    f" {_noting_space('old')} {_noting_space('new')} END",
)
_ALL = (
    "SELECT s.name || e.sub, e.key, e.value FROM space s JOIN entry e ON e.space=s.id"
    " WHERE {live} ORDER BY s.id, e.sub"
)
_VALUE = (
    "SELECT e.value FROM space s JOIN entry e ON e.space=s.id"
    " WHERE s.name=? AND e.sub=? AND e.key=?"
)
_UNDONE = (
    *(f"DROP TRIGGER temp.noted_{what}" for what in ("new", "other", "gone", "name")),
    "DROP TABLE temp.changed",
)
_MOST_CHANGES = 50_000
"""Noted changes from which reading all of it is not slower, or the memory is better used."""


class Tracker:
    """Takes and restores the snapshots of one store.

    Args:
        codec: the name of the codec.
        part: which part of the file it is; changes are noted only where that is the content.
    """

    def __init__(self, codec: str, part: Part) -> None:
        self._codec = codec
        self._part = part
        self._mirror: Mirror | None = None
        # Where changes are noted, and the data_version from which on.
        self._noting: tuple[sqlite3.Connection, int] | None = None

    def freeze(self, history: History, database: Database) -> Snapshot:
        """Return a snapshot, which the history keeps as its bound says."""
        everything = partial(_everything, self._part)
        if database.file.read_only or self._part is not CONTENT:
            return history.take(database.read(everything), self._codec)
        try:
            with database.snapshots:
                mirror = self._mirror
                noting, changes = database.write(self._noted)
                if mirror is not None and changes is not None:
                    mirror.write(changes)
                else:
                    # What changes from here on is noted, and may be read now or the next time.
                    mirror = Mirror(database.read(everything), codec=self._codec)
                    self._mirror = mirror
                    self._noting = noting
                return history.keep(mirror.freeze)
        except BaseException:  # raised again: what is mirrored may be half done, so it goes
            self._mirror = None
            release(database.snapshots)
            raise

    def restore(self, snapshot: SnapshotLike, ttl_ms: int | None, database: Database) -> None:
        """Make the store what a snapshot holds, in one transaction."""
        wanted: dict[str, dict[str, bytes]] | None = None

        def work(connection: sqlite3.Connection) -> None:
            nonlocal wanted
            changes = None
            if self._mirror is not None:
                _, noted = self._noted(connection)
                if noted is not None:
                    self._mirror.write(noted)
                    changes = self._mirror.changes_to(snapshot)
            if changes is None:
                if wanted is None:
                    wanted = contents(snapshot)
                changes = _differences(self._part, connection, wanted)
            _apply(self._part, connection, changes, ttl_ms)

        try:
            with database.snapshots:
                database.write(work)
        except BaseException:  # raised again: what is mirrored may be half done, so it goes
            self._mirror = None
            release(database.snapshots)
            raise

    def rest(self, database: Database) -> None:
        """Let go of what is not worth its memory; whoever calls has the lock on writing."""
        noting, mirror = self._noting, self._mirror
        if noting is None or noting[0] is not database.writer:
            return
        count = noting[0].execute("SELECT count(*) FROM temp.changed").fetchone()[0]
        if mirror is None or not mirror.held or count > _MOST_CHANGES:
            self._mirror = self._noting = None
            for statement in _UNDONE:
                noting[0].execute(statement)

    def _noted(
        self, connection: sqlite3.Connection
    ) -> tuple[tuple[sqlite3.Connection, int], list[Change] | None]:
        """Return what has been noted, which is forgotten; None where not all of it was.

        From here on it is, in any case.
        """
        execute = connection.execute
        now = milliseconds_now()
        version = int(execute("PRAGMA data_version").fetchone()[0])
        noting = (connection, version)
        if execute("SELECT 1 FROM sqlite_temp_master WHERE name='changed'").fetchone() is None:
            for statement in _TRIGGERS:
                execute(statement)
        for (space,) in execute("SELECT id FROM space WHERE expires<=?", (now,)).fetchall():
            bury(connection, space)
        if noting != self._noting:
            execute("DELETE FROM changed")
            return noting, None
        changes: list[Change] = []
        for namespace, key in execute("SELECT namespace, key FROM changed").fetchall():
            row = execute(_VALUE, (*split(namespace), key)).fetchone()
            changes.append((namespace, key, None if row is None else _checked(row[0], namespace)))
        execute("DELETE FROM changed")
        return noting, changes


def _rows(part: Part, connection: sqlite3.Connection) -> Iterator[tuple[str, str, Any]]:
    """Give the namespace, key and value of all entries, those of a namespace together."""
    before = len(part.prefix)
    values = {"now": milliseconds_now()}
    for name, key, data in connection.execute(_ALL.format(live=part.live), values):
        yield name[before:], key, data


def _everything(part: Part, connection: sqlite3.Connection) -> dict[str, dict[str, bytes]]:
    """Return the whole content."""
    found: dict[str, dict[str, bytes]] = {}
    last = ""
    entries: dict[str, bytes] | None = None
    for namespace, key, data in _rows(part, connection):
        if entries is None or namespace != last:
            entries = found.setdefault(namespace, {})
            last = namespace
        entries[key] = _checked(data, namespace)
    return found


def _checked(data: Any, namespace: str) -> bytes:
    if type(data) is not bytes:
        raise DecodeError(
            f"a key of namespace {shown(namespace)} holds {shown(data)}, not bytes (written by "
            "another program?)"
        )
    return data


def _differences(
    part: Part, connection: sqlite3.Connection, wanted: dict[str, dict[str, bytes]]
) -> list[Change]:
    """Return what has to be written so that the content becomes what is wanted."""
    found: list[Change] = []
    left = {namespace: dict(entries) for namespace, entries in wanted.items()}
    nothing: dict[str, bytes] = {}
    for namespace, key, data in _rows(part, connection):
        value = left.get(namespace, nothing).pop(key, None)
        if value != data:
            found.append((namespace, key, value))
    for namespace, entries in left.items():
        found += [(namespace, key, value) for key, value in entries.items()]
    return found


def _apply(
    part: Part, connection: sqlite3.Connection, changes: list[Change], ttl_ms: int | None
) -> None:
    """Write changes; what is there then has a whole time to live, where there is one."""
    now = milliseconds_now()
    spaces: dict[str, int] = {}
    puts, gone = [], []
    for namespace, key, data in changes:
        name, sub = part.split(namespace)
        space = spaces.get(name)
        if space is None:
            space = spaces[name] = make_space(connection, name, now)
        if data is None:
            gone.append((space, sub, key))
        else:
            puts.append((space, sub, key, data))
    connection.executemany("DELETE FROM entry WHERE space=? AND sub=? AND key=?", gone)
    connection.executemany(UPSERT, puts)
    drop_if_empty(connection, spaces.values())
    expires = None if ttl_ms is None else now + ttl_ms
    connection.execute(
        "UPDATE space SET expires=:expires WHERE expires IS NOT :expires"
        f" AND id IN (SELECT s.id FROM space s WHERE {part.live})",
        {"expires": expires, "now": now},
    )
