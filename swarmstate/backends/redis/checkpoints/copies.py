"""Copying a thread to another on the same server: read in parts, and there at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from swarmstate.backends.redis.checkpoints.keys import (
    Part,
    ThreadKeys,
    in_parts,
    is_record,
    marks,
    segments_in,
)
from swarmstate.backends.redis.checkpoints.lifetime import Lifetime
from swarmstate.backends.redis.commands import Batch, Command, CommandRefused, fields, fill
from swarmstate.steps import Steps

__all__ = ["Copies"]

# How many values one batch carries; the writes of one checkpoint count as a few.
_VALUES = 10_000
_VALUES_OF_WRITES = 5
_Bury = Callable[[str, str], Steps[None]]
_Pairs = dict[bytes, bytes]


class _Content(NamedTuple):
    """What one checkpoint namespace holds."""

    part: Part
    records: _Pairs
    values: _Pairs
    writes: dict[bytes, _Pairs]


class Copies:
    """Copies threads.

    Args:
        keys: Where threads lie.
        life: How long they live.
    """

    def __init__(self, keys: ThreadKeys, life: Lifetime) -> None:
        self._keys = keys
        self._life = life

    def copy(self, source: str, target: str, bury: _Bury, *, scripted: bool) -> Steps[None]:
        """Add a thread to another.

        Args:
            source: The thread to read.
            target: The thread to add to.
            bury: Removes what is left of a namespace that expired.
            scripted: Whether scripts can be used.
        """
        if source == target:
            return
        contents = yield from self._read(source)
        if not contents:
            return
        first = self._keys.of(target, "")[0]
        listed, left = yield Batch([("HKEYS", first), ("PTTL", first)], idempotent=True)
        for content in contents:
            if content.part.space.encode() not in listed:
                yield from bury(target, content.part.space)
        # Values and writes mean nothing until a record or a mark names them. Many go ahead of it.
        ahead: list[tuple[bytes, Command]] = []
        at_once: list[Command] = []
        own: list[bytes] = []
        for part, records, values, writes in contents:
            keys = self._keys.of(target, part.space)
            start = self._keys.writes(target, part.space)
            ahead += [(keys[2], command) for command in _filled(keys[2], values)]
            for raw, pairs in writes.items():
                ahead += [(start + raw, command) for command in _filled(start + raw, pairs)]
            at_once += [
                *_filled(keys[1], records),
                *_filled(keys[3], dict.fromkeys(part.orphans, self._keys.one)),
                ("UNLINK", *keys[4:], self._keys.references(target, part.space)),
                ("HSET", first, part.space, self._keys.one),
            ]
            own += [keys[1], keys[3]]
        if len(ahead) > _VALUES // _VALUES_OF_WRITES:
            for some in in_parts(ahead):
                touched = list(dict.fromkeys(key for key, _ in some))
                commands = [command for _, command in some]
                yield from self._sent(commands, self._life.own(first, None, touched), atomic=False)
            ahead = []
        own += dict.fromkeys(key for key, _ in ahead)
        commands = [*(command for _, command in ahead), *at_once]
        yield from self._sent(commands, self._life.own(first, left, own), atomic=True)
        if self._life.outdated(left):
            yield from self._life.renew(target, left, scripted=scripted)

    def _sent(self, commands: list[Command], expiry: list[Command], *, atomic: bool) -> Steps[None]:
        written = self._keys.store.written
        try:
            yield from written([*commands, *expiry], atomic=atomic, idempotent=True)
        except CommandRefused as refused:
            self._life.refused(refused)
            yield from written(commands, atomic=atomic, idempotent=True)

    def _read(self, thread: str) -> Steps[list[_Content]]:
        """Return what a thread holds. Three round trips, more for many checkpoints.

        A checkpoint that goes meanwhile is left out; what stays was read whole.
        """
        parts = yield from self._keys.parts(thread, values=True)
        parts = [part for part in parts if part.listed]
        asked: list[tuple[int, Command]] = []
        for part in parts:
            for key, names in ((part.keys[1], part.records), (part.keys[2], part.fields)):
                asked += [(len(some), ("HMGET", key, *some)) for some in in_parts(names)]
            asked += [(_VALUES_OF_WRITES, ("HGETALL", key)) for key in part.writes.values()]
        for part in parts:
            asked.append((1, ("HKEYS", part.keys[1])))
        answers: list[Any] = []
        for commands in _grouped(asked):
            answers += yield Batch(commands, idempotent=True)
        replies = iter(answers)
        contents: list[_Content] = []
        for part in parts:
            records, values = (
                {
                    name: data
                    for some in in_parts(names)
                    for name, data in zip(some, next(replies), strict=True)
                    if data is not None
                }
                for names in (part.records, part.fields)
            )
            writes = {raw: fields(next(replies)) for raw in part.writes}
            contents.append(_Content(part, records, values, writes))
        heads = list(replies)
        late = [
            [
                raw
                for pairs in content.writes.values()
                for raw in map(str.encode, segments_in(pairs))
                if raw not in content.values
            ]
            for content in contents
        ]
        if any(late):
            # Writes that came meanwhile have brought segments; what goes is looked at after them.
            heads = yield from self._caught_up(contents, late)
        for (_, records, _, writes), still in zip(contents, heads, strict=True):
            gone = set(filter(is_record, records)).difference(still)
            for raw in gone:
                writes.pop(raw, None)
            for key in (*gone, *marks(gone)):
                records.pop(key, None)
        return contents

    def _caught_up(
        self, contents: list[_Content], late: list[list[bytes]]
    ) -> Steps[list[list[bytes]]]:
        """Add values that are there by now; return which records and marks are left."""
        for content, names in zip(contents, late, strict=True):
            for some in in_parts(names):
                reply = yield Batch([("HMGET", content.part.keys[2], *some)], idempotent=True)
                found = zip(some, reply[0], strict=True)
                content.values.update((raw, data) for raw, data in found if data is not None)
        heads: list[list[bytes]] = yield Batch(
            [("HKEYS", content.part.keys[1]) for content in contents], idempotent=True
        )
        return heads


def _filled(key: bytes, pairs: _Pairs) -> list[Command]:
    return fill(key, [part for pair in pairs.items() for part in pair])


def _grouped(asked: list[tuple[int, Command]]) -> Iterator[list[Command]]:
    """Yield commands for one batch each."""
    some: list[Command] = []
    weight = 0
    for size, command in asked:
        some.append(command)
        weight += size
        if weight >= _VALUES:
            yield some
            some, weight = [], 0
    if some:
        yield some
