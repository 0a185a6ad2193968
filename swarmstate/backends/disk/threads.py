"""The spaces of a LangGraph thread, within a transaction.

A thread has one space that lists its checkpoint namespaces, and each of these has four more:
checkpoints, values, orphans and writes. They expire together, with the first.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from swarmstate.backends.disk.rows import HAS, UPSERT, bury, make_space, marks, padded, renew
from swarmstate.checkpoints.format import ThreadNames, names, thread_namespace, thread_of

__all__ = [
    "Spaces",
    "listed",
    "listed_in",
    "missing_fields",
    "of_any_age",
    "of_thread",
    "values_of",
]

_KEYS = 256  # of one statement: SQLite before 3.32 takes 999 values
_OF_NAMESPACE = "SELECT name, id, expires FROM space WHERE name IN (?,?,?,?,?)"
# The spaces of a checkpoint namespace that is listed in its thread, which has not expired.
_LISTED = (
    "SELECT c.id, v.id, w.id, t.expires FROM space t"
    " JOIN entry l ON l.space=t.id AND l.sub='' AND l.key=?2"
    " LEFT JOIN space c ON c.name=?3 LEFT JOIN space v ON v.name=?4 LEFT JOIN space w ON w.name=?5"
    " WHERE t.name=?1 AND (t.expires IS NULL OR t.expires>?6)"
)


class Spaces:
    """The spaces of one checkpoint namespace, within a transaction that writes.

    Attributes:
        now: when that is.
        expires: when the thread expires, if ever.
    """

    def __init__(self, connection: sqlite3.Connection, where: ThreadNames, now: int) -> None:
        self.now = now
        self.expires: int | None = None
        self._connection = connection
        self._where = where
        self._ids: dict[str, int] = {}
        self._made: list[int] = []
        for name, space, expires in connection.execute(_OF_NAMESPACE, where[:5]).fetchall():
            if expires is None or expires > now:
                self._ids[name] = space
                if name == where.thread:
                    self.expires = expires

    def known(self, name: str) -> int | None:
        """Return the id of a space that is there."""
        return self._ids.get(name)

    def made(self, name: str) -> int:
        """Return the id of a space, which is made if need be."""
        space = self._ids.get(name)
        if space is None:
            space = self._ids[name] = make_space(self._connection, name, self.now)
            self._made.append(space)
        return space

    def list(self, checkpoint_ns: str, one: bytes) -> None:
        """List the namespace in its thread.

        What is left of one that is not listed is removed, but for its values: a value is the same
        for whoever names it, so nothing can come back to life by it.
        """
        where, connection = self._where, self._connection
        first = self.made(where.thread)
        if connection.execute(HAS, (first, "", checkpoint_ns)).fetchone():
            return
        for name in (where.checkpoints, where.orphans, where.writes):
            space = self._ids.pop(name, None)
            if space is not None:
                bury(connection, space)
        connection.execute(UPSERT, (first, "", checkpoint_ns, one))

    def renew(self, expires: int | None) -> None:
        """Let the whole thread expire at a time, or never."""
        renew(self._connection, of_thread(self._connection, self._where), expires)

    def align(self) -> None:
        """Let the spaces that were made here expire with the rest."""
        if self._made:
            renew(self._connection, self._made, self.expires)


def listed(connection: sqlite3.Connection, thread: str, checkpoint_ns: str, now: int) -> Any:
    """Return the ids of a namespace's checkpoints, values and writes, and when it expires.

    None where the thread does not list it.
    """
    where = names(thread, checkpoint_ns)
    return connection.execute(
        _LISTED,
        (where.thread, checkpoint_ns, where.checkpoints, where.values, where.writes, now),
    ).fetchone()


def missing_fields(
    connection: sqlite3.Connection, values: int | None, asked: Sequence[str]
) -> list[str]:
    """Return those of the fields that hold no value."""
    if values is None:
        return list(asked)
    there = values_of(connection, values, {key: key for key in asked}, {})
    return [key for key in asked if key not in there]


def values_of(
    connection: sqlite3.Connection,
    space: int | None,
    fields: Mapping[Any, str],
    known: dict[int, dict[str, Any]],
) -> dict[str, Any]:
    """Return the encoded values of fields, those that are known already without asking."""
    if space is None:
        return {}
    there = known.setdefault(space, {})
    wanted = [key for key in fields.values() if key not in there]
    for first in range(0, len(wanted), _KEYS):
        part = padded(wanted[first : first + _KEYS])
        there.update(
            connection.execute(
                "SELECT key, value FROM entry WHERE space=? AND sub=''"
                f" AND key IN ({marks(len(part))})",
                (space, *part),
            ).fetchall()
        )
    return {key: there[key] for key in fields.values() if key in there}


def listed_in(connection: sqlite3.Connection, thread: str, now: int) -> list[str]:
    """Return the checkpoint namespaces of a thread that has not expired."""
    found = connection.execute(
        "SELECT e.key FROM space s JOIN entry e ON e.space=s.id"
        " WHERE s.name=? AND e.sub='' AND (s.expires IS NULL OR s.expires>?)",
        (thread_namespace(thread), now),
    )
    return [key for (key,) in found.fetchall()]


def of_any_age(connection: sqlite3.Connection, thread: str) -> Iterable[str]:
    """Return the checkpoint namespaces of a thread, and that of every graph."""
    # Also where the thread has lost the list of its namespaces: the root is one of them.
    return dict.fromkeys(("", *listed_in(connection, thread, -1)))


def of_thread(connection: sqlite3.Connection, where: ThreadNames) -> list[int]:
    """Return the ids of all spaces of a thread."""
    thread = thread_of(where.thread)
    assert thread is not None  # noqa: S101 (for the type checker)
    found: set[int] = set()
    for checkpoint_ns in of_any_age(connection, thread):
        rows = connection.execute(_OF_NAMESPACE, names(thread, checkpoint_ns)[:5])
        found.update(space for _, space, _ in rows.fetchall())
    return sorted(found)
