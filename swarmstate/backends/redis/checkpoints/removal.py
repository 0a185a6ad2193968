"""Removing checkpoints, threads and what is left of them, in parts that scripts make safe.

Each part leaves a thread whole or absent, and is bounded. What is removed was found before, by
name; the scripts look again whether it may go, so that what is written meanwhile stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import getrandbits

from swarmstate.backends.redis.checkpoints import scripts as lua
from swarmstate.backends.redis.checkpoints.keys import Part, ThreadKeys, id_in, in_parts, is_record
from swarmstate.backends.redis.checkpoints.reading_scripts import ENTRIES
from swarmstate.backends.redis.commands import Batch, Command
from swarmstate.checkpoints.format import is_segment
from swarmstate.checkpoints.protocol import CheckpointName
from swarmstate.errors import StoreUnavailable
from swarmstate.steps import Steps

__all__ = ["MOST_AT_ONCE", "Removal"]

MOST_AT_ONCE = 2000
"""How many keys of a thread are removed at one moment; of more the first goes ahead."""

_TRIES = 50


class Removal:
    """Removes what belongs to threads."""

    def __init__(self, keys: ThreadKeys) -> None:
        self._keys = keys

    def delete(
        self, thread: str, checkpoint_ns: str, ids: Sequence[str], orphans_before: str | None
    ) -> Steps[None]:
        """Remove checkpoints, their writes, and the values that only they refer to."""
        space = CheckpointName(thread, checkpoint_ns, "")
        keys = self._keys.of(thread, checkpoint_ns)
        refs = self._keys.references(thread, checkpoint_ns)
        start = self._keys.writes(thread, checkpoint_ns)
        _, checkpoints, values, orphans, _, entries = keys
        names: list[Command] = [("HKEYS", key) for key in (checkpoints, orphans, values)]
        replies = yield Batch(
            [("HGET", entries, b"\0n"), *names], idempotent=True, ignore=("WRONGTYPE",)
        )
        if None in replies[1:]:
            # Only what is derived may be of another type: the same again, for its error.
            replies = [None, *(yield Batch(names, idempotent=True))]
        number, held, waiting, fields = replies
        known = set(filter(is_record, held))
        gone = {each.encode() for each in ids}
        if not known & gone:
            return
        alone: set[bytes] = set()
        if orphans_before is not None:
            before = orphans_before.encode()
            named = {*map(id_in, held), *waiting} - known
            alone = {raw for raw in named if raw < before}
        stay = known - gone
        used = yield from self._used(space, stay)
        doomed = [raw for raw in fields if raw not in used]
        # Those that others were continued from go last.
        drawn = b"%x" % getrandbits(64)
        *before_it, held, waiting = yield Batch(
            [
                *self._drop(space, sorted(gone, reverse=True), drawn, b""),
                *self._drop(space, list(alone), drawn, b"orphans"),
                ("HKEYS", checkpoints),
                ("HKEYS", orphans),
            ],
            idempotent=True,
        )
        # What was stored since is looked at as well: what was drawn for it is overwritten.
        if before_it != [number or b"", *[drawn] * (len(before_it) - 1)]:
            stay.clear()
            doomed = (yield Batch([("HKEYS", values)], idempotent=True))[0]
        left, named = len(held), {*map(id_in, held), *waiting}
        new = set(filter(is_record, held)) - stay
        used = yield from self._used(space, new)
        stay |= new
        doomed = [raw for raw in doomed if raw not in used]
        written: list[bytes] = []
        for _ in range(_TRIES):
            if not written and any(map(is_segment, doomed)):
                # Not before: what writes need from now on changes the number that was drawn.
                needed = yield from self._keys.needed(space, named)
                kept = {key.encode() for keys in needed.values() for key in keys}
                doomed = [raw for raw in doomed if raw not in kept]
            if stay and not doomed:
                return
            replies = yield Batch(
                [
                    lua.DROP_VALUES((*keys, refs, *written), [checkpoint_ns, drawn, left, *some])
                    for some in [*in_parts(doomed)] or [()]
                ],
                idempotent=True,
            )
            if 0 not in replies:
                return
            # Another checkpoint was put, which may refer to what would go; or one was replaced; or
            # something was written, and as more may come, the script looks at it from now on.
            number, held, waiting = yield Batch(
                [("HGET", entries, b"\0n"), ("HKEYS", checkpoints), ("HKEYS", orphans)],
                idempotent=True,
                ignore=("WRONGTYPE",),
            )
            number = number or b""
            if number.partition(b".")[0] != drawn.partition(b".")[0]:
                stay.clear()
            named, left = {*map(id_in, held), *waiting}, len(held)
            written = [start + raw for raw in named] if len(named) <= MOST_AT_ONCE else []
            drawn = number.partition(b".")[0] if written else number
            new = set(filter(is_record, held)) - stay
            used = yield from self._used(space, new)
            stay |= new
            doomed = [raw for raw in doomed if raw not in used]
        raise StoreUnavailable(
            f"checkpoints of thread {thread!r} are removed, but others came faster than values "
            "that nothing refers to any more could be told apart"
        )

    def _drop(
        self, space: CheckpointName, ids: Sequence[bytes], drawn: bytes, kind: bytes
    ) -> list[Command]:
        keys = self._keys.of(*space[:2])
        start = self._keys.writes(*space[:2])
        return [
            lua.DROP((*keys, *(start + raw for raw in some)), [drawn, kind, *some])
            for some in in_parts(ids)
        ]

    def _used(self, space: CheckpointName, ids: set[bytes]) -> Steps[set[bytes]]:
        """Return the fields that these checkpoints refer to. One round trip, or two."""
        _, checkpoints, _, _, _, entries = self._keys.of(*space[:2])
        if not ids:
            return set()
        groups = [*in_parts(list(ids))]
        replies = yield Batch(
            [ENTRIES((checkpoints, entries), some) for some in groups], idempotent=True
        )
        used: set[bytes] = set()
        unknown: list[bytes] = []
        for some, reply in zip(groups, replies, strict=True):
            for raw, entry in zip(some, reply, strict=True):
                if entry:
                    used.update(each.encode() for each in self._keys.fields_of(entry))
                else:
                    unknown.append(raw)
        used |= yield from self._keys.used(space, unknown)
        return used

    def delete_thread(self, thread: str) -> Steps[None]:
        """Remove everything of a thread that has a name."""
        for _ in range(_TRIES):
            parts = yield from self._keys.parts(thread, derived=True)
            first = parts[0].keys[0]
            rest = [
                key
                for part in parts
                for key in (part.keys[2], *part.keys[4:], *part.writes.values())
            ]
            rest += [key for part in parts for key in self._keys.before(thread, part.space)]
            rest += self._keys.all_references(thread, [part.space for part in parts])
            if len(rest) > MOST_AT_ONCE:
                yield from self._delete_in_parts(thread, parts)
                return
            counted = [key for part in parts for key in (part.keys[1], part.keys[3])]
            counts = [sum(part.listed for part in parts)]
            counts += [len(held) for part in parts for held in (part.records, part.orphans)]
            command = lua.DELETE_THREAD((first, *counted, *rest), counts)
            if (yield Batch([command], idempotent=True))[0]:
                return
        raise StoreUnavailable(f"thread {thread!r} was written to faster than it could be deleted")

    def _delete_in_parts(self, thread: str, parts: Sequence[Part]) -> Steps[None]:
        """Remove the thread first, with which it is absent, and then what it listed."""
        yield Batch([("UNLINK", parts[0].keys[0])], idempotent=True)
        for part in parts:
            more = [part.keys[2], *self._keys.before(thread, part.space)]
            more += self._keys.all_references(thread, [part.space])
            yield from self._bury(part.space, part.keys, list(part.writes.values()), more)

    def bury(self, thread: str, checkpoint_ns: str) -> Steps[None]:
        """Remove what is left of a namespace that is not listed, but for its values.

        A value is the same for whoever names it, so nothing can come back to life by it.
        """
        keys = self._keys.of(thread, checkpoint_ns)
        replies = yield Batch([("HKEYS", keys[1]), ("HKEYS", keys[3])], idempotent=True)
        ids = {id_in(raw) for reply in replies for raw in reply}
        start = self._keys.writes(thread, checkpoint_ns)
        yield from self._bury(checkpoint_ns, keys, [start + raw for raw in ids], [])

    def _bury(
        self, checkpoint_ns: str, keys: tuple[bytes, ...], writes: list[bytes], more: list[bytes]
    ) -> Steps[None]:
        """Remove writes, and at last what names them; whoever wrote meanwhile has done it."""
        first, checkpoints, _, *others = keys
        groups = [*in_parts(writes), (checkpoints, *others, *more)]
        commands = [lua.BURY((first, *some), [checkpoint_ns]) for some in groups]
        # One after the other, also where a cluster redirects some of them.
        for command in commands:
            if not (yield Batch([command], idempotent=True))[0]:
                return
