"""LangGraph checkpoints for users whom the server does not let run scripts.

The same hashes by transactions. What scripts derive from the hashes is neither read nor written
here; it no longer fits and is rebuilt by the next user who may run scripts.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from swarmstate.backends.redis.checkpoints.keys import ThreadKeys
from swarmstate.backends.redis.commands import AT_ONCE, Batch, Command, fields, fill
from swarmstate.checkpoints.format import assemble, record_fields
from swarmstate.checkpoints.generic import newest_first
from swarmstate.checkpoints.protocol import (
    Blob,
    CheckpointName,
    CheckpointRecord,
    StoredCheckpoint,
)
from swarmstate.steps import Steps

__all__ = ["PlainCheckpoints"]


class PlainCheckpoints:
    """The operations of a :class:`~swarmstate.checkpoints.protocol.CheckpointEngine`, unscripted.

    Args:
        keys: Where a thread lies.
        ttl: Milliseconds that a thread lives after it was last renewed, or None.
        on_read: Whether reading a thread renews it too.
    """

    def __init__(self, keys: ThreadKeys, ttl: int | None, *, on_read: bool) -> None:
        self._keys = keys
        self._store = keys.store
        self._ttl = ttl
        self._on_read = on_read

    def put(
        self,
        name: CheckpointName,
        record: CheckpointRecord,
        values: Mapping[str, Blob],
        inherited: Sequence[str],
        *,
        count: bool,
    ) -> Steps[tuple[int, list[str]]]:
        """Store a checkpoint by a transaction. One round trip, two with a time to live.

        A transaction cannot look whether inherited values are still there, so all of them are asked
        for and go along: whatever another process removes at the same moment, nothing is missing.
        """
        if inherited:
            return 0, list(inherited)
        first, checkpoints, held, orphans, _, derived = self._of(name)
        flat: list[bytes | str] = []
        for key, value in values.items():
            flat += (key, self._store.encode(value))
        before, after = yield from self._lifetime(name, [checkpoints, held, orphans])
        commands: list[Command] = [
            *before,
            ("HSET", first, name.checkpoint_ns, self._keys.one),
            ("HSET", checkpoints, name.id, self._keys.encode_record(record)),
            *fill(held, flat),
            ("HDEL", orphans, name.id),
            ("HDEL", derived, name.id),
            *after,
            ("HLEN", checkpoints),
        ]
        replies = yield from self._store.written(commands, atomic=True, idempotent=True)
        return replies[-1] if count else 0, []

    def put_writes(self, name: CheckpointName, writes: Mapping[str, Any]) -> Steps[None]:
        """Store pending writes by a transaction. One round trip, two with a time to live."""
        first, _, _, orphans, _, _ = self._of(name)
        target = self._writes(name)
        commands: list[Command] = [
            ("HSET", first, name.checkpoint_ns, self._keys.one),
            # Also where the checkpoint exists: a transaction cannot look first.
            ("HSET", orphans, name.id, self._keys.one),
        ]
        for key, value in writes.items():
            command = "HSET" if key.startswith("-") else "HSETNX"
            commands.append((command, target, key, self._store.encode(value)))
        before, after = yield from self._lifetime(name, [orphans, target])
        yield from self._store.written([*before, *commands, *after], atomic=True, idempotent=True)

    def _of(self, name: CheckpointName) -> tuple[bytes, ...]:
        return self._keys.of(name.thread, name.checkpoint_ns)

    def _writes(self, name: CheckpointName) -> bytes:
        return self._keys.writes(name.thread, name.checkpoint_ns) + name.id.encode()

    def _lifetime(
        self, name: CheckpointName, own: Sequence[bytes]
    ) -> Steps[tuple[list[Command], list[Command]]]:
        """Return what to send before and after a write, so that a thread expires as a whole."""
        if self._ttl is None:
            return [], []
        keys = self._of(name)
        listed, left = yield Batch(
            [("HEXISTS", keys[0], name.checkpoint_ns), ("PTTL", keys[0])], idempotent=True
        )
        before: list[Command] = []
        if not listed:
            before = [("UNLINK", *keys[1:], self._writes(name))]
        renewed = list(own)
        if left * 2 < self._ttl:
            renewed = [keys[0], *own, *(yield from self._everything(name.thread))]
        return before, [("PEXPIRE", key, self._ttl) for key in renewed]

    def _read(self, thread: str) -> Steps[None]:
        """Renew a thread that was read and has less than half of its time left."""
        if not self._on_read or self._ttl is None:
            return
        first = self._keys.of(thread, "")[0]
        left = yield Batch([("PTTL", first)], idempotent=True)
        if left[0] >= 0 and left[0] * 2 < self._ttl:
            renewed = yield from self._everything(thread)
            yield Batch([("PEXPIRE", key, self._ttl) for key in renewed], idempotent=True)

    def _everything(self, thread: str) -> Steps[list[bytes]]:
        """Return every key of a thread. Two round trips."""
        first = self._keys.of(thread, "")[0]
        listed = yield Batch([("HKEYS", first)], idempotent=True)
        spaces = [raw.decode() for raw in listed[0]]
        all_keys = [self._keys.of(thread, space) for space in spaces]
        commands = [("HKEYS", keys[part]) for keys in all_keys for part in (1, 3)]
        ids = yield Batch(commands, idempotent=True)
        found = [first]
        for number, keys in enumerate(all_keys):
            start = self._keys.writes(thread, spaces[number])
            found += keys[1:]
            found += [start + raw for raw in {*ids[2 * number], *ids[2 * number + 1]}]
        return found

    def get(self, name: CheckpointName) -> Steps[StoredCheckpoint | None]:
        """Return a checkpoint. Two round trips by id, three for the latest."""
        if not name.id:
            newest = yield from self.list_ids(name.thread, name.checkpoint_ns, None, 1)
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
    ) -> Steps[list[StoredCheckpoint | None]]:
        """Return checkpoints by name. Two round trips."""
        commands: list[Command] = []
        for name in names:
            first, checkpoints, *_ = self._of(name)
            commands += [
                ("HEXISTS", first, name.checkpoint_ns),
                ("HGET", checkpoints, name.id),
            ]
            if writes:
                commands.append(("HGETALL", self._writes(name)))
        replies = yield Batch(commands, atomic=True, idempotent=True)
        width = 3 if writes else 2
        records: dict[CheckpointName, tuple[CheckpointRecord, dict[str, str], Any]] = {}
        wanted: dict[bytes, dict[str, None]] = {}
        for number, name in enumerate(names):
            listed, raw, *more = replies[width * number : width * (number + 1)]
            if not listed or raw is None:
                continue
            record = self._keys.decode_record(raw, name)
            asked = record_fields(record, channels)
            records[name] = (record, asked, more[0] if more else ())
            wanted.setdefault(self._of(name)[2], {}).update(dict.fromkeys(asked.values()))
        blobs = yield from self._values(wanted)
        found: list[StoredCheckpoint | None] = []
        for name in names:
            if name not in records:
                found.append(None)
                continue
            record, asked, raw_writes = records[name]
            held = blobs.get(self._of(name)[2], {})
            one = assemble(name, record, asked, held, self._keys.writes_of(name, raw_writes))
            lost = any(c in asked and c not in one.values for c in record.stored)
            if lost and not (yield from self._holds(name)):
                found.append(None)
            else:
                found.append(one)
        for thread in {one.name.thread for one in found if one is not None}:
            yield from self._read(thread)
        return found

    def _values(self, wanted: Mapping[bytes, Mapping[str, None]]) -> Steps[dict[bytes, Any]]:
        places = [(key, list(names)) for key, names in wanted.items() if names]
        if not places:
            return {}
        replies = yield Batch([("HMGET", key, *names) for key, names in places], idempotent=True)
        return {
            key: self._keys.blobs(names, reply)
            for (key, names), reply in zip(places, replies, strict=True)
        }

    def _holds(self, name: CheckpointName) -> Steps[bool]:
        replies = yield Batch([("HEXISTS", self._of(name)[1], name.id)], idempotent=True)
        return bool(replies[0])

    def ancestors(self, name: CheckpointName, limit: int) -> Steps[list[StoredCheckpoint]]:
        """Follow the parents. Two round trips where ids grow from parent to child."""
        older = yield from self.list_ids(name.thread, name.checkpoint_ns, name.id, limit - 1)
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
        return chain

    def list_ids(
        self, thread: str, checkpoint_ns: str | None, before: str | None, limit: int | None
    ) -> Steps[list[CheckpointName]]:
        """Return the greatest ids. One round trip, two for all namespaces."""
        first = self._keys.of(thread, "")[0]
        if checkpoint_ns is None:
            replies = yield Batch([("HKEYS", first)], idempotent=True)
            spaces = [raw.decode() for raw in replies[0]]
            commands = [("HKEYS", self._keys.of(thread, space)[1]) for space in spaces]
            ids = yield Batch(commands, idempotent=True)
        else:
            spaces = [checkpoint_ns]
            listed, *ids = yield Batch(
                [
                    ("HEXISTS", first, checkpoint_ns),
                    ("HKEYS", self._keys.of(thread, checkpoint_ns)[1]),
                ],
                atomic=True,
                idempotent=True,
            )
            if not listed:
                return []
        found = [
            CheckpointName(thread, space, checkpoint_id)
            for space, raw_ids in zip(spaces, ids, strict=True)
            for checkpoint_id in (raw.decode() for raw in raw_ids)
            if before is None or checkpoint_id < before
        ]
        return newest_first(found, limit)

    def delete(
        self,
        thread: str,
        checkpoint_ns: str,
        ids: Sequence[str],
        *,
        orphans_before: str | None = None,
    ) -> Steps[None]:
        """Remove checkpoints. Three round trips.

        A checkpoint that is put meanwhile and inherits a value which goes gets it back at once.
        """
        first, checkpoints, held, orphans, _, derived = self._keys.of(thread, checkpoint_ns)
        start = self._keys.writes(thread, checkpoint_ns)
        records, values, waiting = yield Batch(
            [("HGETALL", checkpoints), ("HKEYS", held), ("HKEYS", orphans)],
            atomic=True,
            idempotent=True,
        )
        known = {raw.decode(): data for raw, data in fields(records).items()}
        if not any(checkpoint_id in known for checkpoint_id in ids):
            return
        if orphans_before is not None:
            others = (raw.decode() for raw in waiting)
            ids = [*ids, *(key for key in others if key < orphans_before and key not in known)]
        stay = {key: data for key, data in known.items() if key not in set(ids)}
        used = self._used(thread, checkpoint_ns, stay)
        doomed = [raw for raw in values if raw.decode() not in used]
        saved: dict[bytes, bytes] = {}
        if doomed:
            replies = yield Batch([("HMGET", held, *doomed)], idempotent=True)
            saved = {k: v for k, v in zip(doomed, replies[0], strict=True) if v is not None}
        commands: list[Command] = []
        for part in range(0, len(ids), AT_ONCE):
            some = ids[part : part + AT_ONCE]
            commands += [("HDEL", key, *some) for key in (checkpoints, orphans, derived)]
        commands += [("UNLINK", start + checkpoint_id.encode()) for checkpoint_id in ids]
        gone = list(saved)
        for part in range(0, len(gone), AT_ONCE):
            commands.append(("HDEL", held, *gone[part : part + AT_ONCE]))
        commands += [("HGETALL", checkpoints), ("HLEN", orphans)]
        replies = yield Batch(commands, atomic=True, idempotent=True)
        left = {raw.decode(): data for raw, data in fields(replies[-2]).items()}
        new = {key: data for key, data in left.items() if key not in stay}
        back = [key.encode() for key in self._used(thread, checkpoint_ns, new)]
        again: list[Command] = [("HSETNX", held, k, saved[k]) for k in back if k in saved]
        if not left and not replies[-1]:
            again.append(("HDEL", first, checkpoint_ns))
        if again:
            yield Batch(again, atomic=True, idempotent=True)

    def _used(self, thread: str, checkpoint_ns: str, records: Mapping[str, bytes]) -> set[str]:
        used: set[str] = set()
        for checkpoint_id, data in records.items():
            name = CheckpointName(thread, checkpoint_ns, checkpoint_id)
            record = self._keys.decode_record(data, name)
            used.update(record_fields(record).values())
        return used

    def delete_thread(self, thread: str) -> Steps[None]:
        """Remove everything of a thread. Three round trips."""
        doomed = yield from self._everything(thread)
        yield Batch([("UNLINK", key) for key in doomed], atomic=True, idempotent=True)

    def dump_thread(self, thread: str) -> Steps[list[Any]]:
        """Return what a thread's hashes hold, as the script of that name does."""
        listed = yield Batch([("HKEYS", self._keys.of(thread, "")[0])], idempotent=True)
        dump: list[Any] = []
        for raw in listed[0]:
            checkpoint_ns = raw.decode()
            keys = self._keys.of(thread, checkpoint_ns)
            parts = yield Batch(
                [("HGETALL", key) for key in keys[1:4]], atomic=True, idempotent=True
            )
            ids = list({*fields(parts[0]), *fields(parts[2])})
            start = self._keys.writes(thread, checkpoint_ns)
            writes = yield Batch([("HGETALL", start + raw_id) for raw_id in ids], idempotent=True)
            flat = [part for pair in zip(ids, writes, strict=True) for part in pair]
            dump.append([raw, *parts, flat])
        return dump

    def revive(self, thread: str, checkpoint_ns: str) -> Steps[list[Command]]:
        """Return what must be sent before a namespace of an expired thread is filled again."""
        keys = self._keys.of(thread, checkpoint_ns)
        replies = yield Batch([("HEXISTS", keys[0], checkpoint_ns)], idempotent=True)
        return [] if replies[0] else [("UNLINK", *keys[1:])]
