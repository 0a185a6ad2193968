"""The items of LangGraph's long-term memory in a file: read at one moment, written in one commit.

What any store does by calls of its own is done here in one transaction, for any number of LangGraph
namespaces, and a write is made only if what it was decided by is still there.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from swarmstate.backends.disk.driver import Driver, Read
from swarmstate.backends.disk.rows import milliseconds_now
from swarmstate.backends.disk.steps import StoreSteps
from swarmstate.items.format import VERSION, items_of, vectors_of
from swarmstate.items.generic import GenericItems, vectors_from
from swarmstate.items.protocol import Change, Place, Seen
from swarmstate.protocols import ABSENT
from swarmstate.steps import Steps

__all__ = ["DiskItems"]

# Of a write that others were faster than; the next is made whatever is there.
_ATTEMPTS = 50

_IN_SPACE = (
    "SELECT e.key, e.value FROM space s JOIN entry e ON e.space=s.id"
    " WHERE s.name=? AND e.sub=? AND (s.expires IS NULL OR s.expires>?)"
)
_AT_KEY = _IN_SPACE + " AND e.key=?"

_Rows = list[tuple[str, Any]]


class DiskItems(GenericItems):
    """An :class:`~swarmstate.items.protocol.ItemEngine` over one file."""

    def __init__(self, steps: StoreSteps, driver: Driver) -> None:
        super().__init__(steps, driver)
        self._steps = steps

    def look(
        self,
        now: int,
        *,
        items: Sequence[str] = (),
        vectors: Sequence[str] = (),
        versions: Sequence[str] = (),
        rows: Sequence[Place] = (),
    ) -> Steps[Seen]:
        """Return much at once. One transaction, O(log n) for each name and what is returned."""
        steps = self._steps
        whole = [*map(items_of, items), *map(vectors_of, vectors)]
        single = [(vectors_of(name), VERSION) for name in versions]
        single += [(items_of(name), key) for name, key in rows]

        def work(connection: sqlite3.Connection) -> tuple[list[_Rows], list[_Rows]]:
            execute = connection.execute
            execute("BEGIN")
            time = milliseconds_now()
            return (
                [execute(_IN_SPACE, (*steps.split(space), time)).fetchall() for space in whole],
                [
                    execute(_AT_KEY, (*steps.split(space), time, key)).fetchall()
                    for space, key in single
                ],
            )

        def decoded(found: tuple[list[_Rows], list[_Rows]]) -> Seen:
            value = steps.value
            contents = [
                [(steps.key_name(key, space), value(data, space, key)) for key, data in entries]
                for space, entries in zip(whole, found[0], strict=True)
            ]
            values = [
                value(entries[0][1], space, key) if entries else None
                for (space, key), entries in zip(single, found[1], strict=True)
            ]
            count = len(versions)
            return Seen(
                [
                    self._live(name, entries, now)
                    for name, entries in zip(items, contents, strict=False)
                ],
                [vectors_from(entries) for entries in contents[len(items) :]],
                values[:count],
                [
                    None if data is None else self._row(data, place, now)
                    for place, data in zip(rows, values[count:], strict=True)
                ],
            )

        if not whole and not single:
            return Seen([], [], [], [])
        seen: Seen = yield Read(work, decoded)
        if steps.ttl_on_read:
            yield from steps.read_of({steps.split(space)[0] for space in whole})
        return seen

    def _write(self, changes: Sequence[Change], now: int) -> Steps[None]:
        """Write items by a read and a commit, and again if others have written in between."""
        steps = self._steps
        pairs = [(items_of(name), key) for (name, key), _, _ in changes]
        for _ in range(_ATTEMPTS):
            olds = yield from steps.get_many(pairs)
            names, stored, removed = self._decided(changes, olds, now)
            if not stored and not removed:
                return
            expect = {
                pair: ABSENT if data is None else data
                for pair, data in zip(pairs, olds, strict=True)
            }
            if (yield from steps.commit([*names, *stored], removed, expect=expect)):
                return
        # Where nil is stored, which no item is, it is taken for none.
        yield from super()._write(changes, now)
