"""Rows of the tables, within a transaction: how a space is found, made, renewed and dropped.

A space that has expired is absent at once, for reads by the condition in each query, for writes
because what is left of it is buried first: it gets a name of the store's own, which costs the same
whatever it holds, and later writes remove it a part at a time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from time import time
from typing import Any

__all__ = [
    "HAS",
    "UPSERT",
    "anything_expired",
    "bury",
    "drop_if_empty",
    "find_space",
    "make_space",
    "marks",
    "milliseconds_now",
    "padded",
    "renew",
    "sweep",
]

UPSERT = (
    "INSERT INTO entry VALUES(?,?,?,?)"
    " ON CONFLICT(space,sub,key) DO UPDATE SET value=excluded.value"
)
"""Stores a value at (space, sub, key)."""

HAS = "SELECT 1 FROM entry WHERE space=? AND sub=? AND key=?"
"""Finds out whether there is a value at (space, sub, key)."""

_BURIED = "\0buried:"
_SWEPT_ENTRIES = 500  # that one sweep removes at most
_SWEPT_SPACES = 50


def milliseconds_now() -> int:
    """Return the time in milliseconds since the Unix epoch, as spaces say when they expire."""
    return int(time() * 1000)


def find_space(connection: sqlite3.Connection, name: str, now: int) -> int | None:
    """Return the id of a space that is there and has not expired."""
    row = connection.execute("SELECT id, expires FROM space WHERE name=?", (name,)).fetchone()
    if row is None or (row[1] is not None and row[1] <= now):
        return None
    found: int = row[0]
    return found


def make_space(connection: sqlite3.Connection, name: str, now: int) -> int:
    """Return the id of a space, which is made if need be."""
    execute = connection.execute
    row = execute("SELECT id, expires FROM space WHERE name=?", (name,)).fetchone()
    if row is not None:
        found: int = row[0]
        if row[1] is None or row[1] > now:
            return found
        bury(connection, found)
    made = execute("INSERT INTO space(name) VALUES(?)", (name,)).lastrowid
    assert made is not None  # noqa: S101 (an INSERT of one row)
    return made


def bury(connection: sqlite3.Connection, space: int) -> None:
    """Take a space out of sight, with all it holds; it is removed later."""
    connection.execute(
        "UPDATE space SET name=?, expires=0 WHERE id=?", (f"{_BURIED}{space}", space)
    )


def renew(connection: sqlite3.Connection, spaces: Iterable[int], expires: int | None) -> None:
    """Let spaces expire at a time, or never."""
    connection.executemany(
        "UPDATE space SET expires=? WHERE id=? AND expires IS NOT ?",
        [(expires, space, expires) for space in spaces],
    )


def drop_if_empty(connection: sqlite3.Connection, spaces: Iterable[int]) -> None:
    """Remove those of the spaces that hold nothing."""
    connection.executemany(
        "DELETE FROM space WHERE id=? AND NOT EXISTS(SELECT 1 FROM entry WHERE space=?)",
        [(space, space) for space in spaces],
    )


def anything_expired(connection: sqlite3.Connection, now: int) -> bool:
    """Return whether there is something to sweep. O(log n)."""
    found = connection.execute("SELECT 1 FROM space WHERE expires<=? LIMIT 1", (now,)).fetchone()
    return found is not None


def sweep(connection: sqlite3.Connection, now: int) -> bool:
    """Remove a bounded number of expired entries; return whether some may be left."""
    execute = connection.execute
    left = _SWEPT_ENTRIES
    expired = execute(
        f"SELECT id FROM space WHERE expires<=? ORDER BY expires LIMIT {_SWEPT_SPACES}", (now,)
    ).fetchall()
    for (space,) in expired:
        left -= execute(
            "DELETE FROM entry WHERE rowid IN (SELECT rowid FROM entry WHERE space=? LIMIT ?)",
            (space, left),
        ).rowcount
        if left <= 0:
            return True
        execute("DELETE FROM space WHERE id=?", (space,))
    return len(expired) == _SWEPT_SPACES


_marks: dict[int, str] = {}


def marks(count: int) -> str:
    """Return as many question marks as a statement has values in a list."""
    text = _marks.get(count)
    if text is None:
        text = ",".join("?" * count)
        if count <= 64:
            _marks[count] = text
    return text


def padded(keys: list[Any]) -> list[Any]:
    """Return keys with the last one repeated, so that few different statements are needed."""
    return keys + keys[-1:] * ((1 << (len(keys) - 1).bit_length()) - len(keys))
