"""What all ways of keeping checkpoints on Redis share: the keys of a thread, and their bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from random import getrandbits
from typing import Any, NamedTuple, TypeAlias, TypeVar

from swarmstate import _redis, codecs
from swarmstate.backends.redis.commands import Batch, Command
from swarmstate.backends.redis.steps import StoreSteps
from swarmstate.checkpoints.format import (
    encode_record,
    names,
    record_fields,
)
from swarmstate.checkpoints.protocol import CheckpointName, CheckpointRecord
from swarmstate.steps import Steps

__all__ = [
    "AT_A_TIME",
    "Part",
    "ThreadKeys",
    "draw",
    "id_in",
    "in_parts",
    "is_record",
    "marks",
    "segments_in",
]

T = TypeVar("T")

AT_A_TIME = 500
"""How much one command asks for: none keeps a server busy for more than a few milliseconds."""

_plain = codecs.get("msgpack")

_Names: TypeAlias = tuple[tuple[bytes, ...], bytes, tuple[bytes, ...]]
# Of how many checkpoint namespaces the names are kept, and up to how many characters.
_MOST_KEPT = 1024
_LONGEST_KEPT = 256


def in_parts(items: Sequence[T], size: int | None = None) -> Iterator[Sequence[T]]:
    """Yield the items, a bounded number at a time."""
    size = size or AT_A_TIME
    for start in range(0, len(items), size):
        yield items[start : start + size]


def draw() -> bytes:
    """Return a number by lot, which says that something has changed."""
    return b"%x" % getrandbits(64)


def is_record(key: bytes) -> bool:
    """Return whether a key among the records is that of a record, and no mark."""
    return not b"\0p" <= key[:2] <= b"\0w"


def id_in(key: bytes) -> bytes:
    """Return the checkpoint id that a key among the records names: itself, or the marked one."""
    return key if is_record(key) else key[2:]


def segments_in(keys: Iterable[bytes]) -> list[str]:
    """Return the segments that pending writes need, by the keys of these."""
    return [key[2:].decode() for key in keys if key.startswith(b"\0s")]


def marks(ids: Iterable[bytes]) -> list[bytes]:
    """Return the keys of all marks that there may be of these checkpoints."""
    return [mark + each for each in ids for mark in (b"\0w", b"\0p")]


class Part(NamedTuple):
    """One checkpoint namespace of a thread, by name.

    Attributes:
        space: The checkpoint namespace.
        listed: Whether the thread lists it.
        keys: Its keys, the thread's first among them.
        records: The keys among the records, marks included.
        orphans: The ids that have writes but no checkpoint.
        writes: Id -> key of its writes, whether there are any or not.
        fields: The fields of the values, if they were asked for.
    """

    space: str
    listed: bool
    keys: tuple[bytes, ...]
    records: list[bytes]
    orphans: list[bytes]
    writes: dict[bytes, bytes]
    fields: list[bytes]


class ThreadKeys:
    """The keys of threads under a store's prefix, and how their values are encoded."""

    def __init__(self, store: StoreSteps) -> None:
        self.store = store
        self.one = store.encode(1)
        self.kept: dict[tuple[str, str], _Names] = {}
        """What :meth:`named` has returned, for who looks there first; nothing that is long."""

    def named(self, thread: str, checkpoint_ns: str) -> _Names:
        """Return of a checkpoint namespace what the next three methods return."""
        # Every call on a thread needs its keys, and checking names is most of their cost.
        found = self.kept.get((thread, checkpoint_ns))
        if found is None:
            found = self._name(thread, checkpoint_ns)
            if len(thread) + len(checkpoint_ns) <= _LONGEST_KEPT:
                if len(self.kept) >= _MOST_KEPT:
                    self.kept.clear()
                self.kept[thread, checkpoint_ns] = found
        return found

    def of(self, thread: str, checkpoint_ns: str) -> tuple[bytes, ...]:
        """Return the six keys of a checkpoint namespace, in the order that the scripts expect."""
        return self.named(thread, checkpoint_ns)[0]

    def writes(self, thread: str, checkpoint_ns: str) -> bytes:
        """Return what the keys of pending writes start with; a checkpoint id follows."""
        return self.named(thread, checkpoint_ns)[1]

    def before(self, thread: str, checkpoint_ns: str) -> tuple[bytes, ...]:
        """Return where version 0.1.0 kept what is derived of a checkpoint namespace."""
        return self.named(thread, checkpoint_ns)[2]

    def references(self, thread: str, checkpoint_ns: str) -> bytes:
        """Return where it is noted who refers to what, for a limit (see :mod:`~.retention`)."""
        return self.store.layout.derived(f"kept:{names(thread, checkpoint_ns).tail}")

    def all_references(self, thread: str, spaces: Iterable[str]) -> list[bytes]:
        """Return where that is noted of namespaces, and of those from which they were called.

        A call may come before its caller, whose namespace is then not listed yet.
        """
        found: set[str] = set()
        for space in spaces:
            found |= {space, space.rpartition("|")[0]}
        return [self.references(thread, space) for space in sorted(found)]

    def written(self, name: CheckpointName) -> bytes:
        """Return the key of a checkpoint's pending writes."""
        return self.named(name.thread, name.checkpoint_ns)[1] + name.id.encode()

    def _name(self, thread: str, checkpoint_ns: str) -> _Names:
        layout = self.store.layout
        where = names(thread, checkpoint_ns)
        keys = (
            layout.key(where.thread),
            layout.key(where.checkpoints),
            layout.key(where.values),
            layout.key(where.orphans),
            layout.derived(f"ids:{where.tail}"),
            layout.derived(f"fields:{where.tail}"),
        )
        before = [layout.derived_before(f"{what}:{where.tail}") for what in ("ids", "fields")]
        return keys, layout.key(where.writes), tuple(before)

    def parts(
        self, thread: str, *, derived: bool = False, values: bool = False
    ) -> Steps[list[Part]]:
        """Return what a thread consists of, its root also where it is not listed.

        Two round trips.

        Args:
            thread: The thread.
            derived: Whether to ask what is derived too, which may name what the hashes have lost.
            values: Whether to ask for the fields of values.
        """
        listed = yield Batch([("HKEYS", self.of(thread, "")[0])], idempotent=True)
        spaces = {raw.decode(): True for raw in listed[0]}
        spaces.setdefault("", False)
        commands: list[Command] = []
        for space in spaces:
            _, checkpoints, held, orphans, order, entries = self.of(thread, space)
            commands += [("HKEYS", checkpoints), ("HKEYS", orphans)]
            if values:
                commands.append(("HKEYS", held))
            if derived:
                commands += [("ZREVRANGE", order, 0, -1), ("HKEYS", entries)]
        # What is derived may be of any type, and not ours to read. Then less can be named.
        ignore = ("WRONGTYPE", "NOPERM") if derived else ()
        replies = iter((yield Batch(commands, idempotent=True, ignore=ignore)))
        found = []
        for space in spaces:
            records, waiting = next(replies) or [], next(replies) or []
            fields = next(replies) if values else []
            more = [next(replies) or [] for _ in range(2 if derived else 0)]
            start = self.writes(thread, space)
            ids = {id_in(raw) for names in (records, waiting, *more) for raw in names}
            writes = {raw: start + raw for raw in ids}
            keys = self.of(thread, space)
            found.append(Part(space, spaces[space], keys, records, waiting, writes, fields))
        return found

    def encode_record(self, record: CheckpointRecord) -> bytes:
        """Return a record in the store's wire format."""
        return self.store.encode(encode_record(record))

    def decode_record(self, data: bytes, name: CheckpointName) -> CheckpointRecord:
        """Return a record, or raise for what is not one."""
        return _redis.record_of(self.store.values, data, name)

    def entry(self, encoded: bytes, parent: str | None, values: Iterable[str]) -> bytes:
        """Return what is derived of a record, in plain msgpack, whatever the store's codec."""
        return _redis.entry(encoded, parent, values)

    def entry_of(self, data: bytes, name: CheckpointName) -> bytes:
        """Return what is derived of a record that was read."""
        record = self.decode_record(data, name)
        return self.entry(data, record.parent, record_fields(record).values())

    def fields_of(self, entry: bytes) -> list[str]:
        """Return the fields that a record refers to, by what is derived of it."""
        found: Any = _plain.decode(entry)
        fields: list[str] = found[2:]
        return fields

    def used(self, space: CheckpointName, ids: Sequence[bytes]) -> Steps[set[bytes]]:
        """Return the fields that the records with these ids refer to. One round trip."""
        if not ids:
            return set()
        checkpoints = self.of(space.thread, space.checkpoint_ns)[1]
        groups = [*in_parts(ids)]
        replies = yield Batch([("HMGET", checkpoints, *some) for some in groups], idempotent=True)
        found: set[bytes] = set()
        for some, reply in zip(groups, replies, strict=True):
            for raw, data in zip(some, reply, strict=True):
                if data is not None:
                    record = self.decode_record(data, space._replace(id=raw.decode()))
                    found.update(each.encode() for each in record_fields(record).values())
        return found

    def needed(self, space: CheckpointName, ids: Iterable[bytes]) -> Steps[dict[str, list[str]]]:
        """Return id -> the segments that its writes need, of those that need any.

        One round trip, more for thousands of ids.
        """
        named = list(ids)
        start = self.writes(space.thread, space.checkpoint_ns)
        found: dict[str, list[str]] = {}
        for some in in_parts(named):
            replies = yield Batch([("HKEYS", start + raw) for raw in some], idempotent=True)
            for raw, keys in zip(some, replies, strict=True):
                segments = segments_in(keys)
                if segments:
                    found[raw.decode()] = segments
        return found

    def needed_now(self, space: CheckpointName) -> Steps[set[bytes]]:
        """Return the segments that any writes of a checkpoint namespace need. Two round trips."""
        _, checkpoints, _, orphans, _, _ = self.of(space.thread, space.checkpoint_ns)
        replies = yield Batch([("HKEYS", checkpoints), ("HKEYS", orphans)], idempotent=True)
        ids = {id_in(raw) for reply in replies for raw in reply}
        needed = yield from self.needed(space, ids)
        return {key.encode() for keys in needed.values() for key in keys}

    def blobs(self, keys: Iterable[bytes | str], data: Iterable[Any]) -> dict[str, Any]:
        """Return field -> value for the fields that have one, right or wrong."""
        return _redis.blobs(self.store.values, keys, data)

    def writes_of(self, name: CheckpointName, reply: Any) -> list[tuple[str, Any]]:
        """Return key and value of each pending write in the reply to HGETALL."""
        return _redis.writes_of(self.store.values, reply, name)
