"""What both ways of keeping checkpoints on Redis share: the keys of a thread, and their bytes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from swarmstate.backends.redis.commands import Command, fields
from swarmstate.backends.redis.steps import StoreSteps
from swarmstate.checkpoints import (
    decode_record,
    decode_write,
    encode_record,
    names,
    place,
    record_fields,
    unreadable,
)
from swarmstate.errors import DecodeError
from swarmstate.protocols import CheckpointRecord, Pair, StoredCheckpoint

__all__ = ["AT_ONCE", "ThreadKeys", "newest_first"]

AT_ONCE = 2000
"""Fields per command: servers bound the arguments of one."""


class ThreadKeys:
    """The keys of threads under a store's prefix, and how their values are encoded."""

    def __init__(self, store: StoreSteps) -> None:
        self.store = store
        self.one = store.encode(1)
        # Every call on a thread needs its keys, and checking names is most of their cost.
        self._named = lru_cache(maxsize=1024)(self._name)

    def of(self, thread: str, namespace: str) -> tuple[bytes, ...]:
        """Return the six keys of a checkpoint namespace, in the order that the scripts expect."""
        return self._named(thread, namespace)[0]

    def writes(self, thread: str, namespace: str) -> bytes:
        """Return what the keys of pending writes start with; a checkpoint id follows."""
        return self._named(thread, namespace)[1]

    def _name(self, thread: str, namespace: str) -> tuple[tuple[bytes, ...], bytes]:
        layout = self.store.layout
        where = names(thread, namespace)
        keys = (
            layout.key(where.thread),
            layout.key(where.checkpoints),
            layout.key(where.values),
            layout.key(where.strays),
            layout.derived(f"ids:{where.tail}"),
            layout.derived(f"fields:{where.tail}"),
        )
        return keys, layout.key(where.writes)

    def encode_record(self, record: CheckpointRecord) -> bytes:
        """Return a record in the store's wire format."""
        return self.store.encode(encode_record(record))

    def decode_record(
        self, data: bytes, thread: str, namespace: str, checkpoint_id: str
    ) -> CheckpointRecord:
        """Return a record, or raise for what is none."""
        try:
            value = self.store.codec.decode(data)
        except DecodeError as error:
            raise DecodeError(f"{place(thread, namespace, checkpoint_id)}: {error}") from error
        return decode_record(value, thread, namespace, checkpoint_id)

    def blobs(self, keys: Iterable[bytes | str], data: Iterable[Any]) -> dict[str, Any]:
        """Return field -> value for the fields that have one, right or wrong."""
        decode = self.store.codec.decode
        found: dict[str, Any] = {}
        for key, value in zip(keys, data, strict=True):
            if value is not None:
                name = key.decode() if isinstance(key, bytes) else key
                try:
                    found[name] = decode(value)
                except DecodeError as error:
                    # Only who knows the checkpoint can say what is lost by this.
                    found[name] = error
        return found

    def assemble(
        self,
        thread: str,
        namespace: str,
        checkpoint_id: str,
        record: CheckpointRecord,
        blobs: Mapping[str, Any],
        channels: Collection[str] | None,
        raw_writes: Any,
    ) -> StoredCheckpoint:
        """Return a checkpoint from what was read of it."""
        values = {}
        if blobs:
            for channel, key in record_fields(record).items():
                if key in blobs and (channels is None or channel in channels):
                    blob = blobs[key]
                    try:
                        kind, data = blob
                    except (TypeError, ValueError):
                        raise unreadable(thread, namespace, checkpoint_id, channel, blob) from (
                            blob if isinstance(blob, DecodeError) else None
                        )
                    values[channel] = (kind, data)
        decode = self.store.codec.decode
        try:
            writes = [
                decode_write(key.decode(), decode(value), thread, namespace, checkpoint_id)
                for key, value in fields(raw_writes).items()
            ]
        except DecodeError as error:
            where = place(thread, namespace, checkpoint_id)
            if where in str(error):
                raise
            raise DecodeError(f"a pending write of {where}: {error}") from error
        if len(writes) > 1:
            writes.sort(key=lambda write: write.order)
        return StoredCheckpoint(namespace, checkpoint_id, record, values, writes)

    @staticmethod
    def fill(key: bytes, flat: Sequence[bytes | str]) -> list[Command]:
        """Return the commands that add fields and values, given in turns, to a hash."""
        return [
            ("HSET", key, *flat[start : start + AT_ONCE]) for start in range(0, len(flat), AT_ONCE)
        ]


def newest_first(pairs: list[Pair], limit: int | None) -> list[Pair]:
    """Return (namespace, id) pairs by descending id, at most ``limit``."""
    pairs.sort(key=lambda pair: (pair[1], pair[0]), reverse=True)
    return pairs if limit is None else pairs[:limit]
