"""LangGraph checkpoints for users whom the server does not let run scripts.

The same by transactions. Reads use the hashes alone, without transactions: so they also answer
those who may not read what is derived, and where a server is full.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from swarmstate.backends.redis.checkpoints.keys import (
    ThreadKeys,
    draw,
    id_in,
    in_parts,
    is_record,
    marks,
)
from swarmstate.backends.redis.checkpoints.lifetime import Lifetime
from swarmstate.backends.redis.checkpoints.plain_loading import PlainLoading
from swarmstate.backends.redis.checkpoints.retention import Retention
from swarmstate.backends.redis.commands import Batch, Command, CommandRefused, fill
from swarmstate.checkpoints.format import (
    LOST,
    check_id,
    is_segment,
    mark_of_parent,
    mark_of_writes,
    record_fields,
)
from swarmstate.checkpoints.generic import newest_first
from swarmstate.checkpoints.protocol import (
    NO_VALUES,
    Blob,
    CheckpointName,
    CheckpointRecord,
    SeveredCheckpoint,
    StoredCheckpoint,
    Surplus,
)
from swarmstate.steps import Steps

__all__ = ["PlainCheckpoints"]


class PlainCheckpoints:
    """The operations of a :class:`~swarmstate.checkpoints.protocol.CheckpointEngine`, unscripted.

    Args:
        keys: Where a thread lies.
        life: How long threads live.
        retention: What finds what a limit removes.
    """

    def __init__(self, keys: ThreadKeys, life: Lifetime, retention: Retention) -> None:
        self._keys = keys
        self._retention = retention
        self._store = keys.store
        self._life = life
        self._loading = PlainLoading(keys, life)

    # Writing -----------------------------------------------------------------------------------

    def put(
        self,
        name: CheckpointName,
        record: CheckpointRecord,
        values: Mapping[str, Blob],
        inherited: Sequence[str],
        *,
        keep: int | None = None,
        caller: CheckpointName | None = None,
    ) -> Steps[tuple[Surplus | None, list[str]]]:
        """Store a checkpoint by a transaction. One round trip, two with a time to live or segments.

        A transaction cannot look whether inherited values are still there, so all of them are asked
        for and go along: whatever another process removes at the same moment, nothing is missing.
        Those that are there stay as they are. Only segments of lists are looked for first, and once
        more in the transaction.
        """
        check_id(name.id)
        asked = [key for key in inherited if key not in values]
        missing = [key for key in asked if not is_segment(key)]
        if asked and not missing:
            missing = yield from self._missing(name, asked)
        if missing:
            return None, missing
        first, checkpoints, held, orphans, order, entries = self._keys.of(*name[:2])
        kept = set(inherited)
        encode = self._store.encode
        encoded = self._keys.encode_record(record)
        new: list[bytes | str] = []
        commands: list[Command] = [("HSET", first, name.checkpoint_ns, self._keys.one)]
        for key, value in values.items():
            if key in kept:
                commands.append(("HSETNX", held, key, encode(value)))
            else:
                new += (key, encode(value))
        named = (*values, *asked, *record_fields(record, record.deltas).values())
        entry = self._keys.entry(encoded, record.parent, dict.fromkeys(named))
        commands += [
            *fill(held, new),
            ("HDEL", orphans, name.id),
            ("HSET", checkpoints, name.id, encoded),
            ("HSET", entries, name.id, entry),
            ("ZADD", order, 0, name.id),
        ]
        own = [checkpoints, held, orphans, order, entries]
        state = [] if keep is None else self._retention.asked(name)
        parent = record.parent if record.deltas else None
        if parent:
            commands.insert(0, ("HEXISTS", checkpoints, parent))
        looked = self._looking(held, asked)
        replies = yield from self._write(name, [*commands, *state, *looked], own)
        if looked:
            missing = self._lacking(asked, replies[len(commands) + len(state) :])
            if missing:
                # Another process removed them at that moment: the same again, with them.
                return None, missing
        if parent and not replies[0]:
            mark = mark_of_parent(name.id)
            marking: list[Command] = [
                ("HSET", checkpoints, mark, self._keys.one),
                ("ZADD", order, 0, mark),
            ]
            yield Batch(marking, idempotent=True)
        if keep is None:
            return None, []
        known = replies[len(commands) : len(commands) + len(state)]
        if sum(map(is_record, known[1])) <= keep:
            return None, []
        return (yield from self._retention.surplus(*name[:2], keep, known=known)), []

    def _missing(self, name: CheckpointName, asked: Sequence[str]) -> Steps[list[str]]:
        """Return those of some segments that are not there. One round trip."""
        commands = self._looking(self._keys.of(*name[:2])[2], asked)
        return self._lacking(asked, (yield Batch(commands, idempotent=True)))

    @staticmethod
    def _looking(held: bytes, asked: Sequence[str]) -> list[Command]:
        return [("HEXISTS", held, key) for key in asked]

    @staticmethod
    def _lacking(asked: Sequence[str], replies: Sequence[Any]) -> list[str]:
        return [key for key, there in zip(asked, replies, strict=False) if not there]

    def put_writes(
        self,
        name: CheckpointName,
        writes: Mapping[str, Any],
        values: Mapping[str, Blob] = NO_VALUES,
        inherited: Sequence[str] = (),
    ) -> Steps[list[str]]:
        """Store pending writes by a transaction. One round trip, two with a time to live.

        One more where they need segments that should be there.
        """
        check_id(name.id)
        first, checkpoints, held, orphans, order, entries = self._keys.of(*name[:2])
        if not writes:
            yield Batch([("HEXISTS", first, name.checkpoint_ns)], idempotent=True)
            return []
        asked = [key for key in inherited if key not in values]
        if asked:
            missing = yield from self._missing(name, asked)
            if missing:
                return missing
        target, mark, one = self._keys.written(name), mark_of_writes(name.id), self._keys.one
        commands: list[Command] = [
            ("EXISTS", target),
            ("HSETNX", checkpoints, mark, one),
            ("HSET", first, name.checkpoint_ns, one),
            # Also where the checkpoint exists: a transaction cannot look first.
            ("HSET", orphans, name.id, one),
            ("ZADD", order, 0, mark),
        ]
        own = [checkpoints, orphans, order, target]
        if asked or values:
            # Whoever may run scripts learns by it that these need segments.
            commands.append(("HSET", entries, b"\0n", draw()))
            for key, value in values.items():
                commands.append(("HSET", held, key, self._store.encode(value)))
            own += [held, entries]
        for key, value in writes.items():
            command = "HSET" if key.startswith("-") else "HSETNX"
            commands.append((command, target, key, self._store.encode(value)))
        looked = self._looking(held, asked)
        there, new, *rest = yield from self._write(name, [*commands, *looked], own)
        if not there and not new:
            # They were marked, but gone.
            yield Batch([("HSET", target, LOST, one)], idempotent=True)
        return self._lacking(asked, rest[len(commands) - 2 :])

    def _write(
        self, name: CheckpointName, commands: list[Command], own: list[bytes]
    ) -> Steps[list[Any]]:
        """Send a transaction with what makes the thread live on, and return its replies."""
        first, checkpoints, held, orphans, *_ = self._keys.of(*name[:2])
        left = -1
        if self._life.ttl is not None:
            left = yield from self._revive(name)
            sent = [*commands, ("PTTL", first), *self._life.own(first, left, own)]
        else:
            known = [("HEXISTS", first, name.checkpoint_ns), ("EXISTS", checkpoints, held, orphans)]
            sent = [*known, *commands, ("PTTL", first)]
        try:
            replies = yield from self._sent(name, sent)
        except CommandRefused as refused:
            self._life.refused(refused)
            replies = yield from self._sent(name, [*commands, ("PTTL", first)])
        if self._life.ttl is None:
            listed, remains, *replies = replies
            left = replies[len(commands)]
            if remains and not listed:
                # Of a thread that expired, and would now end on its own.
                yield from self.bury(*name[:2], but=name.id)
                yield from self._life.keep(own)
        if self._life.outdated(left):
            yield from self._life.renew(name.thread, left, scripted=False)
        return replies

    def _sent(self, name: CheckpointName, commands: list[Command]) -> Steps[list[Any]]:
        """Send a transaction; again if something derived was of a wrong type."""
        try:
            return (yield from self._store.written(commands, atomic=True, idempotent=True))
        except CommandRefused as refused:
            if refused.code != "WRONGTYPE":
                raise
            order, entries = self._keys.of(*name[:2])[4:]
            kinds = yield Batch([("TYPE", order), ("TYPE", entries)], idempotent=True)
            wrong: list[Command] = []
            for key, kind, right in zip((order, entries), kinds, (b"zset", b"hash"), strict=True):
                if kind not in (right, b"none"):
                    wrong.append(("UNLINK", key))
            if not wrong:
                raise
            yield Batch(wrong, idempotent=True)
        return (yield from self._store.written(commands, atomic=True, idempotent=True))

    def _revive(self, name: CheckpointName) -> Steps[int]:
        """Bury what is left of an expired namespace; return how much time its thread has left."""
        first, checkpoints, _, orphans, _, _ = self._keys.of(*name[:2])
        listed, left, remains = yield Batch(
            [
                ("HEXISTS", first, name.checkpoint_ns),
                ("PTTL", first),
                ("EXISTS", checkpoints, orphans),
            ],
            idempotent=True,
        )
        if remains and not listed:
            yield from self.bury(*name[:2])
        time_left: int = left
        return time_left

    def bury(self, thread: str, checkpoint_ns: str, *, but: str | None = None) -> Steps[None]:
        """Remove what is left of a namespace that was not listed, except for its values.

        By name: a transaction cannot look whether another writer has listed it meanwhile, and what
        that one has written must stay.

        Args:
            thread: The thread.
            checkpoint_ns: The checkpoint namespace.
            but: The checkpoint by which it has just been listed again.
        """
        first, checkpoints, _, orphans, order, entries = self._keys.of(thread, checkpoint_ns)
        listed, held, waiting = yield Batch(
            [("HEXISTS", first, checkpoint_ns), ("HKEYS", checkpoints), ("HKEYS", orphans)],
            idempotent=True,
        )
        ids = {id_in(raw) for raw in (*held, *waiting)}
        if but is not None:
            ids.discard(but.encode())
        elif listed:
            return
        else:
            yield Batch([("UNLINK", order, entries)], idempotent=True)
        start = self._keys.writes(thread, checkpoint_ns)
        for some in in_parts(list(ids)):
            commands: list[Command] = [
                ("UNLINK", *(start + raw for raw in some)),
                ("HDEL", checkpoints, *some, *marks(some)),
                ("HDEL", orphans, *some),
                ("HDEL", entries, *some),
                ("ZREM", order, *some, *marks(some)),
            ]
            yield Batch(commands, atomic=True, idempotent=True, ignore=("WRONGTYPE",))

    # Reading -----------------------------------------------------------------------------------

    def get(self, name: CheckpointName) -> Steps[StoredCheckpoint | None]:
        """Return a checkpoint. Two round trips by id, three for the latest."""
        if not name.id:
            newest = yield from self.list_ids([name.thread], name.checkpoint_ns, None, 1)
            if not newest:
                return None
            name = newest[0]
        found = yield from self.load([name], channels=None, writes=True)
        return found[0]

    def load(
        self,
        names: Sequence[CheckpointName],
        *,
        channels: Collection[str] | None,
        writes: bool,
        most: int | None = None,
    ) -> Steps[list[StoredCheckpoint | None]]:
        """Return checkpoints by name; see :class:`~.plain_loading.PlainLoading`."""
        return self._loading.load(names, channels=channels, writes=writes, most=most)

    def ancestors(self, name: CheckpointName, limit: int) -> Steps[list[StoredCheckpoint]]:
        """Follow the parents. Two round trips where ids grow from parent to child."""
        older = yield from self.list_ids([name.thread], name.checkpoint_ns, name.id, limit - 1)
        loaded = yield from self.load([name, *older], channels=(), writes=False)
        known = {one.name: one for one in loaded if one is not None}
        chain: list[StoredCheckpoint] = []
        cursor: CheckpointName | None = name
        while cursor is not None and len(chain) < limit:
            one = known.get(cursor)
            if one is None:
                one = (yield from self.load([cursor], channels=(), writes=False))[0]
            if one is None:
                break
            chain.append(one)
            parent = one.record.parent
            cursor = None if parent is None else name._replace(id=parent)
        if chain and cursor is not None and cursor not in known and chain[-1].record.deltas:
            checkpoints = self._keys.of(*name[:2])[1]
            mark = mark_of_parent(chain[-1].name.id)
            replies = yield Batch([("HMGET", checkpoints, cursor.id, mark)], idempotent=True)
            parent_there, marked = replies[0]
            if parent_there is None and marked is not None:
                chain[-1] = SeveredCheckpoint(*chain[-1])
        return chain

    def list_ids(
        self,
        threads: Sequence[str],
        checkpoint_ns: str | None,
        before: str | None,
        limit: int | None,
    ) -> Steps[list[CheckpointName]]:
        """Return the greatest ids. One round trip for some 500 threads, two for all namespaces."""
        found: list[CheckpointName] = []
        for some in in_parts(threads):
            if checkpoint_ns is None:
                spaces = yield from self.namespaces(some)
                listed: Sequence[Any] = [True] * len(spaces)
            else:
                spaces = [(thread, checkpoint_ns) for thread in some]
                listed = ()
            keys = [self._keys.of(*space) for space in spaces]
            commands: list[Command] = [("HKEYS", checkpoints) for _, checkpoints, *_ in keys]
            if not listed:
                commands += [("HEXISTS", first, checkpoint_ns or "") for first, *_ in keys]
            replies = yield Batch(commands, idempotent=True)
            listed = listed or replies[len(spaces) :]
            for space, there, raw_ids in zip(spaces, listed, replies, strict=False):
                ids = [raw.decode() for raw in raw_ids if is_record(raw)] if there else ()
                found += [
                    CheckpointName(*space, checkpoint_id)
                    for checkpoint_id in ids
                    if before is None or checkpoint_id < before
                ]
        return newest_first(found, limit)

    def namespaces(self, threads: Sequence[str]) -> Steps[list[tuple[str, str]]]:
        """Return each thread with each of its checkpoint namespaces. One round trip."""
        commands: list[Command] = [("HKEYS", self._keys.of(thread, "")[0]) for thread in threads]
        replies = yield Batch(commands, idempotent=True)
        return [
            (thread, raw.decode())
            for thread, listed in zip(threads, replies, strict=True)
            for raw in listed
        ]

    # Removing ----------------------------------------------------------------------------------

    def delete(
        self,
        thread: str,
        checkpoint_ns: str,
        ids: Sequence[str],
        *,
        orphans_before: str | None = None,
    ) -> Steps[None]:
        """Remove checkpoints. Six round trips, eight with segments, more for thousands of them.

        A checkpoint that is put meanwhile and inherits a value which goes gets it back at once.
        """
        space = CheckpointName(thread, checkpoint_ns, "")
        _, checkpoints, held, orphans, order, entries = self._keys.of(thread, checkpoint_ns)
        start = self._keys.writes(thread, checkpoint_ns)
        raw_ids, waiting = yield Batch(
            [("HKEYS", checkpoints), ("HKEYS", orphans)], idempotent=True
        )
        known = set(filter(is_record, raw_ids))
        gone = {each.encode() for each in ids}
        if not known & gone:
            return
        stay = known - gone
        if orphans_before is not None:
            marked = set(map(id_in, raw_ids))
            before = orphans_before.encode()
            gone |= {raw for raw in marked.union(waiting) - known if raw < before}
        # Those that others were continued from go last.
        for some in in_parts(sorted(gone, reverse=True)):
            yield Batch(
                [
                    ("HDEL", checkpoints, *some, *marks(some)),
                    ("UNLINK", *(start + raw for raw in some)),
                    ("HDEL", orphans, *some),
                    ("HDEL", entries, *some),
                    ("ZREM", order, *some, *marks(some)),
                    # Whoever may run scripts learns by it that others remove checkpoints.
                    ("HSET", entries, b"\0n", draw()),
                ],
                idempotent=True,
                ignore=("WRONGTYPE", "OOM"),
            )
        # Not before: what was written to the doomed meanwhile is told apart as well.
        values, raw_ids = yield Batch([("HKEYS", held), ("HKEYS", checkpoints)], idempotent=True)
        stay |= set(filter(is_record, raw_ids))
        used = yield from self._keys.used(space, list(stay))
        if any(map(is_segment, values)):
            used |= yield from self._keys.needed_now(space)
        doomed = [raw for raw in values if raw not in used]
        for some in in_parts(doomed):
            # For a transaction that is sent again because its reply was lost.
            looked = (yield Batch([("HMGET", held, *some)], idempotent=True))[0]
            # Otherwise what counts is this: others may have put back what is needed since then.
            now, _, ids_now = yield Batch(
                [("HMGET", held, *some), ("HDEL", held, *some), ("HKEYS", checkpoints)],
                atomic=True,
                idempotent=True,
            )
            saved = [old if new is None else new for old, new in zip(looked, now, strict=True)]
            new = [raw for raw in filter(is_record, ids_now) if raw not in stay]
            used = yield from self._keys.used(space, new)
            if any(map(is_segment, some)):
                used |= yield from self._keys.needed_now(space)
            again: list[Command] = [
                ("HSETNX", held, key, value)
                for key, value in zip(some, saved, strict=True)
                if key in used and value is not None
            ]
            if again:
                yield Batch(again, atomic=True, idempotent=True)
        if not stay:
            yield from self._end(thread, checkpoint_ns)

    def _end(self, thread: str, checkpoint_ns: str) -> Steps[None]:
        """Stop listing a namespace if it is empty."""
        first, checkpoints, _, orphans, order, entries = self._keys.of(thread, checkpoint_ns)
        there = yield Batch([("EXISTS", checkpoints, orphans)], idempotent=True)
        if not there[0]:
            derived = (order, entries, self._keys.references(thread, checkpoint_ns))
            commands: list[Command] = [("HDEL", first, checkpoint_ns), ("UNLINK", *derived)]
            yield Batch(commands, atomic=True, idempotent=True)

    def delete_thread(self, thread: str) -> Steps[None]:
        """Remove everything of a thread. Three round trips, more for thousands of checkpoints."""
        parts = yield from self._keys.parts(thread, derived=True)
        hashes = [parts[0].keys[0]]
        writes: list[bytes] = []
        for part in parts:
            hashes += [*part.keys[1:], *self._keys.before(thread, part.space)]
            hashes += self._keys.all_references(thread, [part.space])
            writes += part.writes.values()
        commands: list[Command] = [("UNLINK", *some) for some in in_parts(hashes)]
        groups: list[Command] = [("UNLINK", *some) for some in in_parts(writes)]
        # What names the rest goes with the thread; of much, the rest follows.
        yield Batch([*commands, *groups[:4]], atomic=True, idempotent=True)
        for group in groups[4:]:
            yield Batch([group], idempotent=True)
