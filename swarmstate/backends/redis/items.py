"""The items of LangGraph's long-term memory on Redis and Valkey: a round trip for each operation.

The hashes are those of :mod:`swarmstate.items.format`. Two kinds of keys are derived from them and
lie apart. The order of the names finds those under a prefix; it is compared with the names, and put
right by whoever reads. For each LangGraph namespace there is what expires when, which only finds
what can be removed; a sweep puts it right.

Scripts read and write the times of an item without decoding it. Where the server refuses scripts,
or the codec's bytes are not msgpack, :mod:`plain_items` does the same with the store's calls.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from random import getrandbits
from struct import Struct
from time import monotonic
from typing import Any, Concatenate, ParamSpec, TypeVar

from swarmstate.backends.redis.commands import Batch, Command, CommandRefused, Script
from swarmstate.backends.redis.plain_items import PlainItems
from swarmstate.backends.redis.steps import StoreSteps
from swarmstate.backends.redis.transport.driver import Driver
from swarmstate.items.format import (
    LONGEST,
    NAMES,
    Row,
    items_of,
    right_names,
    vectors_of,
)
from swarmstate.items.protocol import Change, Place, Wanted
from swarmstate.steps import Steps

__all__ = ["RedisItems"]

P = ParamSpec("P")
T = TypeVar("T")

_AT_ONCE = 500
_NAMES_AT_ONCE = 100

# The order of the format: an array of six; each int of this size is written as 64 bits.
_HEAD = """
local function ours(row)
  return row and row:sub(1, 2) == '\\150\\207' and row:byte(11) == 207
end
-- When a row expires, if it does.
local function due(row)
  if not ours(row) or row:byte(20) ~= 207 then return nil end
  local high, low = struct.unpack('>I4I4', row:sub(21, 28))
  return high * 4294967296 + low
end
local function plain(number) return string.format('%.0f', number) end
local function ordered(key)
  local kind = redis.call('TYPE', key).ok
  if kind ~= 'zset' and kind ~= 'none' then redis.call('UNLINK', key) end
end
"""

WRITE = Script(
    "write items",
    _HEAD
    + """
local now = tonumber(ARGV[1])
-- Of another type they are refused before anything is changed.
local held = redis.call('HLEN', KEYS[1])
redis.call('HLEN', KEYS[2])
if held == 0 and ARGV[3] == '' then return 0 end
if KEYS[4] then
  redis.call('HSET', KEYS[4], ARGV[4], ARGV[5])
  ordered(KEYS[5])
  redis.call('ZADD', KEYS[5], 0, ARGV[4])
end
ordered(KEYS[3])
local reindexed = false
local function forget(key)
  if redis.call('HDEL', KEYS[2], '=' .. key) == 1 then reindexed = true end
end
for i = 6, #ARGV, 3 do
  local key, row, vectors = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local old = redis.call('HGET', KEYS[1], key)
  local before, after = due(old), due(row)
  if row == '' then
    redis.call('HDEL', KEYS[1], key)
  else
    if ours(old) and not (before and before <= now) then
      row = row:sub(1, 1) .. old:sub(2, 10) .. row:sub(11)
    end
    redis.call('HSET', KEYS[1], key, row)
  end
  if vectors ~= '' then
    redis.call('HSET', KEYS[2], '=' .. key, vectors)
    reindexed = true
  else
    forget(key)
  end
  if after then
    redis.call('ZADD', KEYS[3], plain(after), key)
  elseif before then
    redis.call('ZREM', KEYS[3], key)
  end
end
for _, key in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', plain(now), 'LIMIT', 0, 20)) do
  local at = due(redis.call('HGET', KEYS[1], key))
  if at and at > now then
    redis.call('ZADD', KEYS[3], plain(at), key)
  else
    if at then
      redis.call('HDEL', KEYS[1], key)
      forget(key)
    end
    redis.call('ZREM', KEYS[3], key)
  end
end
if reindexed then redis.call('HSET', KEYS[2], 'version', ARGV[2]) end
return 1
""",
)
"""Store and remove items of one LangGraph namespace, and up to 20 that have expired.

KEYS: items, vectors, what expires when, and, if it is to be listed here, the names and their order.
ARGV: now, the next version as it is stored, 1 if the namespace may be new or "", its name, what is
stored for a name, then for each item its key, what to store or "" to remove it, and its vectors or
"".

Returns 0, with nothing done, if the namespace is new and must not be.
"""

FETCH = Script(
    "fetch items",
    _HEAD
    + """
local now, out = tonumber(ARGV[1]), {}
for i = 3, #ARGV, 2 do
  local key = ARGV[i]
  local row = redis.call('HGET', KEYS[1], key)
  local at = ARGV[i + 1] == '1' and due(row)
  if at and at > now and row:byte(29) == 203 then
    local later = now + math.floor(struct.unpack('>d', row:sub(30, 37)) * 60000000)
    local high = math.floor(later / 4294967296)
    local time = struct.pack('>I4I4', high, later - high * 4294967296)
    local new = row:sub(1, 20) .. time .. row:sub(29)
    -- A server that does not let us (a replica, a full one) still answers.
    local done = redis.pcall('HSET', KEYS[1], key, new)
    if type(done) == 'number' then redis.pcall('ZADD', KEYS[2], plain(later), key) end
  end
  out[#out + 1] = ARGV[2] == '1' and row
end
return out
""",
)
"""Return items of one LangGraph namespace, and renew some of them.

KEYS: items, what expires when. ARGV: now, 1 to return the items, then for each its key and 1 to
renew it.
"""

SWEEP = Script(
    "sweep items",
    _HEAD
    + """
local now, count, reindexed = tonumber(ARGV[1]), 0, false
ordered(KEYS[3])
local page = redis.call('HSCAN', KEYS[1], ARGV[3], 'COUNT', 500)
for i = 1, #page[2], 2 do
  local key, at = page[2][i], due(page[2][i + 1])
  if at and at <= now then
    count = count + redis.call('HDEL', KEYS[1], key)
    if redis.call('HDEL', KEYS[2], '=' .. key) == 1 then reindexed = true end
    redis.call('ZREM', KEYS[3], key)
  elseif at then
    redis.call('ZADD', KEYS[3], plain(at), key)
  end
end
if reindexed then redis.call('HSET', KEYS[2], 'version', ARGV[2]) end
return {page[1], count}
""",
)
"""Remove what has expired of some 500 items of one LangGraph namespace.

KEYS: as WRITE. ARGV: now, the next version as it is stored, a cursor.

Returns the next cursor, and how many went.
"""

LIST = Script(
    "list namespaces",
    _HEAD
    + """
ordered(KEYS[2])
for i = 2, #ARGV do
  redis.call('HSET', KEYS[1], ARGV[i], ARGV[1])
  redis.call('ZADD', KEYS[2], 0, ARGV[i])
end
""",
)
"""Note LangGraph namespaces. KEYS: names, their order. ARGV: what is stored for each, names."""

NAMED = Script(
    "names",
    """
local kind = redis.call('TYPE', KEYS[2]).ok
local held = redis.call('HLEN', KEYS[1])
if kind ~= 'zset' and held > 0 then return false end
if kind == 'zset' and redis.call('ZCARD', KEYS[2]) ~= held then return false end
if ARGV[1] == '1' then
  for _, name in ipairs(redis.call('HKEYS', KEYS[1])) do
    if not redis.call('ZSCORE', KEYS[2], name) then return false end
  end
end
local out = {held}
for i = 2, #ARGV do
  local prefix = ARGV[i]
  if prefix == '' then
    out[i] = redis.call('HKEYS', KEYS[1])
  elseif held == 0 then
    out[i] = {}
  else
    out[i] = redis.call('ZRANGEBYLEX', KEYS[2], '[' .. prefix, '(' .. prefix .. '\255')
  end
end
return out
""",
)
"""Return how many names there are, and for each prefix those that start with it.

KEYS: names, their order. ARGV: 1 to compare the two one by one, then the prefixes.

Returns false where the order does not fit.
"""

ORDER = Script(
    "order names",
    _HEAD
    + """
ordered(KEYS[2])
for _, name in ipairs(ARGV) do
  if redis.call('HEXISTS', KEYS[1], name) == 1 then
    redis.call('ZADD', KEYS[2], 0, name)
  else
    redis.call('ZREM', KEYS[2], name)
  end
end
""",
)
"""Put the order of these names right. KEYS: names, their order."""

# A comparison of the order with the names takes some 0.5 us for each. It is made when that is less
# than a hundredth of the time since the last one: in between, only the number is compared.
_SECONDS_PER_NAME = 5e-5

_SHORT = Struct(">BQBQB")
_LONG = Struct(">BQBQBQBd")
_ARRAY_OF_SIX, _UINT, _FLOAT, _NIL = b"\x96", 0xCF, 0xCB, 0xC0


def _or_plainly(
    operation: Callable[Concatenate[RedisItems, P], Steps[T]],
) -> Callable[Concatenate[RedisItems, P], Steps[T]]:
    """Have an operation done without scripts from then on where the server refuses them."""

    @functools.wraps(operation)
    def method(self: RedisItems, /, *args: P.args, **kwargs: P.kwargs) -> Generator[Any, Any, T]:
        if self.scripting:
            try:
                return (yield from operation(self, *args, **kwargs))
            except CommandRefused as refused:
                if not refused.scripting_refused:
                    raise
                self.scripting = False
        plainly: Callable[..., Steps[T]] = getattr(self.plain, operation.__name__)
        return (yield from plainly(*args, **kwargs))

    return method


class RedisItems:
    """An :class:`~swarmstate.items.protocol.ItemEngine` over Redis."""

    def __init__(self, steps: StoreSteps, driver: Driver) -> None:
        self._steps = steps
        self._driver = driver
        self.plain = PlainItems(steps, driver)
        self.run = driver.run
        self.arun = driver.arun
        self._names = steps.layout.key(NAMES)
        self._order = steps.layout.derived("names", self._names)
        self._compares_from = 0.0
        self._kept_keys = functools.lru_cache(1024)(self._made_keys)
        self.look = self.plain.look
        self.scripting = steps.codec.wire == "msgpack"
        """Whether the server lets us use scripts, as far as known, and these know the bytes."""

    def _keys(self, name: str) -> tuple[bytes, bytes, bytes]:
        return self._kept_keys(name) if len(name) <= LONGEST else self._made_keys(name)

    def _made_keys(self, name: str) -> tuple[bytes, bytes, bytes]:
        layout = self._steps.layout
        items = layout.key(items_of(name))
        return items, layout.key(vectors_of(name)), layout.derived("expiry", items)

    @_or_plainly
    def names(self, prefixes: Sequence[str]) -> Steps[list[list[str]]]:
        """Return the names that start with each prefix. One round trip.

        Up to three more where what is derived does not fit.
        """
        compare = monotonic() >= self._compares_from
        command = NAMED([self._names, self._order], [int(compare), *prefixes])
        reply = (yield from self._steps.asked([command], [self._names]))[0]
        if reply:
            if compare:
                self._compares_from = monotonic() + reply[0] * _SECONDS_PER_NAME
            return [[*map(bytes.decode, found)] for found in reply[1:]]
        names = yield from self._put_right()
        return [[name for name in names if name.startswith(prefix)] for prefix in prefixes]

    def newest(
        self, prefix: str, wanted: Wanted, now: int, names: Sequence[str] | None = None
    ) -> Steps[list[tuple[Place, Row]]]:
        """Return the newest of what is wanted. One round trip, and one for the names."""
        if names is None:
            names = right_names((yield from self.names([prefix]))[0])
        return (yield from self.plain.newest(prefix, wanted, now, names))

    def _put_right(self) -> Steps[list[str]]:
        """Make the order of the names fit, if the server lets us, and return the names."""
        held, listed = yield Batch(
            [("HKEYS", self._names), ("ZRANGE", self._order, 0, -1)],
            idempotent=True,
            ignore=("WRONGTYPE", "NOPERM"),
        )
        wrong = [*{*(held or ())} ^ {*(listed or ())}]
        # Of nothing too: then it may be the type that is wrong.
        commands = [ORDER([self._names, self._order], some) for some in _in_parts(wrong) or [()]]
        # On a replica or a full server, or for a user who may not, reads do without.
        with suppress(CommandRefused):
            yield Batch(commands, idempotent=True)
        return [*map(bytes.decode, held or ())]

    @_or_plainly
    def fetch(
        self, places: Sequence[Place], renew: Sequence[bool], now: int
    ) -> Steps[list[Row | None]]:
        """Return items and renew them. One round trip; two for the first that is renewed.

        Until something is known to expire, no script is asked to see to it: a get then costs the
        server less.
        """
        if not (self.plain.expiring and any(renew)):
            if len(places) == 1:
                # The usual case pays for no bookkeeping.
                (place,) = places
                at = self._keys(place.name)[0]
                replies = yield from self._steps.asked([("HGET", at, place.key)], (at,))
                rows = [self.plain.row_from(replies[0], place, now)]
            else:
                rows = (yield from self.plain.look(now, rows=places)).rows
            again = [
                place
                for place, row, wanted in zip(places, rows, renew, strict=True)
                if wanted and row is not None and row.minutes is not None
            ]
            if again:
                yield from self.renew(again, now)
            return rows
        asked: dict[str, dict[str, bool]] = {}
        for place, wanted in zip(places, renew, strict=True):
            keys = asked.setdefault(place.name, {})
            keys[place.key] = wanted or keys.get(place.key, False)
        parts = [
            (name, some) for name, keys in asked.items() for some in _in_parts(list(keys.items()))
        ]
        commands = [self._fetching(name, some, now, wanted=1) for name, some in parts]
        read = [key for name in asked for key in self._keys(name)[:2]]
        replies = yield from self._steps.asked(commands, read)
        found: dict[Place, Row | None] = {}
        for (name, some), reply in zip(parts, replies, strict=True):
            for (key, _), data in zip(some, reply, strict=True):
                place = Place(name, key)
                found[place] = self.plain.row_from(data, place, now)
        return [found[place] for place in places]

    def _fetching(
        self, name: str, keys: Sequence[tuple[str, bool]], now: int, *, wanted: int
    ) -> Command:
        items, _, expiry = self._keys(name)
        arguments: list[Any] = [now, wanted]
        for key, renew in keys:
            arguments += (key, int(renew))
        return FETCH([items, expiry], arguments)

    @_or_plainly
    def renew(self, places: Sequence[Place], now: int) -> Steps[None]:
        """Renew items. One round trip."""
        asked: dict[str, list[tuple[str, bool]]] = {}
        for name, key in places:
            asked.setdefault(name, []).append((key, True))
        commands = [
            self._fetching(name, some, now, wanted=0)
            for name, keys in asked.items()
            for some in _in_parts(keys)
        ]
        if commands:
            yield Batch(commands, idempotent=True)

    @_or_plainly
    def write(self, changes: Sequence[Change], now: int) -> Steps[None]:
        """Write items. One round trip; on a cluster two for a new LangGraph namespace."""
        by_name: dict[str, list[Change]] = {}
        for change in changes:
            by_name.setdefault(change.place.name, []).append(change)
        encoded = {
            name: [part for change in some for part in self._encoded(change)]
            for name, some in by_name.items()
        }
        listed = [
            name for name, some in by_name.items() if any(change.row is not None for change in some)
        ]
        clustered = self._driver.clustered
        # On a cluster the names are on another node: there a new one comes first.
        commands = self._listing(listed) if clustered else []
        first = len(commands)
        parts = [
            (name, flat[at : at + 3 * _AT_ONCE])
            for name, flat in encoded.items()
            for at in range(0, len(flat), 3 * _AT_ONCE)
        ]
        commands += [
            self._writing(
                name,
                flat,
                now,
                new=not (clustered and name in listed),
                listed=name in listed and not clustered,
            )
            for name, flat in parts
        ]
        expiring = [key for name in encoded for key in self._keys(name)]
        if listed:
            expiring += (self._names, self._order)
        stored = self._steps.stored
        replies = yield from stored(commands, expiring, idempotent=True)
        again = [
            self._writing(name, flat, now, new=True)
            for (name, flat), reply in zip(parts, replies[first:], strict=True)
            if not reply
        ]
        if again:
            yield from stored(again, expiring, idempotent=True)

    def _listing(self, names: Sequence[str]) -> list[Command]:
        """Return the commands that list LangGraph namespaces."""
        one = self._steps.encode(1)
        return [LIST([self._names, self._order], [one, *some]) for some in _in_parts(names)]

    def _writing(
        self, name: str, flat: Sequence[Any], now: int, *, new: bool, listed: bool = False
    ) -> Command:
        keys = self._keys(name)
        names = (self._names, self._order) if listed else ()
        encode = self._steps.encode
        head: list[Any] = [now, encode(getrandbits(63)), "1" if new else "", name, encode(1)]
        return WRITE([*keys, *names], [*head, *flat])

    def _encoded(self, change: Change) -> tuple[str, bytes, bytes]:
        row = change.row
        encode = self._steps.encode
        vectors = encode(list(change.vectors)) if change.vectors else b""
        return change.place.key, b"" if row is None else _encoded_row(row, encode), vectors

    @_or_plainly
    def sweep(self, now: int) -> Steps[int]:
        """Remove all expired items: a round trip for some 500 items of each of 100 namespaces."""
        (names,) = yield from self.names([""])
        count = 0
        for first in range(0, len(names), _NAMES_AT_ONCE):
            cursors = dict.fromkeys(names[first : first + _NAMES_AT_ONCE], b"0")
            while cursors:
                version = self._steps.encode(getrandbits(63))
                commands = [
                    SWEEP(self._keys(name), [now, version, cursor])
                    for name, cursor in cursors.items()
                ]
                replies = yield Batch(commands, idempotent=True, part=True)
                count += sum(gone for _, gone in replies)
                cursors = {
                    name: cursor
                    for name, (cursor, _) in zip(cursors, replies, strict=True)
                    if cursor != b"0"
                }
        return count


def _encoded_row(row: Row, encode: Callable[[Any], bytes]) -> bytes:
    """Return a row as :func:`~swarmstate.items.format.encode_row` and the codec write it.

    The value is encoded by itself, so that an error names the place within it.
    """
    expires, minutes = row.expires, row.minutes
    if expires is None or minutes is None:
        head = _SHORT.pack(_UINT, row.created, _UINT, row.updated, _NIL) + b"\xc0"
    else:
        head = _LONG.pack(
            *(_UINT, row.created, _UINT, row.updated, _UINT, expires, _FLOAT, minutes)
        )
    return _ARRAY_OF_SIX + head + (b"\xc3" if row.indexed else b"\xc2") + encode(row.value)


def _in_parts(parts: Sequence[T]) -> list[Sequence[T]]:
    return [parts[at : at + _AT_ONCE] for at in range(0, len(parts), _AT_ONCE)]
