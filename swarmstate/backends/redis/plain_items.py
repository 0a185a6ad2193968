"""The items of LangGraph's long-term memory on a server that refuses scripts."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from swarmstate.arguments import shown
from swarmstate.backends.redis.commands import Command, fields
from swarmstate.backends.redis.steps import StoreSteps
from swarmstate.backends.redis.transport.driver import Driver
from swarmstate.errors import AccessDenied, DecodeError
from swarmstate.items.format import (
    VERSION,
    Row,
    decode_row,
    encode_row,
    items_of,
    labels_of,
    vectors_of,
)
from swarmstate.items.generic import GenericItems, vectors_from
from swarmstate.items.protocol import Place, Seen
from swarmstate.protocols import Pair
from swarmstate.steps import Steps

__all__ = ["PlainItems"]

Renewed = tuple[Pair, Any, Any]
"""Where an item is, what is there, and what it becomes."""


class PlainItems(GenericItems):
    """Items on a server that refuses scripts, or in bytes that are not msgpack.

    A put takes three round trips. What is renewed or has expired is changed by a commit, which
    WATCH guards against other writers; who may not WATCH finds expired items absent all the same.
    """

    def __init__(self, steps: StoreSteps, driver: Driver) -> None:
        super().__init__(steps, driver)
        self._steps = steps
        self._clustered = driver.clustered

    def look(
        self,
        now: int,
        *,
        items: Sequence[str] = (),
        vectors: Sequence[str] = (),
        versions: Sequence[str] = (),
        rows: Sequence[Place] = (),
    ) -> Steps[Seen]:
        """Return much at once. One round trip."""
        key = self._steps.layout.key
        singles: dict[str, list[str]] = {}
        for place in rows:
            singles.setdefault(place.name, []).append(place.key)
        whole = [*map(items_of, items), *map(vectors_of, vectors)]
        spaces = [*whole, *map(vectors_of, versions), *map(items_of, singles)]
        keys = [key(space) for space in spaces]
        commands: list[Command] = [("HGETALL", each) for each in keys[: len(whole)]]
        rest = iter(keys[len(whole) :])
        commands += [("HGET", next(rest), VERSION) for _ in versions]
        commands += [("HMGET", next(rest), *several) for several in singles.values()]
        if not commands:
            return Seen([], [], [], [])
        replies = iter((yield from self._steps.asked(commands, keys)))
        found = [self._live(name, self._entries(next(replies), name), now) for name in items]
        indexes = [vectors_from(self._entries(next(replies), name)) for name in vectors]
        known = [self._decoded(next(replies), name, VERSION) for name in versions]
        values = {
            Place(name, each): data
            for name, several in singles.items()
            for each, data in zip(several, next(replies), strict=True)
        }
        return Seen(
            found, indexes, known, [self.row_from(values[place], place, now) for place in rows]
        )

    def row_from(self, data: bytes | None, place: Place, now: int) -> Row | None:
        """Return an item from its bytes; None if it is absent."""
        decoded = self._decoded(data, *place)
        return None if decoded is None else self._row(decoded, place, now)

    def _entries(self, reply: Any, name: str) -> list[tuple[str, Any]]:
        found = []
        for raw, data in fields(reply).items():
            try:
                key = raw.decode()
            except UnicodeDecodeError:
                # No key of ours: another program's.
                continue
            found.append((key, self._decoded(data, name, key)))
        return found

    def _decoded(self, data: bytes | None, name: str, key: str) -> Any:
        try:
            return None if data is None else self._steps.codec.decode(data)
        except DecodeError as error:
            raise DecodeError(
                f"item {shown(key)} of namespace {shown(labels_of(name))}: {error}"
            ) from error

    def renew(self, places: Sequence[Place], now: int) -> Steps[None]:
        """Renew items, if the server lets us: a read does not fail for that.

        One round trip, and two for each LangGraph namespace; one item at a time where others
        write there. What another process has written meanwhile has its time from there.
        """
        pairs = [(items_of(name), key) for name, key in places]
        values = yield from self._steps.get_many(pairs)
        held: dict[str, list[Renewed]] = {}
        for place, pair, data in zip(places, pairs, values, strict=True):
            row = None if data is None else decode_row(data, *place)
            if row is not None and row.live(now) and row.minutes is not None:
                held.setdefault(place.name, []).append((pair, data, encode_row(row.renewed(now))))
        with suppress(AccessDenied):
            for some in held.values():
                if not (yield from self._replaced(some)) and len(some) > 1:
                    for one in some:
                        yield from self._replaced([one])

    def _replaced(self, some: Sequence[Renewed]) -> Steps[bool]:
        return self._steps.commit(
            [(*pair, new) for pair, _, new in some], expect={pair: old for pair, old, _ in some}
        )

    def _tidy(self, names: set[str], now: int) -> Steps[None]:
        with suppress(AccessDenied):
            yield from super()._tidy(names, now)

    def _store(
        self, names: list[tuple[str, str, Any]], stored: list[tuple[str, str, Any]]
    ) -> Steps[None]:
        if self._clustered and names:
            # Their node may be slower, or fail.
            yield from self._steps.set_many(names)
            names = []
        yield from super()._store(names, stored)
