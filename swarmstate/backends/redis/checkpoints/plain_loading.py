"""Loading checkpoints for users whom the server does not let run scripts.

By the hashes alone, in two looks: at the records, and at what they name. What is not there at the
second look was removed meanwhile, came meanwhile, or is lost; further looks tell.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from swarmstate.backends.redis.checkpoints.keys import ThreadKeys, in_parts, segments_in
from swarmstate.backends.redis.checkpoints.lifetime import Lifetime
from swarmstate.backends.redis.commands import Batch, Command, CommandRefused
from swarmstate.backends.redis.commands import fields as fields_of
from swarmstate.checkpoints.format import (
    Place,
    assemble,
    is_id,
    mark_of_writes,
    record_fields,
)
from swarmstate.checkpoints.protocol import CheckpointName, CheckpointRecord, StoredCheckpoint
from swarmstate.steps import Steps

__all__ = ["PlainLoading"]

# How many entries of a hash the server weighs to estimate how large it is.
_SAMPLES = 20
# How often what is missing is looked for again.
_LOOKS = 10


class _Read(NamedTuple):
    """A record as it was read, with its values' fields, and whether it has the mark of writes.

    With the segments that the writes need.
    """

    record: CheckpointRecord
    fields: dict[Place, str]
    marked: bool
    segments: list[str]


class PlainLoading:
    """Loads checkpoints by name.

    Args:
        keys: Where a thread lies.
        life: How long threads live.
    """

    def __init__(self, keys: ThreadKeys, life: Lifetime) -> None:
        self._keys = keys
        self._store = keys.store
        self._life = life
        # Whether the server may be asked how large a hash is.
        self._measures = True

    def load(
        self,
        names: Sequence[CheckpointName],
        *,
        channels: Collection[str] | None,
        writes: bool,
        most: int | None = None,
    ) -> Steps[list[StoredCheckpoint | None]]:
        """Return checkpoints by name. Two round trips, one for records alone.

        With ``most`` one more if it is likely that not all of them fit.

        With what is removed, the record or the thread's list goes first. So what was read after
        them, and before they were seen to be there still, is complete.
        """
        bounded = most is not None and len(names) > 1
        commands: list[Command] = []
        for name in names:
            first, checkpoints, *_ = self._keys.of(*name[:2])
            commands += [
                ("HEXISTS", first, name.checkpoint_ns),
                ("HMGET", checkpoints, name.id, mark_of_writes(name.id)),
                ("PTTL", first),
            ]
            if writes:
                commands.append(("HKEYS", self._keys.written(name)))
        sizes, answers = yield from self._asked(commands, names if bounded else (), writes)
        replies = iter(answers)
        records: dict[CheckpointName, _Read] = {}
        left: dict[str, int] = {}
        for name in names:
            listed, (raw, marked), left[name.thread] = (next(replies) for _ in range(3))
            segments = segments_in(next(replies)) if writes else []
            if listed and raw is not None and is_id(name.id):
                record = self._keys.decode_record(raw, name)
                fields = record_fields(record, channels)
                records[name] = _Read(record, fields, marked is not None, segments)
        if sizes is not None:
            names = yield from self._within(most or 0, names, records, sizes)
        found: list[StoredCheckpoint | None] = []
        if writes or channels is None or channels:
            values, written = yield from self._contents(names, records, writes=writes)
            for name in names:
                pending = written.get(name)
                if pending is None:
                    found.append(None)
                    continue
                record, fields, marked, _ = records[name]
                held = values.get(self._keys.of(*name[:2])[2], {})
                lines = self._keys.writes_of(name, pending)
                found.append(assemble(name, record, fields, held, lines, marked=writes and marked))
        else:
            for name in names:
                one = records.get(name)
                found.append(one and StoredCheckpoint(name, one.record, {}, []))
        for thread, milliseconds_left in left.items():
            if self._life.outdated_on_read(milliseconds_left):
                yield from self._life.renew(thread, milliseconds_left, scripted=False, read=True)
        return found

    def _asked(
        self, commands: Sequence[Command], names: Sequence[CheckpointName], writes: bool
    ) -> Steps[tuple[dict[bytes, float] | None, list[Any]]]:
        """Send reads, and ask along how large what else these names have is.

        Returns:
            By key, bytes of all writes of a checkpoint and of a value on average, as the server
            estimates them (None: nothing was asked); and the replies.
        """
        if not names:
            return None, (yield from self._store.asked(commands))
        values = dict.fromkeys(self._keys.of(*name[:2])[2] for name in names)
        written = [self._keys.written(name) for name in names] if writes else []
        if self._measures:
            usage: list[Command] = [
                ("MEMORY", "USAGE", key, "SAMPLES", _SAMPLES) for key in (*values, *written)
            ]
            count: list[Command] = [("HLEN", key) for key in values]
            try:
                replies = yield from self._store.asked([*commands, *usage, *count])
            except CommandRefused as refused:
                if refused.command != "MEMORY":
                    raise
                self._measures = False
            else:
                found = iter(replies[len(commands) :])
                sizes: dict[bytes, float] = {key: next(found) or 0 for key in (*values, *written)}
                for key in values:
                    sizes[key] /= next(found) or 1
                return sizes, replies[: len(commands)]
        return {}, (yield from self._store.asked(commands))

    def _within(
        self,
        most: int,
        names: Sequence[CheckpointName],
        records: Mapping[CheckpointName, _Read],
        sizes: Mapping[bytes, float],
    ) -> Steps[Sequence[CheckpointName]]:
        """Return the first names, as many as have about so many bytes, or those of the first."""
        of = {
            name: [
                ("HSTRLEN", self._keys.of(*name[:2])[2], key)
                for key in (*records[name].fields.values(), *records[name].segments)
            ]
            for name in names
            if name in records
        }
        distinct = dict.fromkeys(command for commands in of.values() for command in commands)
        pending = {name: sizes.get(self._keys.written(name), 0) for name in names}
        expected = sum(sizes.get(key, most) for _, key, _ in distinct)
        if not distinct or expected + sum(pending.values()) <= most / 2:
            return names
        # A user who may not ask for it is given as many as it wants.
        replies = yield Batch(list(distinct), idempotent=True, ignore=("NOPERM",))
        lengths = dict(zip(distinct, replies, strict=True))
        size, room = 0.0, float(most)
        for index, name in enumerate(names):
            # What one has in common with those before it is fetched once.
            more = sum(lengths.pop(command, None) or 0 for command in of.get(name, ()))
            size += more + pending[name]
            if not index:
                size, room = 0.0, max(room, size)
            elif size > room:
                return names[:index]
        return names

    def _contents(
        self,
        names: Sequence[CheckpointName],
        records: Mapping[CheckpointName, _Read],
        *,
        writes: bool,
    ) -> Steps[tuple[dict[bytes, Any], dict[CheckpointName, Any]]]:
        """Return the values by key and field, and the writes of those that are still there."""
        there = [name for name in names if name in records]
        wanted: dict[bytes, dict[str, None]] = {}
        for name in there:
            asked = wanted.setdefault(self._keys.of(*name[:2])[2], {})
            asked.update(dict.fromkeys(records[name].fields.values()))
            asked.update(dict.fromkeys(records[name].segments))
        places = [(key, some) for key, asked in wanted.items() for some in in_parts(list(asked))]
        commands: list[Command] = [("HMGET", key, *some) for key, some in places]
        for name in there:
            first, checkpoints, *_ = self._keys.of(*name[:2])
            if writes:
                commands.append(("HGETALL", self._keys.written(name)))
            commands += [
                ("HEXISTS", checkpoints, name.id),
                ("HEXISTS", first, name.checkpoint_ns),
            ]
        if not commands:
            return {}, {}
        replies = yield Batch(commands, idempotent=True)
        values: dict[bytes, Any] = {}
        for (key, some), reply in zip(places, replies, strict=False):
            values.setdefault(key, {}).update(self._keys.blobs(some, reply))
        answers = iter(replies[len(places) :])
        pending: dict[CheckpointName, Any] = {}
        for name in there:
            written = next(answers) if writes else ()
            if next(answers) & next(answers):
                pending[name] = written
        for _ in range(_LOOKS):
            if not (yield from self._complete(records, values, pending)):
                break
        return values, pending

    def _complete(
        self,
        records: Mapping[CheckpointName, _Read],
        values: dict[bytes, Any],
        pending: dict[CheckpointName, Any],
    ) -> Steps[bool]:
        """Read what is missing, and return whether anything was.

        Writes may have come, with their segments, after the first look. And without scripts, what
        is removed while it comes to be needed again is put back a moment later.
        """
        late: list[tuple[CheckpointName, list[str]]] = []
        for name, written in pending.items():
            record, fields, *_ = records[name]
            known = values.get(self._keys.of(*name[:2])[2], {})
            needed = [
                key
                for at, key in fields.items()
                if key not in known and (type(at) is tuple or at in record.stored)
            ]
            needed += [key for key in segments_in(fields_of(written)) if key not in known]
            if needed:
                late.append((name, needed))
        if not late:
            return False
        commands: list[Command] = []
        for name, needed in late:
            _, checkpoints, held, *_ = self._keys.of(*name[:2])
            commands += [("HMGET", held, *needed), ("HEXISTS", checkpoints, name.id)]
        replies = iter((yield Batch(commands, idempotent=True)))
        for name, needed in late:
            found = self._keys.blobs(needed, next(replies))
            values.setdefault(self._keys.of(*name[:2])[2], {}).update(found)
            if not next(replies):
                del pending[name]
        return True
