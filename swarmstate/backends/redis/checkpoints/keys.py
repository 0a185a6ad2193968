"""What both ways of keeping checkpoints on Redis share: the keys of a thread, and their bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from swarmstate.backends.redis.commands import fields
from swarmstate.backends.redis.steps import StoreSteps
from swarmstate.checkpoints.format import decode_record, encode_record, names, place, remembered
from swarmstate.checkpoints.protocol import CheckpointName, CheckpointRecord
from swarmstate.errors import DecodeError

__all__ = ["ThreadKeys"]


class ThreadKeys:
    """The keys of threads under a store's prefix, and how their values are encoded."""

    def __init__(self, store: StoreSteps) -> None:
        self.store = store
        self.one = store.encode(1)
        # Every call on a thread needs its keys, and checking names is most of their cost.
        self._named = remembered(self._name, 1024)

    def of(self, thread: str, checkpoint_ns: str) -> tuple[bytes, ...]:
        """Return the six keys of a checkpoint namespace, in the order that the scripts expect."""
        return self._named(thread, checkpoint_ns)[0]

    def writes(self, thread: str, checkpoint_ns: str) -> bytes:
        """Return what the keys of pending writes start with; a checkpoint id follows."""
        return self._named(thread, checkpoint_ns)[1]

    def _name(self, thread: str, checkpoint_ns: str) -> tuple[tuple[bytes, ...], bytes]:
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
        return keys, layout.key(where.writes)

    def encode_record(self, record: CheckpointRecord) -> bytes:
        """Return a record in the store's wire format."""
        return self.store.encode(encode_record(record))

    def decode_record(self, data: bytes, name: CheckpointName) -> CheckpointRecord:
        """Return a record, or raise for what is not one."""
        try:
            value = self.store.codec.decode(data)
        except DecodeError as error:
            raise DecodeError(f"{place(name)}: {error}") from error
        return decode_record(value, name)

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

    def writes_of(self, name: CheckpointName, reply: Any) -> Iterator[tuple[str, Any]]:
        """Yield key and value of each pending write in the reply to HGETALL."""
        decode = self.store.codec.decode
        try:
            for key, data in fields(reply).items():
                yield key.decode(), decode(data)
        except DecodeError as error:
            raise DecodeError(f"a pending write of {place(name)}: {error}") from error
