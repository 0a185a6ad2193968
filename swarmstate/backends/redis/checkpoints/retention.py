r"""Limits: finding and removing what a namespace holds beyond its newest checkpoints.

A put with a limit notes who refers to what, as :mod:`swarmstate.checkpoints.references` describes,
in one more derived hash of the namespace: ``v<field>``, ``p<parent>`` -> the greatest id that does
so, ``d`` -> msgpack of channel -> id, ``f`` -> the fork, ``c<id>`` -> msgpack of the namespaces
called from it, ``n`` -> how many checkpoints there are, ``k`` -> how many older ones had to stay,
``s<id>`` -> msgpack of the segments that its writes need, which then count as referred to by it,
and ``r`` -> what whoever removed checkpoints last, or wrote what needs segments, had drawn by lot.
So the next put knows whether
another writer was there meanwhile: then, and where the hash was lost, all of the namespace is read
once and noted again. Users without scripts read all each time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any, NamedTuple

from swarmstate import codecs
from swarmstate.backends.redis.checkpoints import limit_scripts as lua
from swarmstate.backends.redis.checkpoints.derived import Derived
from swarmstate.backends.redis.checkpoints.keys import (
    ThreadKeys,
    draw,
    id_in,
    in_parts,
    is_record,
    marks,
)
from swarmstate.backends.redis.checkpoints.removal import MOST_AT_ONCE
from swarmstate.backends.redis.commands import Batch, Command, CommandRefused, fill
from swarmstate.checkpoints.format import is_segment
from swarmstate.checkpoints.protocol import (
    Aged,
    CheckpointName,
    CheckpointRecord,
    StoredCheckpoint,
    Surplus,
)
from swarmstate.checkpoints.references import MANY, References, calls_below, is_gate, within
from swarmstate.steps import Steps

__all__ = ["Retention"]

_Doomed = Sequence[tuple[str, Sequence[str]]]

_plain = codecs.get("msgpack")
_MOST_IDS = 200
"""How many checkpoints one command removes."""
_MOST_PARTS = 20
"""How many such commands one batch carries."""


class _State(NamedTuple):
    """What a surplus was read from, to see whether it still holds.

    Attributes:
        drawn: what whoever removed checkpoints last had drawn by lot.
        next: what is drawn for removing these.
        size: how many checkpoints there were.
        orphans: the ids of writes that have no checkpoint and go.
        spaces: the thread's checkpoint namespaces, where they are of interest.
        references: what is to be noted, if all was read to that end.
        alone: the segments that only the writes of orphans need, and maybe of older checkpoints.
        strays: the values that no checkpoint refers to, if all was read.
        stay: the ids of all checkpoints, if all was read.
    """

    drawn: bytes
    next: bytes
    size: int
    orphans: Sequence[bytes]
    spaces: Sequence[str]
    alone: Sequence[str] = ()
    references: References | None = None
    strays: Sequence[bytes] = ()
    stay: Set[bytes] = frozenset()


class _Part(NamedTuple):
    """What one command removes."""

    drawn: bytes
    """What must have been drawn last."""
    size: int
    """How many checkpoints there must be before."""
    ids: Sequence[bytes]
    orphans: Sequence[bytes]
    fields: Sequence[bytes]


class Retention:
    """Limits of namespaces on Redis.

    Args:
        keys: Where threads lie.
        derived: What is derived of them.
    """

    def __init__(self, keys: ThreadKeys, derived: Derived) -> None:
        self._keys = keys
        self._derived = derived

    @staticmethod
    def argument(
        keep: int, caller: CheckpointName | None, rebuilt: Sequence[str], *, clustered: bool
    ) -> bytes:
        """Return what a put within a limit is told."""
        drawn = "" if clustered else draw().decode()
        return _plain.encode([keep, "" if caller is None else caller.id, drawn, *rebuilt])

    def noted(self, name: CheckpointName, caller: CheckpointName | None) -> tuple[bytes, bytes]:
        """Return where it is noted who refers to what, and what was called from the caller."""
        above = (caller or name).checkpoint_ns
        references = self._keys.references
        return references(*name[:2]), references(name.thread, above)

    # Finding -----------------------------------------------------------------------------------

    def found(self, name: CheckpointName, keep: int, reply: Any) -> Steps[Surplus | None]:
        """Return what a put has found; reads all of the namespace where it has to."""
        if not reply:
            return None
        if not isinstance(reply, list):
            return (yield from self.surplus(name.thread, name.checkpoint_ns, keep, note=True))
        count, drawn, oldest, entries, rebuilt, gate, orphans, spaces, alone = reply
        older = []
        for raw_id, parent, fields, loose, continued, calls, raw in entries:
            each = raw_id.decode()
            older.append(
                Aged(
                    each,
                    parent.decode() or None,
                    [key.decode() for key in fields],
                    [key.decode() for key in loose],
                    bool(continued),
                    _plain.decode(calls) if calls else (),
                    self._keys.decode_record(raw, name._replace(id=each)) if raw else None,
                )
            )
        least = oldest.decode()
        last = _plain.decode(rebuilt) if rebuilt else {}
        channels = [channel for channel, each in last.items() if each >= least]
        gates: dict[str, CheckpointRecord] | None = {}
        if channels:
            gates = None
            if gate:
                record = self._keys.decode_record(gate, name._replace(id=least))
                gates = {least: record} if is_gate(record, channels) else None
        listed = [raw.decode() for raw in spaces]
        loose = [key.decode() for key in alone]
        state = _State(drawn, draw(), count, orphans, listed, loose)
        return Surplus(name.thread, name.checkpoint_ns, least, older, channels, gates, None, state)

    def asked(self, name: CheckpointName) -> list[Command]:
        """Return what asks for all names that a namespace holds."""
        first, checkpoints, values, orphans, _, entries = self._keys.of(*name[:2])
        hashes = (checkpoints, orphans, values, first)
        return [("HGET", entries, b"\0n"), *(("HKEYS", key) for key in hashes)]

    def surplus(
        self,
        thread: str,
        checkpoint_ns: str,
        keep: int,
        *,
        note: bool = False,
        known: Sequence[Any] = (),
    ) -> Steps[Surplus | None]:
        """Read all of a namespace. Three round trips, more for thousands of checkpoints.

        Args:
            thread: The thread.
            checkpoint_ns: The checkpoint namespace.
            keep: How many checkpoints are kept in any case.
            note: Whether to note, when it is released, who refers to what.
            known: The replies to what :meth:`asked` returns, where they are at hand.
        """
        name = CheckpointName(thread, checkpoint_ns, "")
        if not known:
            known = yield Batch(self.asked(name), idempotent=True, ignore=("WRONGTYPE",))
        drawn, held, waiting, fields, listed = known
        spaces = [raw.decode() for raw in listed or ()]
        ids = sorted(filter(is_record, held or ()))
        if not ids or checkpoint_ns not in spaces:
            return None
        below = calls_below(checkpoint_ns, spaces)
        records, below_ids = yield from self._records(name, ids, below, remember=note)
        if not records:  # removed a moment ago
            return None
        named = {*waiting, *map(id_in, held)}
        needed: Mapping[str, Sequence[str]] = {}
        if any(map(is_segment, fields or ())):
            needed = yield from self._keys.needed(name, named)
        references = References(records, needed)
        calls = yield from self._heads(thread, below_ids)
        found = references.surplus(name, keep, lambda _: records, calls)
        oldest = found.oldest.encode()
        orphans = [raw for raw in named.difference(ids) if raw < oldest]
        alone = [
            key
            for raw in orphans
            for key in needed.get(raw.decode(), ())
            if references.values[key] < found.oldest
        ]
        strays = [raw for raw in fields or () if raw.decode() not in references.values]
        return found._replace(
            state=_State(
                drawn or b"",
                draw(),
                len(ids),
                orphans,
                spaces,
                alone,
                references if note else None,
                strays,
                frozenset(ids),
            )
        )

    def _records(
        self,
        name: CheckpointName,
        ids: Sequence[bytes],
        below: Sequence[str],
        *,
        remember: bool = False,
    ) -> Steps[tuple[dict[str, CheckpointRecord], dict[str, list[bytes]]]]:
        """Return the records with these ids, and the ids of other namespaces.

        Scripts that are to ``remember`` what the records refer to are told where they do not.
        """
        _, checkpoints, _, _, _, entries = self._keys.of(*name[:2])
        groups = [*in_parts(ids)]
        commands: list[Command] = [("HMGET", checkpoints, *some) for some in groups]
        commands += [("HKEYS", self._keys.of(name.thread, space)[1]) for space in below]
        replies: list[Any] = []
        for batch in in_parts(commands, 20):
            replies += yield Batch(batch, idempotent=True)
        records: dict[str, CheckpointRecord] = {}
        for some, reply in zip(groups, replies, strict=False):
            for raw, data in zip(some, reply, strict=True):
                if data is not None:
                    each = raw.decode()
                    record = self._keys.decode_record(data, name._replace(id=each))
                    records[each] = record._replace(body=("", b""), metadata=("", b""))
        known = dict(zip(below, replies[len(groups) :], strict=True))
        if remember:
            told: list[Any] = []
            for some in groups:
                reply = yield Batch(
                    [("HMGET", entries, *some)], idempotent=True, ignore=("WRONGTYPE",)
                )
                told += reply[0] or [None] * len(some)
            right = {
                raw: self._keys.entry_of(data, name._replace(id=raw.decode()))
                for raw, data in zip(
                    ids, (d for r in replies[: len(groups)] for d in r), strict=True
                )
                if data is not None
            }
            wrong = {
                raw: right[raw]
                for raw, entry in zip(ids, told, strict=True)
                if raw in right and entry != right[raw]
            }
            if wrong:
                yield from self._derived.remember(*name[:2], wrong)
        return records, known

    def _heads(
        self, thread: str, known: Mapping[str, list[bytes]]
    ) -> Steps[list[StoredCheckpoint]]:
        """Return the newest checkpoint of each namespace, without values."""
        heads = {space: max(filter(is_record, ids), default=None) for space, ids in known.items()}
        newest = [(space, raw) for space, raw in heads.items() if raw is not None]
        found: list[StoredCheckpoint] = []
        for some in in_parts(newest):
            commands = [("HGET", self._keys.of(thread, space)[1], raw) for space, raw in some]
            replies = yield Batch(commands, idempotent=True)
            for (space, raw), data in zip(some, replies, strict=True):
                if data is not None:
                    name = CheckpointName(thread, space, raw.decode())
                    record = self._keys.decode_record(data, name)
                    found.append(StoredCheckpoint(name, record, {}, []))
        return found

    def inspect(
        self, surplus: Surplus, ids: Sequence[str], *, gates: bool
    ) -> Steps[tuple[dict[str, list[str]], Mapping[str, CheckpointRecord]]]:
        """Return the keys of writes, and all that are kept. One round trip, more for thousands."""
        name = CheckpointName(surplus.thread, surplus.checkpoint_ns, "")
        written: list[Command] = [("HKEYS", self._keys.written(name._replace(id=i))) for i in ids]
        known = surplus.gates or {}
        kept: list[bytes] = []
        if gates:
            held = yield Batch([("HKEYS", self._keys.of(*name[:2])[1])], idempotent=True)
            oldest = surplus.oldest.encode()
            kept = [raw for raw in filter(is_record, held[0]) if raw >= oldest]
        replies: list[Any] = []
        for batch in in_parts(written):
            replies += yield Batch(batch, idempotent=True)
        if kept:
            known, _ = yield from self._records(name, kept, ())
        keys = {
            each: [raw.decode() for raw in reply] for each, reply in zip(ids, replies, strict=True)
        }
        return keys, known

    # Removing ----------------------------------------------------------------------------------

    def release(
        self,
        surplus: Surplus,
        doomed: _Doomed,
        spaces: Sequence[str],
        calls: Mapping[str, Sequence[str]] | None,
        *,
        scripted: bool,
    ) -> Steps[bool]:
        """Remove a part of a surplus. One round trip, and one for namespaces that go with it.

        More for thousands of checkpoints, which go in parts.
        """
        state: _State = surplus.state
        gone = within(spaces, state.spaces)
        asked: list[Command] = []
        for space in gone:
            keys = self._keys.of(surplus.thread, space)
            asked += [("HKEYS", keys[1]), ("HKEYS", keys[3])]
        send = self._release if scripted else self._release_plainly
        stay = len(surplus.older) - len(doomed)
        went = {each for each, _ in doomed}
        staying = {key for one in surplus.older if one.id not in went for key in one.fields}
        alone = [key.encode() for key in state.alone if key not in staying]
        parts = self._parts(state, doomed, alone)
        drawn = state.next if parts else state.drawn
        last = [*self._noting(surplus, doomed, calls, drawn), *asked] if scripted else asked
        if stay >= MANY and not parts:
            # At least to note that they stay.
            parts = [_Part(state.drawn, state.size, (), (), ())]
        groups = [*in_parts(parts, _MOST_PARTS)] or [()]
        answers: list[Any] = []
        for number, group in enumerate(groups):
            more = last if number == len(groups) - 1 else []
            done, answers = yield from send(surplus, group, more, stay)
            if not done:
                # Another writer was there; or the order, by which they are counted, does not fit.
                right = yield from self._derived.put_right(surplus.thread, surplus.checkpoint_ns)
                if right:
                    return False
                # The server does not let us: then the same without it.
                send, more = self._release_plainly, asked
                _, answers = yield from send(surplus, group, more, stay)
        held = answers[len(answers) - len(asked) :]
        left = list(zip(gone, held[::2], held[1::2], strict=True))
        yield from self._leave(surplus.thread, left, scripted=scripted)
        return True

    @staticmethod
    def _parts(state: _State, doomed: _Doomed, alone: Sequence[bytes]) -> list[_Part]:
        """Return what goes, a bounded amount at a time."""
        parts: list[_Part] = []
        size = state.size

        def add(ids: Sequence[bytes], orphans: Sequence[bytes], fields: Sequence[bytes]) -> None:
            parts.append(_Part(state.next if parts else state.drawn, size, ids, orphans, fields))

        # One command is enough for the usual few.
        few = len(state.orphans) <= _MOST_IDS
        for some in in_parts(doomed, _MOST_IDS):
            ids = [each.encode() for each, _ in some]
            fields = [key.encode() for _, keys in some for key in keys]
            add(ids, () if parts or not few else state.orphans, fields)
            size -= len(some)
        for orphans in in_parts(() if parts and few else state.orphans, _MOST_IDS):
            add((), orphans, ())
        for strays in in_parts([*state.strays, *alone]):
            add((), (), strays)
        return parts

    def _release(
        self, surplus: Surplus, parts: Sequence[_Part], more: list[Command], stay: int
    ) -> Steps[tuple[bool, list[Any]]]:
        """Remove parts by scripts; return whether all went, and the replies to what follows."""
        keys = self._keys.of(surplus.thread, surplus.checkpoint_ns)
        refs = self._keys.references(surplus.thread, surplus.checkpoint_ns)
        start = self._keys.writes(surplus.thread, surplus.checkpoint_ns)
        commands: list[Command] = []
        for drawn, size, ids, orphans, fields in parts:
            writes = [start + raw for raw in (*ids, *orphans)]
            numbers = [size, len(ids), len(orphans), stay, surplus.state.next]
            arguments = [drawn, *numbers, *ids, *orphans, *fields]
            commands.append(lua.RELEASE((*keys, refs, *writes), arguments))
        if not commands and not more:
            return True, []
        replies = yield Batch([*commands, *more], idempotent=True)
        return 0 not in replies[: len(commands)], replies[len(commands) :]

    def _release_plainly(
        self, surplus: Surplus, parts: Sequence[_Part], more: list[Command], stay: int
    ) -> Steps[tuple[bool, list[Any]]]:
        """Remove parts by transactions; what is inherited meanwhile is put back at once."""
        # Who refers to what is not noted, and so neither is it how many ``stay``.
        name = CheckpointName(surplus.thread, surplus.checkpoint_ns, "")
        _, checkpoints, values, orphans, order, entries = self._keys.of(*name[:2])
        refs = self._keys.references(*name[:2])
        start = self._keys.writes(*name[:2])
        state: _State = surplus.state
        answers: list[Any] = []
        for number, part in enumerate(parts or [_Part(b"", 0, (), (), ())]):
            gone = [*part.ids, *part.orphans]
            commands: list[Command] = []
            if part.fields:
                commands += [("HMGET", values, *part.fields), ("HDEL", values, *part.fields)]
            if gone:
                commands += [
                    ("HDEL", checkpoints, *gone, *marks(gone)),
                    ("HDEL", orphans, *gone),
                    ("HDEL", entries, *gone),
                    ("HSET", entries, b"\0n", state.next),
                    ("ZREM", order, *gone, *marks(gone)),
                    ("UNLINK", *(start + raw for raw in gone), refs),
                ]
            commands.append(("HKEYS", checkpoints))
            here = len(commands) - 1
            if number >= len(parts) - 1:
                commands += more
            try:
                replies = yield Batch(commands, atomic=True, idempotent=True, ignore=("WRONGTYPE",))
            except CommandRefused as refused:
                if refused.code != "OOM":
                    raise
                # A full server refuses even what relieves it, but only in a transaction.
                replies = yield Batch(commands, idempotent=True, ignore=("WRONGTYPE", "OOM"))
            answers = replies[here + 1 :]
            new = [raw for raw in filter(is_record, replies[here]) if raw not in state.stay]
            used = yield from self._keys.used(name, new)
            if any(map(is_segment, part.fields)):
                used |= yield from self._keys.needed_now(name)
            back: list[Command] = []
            if part.fields:
                back = [
                    ("HSETNX", values, key, value)
                    for key, value in zip(part.fields, replies[0], strict=True)
                    if key in used and value is not None
                ]
            if back:
                yield Batch(back, atomic=True, idempotent=True)
        return True, answers

    def _noting(
        self,
        surplus: Surplus,
        doomed: _Doomed,
        calls: Mapping[str, Sequence[str]] | None,
        drawn: bytes,
    ) -> list[Command]:
        """Return what notes who refers to what, once the doomed are gone."""
        references: References | None = surplus.state.references
        if references is None:
            return []
        references.remove(doomed)
        references.remove([(raw.decode(), surplus.state.alone) for raw in surplus.state.orphans])
        pairs: list[bytes | str] = []
        for letter, last in (("v", references.values), ("p", references.parents)):
            for each, checkpoint_id in last.items():
                pairs += (letter + each, checkpoint_id)
        for checkpoint_id, segments in references.needed.items():
            pairs += ("s" + checkpoint_id, _plain.encode([*segments]))
        for caller, spaces in (calls or {}).items():
            pairs += ("c" + caller, _plain.encode([*spaces]))
        if references.rebuilt:
            pairs += ("d", _plain.encode(references.rebuilt))
        if references.fork:
            pairs += ("f", references.fork)
        pairs += ("k", str(len(surplus.older) - len(doomed)))
        keys = self._keys.of(surplus.thread, surplus.checkpoint_ns)
        refs = self._keys.references(surplus.thread, surplus.checkpoint_ns)
        numbers = [len(references.ids), len(surplus.state.spaces)]
        return [
            ("UNLINK", refs),
            *fill(refs, pairs),
            lua.NOTE((*keys[:2], *keys[4:], refs), [drawn, *numbers]),
        ]

    def _leave(
        self,
        thread: str,
        spaces: Sequence[tuple[str, Sequence[bytes], Sequence[bytes]]],
        *,
        scripted: bool,
    ) -> Steps[None]:
        """Remove namespaces, each given with the keys among its records and its orphans."""
        commands: list[Command] = []
        for space, records, orphans in spaces:
            first, *own = self._keys.of(thread, space)
            start = self._keys.writes(thread, space)
            writes = [start + raw for raw in {*map(id_in, records), *orphans}]
            keys = [*own, self._keys.references(thread, space), *writes]
            if len(keys) > MOST_AT_ONCE:
                # Absent first, then the rest.
                yield Batch([("HDEL", first, space)], idempotent=True)
                for part in in_parts(keys):
                    yield Batch([("UNLINK", *part)], idempotent=True)
            elif scripted:
                commands.append(lua.LEAVE((first, *keys), [space, len(records), len(orphans)]))
            else:
                commands += [("HDEL", first, space), ("UNLINK", *keys)]
        for some in in_parts(commands, _MOST_PARTS * 2):
            yield Batch(some, atomic=not scripted, idempotent=True)
