"""The entries of a file within one transaction, by the calls of a store.

So what is decided over any store by many calls, such as what goes with an old checkpoint, is here
decided in one transaction.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterable
from typing import Any

from swarmstate.backends.disk.rows import drop_if_empty, find_space, milliseconds_now
from swarmstate.backends.disk.schema import split
from swarmstate.protocols import Pair

__all__ = ["Entries"]


class Entries:
    """The calls of :class:`~swarmstate.protocols.StoreLike` that read and remove entries.

    Args:
        decoded: returns a value, given its bytes, namespace and key.

    Attributes:
        lock: held by whoever uses this.
    """

    def __init__(self, decoded: Callable[[Any, str, str], Any]) -> None:
        self._decoded = decoded
        # Reentrant: the garbage collector may run a finalizer that uses the saver.
        self.lock = threading.RLock()
        self.connection: Any = None
        self._version = -1

    def use(self, connection: sqlite3.Connection) -> bool:
        """Read and write in the transaction of this connection from here on.

        Returns:
            Whether another process may have written since the last time.
        """
        version = connection.execute("PRAGMA data_version").fetchone()[0]
        others = self.connection is not connection or version != self._version
        self.connection = connection
        self._version = version
        return others

    def _at(self, namespace: str) -> tuple[int | None, str]:
        name, sub = split(namespace)
        return find_space(self.connection, name, milliseconds_now()), sub

    def _rows(self, what: str, namespace: str, *more: str) -> list[Any]:
        space, sub = self._at(namespace)
        if space is None:
            return []
        rows: list[Any] = self.connection.execute(
            f"SELECT {what} FROM entry WHERE space=? AND sub=?{' AND key=?' if more else ''}",
            (space, sub, *more),
        ).fetchall()
        return rows

    def contains(self, namespace: str, key: str) -> bool:
        """Return whether the key exists."""
        return bool(self._rows("1", namespace, key))

    def __contains__(self, namespace: str) -> bool:
        """Whether the namespace has a key."""
        return self.max_key(namespace) is not None

    def get(self, namespace: str, key: str) -> Any:
        """Return one value, or None."""
        for (data,) in self._rows("value", namespace, key):
            return self._decoded(data, namespace, key)
        return None

    def keys(self, namespace: str) -> list[str]:
        """Return the keys of a namespace."""
        return [key for (key,) in self._rows("key", namespace)]

    def items(self, namespace: str) -> list[tuple[str, Any]]:
        """Return the (key, value) pairs of a namespace."""
        rows = self._rows("key, value", namespace)
        return [(key, self._decoded(data, namespace, key)) for key, data in rows]

    def max_key(self, namespace: str) -> str | None:
        """Return the greatest key of a namespace, or None if it has none."""
        space, sub = self._at(namespace)
        row = self.connection.execute(
            "SELECT key FROM entry WHERE space=? AND sub=? ORDER BY key DESC LIMIT 1", (space, sub)
        ).fetchone()
        return None if row is None else str(row[0])

    def delete(self, namespace: str, key: str) -> None:
        """Remove a key."""
        self.delete_many([(namespace, key)])

    def delete_many(self, pairs: Iterable[Pair]) -> None:
        """Remove keys, and the spaces that hold nothing then."""
        places = [(*self._at(namespace), key) for namespace, key in pairs]
        self.connection.executemany("DELETE FROM entry WHERE space=? AND sub=? AND key=?", places)
        drop_if_empty(self.connection, {space for space, _, _ in places if space is not None})
