"""The items of LangGraph's long-term memory in a file: read at one moment, written in one commit.

What any store does by calls of its own is done here in one transaction, for any number of LangGraph
namespaces, and a write is made only if what it was decided by is still there.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from heapq import nlargest
from types import NoneType
from typing import Any

from swarmstate import codecs
from swarmstate._codec import columns
from swarmstate.backends.disk.driver import Driver, Read
from swarmstate.backends.disk.rows import milliseconds_now
from swarmstate.backends.disk.steps import StoreSteps
from swarmstate.errors import DecodeError
from swarmstate.items.format import VERSION, Row, decode_row, items_of, vectors_of
from swarmstate.items.generic import GenericItems, newest_of, vectors_from
from swarmstate.items.protocol import Change, Place, Seen, Wanted
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
        # Another codec's bytes may be anything.
        self._built_in = isinstance(steps.codec, type(codecs.get("msgpack")))

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

    def newest(
        self, names: Sequence[str], wanted: Wanted, now: int
    ) -> Steps[list[tuple[Place, Row]]]:
        """Return the newest of what is wanted, decoded; of the others only what decides."""
        steps = self._steps
        spaces = [*map(items_of, names)]

        def work(connection: sqlite3.Connection) -> list[_Rows]:
            execute = connection.execute
            if len(spaces) > 1:
                execute("BEGIN")
            time = milliseconds_now()
            return [execute(_IN_SPACE, (*steps.split(space), time)).fetchall() for space in spaces]

        def chosen(found: list[_Rows]) -> list[tuple[Place, Row]]:
            glimpsed = self._glimpsed(names, found, wanted, now)
            if glimpsed is None:
                value = steps.value
                live = [
                    self._live(
                        name,
                        [(steps.key_name(key, at), value(data, at, key)) for key, data in entries],
                        now,
                    )
                    for name, at, entries in zip(names, spaces, found, strict=True)
                ]
                return newest_of(names, live, wanted)
            rows = []
            for _, place, data in nlargest(wanted.most, glimpsed):
                whole = steps.value(data, items_of(place.name), place.key)
                rows.append((place, decode_row(whole, *place)))
            return rows

        result: list[tuple[Place, Row]] = yield Read(work, chosen)
        if steps.ttl_on_read:
            yield from steps.read_of({steps.split(space)[0] for space in spaces})
        return result

    def _glimpsed(
        self, names: Sequence[str], found: list[_Rows], wanted: Wanted, now: int
    ) -> list[tuple[int, Place, bytes]] | None:
        """Return when, where and what the items are that are wanted; None if that is not plain.

        Of a hundred items of which ten are returned, to decode all would take twice as long as to
        read them.
        """
        if not self._built_in:
            return None
        owners: list[str] = []
        keys: list[str] = []
        blobs: list[bytes] = []
        for name, entries in zip(names, found, strict=True):
            if entries:
                some, values = zip(*entries, strict=True)
                owners += [name] * len(some)
                keys += some
                blobs += values
        fields = tuple([field.encode("utf-8", "surrogatepass") for field in wanted.fields])
        table = columns(blobs, len(Row._fields), fields)
        if table is None:
            return None
        try:
            created, updated, expires, minutes, _, kept = self._steps.codec.decode(table)
        except DecodeError:
            return None
        if not (
            {*map(type, created), *map(type, updated)} <= {int}
            and {*map(type, expires)} <= {int, NoneType}
            and {*map(type, minutes)} <= {float, NoneType}
            and {*map(type, keys)} <= {str}
        ):
            return None
        numbers: Iterable[int] = range(len(keys))
        if expires.count(None) < len(expires):
            for number, time in enumerate(expires):
                self._note(Place(owners[number], keys[number]), time)
            numbers = [n for n in numbers if expires[n] is None or expires[n] > now]
        keep = wanted.keep
        return [
            (updated[n], Place(owners[n], keys[n]), blobs[n])
            for n in numbers
            if keep is None or keep(kept[n])
        ]

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
