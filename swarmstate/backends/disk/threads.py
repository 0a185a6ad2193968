"""The spaces of a LangGraph thread, within a transaction.

A thread has one space that lists its checkpoint namespaces, and each of these has four more:
checkpoints, values, orphans and writes. They expire together, with the first.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Sequence
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
    " JOIN entry l ON l.space=t.id AND l.sub='' AND l.key=?"
    " LEFT JOIN space c ON c.name=? LEFT JOIN space v ON v.name=? LEFT JOIN space w ON w.name=?"
    " WHERE t.name=? AND (t.expires IS NULL OR t.expires>?)"
)
# Places without numbers: Python 3.12.3 takes numbered ones for names, and warns.
_READY = (
    " FROM space t JOIN entry l ON l.space=t.id AND l.sub='' AND l.key=? JOIN space c ON c.name=?"
    " {joins} WHERE t.name=? AND (t.expires IS NULL OR t.expires>?)"
    " AND (c.expires IS NULL OR c.expires>?)"
)
_READY_TO_WRITE = (
    "SELECT c.id, w.id, t.expires,"
    " EXISTS(SELECT 1 FROM entry WHERE space=c.id AND sub='' AND key=?),"
    " EXISTS(SELECT 1 FROM entry WHERE space=c.id AND sub='' AND key=?),"
    " EXISTS(SELECT 1 FROM entry WHERE space=w.id AND sub=?)"
    + _READY.format(joins="JOIN space w ON w.name=?")
    + " AND (w.expires IS NULL OR w.expires>?)"
)
_READY_TO_PUT = (
    "SELECT c.id, v.id, t.expires, o.id,"
    " EXISTS(SELECT 1 FROM entry WHERE space=c.id AND sub='' AND key=?), {count}"
    + _READY.format(joins="JOIN space v ON v.name=? LEFT JOIN space o ON o.name=?")
    + " AND (v.expires IS NULL OR v.expires>?)"
)
_COUNTED = "(SELECT count(*) FROM entry WHERE space=v.id AND sub='' AND key IN ({}))"


def ready_to_write(
    connection: sqlite3.Connection,
    where: ThreadNames,
    checkpoint_ns: str,
    of: str,
    mark: str,
    now: int,
) -> Any:
    """Return what a write has to know where everything is as usual, by one statement.

    Returns:
        The ids of the spaces of checkpoints and writes, when the thread expires, and whether there
        are the checkpoint, its mark and a write of it; None where the spaces are not all there.
    """
    asked = (of, mark, of)
    places = (checkpoint_ns, where.checkpoints, where.writes, where.thread)
    return connection.execute(_READY_TO_WRITE, (*asked, *places, now, now, now)).fetchone()


def ready_to_put(
    connection: sqlite3.Connection,
    where: ThreadNames,
    checkpoint_ns: str,
    parent: str,
    asked: Sequence[str],
    now: int,
) -> Any:
    """Return what a put has to know where everything is as usual, by one statement.

    Returns:
        The ids of the spaces of checkpoints, values and, if it is there, orphans, in between when
        the thread expires, whether there is the parent, and how many of the values asked for; None
        where the spaces are not all there.
    """
    count = len(asked)
    statement = _puts.get(count)
    if statement is None:
        statement = _READY_TO_PUT.format(count=_COUNTED.format(marks(count)) if count else "0")
        if count < _KEYS:
            _puts[count] = statement
    places = (checkpoint_ns, where.checkpoints, where.values, where.orphans, where.thread)
    return connection.execute(statement, (parent, *asked, *places, now, now, now)).fetchone()


_puts: dict[int, str] = {}


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
        (checkpoint_ns, where.checkpoints, where.values, where.writes, where.thread, now),
    ).fetchone()


def missing_fields(
    connection: sqlite3.Connection, values: int | None, asked: Sequence[str]
) -> list[str]:
    """Return those of the fields that hold no value."""
    if values is None:
        return list(asked)
    there: set[str] = set()
    for first in range(0, len(asked), _KEYS):
        part = padded(list(asked[first : first + _KEYS]))
        rows = connection.execute(
            f"SELECT key FROM entry WHERE space=? AND sub='' AND key IN ({marks(len(part))})",
            (values, *part),
        )
        there.update(key for (key,) in rows.fetchall())
    return [key for key in asked if key not in there]


def values_of(
    connection: sqlite3.Connection,
    space: int | None,
    keys: Collection[str],
    known: dict[int, dict[str, Any]],
) -> tuple[dict[str, Any], int]:
    """Return the encoded values of fields, and how many bytes were fetched.

    Those that are known already, by space and key, are not; the others are then.
    """
    if space is None:
        return {}, 0
    there = known.setdefault(space, {})
    wanted = [key for key in keys if key not in there] if there else list(keys)
    size = 0
    for first in range(0, len(wanted), _KEYS):
        part = padded(wanted[first : first + _KEYS])
        statement = (
            f"SELECT key, value FROM entry WHERE space=? AND sub='' AND key IN ({marks(len(part))})"
        )
        rows = connection.execute(statement, (space, *part)).fetchall()
        there.update(rows)
        size += sum([len(data) for _, data in rows if type(data) is bytes])
    return {key: there[key] for key in keys if key in there}, size


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
