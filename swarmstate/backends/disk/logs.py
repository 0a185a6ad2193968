"""Logs and conditional commits in one file: each is one transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from swarmstate.arguments import (
    LOG_KEYS,
    check_commit,
    check_count,
    check_log_key,
    check_namespace,
    iterate,
    shown,
)
from swarmstate.backends.disk.driver import Read, Write
from swarmstate.backends.disk.rows import (
    UPSERT,
    drop_if_empty,
    find_space,
    make_space,
    milliseconds_now,
)
from swarmstate.backends.disk.schema import split
from swarmstate.backends.disk.whole import WholeStore
from swarmstate.errors import ArgumentValueError, DecodeError, EncodeError, StoreUnavailable
from swarmstate.protocols import ABSENT, Pair
from swarmstate.steps import Steps

__all__ = ["LogSteps"]

# As many as the in-memory store's.
_ATTEMPTS = 1000

_SPACE = (
    "FROM space s JOIN entry e ON e.space=s.id"
    " WHERE s.name=? AND e.sub=? AND (s.expires IS NULL OR s.expires>?)"
)
_GET = f"SELECT e.value {_SPACE} AND e.key=?"
# The range is for the index, the pattern for other keys that lie in it.
_LOG = (
    f"SELECT e.key, e.value {_SPACE} AND e.key>='0' AND e.key<? AND e.key GLOB '{'[0-9]' * 16}'"
    " ORDER BY e.key DESC LIMIT ?"
)
_END = ":"  # after every digit

Place = tuple[str, str, str]
"""The name of a space, the rest of its namespace's name, and a key."""


class LogSteps(WholeStore):
    """The operations of a :class:`~swarmstate.protocols.LogStore`."""

    def commit(
        self,
        items: Iterable[tuple[str, str, Any]] = (),
        delete: Iterable[Pair] = (),
        *,
        expect: Mapping[Pair, Any] | None = None,
    ) -> Steps[bool]:
        """Store and remove keys if others hold what is expected: everything or nothing.

        Values are compared as their encoded bytes. Where these differ, what is stored is decoded
        and encoded again, because another program may have encoded the same value otherwise. One
        commit, shared with those who write at the same time. O(entries log n).

        Args:
            items: (namespace, key, value) triples to store; of two for one key the later counts.
            delete: (namespace, key) pairs to remove; one that does not exist is passed over.
            expect: (namespace, key) -> the value that must be there, or ``ABSENT`` for none.

        Returns:
            Whether all expectations held before anything was done; if not, nothing was changed.

        Raises:
            InvalidArgumentError: a pair is both in items and in delete.
            StoreUnavailable: others were faster 1,000 times in a row.
        """
        writes, gone, expected = check_commit(items, delete, expect)
        stores = [(*split(name), key, self.encode(value)) for (name, key), value in writes.items()]
        removals = [(*split(name), key) for name, key in gone]
        wanted: dict[Place, bytes | None] = {
            (*split(name), key): None if value is ABSENT else self.encode(value)
            for (name, key), value in expected.items()
        }
        attempt = dict(wanted)
        size = sum(len(row[-1]) for row in stores)

        def work(connection: sqlite3.Connection) -> dict[Place, Any]:
            different = _differing(connection, attempt)
            if not different:
                self._change(connection, stores, removals)
            return different

        def compare(connection: sqlite3.Connection) -> dict[Place, Any]:
            connection.execute("BEGIN")
            return _differing(connection, attempt)

        for _ in range(_ATTEMPTS):
            changes = stores or removals
            different: dict[Place, Any] = yield Write(work, size) if changes else Read(compare)
            for place, held in different.items():
                if held is None or self._encoded_again(held) != wanted[place]:
                    return False
                attempt[place] = held
            if not different:
                return True
        raise StoreUnavailable(f"commit gave way to other writers {_ATTEMPTS} times")

    def _change(
        self,
        connection: sqlite3.Connection,
        stores: Sequence[tuple[str, str, str, bytes]],
        removals: Sequence[Place],
    ) -> None:
        now = milliseconds_now()
        written = {name: make_space(connection, name, now) for name in {row[0] for row in stores}}
        connection.executemany(UPSERT, [(written[row[0]], *row[1:]) for row in stores])
        spaces = {name: find_space(connection, name, now) for name in {row[0] for row in removals}}
        there = [(spaces[row[0]], *row[1:]) for row in removals if spaces[row[0]] is not None]
        connection.executemany("DELETE FROM entry WHERE space=? AND sub=? AND key=?", there)
        drop_if_empty(connection, [space for space in spaces.values() if space is not None])
        self.renew(connection, written.values(), now)

    def _encoded_again(self, data: Any) -> bytes | None:
        """Return what this process would store for the value that was stored as ``data``."""
        if type(data) is not bytes:
            return None
        try:
            return self.encode(self.codec.decode(data))
        except (DecodeError, EncodeError):
            return None

    def append(self, namespace: str, values: Iterable[Any]) -> Steps[list[str]]:
        """Add values to the end of a log, all or none. One commit. O(values log n).

        Args:
            namespace: the namespace of the log.
            values: an iterable of values.

        Returns:
            Their keys, in order: each of exactly 16 digits, and above all such keys that are there.

        Raises:
            EncodeError: the codec does not accept a value; nothing was written.
            ArgumentValueError: there are not enough keys of 16 digits above the last one.
        """
        name, sub = split(check_namespace(namespace))
        data = [self.encode(value) for value in iterate("values", values, "an iterable of values")]
        if not data:
            return []

        def work(connection: sqlite3.Connection) -> tuple[int, bool]:
            now = milliseconds_now()
            row = connection.execute(_LOG, (name, sub, now, _END, 1)).fetchone()
            last = 0 if row is None else int(row[0])
            if last + len(data) > LOG_KEYS:
                return last, False
            space = make_space(connection, name, now)
            connection.executemany(
                UPSERT,
                [(space, sub, f"{key:016d}", value) for key, value in enumerate(data, last + 1)],
            )
            self.renew(connection, (space,), now)
            return last, True

        last, done = yield Write(work, sum(map(len, data)))
        if not done:
            raise ArgumentValueError(
                f"namespace {shown(namespace)} cannot take {len(data)} more entries: its last key "
                f"is '{last:016d}', and keys have 16 digits"
            )
        return [f"{key:016d}" for key in range(last + 1, last + 1 + len(data))]

    def tail(
        self, namespace: str, limit: int | None = None, *, before: str | None = None
    ) -> Steps[list[tuple[str, Any]]]:
        """Return the last (key, value) pairs of a log at one moment, oldest first.

        O(log n) and what is returned.

        Args:
            namespace: the namespace of the log; its keys that are not of 16 digits are ignored.
            limit: how many at most; None: all.
            before: a key of 16 digits; only entries before it are returned.
        """
        name, sub = split(check_namespace(namespace))
        check_count("limit", limit, 0, optional=True)
        end = check_log_key("before", before) or _END
        most = -1 if limit is None else min(limit, LOG_KEYS)

        def work(connection: sqlite3.Connection) -> list[Any]:
            values = (name, sub, milliseconds_now(), end, most)
            return connection.execute(_LOG, values).fetchall()

        def decoded(rows: list[Any]) -> list[tuple[str, Any]]:
            return [(key, self.value(data, namespace, key)) for key, data in reversed(rows)]

        found: list[tuple[str, Any]] = yield Read(work, decoded)
        if found:
            yield from self.read_of((name,))
        return found

    def pop(self, namespace: str) -> Steps[tuple[str, Any] | None]:
        """Remove the last entry of a log; return its (key, value), or None if there is none.

        The key may be given again by :meth:`append`. One read and one commit, and one more for
        every writer that was faster. O(log n).

        Raises:
            DecodeError: the bytes are not a valid value; the entry stays.
            StoreUnavailable: others were faster 1,000 times in a row.
        """
        name, sub = split(check_namespace(namespace))

        def last(connection: sqlite3.Connection) -> Any:
            return connection.execute(_LOG, (name, sub, milliseconds_now(), _END, 1)).fetchone()

        row = yield Read(last)
        for _ in range(_ATTEMPTS):
            if row is None:
                return None
            # Before it is gone.
            value = self.value(row[1], namespace, row[0])

            def work(connection: sqlite3.Connection, seen: Any = row) -> Any:
                found = last(connection)
                if found == seen:
                    self._change(connection, (), [(name, sub, seen[0])])
                return found

            found = yield Write(work)
            if found == row:
                return row[0], value
            row = found
        raise StoreUnavailable(
            f"pop from {shown(namespace)} gave way to other writers {_ATTEMPTS} times"
        )


def _differing(
    connection: sqlite3.Connection, expected: Mapping[Place, bytes | None]
) -> dict[Place, Any]:
    """Return what is there, or None, where it is not what is expected."""
    now = milliseconds_now()
    different: dict[Place, Any] = {}
    for (name, sub, key), data in expected.items():
        row = connection.execute(_GET, (name, sub, now, key)).fetchone()
        held = None if row is None else row[0]
        if held != data:
            different[name, sub, key] = held
    return different
