r"""Limits: finding and removing what a namespace holds beyond its newest checkpoints.

A put with a limit notes who refers to what, as :mod:`swarmstate.checkpoints.references` describes,
in one more derived hash of the namespace: ``v<field>``, ``p<parent>`` -> the greatest id that does
so, ``d`` -> msgpack of channel -> id, ``f`` -> the fork, ``c<id>`` -> msgpack of the namespaces
called from it, ``n`` -> how many checkpoints there are, and ``r`` -> what the last such put has
drawn by lot. So it knows whether another writer was there meanwhile: then, and where the hash was
lost, all of the namespace is read once and noted anew. Users without scripts read all each time.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from swarmstate import codecs
from swarmstate.backends.redis.checkpoints import scripts as lua
from swarmstate.backends.redis.checkpoints.derived import Derived
from swarmstate.backends.redis.checkpoints.keys import (
    ThreadKeys,
    id_in,
    in_parts,
    is_record,
    marks,
)
from swarmstate.backends.redis.checkpoints.removal import MOST_AT_ONCE
from swarmstate.backends.redis.commands import Batch, Command, Script, fill
from swarmstate.checkpoints.protocol import (
    Aged,
    CheckpointName,
    CheckpointRecord,
    StoredCheckpoint,
    Surplus,
)
from swarmstate.checkpoints.references import References, calls_below, is_gate, within
from swarmstate.steps import Steps

__all__ = ["PUT_WITHIN", "Retention"]

_Doomed = Sequence[tuple[str, Sequence[str]]]

_plain = codecs.get("msgpack")
_MOST_OLDER = 100
"""How many older checkpoints a put looks at; if there are more, all of the namespace is read."""

_MOST_IDS = 200
"""How many checkpoints one command removes."""
_MOST_PARTS = 20
"""How many such commands one batch carries."""

_COUNT = """
local function count(order, checkpoints)
  local size, marks = try('ZCARD', order), try('ZLEXCOUNT', order, '[\\0p', '(\\0x')
  if type(marks) ~= 'number' or size ~= call('HLEN', checkpoints) then return nil end
  return size - marks
end
"""

_LESS = """
-- Not Lua's own: that compares text as the server's locale does.
local function less(a, b)
  for i = 1, math.min(#a, #b) do
    if a:byte(i) ~= b:byte(i) then return a:byte(i) < b:byte(i) end
  end
  return #a < #b
end
"""

_SURPLUS = """
-- Returns what there is beyond the newest, or 1 if all of the namespace has to be read for that.
local function beyond(refs, n, keep)
  local oldest = call('ZREVRANGEBYLEX', KEYS[5], '+', '[\\0x', 'LIMIT', keep - 1, 1)[1]
  if not oldest then return 1 end
  local ids = call('ZRANGEBYLEX', KEYS[5], '[\\0x', '(' .. oldest, 'LIMIT', 0, 101)
  if #ids ~= n - keep or #ids > 100 then return 1 end
  local rebuilt = call('HGET', refs, 'd')
  local older, called = {}, false
  for _, id in ipairs(ids) do
    local good, entry = pcall(cmsgpack.unpack, call('HGET', KEYS[6], id) or '')
    if not good or type(entry) ~= 'table' then return 1 end
    local asked = {'p' .. id, 'c' .. id}
    for i = 3, #entry do asked[i] = 'v' .. entry[i] end
    local last = call('HMGET', refs, unpack(asked))
    local fields, loose = {}, {}
    for i = 3, #entry do
      if not last[i] then return 1 end
      fields[i - 2] = entry[i]
      if less(last[i], oldest) then loose[#loose + 1] = entry[i] end
    end
    local continued = last[1] and not less(last[1], oldest) and 1 or 0
    local record = rebuilt and call('HGET', KEYS[2], id) or ''
    called = called or last[2]
    older[#older + 1] = {id, entry[2], fields, loose, continued, last[2] or '', record}
  end
  local gate, fork = '', call('HGET', refs, 'f')
  if rebuilt and not (fork and less(oldest, fork)) then gate = call('HGET', KEYS[2], oldest) end
  local orphans = {}
  for _, id in ipairs(call('HKEYS', KEYS[4])) do
    if #orphans < 100 and less(id, oldest) and call('HEXISTS', KEYS[2], id) == 0 then
      orphans[#orphans + 1] = id
    end
  end
  local spaces = called and call('HKEYS', KEYS[1]) or {}
  return {n, oldest, older, rebuilt or '', gate, orphans, spaces}
end
"""

PUT_WITHIN = lua.put_script(
    "put_within",
    _COUNT
    + _LESS
    + _SURPLUS
    + """
local refs = KEYS[10]
local keep, caller = unpack(cmsgpack.unpack(ARGV[8]))
local before = count(KEYS[5], KEYS[2])
local again = call('HEXISTS', KEYS[2], id) == 1
local drawn, latest = try('HGET', KEYS[6], '\\0n'), nil
local known, last = unpack(call('HMGET', refs, 'n', 'r'))
if before then latest = call('ZREVRANGEBYLEX', KEYS[5], '+', '[\\0x', 'LIMIT', 0, 1)[1] end
own[#own + 1] = refs
""",
    """
-- What was known stands if nobody else was there, and nothing that was noted is changed now.
local right = before and kept and not again
if before == 0 then
  call('UNLINK', refs)
elseif not (known and tonumber(known) == before and last == drawn) then
  right = false
end
if right then
  local note, entry = {'n', before + 1, 'r', ARGV[7]}, cmsgpack.unpack(ARGV[5])
  local top = not latest or less(latest, id)
  local function refer(name)
    local other = not top and call('HGET', refs, name)
    if not other or less(other, id) then
      note[#note + 1] = name
      note[#note + 1] = id
    end
  end
  for i = 3, #entry do refer('v' .. entry[i]) end
  if entry[2] ~= '' then refer('p' .. entry[2]) end
  if entry[2] ~= (latest or '') or not top then
    local fork = call('HGET', refs, 'f') or ''
    if less(fork, latest or '') then fork = latest end
    if less(fork, id) then fork = id end
    note[#note + 1] = 'f'
    note[#note + 1] = fork
  end
  local asked = cmsgpack.unpack(ARGV[8])
  if #asked > 2 then
    local raw = call('HGET', refs, 'd')
    local rebuilt = raw and cmsgpack.unpack(raw) or {}
    for i = 3, #asked do
      if less(rebuilt[asked[i]] or '', id) then rebuilt[asked[i]] = id end
    end
    note[#note + 1] = 'd'
    note[#note + 1] = cmsgpack.pack(rebuilt)
  end
  for i = 1, #note, 1000 do
    call('HSET', refs, unpack(note, i, math.min(i + 999, #note)))
  end
else
  call('UNLINK', refs)
end
if caller ~= '' and call('EXISTS', KEYS[11]) == 1 then
  local raw, there = call('HGET', KEYS[11], 'c' .. caller), false
  local calls = raw and cmsgpack.unpack(raw) or {}
  for _, space in ipairs(calls) do there = there or space == ARGV[1] end
  if not there then
    calls[#calls + 1] = ARGV[1]
    call('HSET', KEYS[11], 'c' .. caller, cmsgpack.pack(calls))
  end
end
local n = before and before + (again and 0 or 1)
if not n then
  surplus = 1
elseif n > keep then
  surplus = right and beyond(refs, n, keep) or 1
end
""",
)
"""Store a checkpoint of a namespace that has a limit. As PUT; the last key is the caller's tenth.

ARGV[8] is msgpack of [limit, the id of the caller or "", the channels that are rebuilt]. Instead of
the 0 after the first number comes 1 if all of the namespace has to be read to know what there is
beyond the limit, or {how many checkpoints there are, the least that is kept, {{id, parent, fields,
those of them that no kept one refers to, 1 if one continues it, namespaces called from it, record
or ""}, ...}, channels -> id, record of the least that is kept or "", orphans, namespaces}.
"""

_RELEASE = Script(
    "release",
    "local call, try = redis.call, redis.pcall\n"
    + _COUNT
    + """
local refs, drawn = KEYS[7], try('HGET', KEYS[6], '\\0n')
local n, held = tonumber(ARGV[2]), count(KEYS[5], KEYS[2])
if not held then
  -- The order is not there, after a restore, say, or may not be asked.
  held = 0
  for _, key in ipairs(call('HKEYS', KEYS[2])) do
    if key:byte(1) ~= 0 then held = held + 1 end
  end
end
if (type(drawn) == 'string' and drawn or '') ~= ARGV[1] or held ~= n then return 0 end
local ids, orphans = tonumber(ARGV[3]), tonumber(ARGV[4])
for i = 1, ids + orphans do
  local id = ARGV[4 + i]
  if i <= ids or call('HEXISTS', KEYS[2], id) == 0 then
    local mark, severed = '\\0w' .. id, '\\0p' .. id
    call('HDEL', KEYS[2], id, mark, severed)
    call('HDEL', KEYS[4], id)
    try('HDEL', KEYS[6], id)
    try('ZREM', KEYS[5], id, mark, severed)
    call('UNLINK', KEYS[7 + i])
    try('HDEL', refs, 'p' .. id, 'c' .. id)
  end
end
for i = 5 + ids + orphans, #ARGV do
  call('HDEL', KEYS[3], ARGV[i])
  try('HDEL', refs, 'v' .. ARGV[i])
end
if call('EXISTS', refs) == 1 then try('HSET', refs, 'n', n - ids) end
return 1
""",
)
"""Remove checkpoints and values. All of the keys, the references, and one for each id's writes.

ARGV: the number last drawn or "", how many checkpoints there are, how many ids of checkpoints and
of orphans follow, these, then fields. Returns 0, with nothing done, unless both numbers are right.
"""

_NOTE = Script(
    "note",
    "local call, try = redis.call, redis.pcall\n"
    + _COUNT
    + """
local drawn = try('HGET', KEYS[3], '\\0n')
if type(drawn) ~= 'string' or drawn ~= ARGV[1] or count(KEYS[2], KEYS[1]) ~= tonumber(ARGV[2]) then
  call('UNLINK', KEYS[4])
  return 0
end
call('HSET', KEYS[4], 'n', ARGV[2], 'r', drawn)
local left = call('PTTL', KEYS[1])
if left > 0 then try('PEXPIRE', KEYS[4], left) end
return 1
""",
)
"""Make references that were noted count, unless another writer was there. Keys 2, 5, 6 and these.

ARGV: the number last drawn, how many checkpoints there are.
"""

_LEAVE = Script(
    "leave",
    """
local call = redis.call
if call('HLEN', KEYS[2]) ~= tonumber(ARGV[2]) or call('HLEN', KEYS[4]) ~= tonumber(ARGV[3]) then
  return 0
end
call('HDEL', KEYS[1], ARGV[1])
for i = 2, #KEYS, 1000 do call('UNLINK', unpack(KEYS, i, math.min(i + 999, #KEYS))) end
return 1
""",
)
"""Remove a checkpoint namespace. All of the keys, and any. ARGV: its name, the sizes of 2 and 4."""


class _State(NamedTuple):
    """What a surplus was read from, to see whether it still holds.

    Attributes:
        drawn: what the last put had drawn.
        size: how many checkpoints there were.
        orphans: the ids of writes that have no checkpoint and go.
        spaces: the thread's checkpoint namespaces, where they are of interest.
        references: what is to be noted, if all was read to that end.
        strays: the values that no checkpoint refers to, if all was read.
        stay: the ids of all checkpoints, if all was read.
    """

    drawn: bytes
    size: int
    orphans: Sequence[bytes]
    spaces: Sequence[str]
    references: References | None = None
    strays: Sequence[bytes] = ()
    stay: Collection[bytes] = ()


class _Part(NamedTuple):
    """What one command removes."""

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
    def argument(keep: int, caller: CheckpointName | None, rebuilt: Sequence[str]) -> bytes:
        """Return what a put within a limit is told."""
        return _plain.encode([keep, "" if caller is None else caller.id, *rebuilt])

    def above(self, name: CheckpointName, caller: CheckpointName | None) -> bytes:
        """Return where it is noted what was called from a checkpoint."""
        return self._keys.droppable(name.thread, (caller or name).checkpoint_ns)[-1]

    # Finding -----------------------------------------------------------------------------------

    def found(
        self, name: CheckpointName, keep: int, drawn: bytes, reply: Any
    ) -> Steps[Surplus | None]:
        """Return what a put has found; reads all of the namespace where it has to."""
        if not reply:
            return None
        if not isinstance(reply, list):
            return (yield from self.surplus(name.thread, name.checkpoint_ns, keep, note=True))
        count, oldest, entries, rebuilt, gate, orphans, spaces = reply
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
        state = _State(drawn, count, orphans, listed)
        return Surplus(name.thread, name.checkpoint_ns, least, older, channels, gates, None, state)

    def surplus(
        self, thread: str, checkpoint_ns: str, keep: int, *, note: bool = False
    ) -> Steps[Surplus | None]:
        """Read all of a namespace. Three round trips, more for thousands of checkpoints.

        Args:
            thread: The thread.
            checkpoint_ns: The checkpoint namespace.
            keep: How many checkpoints are kept in any case.
            note: Whether to note, when it is released, who refers to what.
        """
        name = CheckpointName(thread, checkpoint_ns, "")
        first, checkpoints, values, orphans, _, entries = self._keys.of(thread, checkpoint_ns)
        state: list[Command] = [
            ("HGET", entries, b"\0n"),
            ("HKEYS", checkpoints),
            ("HKEYS", orphans),
            ("HKEYS", values),
            ("HKEYS", first),
        ]
        drawn, held, waiting, fields, listed = yield Batch(
            state, idempotent=True, ignore=("WRONGTYPE",)
        )
        spaces = [raw.decode() for raw in listed or ()]
        ids = sorted(filter(is_record, held or ()))
        if not ids or checkpoint_ns not in spaces:
            return None
        below = calls_below(checkpoint_ns, spaces)
        records, known = yield from self._records(name, ids, below, remember=note)
        references = References(records)
        calls = yield from self._heads(thread, known)
        found = references.surplus(name, keep, lambda _: records, calls)
        oldest = found.oldest.encode()
        alone = {*waiting, *map(id_in, held)}.difference(ids)
        strays = [raw for raw in fields or () if raw.decode() not in references.values]
        return found._replace(
            state=_State(
                drawn or b"",
                len(ids),
                [raw for raw in alone if raw < oldest],
                spaces,
                references if note else None,
                strays,
                ids,
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
        last = [*self._noting(surplus, doomed, calls), *asked] if scripted else asked
        send = self._release if scripted else self._release_plainly
        groups = [*in_parts(self._parts(state, doomed), _MOST_PARTS)] or [()]
        answers: list[Any] = []
        for number, group in enumerate(groups):
            more = last if number == len(groups) - 1 else []
            done, answers = yield from send(surplus, group, more)
            if not done:
                return False
        held = answers[len(answers) - len(asked) :]
        left = list(zip(gone, held[::2], held[1::2], strict=True))
        yield from self._leave(surplus.thread, left, scripted=scripted)
        return True

    @staticmethod
    def _parts(state: _State, doomed: _Doomed) -> list[_Part]:
        """Return what goes, a bounded amount at a time."""
        parts: list[_Part] = []
        size = state.size
        for some in in_parts(doomed, _MOST_IDS):
            ids = [each.encode() for each, _ in some]
            fields = [key.encode() for _, keys in some for key in keys]
            parts.append(_Part(size, ids, (), fields))
            size -= len(some)
        # One command is enough for the usual few.
        if parts and len(state.orphans) <= _MOST_IDS:
            parts[-1] = parts[-1]._replace(orphans=state.orphans)
        else:
            parts += [_Part(size, (), ids, ()) for ids in in_parts(state.orphans, _MOST_IDS)]
        return parts + [_Part(size, (), (), fields) for fields in in_parts(state.strays)]

    def _release(
        self, surplus: Surplus, parts: Sequence[_Part], more: list[Command]
    ) -> Steps[tuple[bool, list[Any]]]:
        """Remove parts by scripts; return whether all went, and the replies to what follows."""
        keys = self._keys.of(surplus.thread, surplus.checkpoint_ns)
        refs = self._keys.droppable(surplus.thread, surplus.checkpoint_ns)[-1]
        start = self._keys.writes(surplus.thread, surplus.checkpoint_ns)
        commands: list[Command] = []
        for size, ids, orphans, fields in parts:
            writes = [start + raw for raw in (*ids, *orphans)]
            numbers = [size, len(ids), len(orphans)]
            arguments = [surplus.state.drawn, *numbers, *ids, *orphans, *fields]
            commands.append(_RELEASE((*keys, refs, *writes), arguments))
        if not commands and not more:
            return True, []
        replies = yield Batch([*commands, *more], idempotent=True)
        return 0 not in replies[: len(commands)], replies[len(commands) :]

    def _release_plainly(
        self, surplus: Surplus, parts: Sequence[_Part], more: list[Command]
    ) -> Steps[tuple[bool, list[Any]]]:
        """Remove parts by transactions; what is inherited meanwhile is put back at once."""
        name = CheckpointName(surplus.thread, surplus.checkpoint_ns, "")
        _, checkpoints, values, orphans, order, entries = self._keys.of(*name[:2])
        refs = self._keys.droppable(*name[:2])[-1]
        start = self._keys.writes(*name[:2])
        state: _State = surplus.state
        answers: list[Any] = []
        for number, part in enumerate(parts or [_Part(0, (), (), ())]):
            gone = [*part.ids, *part.orphans]
            commands: list[Command] = []
            if part.fields:
                commands += [("HMGET", values, *part.fields), ("HDEL", values, *part.fields)]
            if gone:
                commands += [
                    ("HDEL", checkpoints, *gone, *marks(gone)),
                    ("HDEL", orphans, *gone),
                    ("HDEL", entries, *gone),
                    ("ZREM", order, *gone, *marks(gone)),
                    ("UNLINK", *(start + raw for raw in gone), refs),
                ]
            commands.append(("HKEYS", checkpoints))
            here = len(commands) - 1
            if number >= len(parts) - 1:
                commands += more
            replies = yield Batch(commands, atomic=True, idempotent=True, ignore=("WRONGTYPE",))
            answers = replies[here + 1 :]
            new = [raw for raw in filter(is_record, replies[here]) if raw not in state.stay]
            used = yield from self._keys.used(name, new)
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
        self, surplus: Surplus, doomed: _Doomed, calls: Mapping[str, Sequence[str]] | None
    ) -> list[Command]:
        """Return what notes who refers to what, once the doomed are gone."""
        references: References | None = surplus.state.references
        if references is None:
            return []
        references.remove(doomed)
        pairs: list[bytes | str] = []
        for letter, last in (("v", references.values), ("p", references.parents)):
            for each, checkpoint_id in last.items():
                pairs += (letter + each, checkpoint_id)
        for caller, spaces in (calls or {}).items():
            pairs += ("c" + caller, _plain.encode([*spaces]))
        if references.rebuilt:
            pairs += ("d", _plain.encode(references.rebuilt))
        if references.fork:
            pairs += ("f", references.fork)
        keys = self._keys.of(surplus.thread, surplus.checkpoint_ns)
        refs = self._keys.droppable(surplus.thread, surplus.checkpoint_ns)[-1]
        return [
            ("UNLINK", refs),
            *fill(refs, pairs),
            _NOTE((keys[1], *keys[4:], refs), [surplus.state.drawn, len(references.ids)]),
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
            keys = [*own, *self._keys.droppable(thread, space), *writes]
            if len(keys) > MOST_AT_ONCE:
                # Absent first, then the rest.
                yield Batch([("HDEL", first, space)], idempotent=True)
                for part in in_parts(keys):
                    yield Batch([("UNLINK", *part)], idempotent=True)
            elif scripted:
                commands.append(_LEAVE((first, *keys), [space, len(records), len(orphans)]))
            else:
                commands += [("HDEL", first, space), ("UNLINK", *keys)]
        for some in in_parts(commands, _MOST_PARTS * 2):
            yield Batch(some, atomic=not scripted, idempotent=True)
