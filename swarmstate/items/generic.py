"""Items over any store, built from the calls that every store offers.

A write is one ``get_many`` and one ``set_many``, which a ``delete_many`` may precede; what is
renewed goes through ``update``, so that no write of another process is undone. Expired items are
removed by the store's ``commit``, which tells whether they are still what they were; a store that
only blocks and has none is guarded by a lock that all engines over one store object share.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from heapq import nlargest
from itertools import compress
from random import getrandbits
from typing import Any, TypeVar, cast
from weakref import WeakKeyDictionary

from swarmstate.errors import DecodeError
from swarmstate.items.expiry import Due
from swarmstate.items.format import (
    NAMES,
    VECTOR,
    VERSION,
    Row,
    decode_row,
    encode_row,
    items_of,
    right_names,
    vectors_of,
)
from swarmstate.items.protocol import Change, ItemEngine, Place, Seen, Vectors, Wanted
from swarmstate.steps import Driver, InlineDriver, Steps, calls_of, finish

__all__ = ["GenericItems", "engine_of", "newest_of", "vectors_from"]

T = TypeVar("T")

_AT_ONCE = 100
_REMOVED_BY_WRITES = 20
_MOST_NAMES = 10_000


class _Shared:
    """What all engines over one store object share.

    Attributes:
        lock: Guards what decides what to remove; reentrant, because a hook of the caller's that
            encodes may use the store. None where calls wait for a driver.
        due: What expires next.
    """

    def __init__(self, lock: AbstractContextManager[Any] | None) -> None:
        self.lock = lock
        self.due = Due()


_shared: WeakKeyDictionary[Any, _Shared] = WeakKeyDictionary()
_shared_guard = threading.Lock()


def _shared_of(store: Any) -> _Shared:
    with _shared_guard:
        try:
            return _shared.setdefault(store, _Shared(threading.RLock()))
        except TypeError:  # a third-party store without weak references or a hash
            return _Shared(threading.RLock())


def engine_of(store: Any) -> ItemEngine:
    """Return the engine that a store offers, or else one built from its calls.

    Raises:
        ArgumentTypeError: it can be neither called nor driven.
    """
    offer = getattr(store, "item_engine", None)
    if offer is not None and not isinstance(store, type):
        return cast("ItemEngine", offer())
    calls, driver = calls_of(store)
    # Of what never waits for a driver, or blocks, a lock can be held.
    guarded = calls is store or type(driver) is InlineDriver
    return GenericItems(calls, driver, _shared_of(store) if guarded else None)


class GenericItems:
    """An :class:`~swarmstate.items.protocol.ItemEngine` over any store.

    Args:
        calls: The store, or its steps.
        driver: Runs the steps.
        shared: What other engines over the same store use too.
    """

    def __init__(self, calls: Any, driver: Driver, shared: _Shared | None = None) -> None:
        self._calls = calls
        self._driver = driver
        shared = shared or _Shared(None)
        self._lock = shared.lock
        self._due = shared.due
        self.expiring = False
        """Whether anything is known to expire; until then no write looks for what has."""
        # The LangGraph namespaces whose items were looked at for what others had written.
        self._looked: set[str] = set()

    def run(self, steps: Steps[T]) -> T:
        """Run an operation to its end and return its result."""
        return self._driver.run(steps)

    async def arun(self, steps: Steps[T]) -> T:
        """Run an operation without blocking the event loop."""
        return await self._driver.arun(steps)

    def names(self, prefixes: Sequence[str]) -> Steps[list[list[str]]]:
        """Return the names that start with each prefix: a ``keys`` for each."""
        found: list[list[str]] = []
        for prefix in prefixes:
            names = yield from finish(self._calls.keys(NAMES, prefix or None))
            found.append(names)
        return found

    def fetch(
        self, places: Sequence[Place], renew: Sequence[bool], now: int
    ) -> Steps[list[Row | None]]:
        """Return items by one ``get_many``; each that is renewed costs an ``update``."""
        pairs = [(items_of(name), key) for name, key in places]
        if len(pairs) == 1:
            values = [(yield from finish(self._calls.get(*pairs[0])))]
        else:
            values = yield from finish(self._calls.get_many(pairs))
        rows: list[Row | None] = []
        again: list[Place] = []
        for place, data, wanted in zip(places, values, renew, strict=True):
            row = None if data is None else self._row(data, place, now)
            rows.append(row)
            if wanted and row is not None and row.minutes is not None:
                again.append(place)
        if again:
            yield from self.renew(again, now)
        return rows

    def look(
        self,
        now: int,
        *,
        items: Sequence[str] = (),
        vectors: Sequence[str] = (),
        versions: Sequence[str] = (),
        rows: Sequence[Place] = (),
    ) -> Steps[Seen]:
        """Return much at once: an ``items`` for each namespace, and one ``get_many``."""
        calls = self._calls
        found = []
        for name in items:
            entries = yield from finish(calls.items(items_of(name)))
            found.append(self._live(name, entries, now))
        indexes = []
        for name in vectors:
            entries = yield from finish(calls.items(vectors_of(name)))
            indexes.append(vectors_from(entries))
        pairs = [(vectors_of(name), VERSION) for name in versions]
        pairs += [(items_of(name), key) for name, key in rows]
        values = (yield from finish(calls.get_many(pairs))) if pairs else []
        known = len(versions)
        singles = [
            None if data is None else self._row(data, place, now)
            for place, data in zip(rows, values[known:], strict=True)
        ]
        return Seen(found, indexes, values[:known], singles)

    def newest(
        self, prefix: str, wanted: Wanted, now: int, names: Sequence[str] | None = None
    ) -> Steps[list[tuple[Place, Row]]]:
        """Return the newest of what is wanted: an ``items`` for each namespace."""
        if names is None:
            names = right_names((yield from self.names([prefix]))[0])
        seen: Seen = yield from self.look(now, items=names)
        return newest_of(names, seen.items, wanted)

    def _live(self, name: str, entries: list[tuple[str, Any]], now: int) -> list[tuple[str, Row]]:
        found = []
        for key, data in entries:
            row = decode_row(data, name, key)
            if row.expires is not None:
                self._note(Place(name, key), row.expires)
                if row.expires <= now:
                    continue
            found.append((key, row))
        return found

    def _row(self, data: Any, place: Place, now: int) -> Row | None:
        row = decode_row(data, *place)
        if row.expires is None:
            return row
        self._note(place, row.expires)
        return row if row.expires > now else None

    def _note(self, place: Place, expires: int | None) -> None:
        if expires is not None:
            self.expiring = True
            self._due.note(place, expires)

    def renew(self, places: Sequence[Place], now: int) -> Steps[None]:
        """Renew items by one ``update`` each."""
        for name, key in places:

            def renewed(data: Any) -> Any:
                if data is None:
                    raise _Gone
                row = decode_row(data, name, key)  # noqa: B023 (it is called before the next)
                if not row.live(now) or row.minutes is None:
                    raise _Gone
                return encode_row(row.renewed(now))

            try:
                yield from finish(self._calls.update(items_of(name), key, renewed))
            except _Gone:
                # It was removed meanwhile, or it expired.
                continue

    def write(self, changes: Sequence[Change], now: int) -> Steps[None]:
        """Write items by a ``get_many`` and a ``set_many``."""
        with self._guarded():
            yield from self._write(changes, now)
            if self.expiring:
                yield from self._tidy({change.place.name for change in changes}, now)

    def _write(self, changes: Sequence[Change], now: int) -> Steps[None]:
        calls = self._calls
        pairs = [(items_of(name), key) for (name, key), _, _ in changes]
        olds = yield from finish(calls.get_many(pairs))
        names, stored, removed = self._decided(changes, olds, now)
        # First what goes: a version must not be there before the vectors that it stands for.
        if removed:
            yield from finish(calls.delete_many(removed))
        if stored:
            yield from self._store(names, stored)

    def _decided(
        self, changes: Sequence[Change], olds: Sequence[Any], now: int
    ) -> tuple[list[tuple[str, str, Any]], list[tuple[str, str, Any]], list[tuple[str, str]]]:
        """Return which names, what else is stored, and what is removed, given what is there."""
        stored: list[tuple[str, str, Any]] = []
        removed: list[tuple[str, str]] = []
        reindexed: dict[str, None] = {}
        new: dict[str, None] = {}
        for (place, row, vectors), data in zip(changes, olds, strict=True):
            pair = (items_of(place.name), place.key)
            was = _past(data, place)
            if row is None:
                if data is not None:
                    removed.append(pair)
            else:
                if was is not None and was.live(now):
                    row = row._replace(created=was.created)
                self._note(place, row.expires)
                stored.append((*pair, encode_row(row)))
                new[place.name] = None
            index = vectors_of(place.name)
            if vectors:
                stored.append((index, VECTOR + place.key, list(vectors)))
                reindexed[index] = None
            elif data is not None and (was is None or was.indexed):
                removed.append((index, VECTOR + place.key))
                reindexed[index] = None
        stored += [(index, VERSION, getrandbits(63)) for index in reindexed]
        return [(NAMES, name, 1) for name in new], stored, removed

    def _store(
        self, names: list[tuple[str, str, Any]], stored: list[tuple[str, str, Any]]
    ) -> Steps[None]:
        yield from finish(self._calls.set_many([*names, *stored]))

    def _tidy(self, names: set[str], now: int) -> Steps[None]:
        """Remove some of what has expired; look once for what other processes have written."""
        for name in names - self._looked:
            if len(self._looked) >= _MOST_NAMES:
                self._looked.clear()
            self._looked.add(name)
            yield from self.look(now, items=[name])
        places = self._due.take(now, _REMOVED_BY_WRITES)
        if not places:
            return
        pairs = [(items_of(name), key) for name, key in places]
        values = yield from finish(self._calls.get_many(pairs))
        dead: dict[str, list[tuple[str, Any]]] = {}
        for place, data in zip(places, values, strict=True):
            was = _past(data, place)
            if was is None:
                continue
            if was.live(now):
                self._note(place, was.expires)
            else:
                dead.setdefault(place.name, []).append((place.key, data))
        for name, entries in dead.items():
            yield from self._remove(name, entries)

    def sweep(self, now: int) -> Steps[int]:
        """Remove all expired items: an ``items`` for each namespace, and what it takes."""
        count = 0
        (names,) = yield from self.names([""])
        for name in names:
            with self._guarded():
                entries = yield from finish(self._calls.items(items_of(name)))
                dead = _dead(name, entries, now)
                for first in range(0, len(dead), _AT_ONCE):
                    count += yield from self._remove(name, dead[first : first + _AT_ONCE])
        return count

    def _remove(self, name: str, dead: list[tuple[str, Any]]) -> Steps[int]:
        """Remove items if they are still what was read, and return how many that were."""
        if not dead:
            return 0
        space, index = items_of(name), vectors_of(name)
        pairs = [(space, key) for key, _ in dead]
        indexed = [(index, VECTOR + key) for key, data in dead if data[4]]
        commit = getattr(self._calls, "commit", None)
        if commit is not None:
            expect = {(space, key): data for key, data in dead}
            if not (yield from finish(commit(delete=[*pairs, *indexed], expect=expect))):
                return 0
        elif self._lock is not None:
            yield from finish(self._calls.delete_many([*pairs, *indexed]))
        else:
            # Not without knowing that nobody has written them again.
            return 0
        if indexed:
            yield from finish(self._calls.set(index, VERSION, getrandbits(63)))
        return len(dead)

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        with self._lock if self._lock is not None else nullcontext():
            yield


class _Gone(Exception):  # noqa: N818 (not an error: it ends an update that is not wanted)
    """There is nothing to renew."""


def newest_of(
    names: Sequence[str], items: Sequence[Sequence[tuple[str, Row]]], wanted: Wanted
) -> list[tuple[Place, Row]]:
    """Return the newest of those items of some namespaces that are wanted."""
    keep, rows = wanted.keep, []
    for name, entries in zip(names, items, strict=True):
        values = [row.value for _, row in entries]
        told: list[Iterable[bool]] = []
        if wanted.columns is not None:
            # Together they take half the time.
            told = [
                tell([value.get(field) for value in values])
                for field, tell in wanted.columns.items()
            ]
        elif keep is not None:
            told = [map(keep, values)]
        kept = compress(entries, map(all, zip(*told, strict=True))) if told else entries
        rows += [(row.updated, name, key, row) for key, row in kept]
    return [(Place(name, key), row) for _, name, key, row in nlargest(wanted.most, rows)]


def _past(data: Any, place: Place) -> Row | None:
    """Return what an item was; None for what was not one, which may be overwritten."""
    if data is None:
        return None
    try:
        return decode_row(data, *place)
    except DecodeError:
        return None


def _dead(name: str, entries: list[tuple[str, Any]], now: int) -> list[tuple[str, Any]]:
    """Return those of a namespace's entries that have expired."""
    found = []
    for key, data in entries:
        was = _past(data, Place(name, key))
        if was is not None and not was.live(now):
            found.append((key, data))
    return found


def vectors_from(entries: list[tuple[str, Any]]) -> Vectors:
    """Return the vectors that the entries of a namespace are."""
    version: int | None = None
    by_key: dict[str, list[bytes]] = {}
    for key, data in entries:
        if key.startswith(VECTOR):
            by_key[key[len(VECTOR) :]] = data
        elif key == VERSION:
            version = data
    return Vectors(version, by_key)
