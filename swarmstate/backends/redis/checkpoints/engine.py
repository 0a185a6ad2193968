r"""LangGraph checkpoints on Redis and Valkey: one script call per operation.

The hashes are those of :mod:`swarmstate.checkpoints.format`. Two keys per checkpoint namespace are
derived from them and lie apart: the order of the ids, and which values each checkpoint refers to,
for the scripts to read whatever the store's codec (see :mod:`~.derived`).

Where the server refuses scripts, :class:`~.without_scripts.PlainCheckpoints` does the same with
transactions and a few more round trips.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from time import monotonic
from typing import Any, Concatenate, ParamSpec, TypeVar

from swarmstate._redis import assembled, put_arguments, unknown, writes_arguments
from swarmstate.arguments import milliseconds
from swarmstate.backends.redis.checkpoints import reading_scripts as reading
from swarmstate.backends.redis.checkpoints import scripts as lua
from swarmstate.backends.redis.checkpoints.copies import Copies
from swarmstate.backends.redis.checkpoints.derived import FEW, Derived
from swarmstate.backends.redis.checkpoints.keys import AT_A_TIME, ThreadKeys, draw, in_parts
from swarmstate.backends.redis.checkpoints.lifetime import Lifetime
from swarmstate.backends.redis.checkpoints.limit_scripts import PUT_WITHIN
from swarmstate.backends.redis.checkpoints.removal import Removal
from swarmstate.backends.redis.checkpoints.retention import Retention
from swarmstate.backends.redis.checkpoints.without_scripts import PlainCheckpoints
from swarmstate.backends.redis.commands import Batch, Command, CommandRefused, Script
from swarmstate.backends.redis.steps import StoreSteps
from swarmstate.backends.redis.transport.driver import Driver
from swarmstate.checkpoints.format import (
    THREADS,
    check_id,
    encode_record,
    field,
    is_id,
    thread_of,
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
from swarmstate.checkpoints.references import rebuilt_channels
from swarmstate.errors import ArgumentValueError, StoreUnavailable
from swarmstate.steps import Steps

__all__ = ["RedisCheckpoints"]

T = TypeVar("T")
P = ParamSpec("P")
_Operation = Callable[Concatenate["RedisCheckpoints", P], Steps[T]]
_Arguments = list[bytes | str | int]

_TRIES = 50
# Bytes that each of several namespaces may fill at least, of what is fetched at once.
_LEAST_SHARE = 256 << 10
# Ids of latest checkpoints that are kept to be guessed, and how long the names of one may be.
_MOST_GUESSES = 1024
_LONGEST_GUESS = 512
_PAGE_OF_KEYS = 10_000
# More keys than any server holds.
_ALL = 1_000_000_000


def _or_plainly(operation: _Operation[P, T]) -> _Operation[P, T]:
    """Do an operation the other way from the moment that the server refuses scripts."""
    name = operation.__name__

    @functools.wraps(operation)
    def either(self: RedisCheckpoints, /, *args: P.args, **kwargs: P.kwargs) -> Steps[T]:
        if self.scripting:
            try:
                return (yield from operation(self, *args, **kwargs))
            except CommandRefused as refused:
                self._do_without_scripts(refused)
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
        # No methods of the engine's own: a frame more costs a hundredth of a put.
        self.run = driver.run
        """Run an operation, blocking on one connection of the pool."""
        self.arun = driver.arun
        """Run an operation without blocking; what many tasks send shares pipelines."""
        self._clustered = driver.clustered
        self._keys = ThreadKeys(steps)
        self._life = Lifetime(self._keys, lifetime, on_read=ttl_on_read)
        self._derived = Derived(self._keys)
        self._removal = Removal(self._keys)
        self._retention = Retention(self._keys, self._derived)
        self.plain = PlainCheckpoints(self._keys, self._life, self._retention)
        self._copies = Copies(self._keys, self._life)
        self._guesses: dict[bytes, str] = {}
        self.scripting = True
        """Whether the server lets us run scripts, as far as known."""

    def _do_without_scripts(self, refused: CommandRefused) -> None:
        """Take note that the server refuses scripts, or raise what it has refused."""
        if not refused.scripting_refused:
            raise refused
        self.scripting = False

    # Writing -----------------------------------------------------------------------------------

    # As _or_plainly() does, the calls of every step of a graph do without a generator of its own: a
    # frame more costs a hundredth of them.

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
        """Store a checkpoint. One round trip."""
        if name.id[:1] == "\0":
            check_id(name.id)
        if self.scripting:
            deltas: Sequence[str] = ()
            if record.deltas:
                # As record_fields() gives them.
                versions = record.versions
                deltas = [field(c, versions[c]) for c in record.deltas if c in versions]
            arguments = put_arguments(
                self._store.values,
                name.id,
                encode_record(record),
                values,
                inherited,
                deltas,
                self._keys.one,
            )
            surplus = None
            try:
                if keep is None:
                    missing, _ = yield from self._write(lua.PUT, name, arguments)
                else:
                    rebuilt = rebuilt_channels(record)
                    arguments.append(
                        self._retention.argument(keep, caller, rebuilt, clustered=self._clustered)
                    )
                    more = self._retention.noted(name, caller)
                    missing, found = yield from self._write(PUT_WITHIN, name, arguments, more)
                    surplus = yield from self._retention.found(name, keep, found)
            except CommandRefused as refused:
                self._do_without_scripts(refused)
            else:
                if missing:
                    return None, [key.decode() for key in missing]
                if self._clustered:
                    self._guess(name)
                return surplus, []
        return (
            yield from self.plain.put(name, record, values, inherited, keep=keep, caller=caller)
        )

    def put_writes(
        self,
        name: CheckpointName,
        writes: Mapping[str, Any],
        values: Mapping[str, Blob] = NO_VALUES,
        inherited: Sequence[str] = (),
    ) -> Steps[list[str]]:
        """Store pending writes. One round trip for any number."""
        if name.id[:1] == "\0":
            check_id(name.id)
        if self.scripting:
            drawn: bytes | str = ""
            more: tuple[bytes, ...] = ()
            if values or inherited:
                drawn = draw()
                more = (self._keys.references(*name[:2]),)
            arguments = writes_arguments(
                self._store.values, name.id, writes, values, inherited, drawn, self._keys.one
            )
            try:
                missing, _ = yield from self._write(lua.PUT_WRITES, name, arguments, more)
            except CommandRefused as refused:
                self._do_without_scripts(refused)
            else:
                return [key.decode() for key in missing]
        return (yield from self.plain.put_writes(name, writes, values, inherited))

    def _write(
        self,
        script: Script,
        name: CheckpointName,
        arguments: _Arguments,
        more: tuple[bytes, ...] = (),
    ) -> Steps[tuple[list[bytes], Any]]:
        """Run a script that writes, and do what it leaves to be done.

        Returns:
            What it lacks, and what else it says.
        """
        thread, checkpoint_ns, checkpoint_id = name
        names = self._keys.kept.get((thread, checkpoint_ns))
        keys, start, before = names or self._keys.named(thread, checkpoint_ns)
        checkpoints = keys[1]
        is_new = hash(checkpoints) not in self._derived.known
        keys = (*keys, start + checkpoint_id.encode())
        if is_new or self._clustered or more:
            keys += (*before, *more)
        for _ in range(_TRIES):
            first = (checkpoint_ns, self._life.argument, 1 if is_new or more else 0)
            command = (script, len(keys), *keys, *first, *arguments)
            if monotonic() >= self._store.marker.due_to_writes:
                replies = yield from self._store.written([command], atomic=False, idempotent=True)
            else:
                replies = yield Batch([command], idempotent=True)
            outcome = replies[0]
            if not isinstance(outcome, list):
                if is_new:
                    self._derived.compared(checkpoints, 0)
                return [], None
            if isinstance(outcome[0], bytes):
                return outcome, None
            if outcome[0] < 0:
                yield from self._removal.bury(thread, checkpoint_ns)
                continue
            fits, renew, left, refused, *surplus = outcome
            if refused:
                self._life.refuse(refused.decode(errors="replace"))
            if not fits:
                yield from self._derived.put_right(thread, checkpoint_ns)
            if renew:
                yield from self._life.renew(thread, left, scripted=True)
            return [], surplus[0] if surplus else None
        raise StoreUnavailable(
            f"thread {thread!r} expired and came back more often than it could be written to"
        )

    # Reading -----------------------------------------------------------------------------------

    def get(self, name: CheckpointName) -> Steps[StoredCheckpoint | None]:
        """Return a checkpoint. One round trip.

        By the id "" on a cluster two, where the latest id is not known yet. Up to three more where
        what is derived must be put right first.
        """
        if self.scripting:
            try:
                if name.id:
                    return (yield from self._load([name], None, writes=True))[0]
                certain, found = yield from self._latest(name)
                if certain:
                    return found
            except CommandRefused as refused:
                self._do_without_scripts(refused)
        return (yield from self.plain.get(name))

    def _latest(self, name: CheckpointName) -> Steps[tuple[bool, StoredCheckpoint | None]]:
        """Return the latest checkpoint of a namespace, and whether what is derived could tell."""
        store = self._store
        thread, checkpoint_ns, _ = name
        checkpoints = self._keys.of(thread, checkpoint_ns)[1]
        compare = self._derived.comparison(checkpoints)
        guess = self._guesses.get(checkpoints, "") if self._clustered else ""
        for _ in range(_TRIES):
            command = self._reading(name, ("", guess), None, True, compare)
            if monotonic() >= store.marker.due_to_reads:
                replies = yield from store.asked([command])
            else:
                replies = yield Batch([command], idempotent=True)
            reply = replies[0]
            if isinstance(reply, bytes):
                guess = reply.decode()
                continue
            if not isinstance(reply, list):
                if not (yield from self._derived.put_right(thread, checkpoint_ns)):
                    break
                continue
            if compare and reply[4] > FEW:
                self._derived.compared(checkpoints, reply[4])
                compare = ""
            missing = unknown(reply)
            if missing:
                entries = self._entries(name, missing)
                if not (yield from self._derived.remember(thread, checkpoint_ns, entries)):
                    break
                continue
            if reply[3] >= 0 and self._life.outdated_on_read(reply[3]):
                yield from self._life.renew(thread, reply[3], scripted=True, read=True)
            found = assembled(store.values, name, reply, None)
            if found and self._clustered:
                self._guess(found[0].name)
            return True, found[0] if found else None
        return False, None

    @_or_plainly
    def load(
        self,
        names: Sequence[CheckpointName],
        *,
        channels: Collection[str] | None,
        writes: bool,
        most: int | None = None,
    ) -> Steps[list[StoredCheckpoint | None]]:
        """Return checkpoints by name. One round trip."""
        return (yield from self._load(names, channels, writes=writes, most=most))

    def _load(
        self,
        names: Sequence[CheckpointName],
        channels: Collection[str] | None,
        *,
        writes: bool,
        most: int | None = None,
    ) -> Steps[list[StoredCheckpoint | None]]:
        spaces: dict[CheckpointName, list[str]] = {}
        for name in names:
            if is_id(name.id):
                spaces.setdefault(name._replace(id=""), []).append(name.id)
        asked = [(space, some) for space, ids in spaces.items() for some in in_parts(ids)]
        # Of several namespaces, each may fill its part, but one checkpoint is given in any case.
        share = 0 if most is None else max(most // max(len(asked), 1), _LEAST_SHARE)
        unread: set[CheckpointName] = set()
        found: dict[CheckpointName, StoredCheckpoint] = {}
        left: dict[str, int] = {}
        for _ in range(_TRIES):
            if not asked or self._derived.refused:
                break
            commands = [
                self._reading(space, ids, channels, writes, "", share=share) for space, ids in asked
            ]
            replies = yield from self._store.asked(commands)
            again = []
            for (space, ids), reply in zip(asked, replies, strict=True):
                left[space.thread] = reply[3]
                missing = unknown(reply)
                if missing:
                    entries = self._entries(space, missing)
                    yield from self._derived.remember(space.thread, space.checkpoint_ns, entries)
                    again.append((space, ids))
                else:
                    unread.update(space._replace(id=each) for each in ids[reply[6] :])
                    for one in assembled(self._store.values, space, reply, channels):
                        found[one.name] = one
            asked = again
        for thread, milliseconds_left in left.items():
            if self._life.outdated_on_read(milliseconds_left):
                yield from self._life.renew(thread, milliseconds_left, scripted=True, read=True)
        if asked:
            rest = [space._replace(id=each) for space, ids in asked for each in ids]
            loaded = yield from self.plain.load(rest, channels=channels, writes=writes)
            found |= {one.name: one for one in loaded if one is not None}
        reached = next((i for i, name in enumerate(names) if name in unread), len(names))
        return [found.get(name) for name in names[:reached]]

    def _reading(
        self,
        name: CheckpointName,
        ids: Sequence[str],
        channels: Collection[str] | None,
        writes: bool,
        compare: int | str,
        *,
        share: int = 0,
    ) -> Command:
        """Return the command that reads checkpoints of the namespace that a name is of."""
        thread, checkpoint_ns, _ = name
        of_space, start, _ = self._keys.named(thread, checkpoint_ns)
        first, checkpoints, values, _, order, entries = of_space
        keys: Sequence[bytes] = (first, checkpoints, values, order, entries)
        if self._clustered:
            if writes:
                keys = (*keys, *(start + each.encode() for each in ids if each))
            start = b""
        kind = b"all" if channels is None else b"some" if channels else b"none"
        chosen = channels or ()
        on_read = int(self._life.on_read)
        asked = (int(writes), compare, on_read, share, len(chosen), *chosen, *ids)
        return (reading.READ, len(keys), *keys, checkpoint_ns, start, kind, *asked)

    def _entries(
        self, space: CheckpointName, records: Iterable[tuple[bytes, bytes]]
    ) -> dict[bytes, bytes]:
        """Return by id what is to be derived of records."""
        entry = self._keys.entry_of
        return {raw_id: entry(raw, space._replace(id=raw_id.decode())) for raw_id, raw in records}

    def _guess(self, name: CheckpointName) -> None:
        """Keep the id of what may be the latest checkpoint: a cluster is asked by it."""
        key = self._keys.of(*name[:2])[1]
        if len(key) + len(name.id) <= _LONGEST_GUESS:
            if len(self._guesses) >= _MOST_GUESSES:
                self._guesses.clear()
            self._guesses[key] = name.id

    @_or_plainly
    def ancestors(self, name: CheckpointName, limit: int) -> Steps[list[StoredCheckpoint]]:
        """Follow the parents. One round trip; up to three more for each hundred after a restore."""
        thread, checkpoint_ns, checkpoint_id = name
        first, checkpoints, _, _, _, entries = self._keys.of(thread, checkpoint_ns)
        arguments: _Arguments = [checkpoint_ns, checkpoint_id, limit]
        command = reading.ANCESTORS((first, checkpoints, entries), arguments)
        known, found = (yield Batch([command], idempotent=True))[0]
        chain: list[StoredCheckpoint] = []
        pairs = iter(found)
        for raw_id, raw in zip(pairs, pairs, strict=True):
            ancestor = CheckpointName(thread, checkpoint_ns, raw_id.decode())
            record = self._keys.decode_record(raw, ancestor)
            chain.append(StoredCheckpoint(ancestor, record, {}, []))
        if known == 2:
            chain[-1] = SeveredCheckpoint(*chain[-1])
        elif not known and len(chain) < limit:
            # What is not derived yet comes to be known when the checkpoints are loaded.
            parent = chain[-1].record.parent
            if parent is not None:
                rest = name._replace(id=parent)
                chain += yield from self.plain.ancestors(rest, limit - len(chain))
        return chain

    @_or_plainly
    def list_ids(
        self,
        threads: Sequence[str],
        checkpoint_ns: str | None,
        before: str | None,
        limit: int | None,
    ) -> Steps[list[CheckpointName]]:
        """Return the greatest ids. One round trip for some 500 threads, two for all namespaces."""
        if limit is None or limit > AT_A_TIME:
            # All are to be looked at anyway.
            return (yield from self.plain.list_ids(threads, checkpoint_ns, before, limit))
        found: list[CheckpointName] = []
        for some in in_parts(threads):
            if checkpoint_ns is None:
                spaces = yield from self.plain.namespaces(some)
            else:
                spaces = [(thread, checkpoint_ns) for thread in some]
            for _ in range(_TRIES):
                if not spaces:
                    break
                spaces = yield from self._listed(spaces, before, limit, found)
            for thread, space in spaces:
                found += yield from self.plain.list_ids([thread], space, before, limit)
        return newest_first(found, limit)

    def _listed(
        self,
        spaces: Sequence[tuple[str, str]],
        before: str | None,
        limit: int,
        found: list[CheckpointName],
    ) -> Steps[list[tuple[str, str]]]:
        """Add the greatest ids of namespaces; return the namespaces that have to be asked again."""
        commands = []
        compared = []
        for thread, space in spaces:
            first, checkpoints, _, _, order, _ = self._keys.of(thread, space)
            compare = self._derived.comparison(checkpoints)
            compared.append(checkpoints if compare else b"")
            arguments: _Arguments = [space, before or "", limit, compare]
            commands.append(reading.LIST_IDS((first, checkpoints, order), arguments))
        replies = yield Batch(commands, idempotent=True)
        again: list[tuple[str, str]] = []
        for (thread, space), checkpoints, reply in zip(spaces, compared, replies, strict=True):
            if isinstance(reply, list):
                size, *ids = reply
                if checkpoints:
                    self._derived.compared(checkpoints, size)
                found += [CheckpointName(thread, space, raw.decode()) for raw in ids]
            elif (yield from self._derived.put_right(thread, space)):
                again.append((thread, space))
            else:
                found += yield from self.plain.list_ids([thread], space, before, limit)
        return again

    # Removing and copying ----------------------------------------------------------------------

    @_or_plainly
    def delete(
        self,
        thread: str,
        checkpoint_ns: str,
        ids: Sequence[str],
        *,
        orphans_before: str | None = None,
    ) -> Steps[None]:
        """Remove checkpoints. Four round trips, whatever their number."""
        yield from self._removal.delete(thread, checkpoint_ns, ids, orphans_before)

    def surplus(self, thread: str, checkpoint_ns: str, keep: int) -> Steps[Surplus | None]:
        """Return what a namespace holds beyond its newest checkpoints. Three round trips."""
        return (yield from self._retention.surplus(thread, checkpoint_ns, keep))

    def inspect(
        self, surplus: Surplus, ids: Sequence[str], *, gates: bool
    ) -> Steps[tuple[dict[str, list[str]], Mapping[str, CheckpointRecord]]]:
        """Return more about a surplus. One round trip."""
        return (yield from self._retention.inspect(surplus, ids, gates=gates))

    def release(
        self,
        surplus: Surplus,
        doomed: Sequence[tuple[str, Sequence[str]]],
        spaces: Sequence[str],
        calls: Mapping[str, Sequence[str]] | None = None,
    ) -> Steps[bool]:
        """Remove a part of a surplus. One round trip, and one for namespaces that go with it."""
        release = self._retention.release
        if self.scripting:
            try:
                return (yield from release(surplus, doomed, spaces, calls, scripted=True))
            except CommandRefused as refused:
                if not refused.scripting_refused:
                    raise
                self.scripting = False
        return (yield from release(surplus, doomed, spaces, calls, scripted=False))

    def spaces(self, thread: str) -> Steps[list[str]]:
        """Return the checkpoint namespaces of a thread. One round trip."""
        listed = yield Batch([("HKEYS", self._keys.of(thread, "")[0])], idempotent=True)
        return [raw.decode() for raw in listed[0]]

    @_or_plainly
    def delete_thread(self, thread: str) -> Steps[None]:
        """Remove everything of a thread. Three round trips, more for thousands of checkpoints."""
        yield from self._removal.delete_thread(thread)

    def copy_thread(self, source: str, target: str) -> Steps[None]:
        """Add a thread to another. Five round trips, more for thousands of checkpoints."""
        bury = self._removal.bury if self.scripting else self.plain.bury
        try:
            yield from self._copies.copy(source, target, bury, scripted=self.scripting)
        except CommandRefused as refused:
            if not refused.scripting_refused:
                raise
            self.scripting = False
            yield from self._copies.copy(source, target, self.plain.bury, scripted=False)

    def threads(self) -> Steps[list[str]]:
        """Return the ids of all threads; enumerates the keys on the server.

        In pages of 10,000 keys, a round trip each, so that nobody waits for long; on a cluster in
        one command for each node.
        """
        layout = self._store.layout
        pattern = layout.pattern.removesuffix(b"*") + THREADS.encode() + b"*"
        found: dict[bytes, None] = {}
        if self._clustered:
            scan = ("SCAN", b"0", "MATCH", pattern, "COUNT", _ALL, "TYPE", "hash")
            pages = (yield Batch([scan], idempotent=True, everywhere=True))[0]
        else:
            pages, cursor = [], b"0"
            while not pages or cursor != b"0":
                scan = ("SCAN", cursor, "MATCH", pattern, "COUNT", _PAGE_OF_KEYS, "TYPE", "hash")
                page = (yield Batch([scan], idempotent=True))[0]
                cursor = page[0]
                pages.append(page)
        for _, keys in pages:
            found.update(dict.fromkeys(keys))
        names = (key[len(layout.head) :].decode(errors="surrogateescape") for key in found)
        threads = map(thread_of, names)
        return [thread for thread in threads if thread is not None]
