"""What every method of the stores does, written once: generators of requests.

:class:`DiskStore` runs them blocking, :class:`AsyncDiskStore` awaited. The docstrings here are
those of both.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from swarmstate.arguments import (
    check_callable,
    check_item,
    check_key,
    check_namespace,
    check_pair,
    check_prefix,
    check_seconds,
    iterate,
    shown,
)
from swarmstate.backends.disk.driver import Read, Write
from swarmstate.backends.disk.logs import LogSteps
from swarmstate.backends.disk.rows import (
    UPSERT,
    drop_if_empty,
    find_space,
    make_space,
    marks,
    milliseconds_now,
    padded,
    renew,
)
from swarmstate.backends.disk.schema import SCRATCH, beyond
from swarmstate.errors import ArgumentTypeError, ArgumentValueError, StoreUnavailable
from swarmstate.protocols import Pair
from swarmstate.snapshots import History
from swarmstate.steps import Steps

__all__ = ["ScratchSteps", "StoreSteps"]

# Of one update: as many as the in-memory store's.
_ATTEMPTS = 1000
# Keys of one statement: SQLite before 3.32 takes 999 values.
_KEYS = 256

_SPACE = "FROM space s JOIN entry e ON e.space=s.id WHERE s.name=? AND e.sub=?"
_VALID = " AND (s.expires IS NULL OR s.expires>?)"
_GET = f"SELECT e.value {_SPACE} AND e.key=?{_VALID}"
_HAS = f"SELECT 1 {_SPACE} AND e.key=?{_VALID}"
_KEYS_OF = f"SELECT e.key {_SPACE}{_VALID}"
_KEYS_FROM = _KEYS_OF + " AND e.key>=? ORDER BY e.key"
_KEYS_FROM_TO = _KEYS_OF + " AND e.key>=? AND e.key<? ORDER BY e.key"
_FOUND = f"SELECT s.id {_SPACE}{_VALID} LIMIT 1"
_ITEMS = f"SELECT e.key, e.value {_SPACE}{_VALID}"
# The usual case in one statement: the space is there.
_SET = (
    "INSERT INTO entry SELECT id, ?, ?, ? FROM space"
    " WHERE name=? AND (expires IS NULL OR expires>?)"
    " ON CONFLICT(space,sub,key) DO UPDATE SET value=excluded.value"
)

_Place = tuple[str, str]


def keys_within(
    connection: sqlite3.Connection, where: tuple[str, str], start: str | None
) -> list[tuple[Any]]:
    """Return the keys of a namespace, in order, or those that start with ``start``, as rows."""
    values: list[Any] = [*where, milliseconds_now()]
    end = beyond(start) if start else None
    if not start:
        found = connection.execute(_KEYS_OF + " ORDER BY e.key", values)
    elif end is None:
        found = connection.execute(_KEYS_FROM, [*values, start])
    else:
        found = connection.execute(_KEYS_FROM_TO, [*values, start, end])
    return found.fetchall()


class StoreSteps(LogSteps):
    """The logic of a store in one file: see :class:`~.whole.WholeStore` for the arguments."""

    # Single keys -------------------------------------------------------------------------------

    def set(self, namespace: str, key: str, value: Any) -> Steps[None]:
        """Store one value. One commit, shared with those who write at the same time. O(log n)."""
        name, sub = self.split(check_namespace(namespace))
        key = check_key(key)
        data = self.encode(value)

        def work(connection: sqlite3.Connection) -> None:
            now = milliseconds_now()
            done = connection.execute(_SET, (sub, key, data, name, now)).rowcount
            if done < 1 or self.ttl_ms is not None:
                space = make_space(connection, name, now)
                if done < 1:
                    connection.execute(UPSERT, (space, sub, key, data))
                self.renew(connection, (space,), now)

        yield Write(work, len(data))

    def get(self, namespace: str, key: str, default: Any = None) -> Steps[Any]:
        """Return one value, or ``default`` where there is none. O(log n)."""
        name, sub = self.split(check_namespace(namespace))
        key = check_key(key)

        def work(connection: sqlite3.Connection) -> Any:
            return connection.execute(_GET, (name, sub, key, milliseconds_now())).fetchone()

        row = yield Read(work)
        if row is None:
            return default
        if self.ttl_on_read:
            yield from self.read_of((name,))
        return self.value(row[0], namespace, key)

    def contains(self, namespace: str, key: str) -> Steps[bool]:
        """Return whether the key exists. O(log n)."""
        name, sub = self.split(check_namespace(namespace))
        key = check_key(key)

        def work(connection: sqlite3.Connection) -> Any:
            return connection.execute(_HAS, (name, sub, key, milliseconds_now())).fetchone()

        found = (yield Read(work)) is not None
        if found:
            yield from self.read_of((name,))
        return found

    def set_default(self, namespace: str, key: str, value: Any) -> Steps[bool]:
        """Store ``value`` only if the key is absent; return whether it was stored. O(log n)."""
        name, sub = self.split(check_namespace(namespace))
        key = check_key(key)
        data = self.encode(value)

        def work(connection: sqlite3.Connection) -> bool:
            now = milliseconds_now()
            space = make_space(connection, name, now)
            self.renew(connection, (space,), now)
            stored = connection.execute(
                "INSERT INTO entry VALUES(?,?,?,?) ON CONFLICT(space,sub,key) DO NOTHING",
                (space, sub, key, data),
            )
            return stored.rowcount > 0

        stored: bool = yield Write(work, len(data))
        return stored

    def delete(self, namespace: str, key: str) -> Steps[bool]:
        """Remove a key; return whether it existed. O(log n)."""
        place = (*self.split(check_namespace(namespace)), check_key(key))
        return (yield from self._delete([place])) > 0

    def update(
        self, namespace: str, key: str, fn: Callable[[Any], Any], default: Any = None
    ) -> Steps[Any]:
        """Replace a value by ``fn(value)`` atomically, across processes; return the new value.

        Optimistic: nothing is locked while ``fn`` runs. The new value is stored if the old one is
        still there, otherwise ``fn`` is called again with what is there now.

        Raises:
            StoreUnavailable: other writers were faster 1,000 times in a row.
        """
        name, sub = self.split(check_namespace(namespace))
        key = check_key(key)
        check_callable("fn", fn)

        def work(connection: sqlite3.Connection) -> Any:
            return connection.execute(_GET, (name, sub, key, milliseconds_now())).fetchone()

        row = yield Read(work)
        for _ in range(_ATTEMPTS):
            old = default if row is None else self.value(row[0], namespace, key)
            new = self.encode(fn(old))
            row, swapped = yield Write(self._swap((name, sub, key), row, new), len(new))
            if swapped:
                return self.codec.decode(new)
        raise StoreUnavailable(
            f"update of {shown(key)} in {shown(namespace)} gave way to other writers {_ATTEMPTS} "
            "times: does the function itself write this key?"
        )

    def _swap(
        self, at: tuple[str, str, str], before: tuple[Any] | None, new: bytes
    ) -> Callable[[sqlite3.Connection], tuple[tuple[Any] | None, bool]]:
        """Return what stores a value if another one is still there; else it returns that."""
        name, sub, key = at

        def work(connection: sqlite3.Connection) -> tuple[tuple[Any] | None, bool]:
            now = milliseconds_now()
            found = connection.execute(_GET, (*at, now)).fetchone()
            if found != before:
                return found, False
            space = make_space(connection, name, now)
            connection.execute(UPSERT, (space, sub, key, new))
            self.renew(connection, (space,), now)
            return found, True

        return work

    # Batches -----------------------------------------------------------------------------------

    def set_many(self, items: Iterable[tuple[str, str, Any]]) -> Steps[None]:
        """Store all the (namespace, key, value) triples at once, or none. One commit."""
        rows: list[tuple[str, str, str, bytes]] = []
        size = 0
        for index, item in enumerate(iterate("items", items, "(namespace, key, value) triples")):
            namespace, key, value = check_item(item, index)
            data = self.encode(value)
            rows.append((*self.split(namespace), key, data))
            size += len(data)
        if not rows:
            return

        def work(connection: sqlite3.Connection) -> None:
            now = milliseconds_now()
            spaces = {name: make_space(connection, name, now) for name in {row[0] for row in rows}}
            connection.executemany(UPSERT, [(spaces[row[0]], *row[1:]) for row in rows])
            self.renew(connection, spaces.values(), now)

        yield Write(work, size)

    def get_many(self, pairs: Iterable[Pair]) -> Steps[list[Any]]:
        """Return the values at one moment, in input order; a missing one is None."""
        asked = [
            check_pair(pair, index)
            for index, pair in enumerate(iterate("pairs", pairs, "(namespace, key) pairs"))
        ]
        if not asked:
            return []
        grouped: dict[str, list[str]] = {}
        for namespace, key in asked:
            grouped.setdefault(namespace, []).append(key)

        def work(connection: sqlite3.Connection) -> dict[Pair, Any]:
            connection.execute("BEGIN")
            now = milliseconds_now()
            found: dict[Pair, Any] = {}
            for namespace, keys in grouped.items():
                where = self.split(namespace)
                for first in range(0, len(keys), _KEYS):
                    part = padded(keys[first : first + _KEYS])
                    rows = connection.execute(
                        f"{_ITEMS} AND e.key IN ({marks(len(part))})", (*where, now, *part)
                    )
                    for key, data in rows.fetchall():
                        found[namespace, key] = data
            return found

        def decoded(found: dict[Pair, Any]) -> list[Any]:
            return [self.value(found[pair], *pair) if pair in found else None for pair in asked]

        values: list[Any] = yield Read(work, decoded)
        yield from self.read_of({self.split(namespace)[0] for namespace in grouped})
        return values

    def delete_many(self, pairs: Iterable[Pair]) -> Steps[int]:
        """Remove all the keys at once; return how many existed. One commit."""
        places = []
        for index, pair in enumerate(iterate("pairs", pairs, "(namespace, key) pairs")):
            namespace, key = check_pair(pair, index)
            places.append((*self.split(namespace), key))
        return (yield from self._delete(places)) if places else 0

    def _delete(self, places: list[tuple[str, str, str]]) -> Steps[int]:
        def work(connection: sqlite3.Connection) -> int:
            now = milliseconds_now()
            spaces: dict[str, int] = {}
            for name in {at[0] for at in places}:
                space = find_space(connection, name, now)
                if space is not None:
                    spaces[name] = space
            there = [(spaces[at[0]], *at[1:]) for at in places if at[0] in spaces]
            gone = connection.executemany(
                "DELETE FROM entry WHERE space=? AND sub=? AND key=?", there
            ).rowcount
            if gone > 0:
                drop_if_empty(connection, spaces.values())
            return max(gone, 0)

        gone: int = yield Write(work)
        return gone

    # Namespaces --------------------------------------------------------------------------------

    def delete_namespace(self, namespace: str) -> Steps[int]:
        """Remove a namespace with all its keys; return how many there were. O(its keys)."""
        name, sub = self.split(check_namespace(namespace))

        def work(connection: sqlite3.Connection) -> int:
            space = find_space(connection, name, milliseconds_now())
            if space is None:
                return 0
            gone = connection.execute("DELETE FROM entry WHERE space=? AND sub=?", (space, sub))
            drop_if_empty(connection, (space,))
            return gone.rowcount

        gone: int = yield Write(work)
        return gone

    def expire(self, namespace: str, seconds: float) -> Steps[bool]:
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
        name, sub = self.split(check_namespace(namespace))
        left = int(check_seconds("seconds", seconds) * 1000)
        if sub:
            raise ArgumentValueError(
                f"namespace {shown(namespace)} holds pending writes of a LangGraph checkpoint, "
                "which expire with their thread: give the checkpointer a ttl"
            )

        def work(connection: sqlite3.Connection) -> bool:
            now = milliseconds_now()
            found = connection.execute(_FOUND, (name, sub, now)).fetchone()
            if found is not None:
                renew(connection, found, now + left)
            return found is not None

        there: bool = yield Write(work)
        return there

    def keys(self, namespace: str, prefix: str | None = None) -> Steps[list[str]]:
        """Return the keys of a namespace, in order, or those that start with ``prefix``.

        O(log n) and what is returned.
        """
        where = self.split(check_namespace(namespace))
        start = check_prefix(prefix)

        rows = yield Read(partial(keys_within, where=where, start=start))
        return [self.key_name(key, namespace) for (key,) in rows]

    def items(self, namespace: str) -> Steps[list[tuple[str, Any]]]:
        """Return the (key, value) pairs of a namespace at one moment, in order. O(its keys)."""
        name, sub = self.split(check_namespace(namespace))

        def work(connection: sqlite3.Connection) -> list[Any]:
            statement = _ITEMS + " ORDER BY e.key"
            return connection.execute(statement, (name, sub, milliseconds_now())).fetchall()

        def decoded(rows: list[Any]) -> list[tuple[str, Any]]:
            return [
                (self.key_name(key, namespace), self.value(data, namespace, key))
                for key, data in rows
            ]

        found: list[tuple[str, Any]] = yield Read(work, decoded)
        if found:
            yield from self.read_of((name,))
        return found

    def max_key(self, namespace: str) -> Steps[str | None]:
        """Return the greatest key of a namespace (by code point), or None if it has none.

        O(log n).
        """
        where = self.split(check_namespace(namespace))

        def work(connection: sqlite3.Connection) -> Any:
            statement = _KEYS_OF + " ORDER BY e.key DESC LIMIT 1"
            return connection.execute(statement, (*where, milliseconds_now())).fetchone()

        row = yield Read(work)
        return None if row is None else self.key_name(row[0], namespace)

    def has_namespace(self, namespace: object) -> Steps[bool]:
        """Return whether the namespace has a key. O(log n)."""
        if not isinstance(namespace, str):
            raise ArgumentTypeError(
                f"namespace must be a str, not {type(namespace).__name__} ({shown(namespace)})"
            )
        where = self.split(check_namespace(namespace))

        def work(connection: sqlite3.Connection) -> Any:
            statement = _KEYS_OF + " LIMIT 1"
            return connection.execute(statement, (*where, milliseconds_now())).fetchone()

        return (yield Read(work)) is not None


class ScratchSteps(StoreSteps):
    """The logic of the scratch store of another one, in the same file."""

    def __init__(self, store: StoreSteps) -> None:
        vars(self).update(vars(store))
        self._lie_in(SCRATCH, History(0))
