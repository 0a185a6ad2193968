"""Logs and conditional commits: each is one transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
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
from swarmstate.backends.disk.whole import WholeStore
from swarmstate.errors import ArgumentValueError, DecodeError, EncodeError, StoreUnavailable
from swarmstate.protocols import ABSENT, Pair
from swarmstate.steps import Steps

__all__ = ["LogSteps"]

# Of one commit, where what another program has encoded otherwise is replaced again and again.
_ATTEMPTS = 1000

_FIRST, _LAST = "0" * 16, "9" * 16
# The range is found by the index; GLOB, which ends at a NUL, looks at what else lies in it.
_LOG = (
    f" AND e.key>='{_FIRST}' AND e.key<='{_LAST}' AND e.key GLOB '{'[0-9]' * 16}'"
    " AND length(CAST(e.key AS BLOB))=16"
)
_DESCENDING = " ORDER BY e.key DESC LIMIT ?"
_TAIL = (
    "SELECT e.key, e.value FROM space s JOIN entry e ON e.space=s.id"
    f" WHERE s.name=? AND e.sub=? AND (s.expires IS NULL OR s.expires>?){_LOG}"
)
_LAST_OF = f"SELECT e.key, e.value FROM entry e WHERE e.space=? AND e.sub=?{_LOG}{_DESCENDING}"
_VALUE = "SELECT value FROM entry WHERE space=? AND sub=? AND key=?"
_DELETE = "DELETE FROM entry WHERE space=? AND sub=? AND key=?"


class LogSteps(WholeStore):
    """The operations of a :class:`~swarmstate.protocols.LogStore`."""

    # Commits -----------------------------------------------------------------------------------

    def commit(
        self,
        items: Iterable[tuple[str, str, Any]] = (),
        delete: Iterable[Pair] = (),
        *,
        expect: Mapping[Pair, Any] | None = None,
    ) -> Steps[bool]:
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
        writes, gone, expected = check_commit(items, delete, expect)
        stores = {pair: self.encode(value) for pair, value in writes.items()}
        wanted = {
            pair: None if value is ABSENT else self.encode(value)
            for pair, value in expected.items()
        }
        if not (stores or gone or wanted):
            return True
        size = sum(map(len, stores.values()))
        attempt: dict[Pair, Any] = dict(wanted)

        def work(connection: sqlite3.Connection) -> dict[Pair, Any]:
            now = milliseconds_now()
            different = self._differing(connection, attempt, now)
            if not different:
                self._carry_out(connection, stores, gone, now)
            return different

        def look(connection: sqlite3.Connection) -> dict[Pair, Any]:
            connection.execute("BEGIN")
            return self._differing(connection, attempt, milliseconds_now())

        for _ in range(_ATTEMPTS):
            request = Write(work, size) if stores or gone else Read(look)
            different: dict[Pair, Any] = yield request
            for pair, held in different.items():
                if held is None or self._encoded_again(held, pair) != wanted[pair]:
                    return False
                attempt[pair] = held
            if not different:
                return True
        raise StoreUnavailable(f"commit gave way to other writers {_ATTEMPTS} times in a row")

    def _differing(
        self, connection: sqlite3.Connection, expected: Mapping[Pair, Any], now: int
    ) -> dict[Pair, Any]:
        """Return what is there, encoded or None, where that is not what is expected."""
        spaces: dict[str, int | None] = {}
        different: dict[Pair, Any] = {}
        for pair, data in expected.items():
            name, sub = self.split(pair[0])
            if name not in spaces:
                spaces[name] = find_space(connection, name, now)
            row = connection.execute(_VALUE, (spaces[name], sub, pair[1])).fetchone()
            held = None if row is None else row[0]
            if held != data:
                different[pair] = held
        return different

    def _carry_out(
        self,
        connection: sqlite3.Connection,
        stores: Mapping[Pair, bytes],
        gone: Iterable[Pair],
        now: int,
    ) -> None:
        written: dict[str, int] = {}
        rows = []
        for (namespace, key), data in stores.items():
            name, sub = self.split(namespace)
            if name not in written:
                written[name] = make_space(connection, name, now)
            rows.append((written[name], sub, key, data))
        spaces: dict[str, int | None] = {**written}
        removed = []
        for namespace, key in gone:
            name, sub = self.split(namespace)
            if name not in spaces:
                spaces[name] = find_space(connection, name, now)
            removed.append((spaces[name], sub, key))
        connection.executemany(_DELETE, removed)
        connection.executemany(UPSERT, rows)
        drop_if_empty(connection, {space for space, _, _ in removed if space is not None})
        self.renew(connection, written.values(), now)

    def _encoded_again(self, data: Any, pair: Pair) -> bytes | None:
        """Return what this process would store for a value that is stored as ``data``."""
        try:
            return self.encode(self.value(data, *pair))
        except (DecodeError, EncodeError):
            return None

    # Logs --------------------------------------------------------------------------------------

    def append(self, namespace: str, values: Iterable[Any]) -> Steps[list[str]]:
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
        name, sub = self.split(check_namespace(namespace))
        data = [self.encode(value) for value in iterate("values", values, "an iterable of values")]
        if not data:
            return []

        def work(connection: sqlite3.Connection) -> tuple[int, bool]:
            now = milliseconds_now()
            space = make_space(connection, name, now)
            row = connection.execute(_LAST_OF, (space, sub, 1)).fetchone()
            last = 0 if row is None else int(row[0])
            if last + len(data) > LOG_KEYS:
                # Not raised in here: that would cost the connection, and this one has written
                # nothing, because the space of a key that is there is not made.
                return last, False
            connection.executemany(
                UPSERT,
                [
                    (space, sub, f"{number:016d}", each)
                    for number, each in enumerate(data, last + 1)
                ],
            )
            self.renew(connection, (space,), now)
            return last, True

        last, done = yield Write(work, sum(map(len, data)))
        if not done:
            raise ArgumentValueError(
                f"namespace {shown(namespace)} cannot take {len(data)} more entries: its last key "
                f"is '{last:016d}', and keys have 16 digits"
            )
        return [f"{number:016d}" for number in range(last + 1, last + 1 + len(data))]

    def tail(
        self, namespace: str, limit: int | None = None, *, before: str | None = None
    ) -> Steps[list[tuple[str, Any]]]:
        """Return the last (key, value) pairs of a log at one moment, oldest first.

        O(log n), what is returned, and whatever other keys that start with a digit lie in between.

        Args:
            namespace: the namespace of the log; its keys that are not of 16 digits are ignored.
            limit: how many at most; None: all.
            before: a key of 16 digits; only entries before it are returned.
        """
        name, sub = self.split(check_namespace(namespace))
        check_count("limit", limit, 0, optional=True)
        end = check_log_key("before", before)
        most = -1 if limit is None else min(limit, LOG_KEYS)

        def work(connection: sqlite3.Connection) -> list[Any]:
            values: list[Any] = [name, sub, milliseconds_now()]
            statement = _TAIL
            if end is not None:
                statement += " AND e.key<?"
                values.append(end)
            return connection.execute(statement + _DESCENDING, (*values, most)).fetchall()

        def decoded(rows: list[Any]) -> list[tuple[str, Any]]:
            return [(key, self.value(data, namespace, key)) for key, data in reversed(rows)]

        found: list[tuple[str, Any]] = yield Read(work, decoded)
        if found:
            yield from self.read_of((name,))
        return found

    def pop(self, namespace: str) -> Steps[tuple[str, Any] | None]:
        """Remove the last entry of a log; return its (key, value), or None if there is none.

        The key may be given again by :meth:`append`. One commit, O(log n).

        Raises:
            DecodeError: the bytes are not a valid value; the entry is still there.
        """
        name, sub = self.split(check_namespace(namespace))

        def work(connection: sqlite3.Connection) -> Any:
            space = find_space(connection, name, milliseconds_now())
            if space is None:
                return None
            row = connection.execute(_LAST_OF, (space, sub, 1)).fetchone()
            if row is None:
                return None
            key, data = row
            # Before it is removed: what cannot be decoded must not be lost.
            try:
                value = self.value(data, namespace, key)
            except Exception as error:  # noqa: BLE001 - raised below, outside the transaction
                return None, error
            connection.execute(_DELETE, (space, sub, key))
            drop_if_empty(connection, (space,))
            return (key, value), None

        outcome = yield Write(work)
        if outcome is None:
            return None
        entry, error = outcome
        if error is not None:
            raise error
        popped: tuple[str, Any] = entry
        return popped
