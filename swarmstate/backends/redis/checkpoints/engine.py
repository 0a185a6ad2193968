"""LangGraph checkpoints on Redis and Valkey: one script call per operation.

The hashes are those of :mod:`swarmstate.checkpoints.format`. Two keys per checkpoint namespace are
derived from them and live in the store's reserved namespaces: the order of the ids, and which
values each checkpoint refers to, for the scripts to read whatever the store's codec. Both are
rebuilt when they are missing or do not fit the hashes.

Where the server refuses scripts, :class:`~.without_scripts.PlainCheckpoints` does the same with
transactions and a few more round trips.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from typing import Any, Concatenate, ParamSpec, TypeVar

from swarmstate import codecs
from swarmstate.arguments import milliseconds
from swarmstate.backends.redis.checkpoints import scripts as lua
from swarmstate.backends.redis.checkpoints.keys import ThreadKeys
from swarmstate.backends.redis.checkpoints.without_scripts import PlainCheckpoints
from swarmstate.backends.redis.commands import (
    Batch,
    Command,
    CommandRefused,
    Script,
    fields,
    fill,
)
from swarmstate.backends.redis.steps import StoreSteps
from swarmstate.backends.redis.transport.driver import Driver
from swarmstate.checkpoints.format import THREADS, assemble, field, record_fields, thread_of
from swarmstate.checkpoints.generic import newest_first
from swarmstate.checkpoints.protocol import (
    Blob,
    CheckpointName,
    CheckpointRecord,
    StoredCheckpoint,
)
from swarmstate.errors import ArgumentValueError, DecodeError
from swarmstate.steps import Steps

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
    """A :class:`~swarmstate.checkpoints.protocol.CheckpointEngine` over Redis or Valkey.

    Args:
        steps: The logic of the store, for its layout, codec and marker.
        driver: What the store sends its batches with.
        ttl: Seconds that a thread lives after it was last renewed; None: as the store's namespaces.
        ttl_on_read: Whether reading a thread renews it too.
    """

    def __init__(
        self,
        steps: StoreSteps,
        driver: Driver,
        *,
        ttl: float | None = None,
        ttl_on_read: bool = False,
    ) -> None:
        if driver.clustered and "{" in steps.layout.prefix:
            raise ArgumentValueError(
                f"prefix {steps.layout.prefix!r} cannot hold checkpoints on a cluster: its brace "
                "would decide the slot of a key, and the keys of a thread must share one"
            )
        lifetime = milliseconds(ttl)
        if lifetime is None:
            lifetime = steps.ttl_ms
            ttl_on_read = ttl_on_read or steps.ttl_on_read
        if ttl_on_read and lifetime is None:
            raise ArgumentValueError(
                "ttl_on_read=True needs a ttl, the checkpointer's or the store's: without one "
                "there is nothing to renew"
            )
        self._store = steps
        self._driver = driver
        self._keys = ThreadKeys(steps)
        self.plain = PlainCheckpoints(self._keys, lifetime, on_read=ttl_on_read)
        self.scripting = True
        """Whether the server lets us run scripts, as far as known."""
        self._ttl: bytes = b"" if lifetime is None else b"%d" % lifetime
        self._read_ttl = self._ttl if ttl_on_read else b""

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
        checkpoint_ns: str,
        arguments: Sequence[bytes | str | int],
        *,
        ttl: bytes = b"",
    ) -> Command:
        writes = self._keys.writes(thread, checkpoint_ns)
        keys = self._keys.of(thread, checkpoint_ns)
        return script(keys, [checkpoint_ns, writes, ttl, *arguments])

    def _send(
        self, command: Command, *, write: bool = False, idempotent: bool = True
    ) -> Steps[Any]:
        if write:
            replies = yield from self._store.written([command], atomic=False, idempotent=idempotent)
        else:
            replies = yield Batch([command], idempotent=idempotent)
        return replies[0]

    def _entry(self, encoded: bytes, parent: str | None, values: Iterable[str]) -> bytes:
        # Plain msgpack, whatever the store's codec: scripts read it.
        digest = hashlib.sha1(encoded, usedforsecurity=False).hexdigest()
        return _plain.encode([digest[:16], parent or "", *values])

    # The operations ----------------------------------------------------------------------------

    @_or_plainly
    def put(
        self,
        name: CheckpointName,
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
            name.id,
            encoded,
            entry,
            self._keys.one,
            int(count),
            len(inherited),
            *inherited,
        ]
        for key, value in values.items():
            arguments += (key, encode(value))
        command = self._call(lua.PUT, name.thread, name.checkpoint_ns, arguments, ttl=self._ttl)
        outcome = yield from self._send(command, write=True)
        if isinstance(outcome, int):
            return outcome, []
        return 0, [key.decode() for key in outcome]

    @_or_plainly
    def put_writes(self, name: CheckpointName, writes: Mapping[str, Any]) -> Steps[None]:
        """Store pending writes. One round trip for any number."""
        arguments: list[bytes | str | int] = [name.id, self._keys.one]
        for key, value in writes.items():
            arguments += (key, self._store.encode(value))
        command = self._call(
            lua.PUT_WRITES, name.thread, name.checkpoint_ns, arguments, ttl=self._ttl
        )
        yield from self._send(command, write=True)

    @_or_plainly
    def get(self, name: CheckpointName) -> Steps[StoredCheckpoint | None]:
        """Return a checkpoint. One round trip; three more after the store was restored."""
        found = yield from self._read(name.thread, name.checkpoint_ns, [name.id], None, True)
        return next(iter(found.values()), None)

    @_or_plainly
    def load(
        self,
        names: Sequence[CheckpointName],
        *,
        channels: Collection[str] | None,
        writes: bool,
    ) -> Steps[list[StoredCheckpoint | None]]:
        """Return checkpoints by name. One round trip for each checkpoint namespace."""
        spaces: dict[tuple[str, str], list[str]] = {}
        for thread, checkpoint_ns, checkpoint_id in names:
            spaces.setdefault((thread, checkpoint_ns), []).append(checkpoint_id)
        found: dict[CheckpointName, StoredCheckpoint] = {}
        for (thread, checkpoint_ns), ids in spaces.items():
            found |= yield from self._read(thread, checkpoint_ns, ids, channels, writes)
        return [found.get(name) for name in names]

    def _read(
        self,
        thread: str,
        checkpoint_ns: str,
        ids: Sequence[str],
        channels: Collection[str] | None,
        writes: bool,
    ) -> Steps[dict[CheckpointName, StoredCheckpoint]]:
        kind = "all" if channels is None else "some" if channels else "none"
        chosen = list(channels or ())
        arguments: list[bytes | str | int] = [kind, int(writes), len(chosen), *chosen, *ids]
        command = self._call(lua.READ, thread, checkpoint_ns, arguments, ttl=self._read_ttl)
        found, keys, data = yield from self._send(command)
        if not all(known for _, _, known, _ in found):
            yield from self._repair(thread, checkpoint_ns)
            found, keys, data = yield from self._send(command)
        held = self._keys.blobs(keys, data)
        result: dict[CheckpointName, StoredCheckpoint] = {}
        for raw_id, raw, _, writes_there in found:
            name = CheckpointName(thread, checkpoint_ns, raw_id.decode())
            record = self._keys.decode_record(raw, name)
            result[name] = assemble(
                name,
                record,
                record_fields(record, channels) if held else {},
                held,
                self._keys.writes_of(name, writes_there),
            )
        return result

    def _repair(self, thread: str, checkpoint_ns: str) -> Steps[None]:
        """Tell the scripts again what the records say; needed once after a restore."""
        keys = self._keys.of(thread, checkpoint_ns)
        replies = yield Batch([("HGETALL", keys[1]), ("PTTL", keys[1])], idempotent=True)
        flat: list[bytes] = []
        for raw_id, raw in fields(replies[0]).items():
            name = CheckpointName(thread, checkpoint_ns, raw_id.decode())
            record = self._keys.decode_record(raw, name)
            named = record_fields(record).values()
            flat += (raw_id, self._entry(raw, record.parent, named))
        commands = fill(keys[5], flat)
        if replies[1] > 0:
            commands.append(("PEXPIRE", keys[5], replies[1]))
        if commands:
            yield Batch(commands, atomic=True, idempotent=True)

    @_or_plainly
    def ancestors(self, name: CheckpointName, limit: int) -> Steps[list[StoredCheckpoint]]:
        """Follow the parents. One round trip; three more after the store was restored."""
        thread, checkpoint_ns, _ = name
        chain: list[StoredCheckpoint] = []
        cursor: str | None = name.id
        repaired = False
        while cursor is not None and len(chain) < limit:
            arguments: list[bytes | str | int] = [cursor, limit - len(chain)]
            command = self._call(lua.ANCESTORS, thread, checkpoint_ns, arguments)
            known, found = yield from self._send(command)
            pairs = iter(found)
            for raw_id, raw in zip(pairs, pairs, strict=True):
                ancestor = CheckpointName(thread, checkpoint_ns, raw_id.decode())
                record = self._keys.decode_record(raw, ancestor)
                chain.append(StoredCheckpoint(ancestor, record, {}, []))
            if known:
                break
            cursor = chain[-1].record.parent
            if cursor is not None and not repaired:
                repaired = True
                yield from self._repair(thread, checkpoint_ns)
        return chain

    @_or_plainly
    def list_ids(
        self, thread: str, checkpoint_ns: str | None, before: str | None, limit: int | None
    ) -> Steps[list[CheckpointName]]:
        """Return the greatest ids. One round trip."""
        arguments = [
            "all" if checkpoint_ns is None else "one",
            before or "",
            -1 if limit is None else limit,
        ]
        command = self._call(lua.LIST_IDS, thread, checkpoint_ns or "", arguments)
        entries = iter((yield from self._send(command)))
        found = [
            CheckpointName(thread, space.decode(), checkpoint_id.decode())
            for space, ids in zip(entries, entries, strict=True)
            for checkpoint_id in ids
        ]
        return newest_first(found, limit)

    @_or_plainly
    def delete(
        self,
        thread: str,
        checkpoint_ns: str,
        ids: Sequence[str],
        *,
        orphans_before: str | None = None,
    ) -> Steps[None]:
        """Remove checkpoints. One round trip; three more after the store was restored."""
        command = self._call(lua.DELETE, thread, checkpoint_ns, [orphans_before or "", *ids])
        for _ in range(_TRIES):
            if (yield from self._send(command)):
                return
            yield from self._repair(thread, checkpoint_ns)
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

        def add(key: bytes, content: Any) -> None:
            commands.extend(
                fill(key, [part for entry in fields(content).items() for part in entry])
            )
            touched[key] = None

        for raw, checkpoints, values, orphans, writes in dump:
            checkpoint_ns = raw.decode()
            first, *parts, order, entries = self._keys.of(target, checkpoint_ns)
            if self.scripting:
                commands.append(self._call(lua.REVIVE, target, checkpoint_ns, ()))
            else:
                commands += yield from self.plain.revive(target, checkpoint_ns)
            add(first, {raw: self._keys.one})
            for key, content in zip(parts, (checkpoints, values, orphans), strict=True):
                add(key, content)
            commands.append(("UNLINK", order, entries))
            pairs = iter(writes)
            for raw_id, content in zip(pairs, pairs, strict=True):
                add(self._keys.writes(target, checkpoint_ns) + raw_id, content)
        if self._ttl:
            commands += [("PEXPIRE", key, self._ttl) for key in touched]
        if commands:
            yield from self._store.written(commands, atomic=True, idempotent=True)

    def threads(self) -> Steps[list[str]]:
        """Return the ids of all threads. One round trip; enumerates the keys on the server."""
        found = yield from self._store.namespaces(THREADS)
        threads = (thread_of(name) for name in found)
        return [thread for thread in threads if thread is not None]
