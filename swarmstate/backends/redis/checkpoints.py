"""LangGraph checkpoints on Redis and Valkey: one script call per operation.

The hashes are those of :mod:`swarmstate.checkpoints`. Two keys per checkpoint namespace are derived
from them and live in the store's reserved namespaces: the order of the ids, and which values each
checkpoint refers to, for the scripts to read whatever the store's codec. Both are rebuilt when they
are missing or do not fit the hashes.

Where the server refuses scripts, :class:`~.checkpoints_plain.PlainCheckpoints` does the same with
transactions and a few more round trips.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from typing import Any, Concatenate, ParamSpec, TypeVar

from swarmstate import codecs
from swarmstate.backends.redis import checkpoints_lua as lua
from swarmstate.backends.redis.checkpoints_base import ThreadKeys, newest_first
from swarmstate.backends.redis.checkpoints_plain import PlainCheckpoints
from swarmstate.backends.redis.commands import (
    Batch,
    Command,
    CommandRefused,
    Script,
    Steps,
    fields,
)
from swarmstate.backends.redis.drivers import Driver
from swarmstate.backends.redis.steps import StoreSteps
from swarmstate.checkpoints import THREADS, field, record_fields, thread_of
from swarmstate.errors import ArgumentValueError, DecodeError
from swarmstate.protocols import Blob, CheckpointRecord, Pair, StoredCheckpoint

__all__ = ["RedisCheckpoints"]

T = TypeVar("T")
P = ParamSpec("P")
_Operation = Callable[Concatenate["RedisCheckpoints", P], Steps[T]]

_plain = codecs.get("msgpack")
_TRIES = 50


def _or_plainly(operation: _Operation[P, T]) -> _Operation[P, T]:
    """Do an operation the other way from the moment that the server refuses scripts."""
    name = operation.__name__

    @functools.wraps(operation)
    def either(self: RedisCheckpoints, /, *args: P.args, **kwargs: P.kwargs) -> Steps[T]:
        if self.scripting:
            try:
                return (yield from operation(self, *args, **kwargs))
            except CommandRefused as refused:
                if not refused.scripting_refused:
                    raise
                self.scripting = False
        result: T = yield from getattr(self.plain, name)(*args, **kwargs)
        return result

    return either


class RedisCheckpoints:
    """A :class:`~swarmstate.protocols.CheckpointEngine` over Redis or Valkey.

    Args:
        steps: The logic of the store, for its layout, codec and marker.
        driver: What the store sends its batches with.
    """

    def __init__(self, steps: StoreSteps, driver: Driver) -> None:
        if driver.clustered and "{" in steps.layout.prefix:
            raise ArgumentValueError(
                f"prefix {steps.layout.prefix!r} cannot hold checkpoints on a cluster: its brace "
                "would decide the slot of a key, and the keys of a thread must share one"
            )
        self._store = steps
        self._driver = driver
        self._keys = ThreadKeys(steps)
        self.plain = PlainCheckpoints(self._keys)
        self.scripting = True
        """Whether the server lets us run scripts, as far as known."""
        self._live(steps.ttl_ms, steps.ttl_on_read)

    def expire(self, ttl: float | None, on_read: bool) -> None:
        """Let threads expire ``ttl`` seconds after they were last renewed; None: as the store."""
        milliseconds = self._store.ttl_ms if ttl is None else max(1, int(ttl * 1000))
        self._live(milliseconds, on_read or (ttl is None and self._store.ttl_on_read))

    def _live(self, ttl: int | None, on_read: bool) -> None:
        self.plain.ttl = ttl
        self._ttl: bytes = b"" if ttl is None else b"%d" % ttl
        self._read_ttl = self._ttl if on_read else b""

    def run(self, steps: Generator[Any, Any, T]) -> T:
        """Run an operation, blocking on one connection of the pool."""
        return self._driver.run(steps)

    async def arun(self, steps: Generator[Any, Any, T]) -> T:
        """Run an operation without blocking; what many tasks send shares pipelines."""
        return await self._driver.arun(steps)

    # Keys and values ---------------------------------------------------------------------------

    def _call(
        self,
        script: Script,
        thread: str,
        namespace: str,
        arguments: Sequence[bytes | str | int],
        *,
        ttl: bytes = b"",
    ) -> Command:
        writes = self._keys.writes(thread, namespace)
        return script(self._keys.of(thread, namespace), [namespace, writes, ttl, *arguments])

    def _send(self, command: Command, *, write: bool = False, repeat: bool = True) -> Steps[Any]:
        if write:
            replies = yield from self._store.written([command], atomic=False, repeat=repeat)
        else:
            replies = yield Batch([command], repeat=repeat)
        return replies[0]

    def _entry(self, encoded: bytes, parent: str | None, values: Iterable[str]) -> bytes:
        # Plain msgpack, whatever the store's codec: scripts read it.
        digest = hashlib.sha1(encoded, usedforsecurity=False).hexdigest()
        return _plain.encode([digest[:16], parent or "", *values])

    # The operations ----------------------------------------------------------------------------

    @_or_plainly
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
        """Store a checkpoint. One round trip."""
        encode = self._store.encode
        encoded = self._keys.encode_record(record)
        # The same as record_fields() gives, most of it without making the names again.
        deltas = (field(c, record.versions[c]) for c in record.deltas if c in record.versions)
        entry = self._entry(encoded, record.parent, (*values, *inherited, *deltas))
        arguments: list[bytes | str | int] = [
            checkpoint_id,
            encoded,
            entry,
            self._keys.one,
            int(count),
            len(inherited),
            *inherited,
        ]
        for key, value in values.items():
            arguments += (key, encode(value))
        command = self._call(lua.PUT, thread, namespace, arguments, ttl=self._ttl)
        outcome = yield from self._send(command, write=True)
        if isinstance(outcome, int):
            return outcome, []
        return 0, [key.decode() for key in outcome]

    @_or_plainly
    def put_writes(
        self, thread: str, namespace: str, checkpoint_id: str, writes: Mapping[str, Any]
    ) -> Steps[None]:
        """Store pending writes. One round trip for any number."""
        arguments: list[bytes | str | int] = [checkpoint_id, self._keys.one]
        for key, value in writes.items():
            arguments += (key, self._store.encode(value))
        command = self._call(lua.PUT_WRITES, thread, namespace, arguments, ttl=self._ttl)
        yield from self._send(command, write=True)

    @_or_plainly
    def get(
        self, thread: str, namespace: str, checkpoint_id: str | None
    ) -> Steps[StoredCheckpoint | None]:
        """Return a checkpoint. One round trip; three more after the store was restored."""
        found = yield from self._read(thread, namespace, [checkpoint_id or ""], None, True)
        return next(iter(found.values()), None)

    @_or_plainly
    def load(
        self,
        thread: str,
        pairs: Sequence[Pair],
        *,
        channels: Collection[str] | None,
        writes: bool,
    ) -> Steps[list[StoredCheckpoint | None]]:
        """Return checkpoints by name. One round trip for each checkpoint namespace."""
        by_namespace: dict[str, list[str]] = {}
        for namespace, checkpoint_id in pairs:
            by_namespace.setdefault(namespace, []).append(checkpoint_id)
        found: dict[Pair, StoredCheckpoint] = {}
        for namespace, ids in by_namespace.items():
            loaded = yield from self._read(thread, namespace, ids, channels, writes)
            found.update(((namespace, key), one) for key, one in loaded.items())
        return [found.get(pair) for pair in pairs]

    def _read(
        self,
        thread: str,
        namespace: str,
        ids: Sequence[str],
        channels: Collection[str] | None,
        writes: bool,
    ) -> Steps[dict[str, StoredCheckpoint]]:
        kind = "all" if channels is None else "some" if channels else "none"
        chosen = list(channels or ())
        arguments: list[bytes | str | int] = [kind, int(writes), len(chosen), *chosen, *ids]
        command = self._call(lua.READ, thread, namespace, arguments, ttl=self._read_ttl)
        found, keys, data = yield from self._send(command)
        if not all(known for _, _, known, _ in found):
            yield from self._repair(thread, namespace)
            found, keys, data = yield from self._send(command)
        blobs = self._keys.blobs(keys, data)
        result: dict[str, StoredCheckpoint] = {}
        for raw_id, raw, _, writes_there in found:
            key = raw_id.decode()
            record = self._keys.decode_record(raw, thread, namespace, key)
            result[key] = self._keys.assemble(
                thread, namespace, key, record, blobs, channels, writes_there
            )
        return result

    def _repair(self, thread: str, namespace: str) -> Steps[None]:
        """Tell the scripts again what the records say; needed once after a restore."""
        keys = self._keys.of(thread, namespace)
        replies = yield Batch([("HGETALL", keys[1]), ("PTTL", keys[1])], repeat=True)
        flat: list[bytes] = []
        for raw_id, raw in fields(replies[0]).items():
            record = self._keys.decode_record(raw, thread, namespace, raw_id.decode())
            named = record_fields(record).values()
            flat += (raw_id, self._entry(raw, record.parent, named))
        commands = self._keys.fill(keys[5], flat)
        if replies[1] > 0:
            commands.append(("PEXPIRE", keys[5], replies[1]))
        if commands:
            yield Batch(commands, atomic=True, repeat=True)

    @_or_plainly
    def ancestors(
        self, thread: str, namespace: str, checkpoint_id: str, limit: int
    ) -> Steps[list[StoredCheckpoint]]:
        """Follow the parents. One round trip; three more after the store was restored."""
        chain: list[StoredCheckpoint] = []
        cursor: str | None = checkpoint_id
        repaired = False
        while cursor is not None and len(chain) < limit:
            command = self._call(lua.ANCESTORS, thread, namespace, [cursor, limit - len(chain)])
            known, found = yield from self._send(command)
            pairs = iter(found)
            for raw_id, raw in zip(pairs, pairs, strict=True):
                key = raw_id.decode()
                record = self._keys.decode_record(raw, thread, namespace, key)
                chain.append(StoredCheckpoint(namespace, key, record, {}, []))
            if known:
                break
            cursor = chain[-1].record.parent
            if cursor is not None and not repaired:
                repaired = True
                yield from self._repair(thread, namespace)
        return chain

    @_or_plainly
    def scan(
        self, thread: str, namespace: str | None, before: str | None, limit: int | None
    ) -> Steps[list[Pair]]:
        """Return the greatest ids. One round trip."""
        arguments = [
            "all" if namespace is None else "one",
            before or "",
            -1 if limit is None else limit,
        ]
        reply = yield from self._send(self._call(lua.SCAN, thread, namespace or "", arguments))
        entries = iter(reply)
        found = [
            (name.decode(), checkpoint_id.decode())
            for name, ids in zip(entries, entries, strict=True)
            for checkpoint_id in ids
        ]
        return newest_first(found, limit)

    @_or_plainly
    def delete(
        self, thread: str, namespace: str, ids: Sequence[str], *, strays_before: str | None = None
    ) -> Steps[None]:
        """Remove checkpoints. One round trip; three more after the store was restored."""
        command = self._call(lua.DELETE, thread, namespace, [strays_before or "", *ids])
        for _ in range(_TRIES):
            if (yield from self._send(command)):
                return
            yield from self._repair(thread, namespace)
        raise DecodeError(f"the records of thread {thread!r} changed faster than they were read")

    @_or_plainly
    def delete_thread(self, thread: str) -> Steps[None]:
        """Remove everything of a thread. One round trip."""
        yield from self._send(self._call(lua.DELETE_THREAD, thread, "", ()))

    @_or_plainly
    def dump_thread(self, thread: str) -> Steps[list[Any]]:
        """Return what a thread's hashes hold. One round trip."""
        dump: list[Any] = yield from self._send(self._call(lua.DUMP_THREAD, thread, "", ()))
        return dump

    def copy_thread(self, source: str, target: str) -> Steps[None]:
        """Add a thread to another. Two round trips, each of which carries the whole thread."""
        if source == target:
            return
        dump = yield from self.dump_thread(source)
        commands: list[Command] = []
        touched: dict[bytes, None] = {}

        def fill(key: bytes, content: Any) -> None:
            flat = [part for entry in fields(content).items() for part in entry]
            commands.extend(self._keys.fill(key, flat))
            touched[key] = None

        for raw, checkpoints, values, strays, writes in dump:
            namespace = raw.decode()
            first, *parts, order, entries = self._keys.of(target, namespace)
            if self.scripting:
                commands.append(self._call(lua.REVIVE, target, namespace, ()))
            else:
                commands += yield from self.plain.revive(target, namespace)
            fill(first, {raw: self._keys.one})
            for key, content in zip(parts, (checkpoints, values, strays), strict=True):
                fill(key, content)
            commands.append(("UNLINK", order, entries))
            pairs = iter(writes)
            for raw_id, content in zip(pairs, pairs, strict=True):
                fill(self._keys.writes(target, namespace) + raw_id, content)
        if self._ttl:
            commands += [("PEXPIRE", key, self._ttl) for key in touched]
        if commands:
            yield from self._store.written(commands, atomic=True, repeat=True)

    def threads(self) -> Steps[list[str]]:
        """Return the ids of all threads. One round trip; enumerates the keys on the server."""
        found = yield from self._store.namespaces(THREADS)
        threads = (thread_of(name) for name in found)
        return [thread for thread in threads if thread is not None]
