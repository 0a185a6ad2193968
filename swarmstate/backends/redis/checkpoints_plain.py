"""LangGraph checkpoints for users whom the server does not let run scripts.

The same hashes by transactions. What scripts derive from the hashes is neither read nor written
here; it no longer fits and is rebuilt by the next user who may run scripts.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from swarmstate.backends.redis.checkpoints_base import AT_ONCE, ThreadKeys, newest_first
from swarmstate.backends.redis.commands import Batch, Command, Steps, fields
from swarmstate.checkpoints import record_fields
from swarmstate.protocols import Blob, CheckpointRecord, Pair, StoredCheckpoint

__all__ = ["PlainCheckpoints"]


class PlainCheckpoints:
    """The operations of a :class:`~swarmstate.protocols.CheckpointEngine`, without scripts.

    Args:
        keys: Where a thread lies.
    """

    def __init__(self, keys: ThreadKeys) -> None:
        self._keys = keys
        self._store = keys.store
        self.ttl: int | None = None
        """Milliseconds that a thread lives, or None."""
        self.read_ttl: int | None = None

    def put(
        self,
        thread: str,
        namespace: str,
        checkpoint_id: str,
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
        first, checkpoints, held, strays, _, derived = self._keys.of(thread, namespace)
        flat: list[bytes | str] = []
        for key, value in values.items():
            flat += (key, self._store.encode(value))
        before, after = yield from self._lifetime(
            thread, namespace, checkpoint_id, [checkpoints, held, strays]
        )
        commands: list[Command] = [
            *before,
            ("HSET", first, namespace, self._keys.one),
            ("HSET", checkpoints, checkpoint_id, self._keys.encode_record(record)),
            *self._keys.fill(held, flat),
            ("HDEL", strays, checkpoint_id),
            ("HDEL", derived, checkpoint_id),
            *after,
            ("HLEN", checkpoints),
        ]
        replies = yield from self._store.written(commands, atomic=True, repeat=True)
        return replies[-1] if count else 0, []

    def put_writes(
        self, thread: str, namespace: str, checkpoint_id: str, writes: Mapping[str, Any]
    ) -> Steps[None]:
        """Store pending writes by a transaction. One round trip, two with a time to live."""
        first, _, _, strays, _, _ = self._keys.of(thread, namespace)
        target = self._keys.writes(thread, namespace) + checkpoint_id.encode()
        commands: list[Command] = [
            ("HSET", first, namespace, self._keys.one),
            # Also where the checkpoint exists: a transaction cannot look first.
            ("HSET", strays, checkpoint_id, self._keys.one),
        ]
        for key, value in writes.items():
            command = "HSET" if key.startswith("-") else "HSETNX"
            commands.append((command, target, key, self._store.encode(value)))
        before, after = yield from self._lifetime(
            thread, namespace, checkpoint_id, [strays, target]
        )
        yield from self._store.written([*before, *commands, *after], atomic=True, repeat=True)

    def _lifetime(
        self, thread: str, namespace: str, checkpoint_id: str, own: Sequence[bytes]
    ) -> Steps[tuple[list[Command], list[Command]]]:
        """Return what to send before and after a write, so that a thread expires as a whole."""
        if self.ttl is None:
            return [], []
        keys = self._keys.of(thread, namespace)
        listed, left = yield Batch(
            [("HEXISTS", keys[0], namespace), ("PTTL", keys[0])], repeat=True
        )
        before: list[Command] = []
        if not listed:
            writes = self._keys.writes(thread, namespace) + checkpoint_id.encode()
            before = [("UNLINK", *keys[1:], writes)]
        renewed = list(own)
        if left * 2 < self.ttl:
            renewed = [keys[0], *own, *(yield from self._everything(thread))]
        return before, [("PEXPIRE", key, self.ttl) for key in renewed]

    def _everything(self, thread: str) -> Steps[list[bytes]]:
        """Return every key of a thread. Two round trips."""
        first = self._keys.of(thread, "")[0]
        listed = yield Batch([("HKEYS", first)], repeat=True)
        namespaces = [raw.decode() for raw in listed[0]]
        all_keys = [self._keys.of(thread, namespace) for namespace in namespaces]
        commands = [("HKEYS", keys[part]) for keys in all_keys for part in (1, 3)]
        ids = yield Batch(commands, repeat=True)
        found = [first]
        for number, keys in enumerate(all_keys):
            start = self._keys.writes(thread, namespaces[number])
            found += keys[1:]
            found += [start + raw for raw in {*ids[2 * number], *ids[2 * number + 1]}]
        return found

    def get(
        self, thread: str, namespace: str, checkpoint_id: str | None
    ) -> Steps[StoredCheckpoint | None]:
        """Return a checkpoint. Two round trips by id, three for the latest."""
        if checkpoint_id is None:
            newest = yield from self.scan(thread, namespace, None, 1)
            if not newest:
                return None
            checkpoint_id = newest[0][1]
        found = yield from self.load(
            thread, [(namespace, checkpoint_id)], channels=None, writes=True
        )
        return found[0]

    def load(
        self,
        thread: str,
        pairs: Sequence[Pair],
        *,
        channels: Collection[str] | None,
        writes: bool,
    ) -> Steps[list[StoredCheckpoint | None]]:
        """Return checkpoints by name. Two round trips."""
        commands: list[Command] = []
        for namespace, checkpoint_id in pairs:
            first, checkpoints, *_ = self._keys.of(thread, namespace)
            commands += [
                ("HEXISTS", first, namespace),
                ("HGET", checkpoints, checkpoint_id),
            ]
            if writes:
                start = self._keys.writes(thread, namespace)
                commands.append(("HGETALL", start + checkpoint_id.encode()))
        replies = yield Batch(commands, atomic=True, repeat=True)
        width = 3 if writes else 2
        records: dict[Pair, tuple[CheckpointRecord, Any]] = {}
        wanted: dict[bytes, dict[str, None]] = {}
        for number, (namespace, checkpoint_id) in enumerate(pairs):
            listed, raw, *more = replies[width * number : width * (number + 1)]
            if not listed or raw is None:
                continue
            record = self._keys.decode_record(raw, thread, namespace, checkpoint_id)
            records[namespace, checkpoint_id] = (record, more[0] if more else ())
            values = wanted.setdefault(self._keys.of(thread, namespace)[2], {})
            for channel, key in record_fields(record).items():
                if channels is None or channel in channels:
                    values[key] = None
        blobs = yield from self._values(wanted)
        found: list[StoredCheckpoint | None] = []
        for namespace, checkpoint_id in pairs:
            if (namespace, checkpoint_id) not in records:
                found.append(None)
                continue
            record, raw_writes = records[namespace, checkpoint_id]
            held = blobs.get(self._keys.of(thread, namespace)[2], {})
            one = self._keys.assemble(
                thread, namespace, checkpoint_id, record, held, channels, raw_writes
            )
            lost = any(
                c not in one.values for c in record.stored if channels is None or c in channels
            )
            if lost and not (yield from self._holds(thread, namespace, checkpoint_id)):
                found.append(None)
            else:
                found.append(one)
        return found

    def _values(self, wanted: Mapping[bytes, Mapping[str, None]]) -> Steps[dict[bytes, Any]]:
        places = [(key, list(names)) for key, names in wanted.items() if names]
        if not places:
            return {}
        replies = yield Batch([("HMGET", key, *names) for key, names in places], repeat=True)
        return {
            key: self._keys.blobs(names, reply)
            for (key, names), reply in zip(places, replies, strict=True)
        }

    def _holds(self, thread: str, namespace: str, checkpoint_id: str) -> Steps[bool]:
        checkpoints = self._keys.of(thread, namespace)[1]
        replies = yield Batch([("HEXISTS", checkpoints, checkpoint_id)], repeat=True)
        return bool(replies[0])

    def ancestors(
        self, thread: str, namespace: str, checkpoint_id: str, limit: int
    ) -> Steps[list[StoredCheckpoint]]:
        """Follow the parents. Two round trips where ids grow from parent to child."""
        older = yield from self.scan(thread, namespace, checkpoint_id, limit - 1)
        pairs = [(namespace, checkpoint_id), *older]
        loaded = yield from self.load(thread, pairs, channels=(), writes=False)
        known = {one.id: one for one in loaded if one is not None}
        chain: list[StoredCheckpoint] = []
        cursor: str | None = checkpoint_id
        while cursor is not None and len(chain) < limit:
            one = known.get(cursor)
            if one is None:
                one = (
                    yield from self.load(thread, [(namespace, cursor)], channels=(), writes=False)
                )[0]
            if one is None:
                break
            chain.append(one)
            cursor = one.record.parent
        return chain

    def scan(
        self, thread: str, namespace: str | None, before: str | None, limit: int | None
    ) -> Steps[list[Pair]]:
        """Return the greatest ids. One round trip, two for all namespaces."""
        first = self._keys.of(thread, "")[0]
        if namespace is None:
            replies = yield Batch([("HKEYS", first)], repeat=True)
            namespaces = [raw.decode() for raw in replies[0]]
            commands = [("HKEYS", self._keys.of(thread, name)[1]) for name in namespaces]
            ids = yield Batch(commands, repeat=True)
        else:
            namespaces = [namespace]
            listed, *ids = yield Batch(
                [
                    ("HEXISTS", first, namespace),
                    ("HKEYS", self._keys.of(thread, namespace)[1]),
                ],
                atomic=True,
                repeat=True,
            )
            if not listed:
                return []
        found = [
            (name, checkpoint_id)
            for name, raw_ids in zip(namespaces, ids, strict=True)
            for checkpoint_id in (raw.decode() for raw in raw_ids)
            if before is None or checkpoint_id < before
        ]
        return newest_first(found, limit)

    def delete(
        self, thread: str, namespace: str, ids: Sequence[str], *, strays_before: str | None = None
    ) -> Steps[None]:
        """Remove checkpoints. Three round trips.

        A checkpoint that is put meanwhile and inherits a value which goes gets it back at once.
        """
        first, checkpoints, held, strays, _, derived = self._keys.of(thread, namespace)
        start = self._keys.writes(thread, namespace)
        records, values, waiting = yield Batch(
            [("HGETALL", checkpoints), ("HKEYS", held), ("HKEYS", strays)], atomic=True, repeat=True
        )
        known = {raw.decode(): data for raw, data in fields(records).items()}
        if not any(checkpoint_id in known for checkpoint_id in ids):
            return
        if strays_before is not None:
            others = (raw.decode() for raw in waiting)
            ids = [*ids, *(key for key in others if key < strays_before and key not in known)]
        stay = {key: data for key, data in known.items() if key not in set(ids)}
        used = self._used(thread, namespace, stay)
        doomed = [raw for raw in values if raw.decode() not in used]
        saved: dict[bytes, bytes] = {}
        if doomed:
            replies = yield Batch([("HMGET", held, *doomed)], repeat=True)
            saved = {k: v for k, v in zip(doomed, replies[0], strict=True) if v is not None}
        commands: list[Command] = []
        for part in range(0, len(ids), AT_ONCE):
            some = ids[part : part + AT_ONCE]
            commands += [("HDEL", key, *some) for key in (checkpoints, strays, derived)]
        commands += [("UNLINK", start + checkpoint_id.encode()) for checkpoint_id in ids]
        gone = list(saved)
        for part in range(0, len(gone), AT_ONCE):
            commands.append(("HDEL", held, *gone[part : part + AT_ONCE]))
        commands += [("HGETALL", checkpoints), ("HLEN", strays)]
        replies = yield Batch(commands, atomic=True, repeat=True)
        left = {raw.decode(): data for raw, data in fields(replies[-2]).items()}
        new = {key: data for key, data in left.items() if key not in stay}
        back = [key.encode() for key in self._used(thread, namespace, new)]
        again: list[Command] = [("HSETNX", held, k, saved[k]) for k in back if k in saved]
        if not left and not replies[-1]:
            again.append(("HDEL", first, namespace))
        if again:
            yield Batch(again, atomic=True, repeat=True)

    def _used(self, thread: str, namespace: str, records: Mapping[str, bytes]) -> set[str]:
        used: set[str] = set()
        for checkpoint_id, data in records.items():
            record = self._keys.decode_record(data, thread, namespace, checkpoint_id)
            used.update(record_fields(record).values())
        return used

    def delete_thread(self, thread: str) -> Steps[None]:
        """Remove everything of a thread. Three round trips."""
        doomed = yield from self._everything(thread)
        yield Batch([("UNLINK", key) for key in doomed], atomic=True, repeat=True)

    def dump_thread(self, thread: str) -> Steps[list[Any]]:
        """Return what a thread's hashes hold, as the script of that name does."""
        listed = yield Batch([("HKEYS", self._keys.of(thread, "")[0])], repeat=True)
        dump: list[Any] = []
        for raw in listed[0]:
            namespace = raw.decode()
            keys = self._keys.of(thread, namespace)
            parts = yield Batch([("HGETALL", key) for key in keys[1:4]], atomic=True, repeat=True)
            ids = list({*fields(parts[0]), *fields(parts[2])})
            start = self._keys.writes(thread, namespace)
            writes = yield Batch([("HGETALL", start + raw_id) for raw_id in ids], repeat=True)
            flat = [part for pair in zip(ids, writes, strict=True) for part in pair]
            dump.append([raw, *parts, flat])
        return dump

    def revive(self, thread: str, namespace: str) -> Steps[list[Command]]:
        """Return what must be sent before a namespace of an expired thread is filled again."""
        keys = self._keys.of(thread, namespace)
        replies = yield Batch([("HEXISTS", keys[0], namespace)], repeat=True)
        return [] if replies[0] else [("UNLINK", *keys[1:])]
