"""The items of LangGraph's long-term memory in a file: read at one moment, written in one commit.

What any store does by calls of its own is done here in one transaction, for any number of LangGraph
namespaces, and a write is made only if what it was decided by is still there.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from heapq import nlargest
from itertools import chain, compress
from typing import Any

from swarmstate import codecs
from swarmstate._codec import columns
from swarmstate.backends.disk.driver import Driver, Read
from swarmstate.backends.disk.rows import milliseconds_now
from swarmstate.backends.disk.steps import StoreSteps, keys_within
from swarmstate.errors import DecodeError
from swarmstate.items.format import (
    NAMES,
    VERSION,
    Row,
    decode_row,
    items_of,
    right_names,
    vectors_of,
)
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

# Of a row, what decides whether it is wanted: when it was updated, and when it expires.
_KINDS = b"iINfa"

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
        self, prefix: str, wanted: Wanted, now: int, names: Sequence[str] | None = None
    ) -> Steps[list[tuple[Place, Row]]]:
        """Return the newest of what is wanted, decoded; of the others only what decides."""
        steps = self._steps
        where = steps.split(NAMES)
        spaces: list[str] = []

        def work(connection: sqlite3.Connection) -> tuple[Sequence[str], list[_Rows]]:
            execute = connection.execute
            execute("BEGIN")
            listed = names
            if listed is None:
                keys = [
                    steps.key_name(*row, NAMES) for row in keys_within(connection, where, prefix)
                ]
                listed = right_names(keys)
            time = milliseconds_now()
            spaces[:] = map(items_of, listed)
            return listed, [
                execute(_IN_SPACE, (*steps.split(space), time)).fetchall() for space in spaces
            ]

        def chosen(seen: tuple[Sequence[str], list[_Rows]]) -> list[tuple[Place, Row]]:
            names, found = seen
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
            return [
                (Place(name, key), decode_row(whole, name, key))
                for (_, name, key, _), whole in zip(glimpsed, self._decoded(glimpsed), strict=True)
            ]

        result: list[tuple[Place, Row]] = yield Read(work, chosen)
        if steps.ttl_on_read:
            yield from steps.read_of({steps.split(space)[0] for space in spaces})
        return result

    def _decoded(self, rows: Sequence[tuple[int, str, str, bytes]]) -> list[Any]:
        """Return the values of rows: decoded as one, which takes half the time."""
        head = b"\xdd" + len(rows).to_bytes(4, "big")
        try:
            decoded: list[Any] = self._steps.codec.decode(head + b"".join([row[3] for row in rows]))
        except DecodeError:
            # The same again, for an error that names the place.
            return [self._steps.value(data, items_of(name), key) for _, name, key, data in rows]
        return decoded

    def _glimpsed(
        self, names: Sequence[str], found: list[_Rows], wanted: Wanted, now: int
    ) -> list[tuple[int, str, str, bytes]] | None:
        """Return when, where and what the newest items are that are wanted; None if not plain.

        Of a hundred items of which ten are returned, to decode all would take twice as long as to
        read them.
        """
        if not self._built_in or wanted.columns is None:
            return None
        owners: list[str] = []
        for name, entries in zip(names, found, strict=True):
            owners += [name] * len(entries)
        if not owners:
            return []
        keys, blobs = map(list, zip(*chain.from_iterable(found), strict=True))
        fields = tuple([field.encode("utf-8", "surrogatepass") for field in wanted.columns])
        table = columns(blobs, _KINDS, fields)
        if table is None:
            return None
        try:
            updated, expires, *values = self._steps.codec.decode(table)
        except DecodeError:
            return None
        if not {*map(type, keys)} <= {str}:
            return None
        rows: Iterable[tuple[int, str, str, bytes]] = zip(updated, owners, keys, blobs, strict=True)
        told = [tell(column) for tell, column in zip(wanted.columns.values(), values, strict=True)]
        if told:
            rows = compress(rows, told[0] if len(told) == 1 else map(all, zip(*told, strict=True)))
        if expires.count(None) < len(expires):
            times = dict(zip(zip(owners, keys, strict=True), expires, strict=True))
            for (name, key), time in times.items():
                self._note(Place(name, key), time)
            rows = [row for row in rows if (time := times[row[1:3]]) is None or time > now]
        return nlargest(wanted.most, rows)

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
