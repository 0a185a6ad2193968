"""What the stores do with all namespaces at once: count, list, freeze, restore, remove, copy."""

from __future__ import annotations

import functools
import os
import sqlite3
from collections.abc import Callable, Iterable
from typing import Any

from swarmstate import codecs
from swarmstate._core import Snapshot
from swarmstate.arguments import check_default, check_prefix, check_snapshot, milliseconds
from swarmstate.backends.disk.copies import backed_up, compacted
from swarmstate.backends.disk.driver import Apart, Read, Write
from swarmstate.backends.disk.entries import Entries
from swarmstate.backends.disk.rows import milliseconds_now, renew
from swarmstate.backends.disk.schema import CONTENT, WRITES, Part, beyond
from swarmstate.backends.disk.tracking import Tracker
from swarmstate.errors import ArgumentValueError, DecodeError
from swarmstate.protocols import Default, SnapshotLike
from swarmstate.shown import place, shown
from swarmstate.snapshots import History
from swarmstate.steps import Steps

__all__ = ["WholeStore"]

# Reading renews what has lost so much of its time, in milliseconds, or a part of that if it is
# short: so that not every read is a write.
_SPENT_MS = 1000
_SPENT_PART = 64


class WholeStore:
    """What all operations share, and those on the whole store.

    Args:
        codec: the name of the codec.
        default: encodes what the codec does not know.
        max_history: how many snapshots to keep.
        ttl: how long a namespace lives after its last write, in seconds, or None.
        ttl_on_read: whether a read restarts that time.
    """

    def __init__(
        self,
        *,
        codec: str,
        default: Default | None,
        max_history: int | None,
        ttl: float | None,
        ttl_on_read: bool,
    ) -> None:
        check_default(default)
        self.codec = codecs.get(codec)
        self.encode: Callable[[Any], bytes] = functools.partial(self.codec.encode, default=default)
        self.ttl_ms = milliseconds(ttl)
        if ttl_on_read and self.ttl_ms is None:
            raise ArgumentValueError(
                "ttl_on_read=True needs a ttl: without one there is nothing to renew"
            )
        self.ttl_on_read = ttl_on_read
        self._lie_in(CONTENT, History(max_history))

    def _lie_in(self, part: Part, history: History) -> None:
        """Be the store that is a part of the file."""
        self.part = part
        self.split = part.split
        self.history = history
        self.tracker = Tracker(self.codec.name, part)
        self.entries = Entries(self.value, self.split)

    # Values ------------------------------------------------------------------------------------

    def value(self, data: Any, namespace: str, key: str) -> Any:
        """Return a stored value, decoded.

        Raises:
            DecodeError: it is not a valid one.
        """
        if type(data) is not bytes:
            raise DecodeError(
                f"{place(namespace, key)} holds {shown(data)}, not bytes (written by another "
                "program?)"
            )
        try:
            return self.codec.decode(data)
        except DecodeError as error:
            raise DecodeError(f"{place(namespace, key)}: {error}") from error

    def key_name(self, key: Any, namespace: str) -> str:
        """Return a stored key.

        Raises:
            DecodeError: it is not text.
        """
        if type(key) is not str:
            raise DecodeError(
                f"a key of namespace {shown(namespace)} is {shown(key)}, not text (written by "
                "another program?)"
            )
        return key

    # Expiry ------------------------------------------------------------------------------------

    def renew(self, connection: sqlite3.Connection, spaces: Iterable[int], now: int) -> None:
        """Restart the time of spaces that were written to, where there is one."""
        if self.ttl_ms is not None:
            renew(connection, spaces, now + self.ttl_ms)

    def read_of(self, names: Iterable[str]) -> Steps[None]:
        """Restart the time of spaces that were read, where that is wanted and has mostly passed."""
        if not self.ttl_on_read or self.ttl_ms is None:
            return
        ttl = self.ttl_ms
        wanted = list(names)
        statement = "SELECT id FROM space WHERE name=? AND expires>? AND expires<?"

        def due(connection: sqlite3.Connection) -> list[int]:
            now = milliseconds_now()
            late = now + ttl - min(_SPENT_MS, ttl // _SPENT_PART)
            found = (connection.execute(statement, (name, now, late)) for name in wanted)
            return [space for rows in found for (space,) in rows.fetchall()]

        def work(connection: sqlite3.Connection) -> None:
            # An id may be another space's by now.
            renew(connection, due(connection), milliseconds_now() + ttl)

        if (yield Read(due)):
            yield Write(work)

    # Enumerations ------------------------------------------------------------------------------

    def namespaces(self, prefix: str | None = None) -> Steps[list[str]]:
        """Return the namespaces, or those that start with ``prefix``. O(namespaces)."""
        before = self.part.prefix
        start = before + (check_prefix(prefix) or "")

        def work(connection: sqlite3.Connection) -> list[str]:
            connection.execute("BEGIN")
            values: dict[str, Any] = {"now": milliseconds_now(), "start": start}
            narrowed = " AND s.name>=:start"
            if (end := beyond(start)) is not None:
                narrowed += " AND s.name<:end"
                values["end"] = end
            found = connection.execute(
                f"SELECT s.name FROM space s WHERE {self.part.live}{narrowed if start else ''}"
                " AND EXISTS(SELECT 1 FROM entry WHERE space=s.id AND sub='')",
                values,
            ).fetchall()
            # Of the spaces that hold several, the name is only where they start.
            values["end"] = beyond(before + WRITES)
            values["start"] = before + WRITES
            for (joined,) in connection.execute(
                f"SELECT s.name || e.sub FROM space s JOIN (SELECT DISTINCT space, sub FROM entry"
                " WHERE space IN (SELECT id FROM space WHERE name>=:start AND name<:end)"
                f" AND sub<>'') e ON e.space=s.id WHERE {self.part.live}",
                values,
            ).fetchall():
                found.append((joined,))
            return [name[len(before) :] for (name,) in found if name.startswith(start)]

        names: list[str] = yield Read(work)
        return names

    def count(self) -> Steps[int]:
        """Return the number of keys in all namespaces, at one moment. O(keys)."""

        def work(connection: sqlite3.Connection) -> int:
            row = connection.execute(
                f"SELECT count(*) FROM space s JOIN entry e ON e.space=s.id WHERE {self.part.live}",
                {"now": milliseconds_now()},
            ).fetchone()
            return int(row[0])

        counted: int = yield Read(work)
        return counted

    def clear(self) -> Steps[None]:
        """Remove every namespace; history and held snapshots stay. O(keys)."""

        def work(connection: sqlite3.Connection) -> None:
            execute = connection.execute
            reserved = "SELECT EXISTS(SELECT 1 FROM space WHERE name>=char(0) AND name<char(1))"
            if self.part is not CONTENT or execute(reserved).fetchone()[0]:
                gone = f"SELECT s.id FROM space s WHERE {self.part.own}"
                execute(f"DELETE FROM entry WHERE space IN ({gone})")
                execute(f"DELETE FROM space WHERE id IN ({gone})")
            else:  # with no condition SQLite drops whole pages
                execute("DELETE FROM entry")
                execute("DELETE FROM space")

        yield Write(work)

    # Snapshots ---------------------------------------------------------------------------------

    def snapshot(self) -> Steps[Snapshot]:
        """Freeze the whole store at one moment.

        The first reads all of the file. While a snapshot is held, the content is kept in memory,
        and the next one costs O(what has changed since), unless another process wrote, or most of
        it has changed: then it reads all.
        """
        taken: Snapshot = yield Apart(functools.partial(self.tracker.freeze, self.history))
        return taken

    def restore(self, snapshot: SnapshotLike) -> Steps[None]:
        """Make the store what ``snapshot`` holds, all of it or nothing. One commit.

        Writes what differs. To find it costs O(what has changed) for a snapshot of this very store
        while no other process writes, else O(all keys).

        Raises:
            WireFormatError: the snapshot's values are of another wire format.
        """
        checked = check_snapshot(snapshot, self.codec.wire)
        yield Apart(functools.partial(self.tracker.restore, checked, self.ttl_ms))

    # The file ----------------------------------------------------------------------------------

    def backup(self, path: str | os.PathLike[str]) -> Steps[None]:
        """Write a copy of the store, as it is at one moment, to another file.

        Others may write meanwhile. The copy appears whole or not at all; one that is there already
        is replaced. O(size of the file).

        Args:
            path: where the copy is to be; a file of another program there is refused.

        Raises:
            ArgumentTypeError, ArgumentValueError: no copy can be made there.
            AccessDenied, StoreUnavailable: it could not be written; nothing is left of it.
        """
        yield Apart(functools.partial(backed_up, path))

    def compact(self) -> Steps[int]:
        """Give the disk back what is not needed; return how many bytes that is.

        Removes all that has expired, and writes the file again without the room that deleted
        entries have left. Nobody can write meanwhile. O(size of the file), which is also the room
        that it needs.

        Raises:
            StoreUnavailable: there is not that much room, or the file was locked all the time.
        """
        freed: int = yield Apart(compacted)
        return freed
