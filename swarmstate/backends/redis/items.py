"""The items of LangGraph's long-term memory on Redis and Valkey: a round trip for each operation.

The hashes are those of :mod:`swarmstate.items.format`. One key per LangGraph namespace is derived
and lies apart: when items expire, in order. It is only used to find what can be removed, so that
nothing is wrong where it is missing; a sweep puts it right.

Scripts read and write the times of an item without decoding it. Where the server refuses scripts,
or the codec's bytes are not msgpack, :class:`PlainItems` does the same with the store's calls.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from random import getrandbits
from struct import Struct
from typing import Any, Concatenate, ParamSpec, TypeVar

from swarmstate.arguments import shown
from swarmstate.backends.redis.commands import Batch, Command, CommandRefused, Script, fields
from swarmstate.backends.redis.steps import StoreSteps
from swarmstate.backends.redis.transport.driver import Driver
from swarmstate.errors import AccessDenied, DecodeError
from swarmstate.items.format import NAMES, VERSION, Row, items_of, labels_of, vectors_of
from swarmstate.items.generic import GenericItems, vectors_from
from swarmstate.items.protocol import Change, Place, Seen
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
ordered(KEYS[3])
local reindexed = false
local function forget(key)
  if redis.call('HDEL', KEYS[2], '=' .. key) == 1 then reindexed = true end
end
for i = 4, #ARGV, 3 do
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

KEYS: items, vectors, what expires when. ARGV: now, the next version as it is stored, 1 if the
namespace may be new or "", then for each item its key, what to store or "" to remove it, and its
vectors or "".

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

_SHORT = Struct(">BQBQB")
_LONG = Struct(">BQBQBQBd")
_ARRAY_OF_SIX, _UINT, _FLOAT, _NIL = b"\x96", 0xCF, 0xCB, 0xC0


class PlainItems(GenericItems):
    """Items on a server that refuses scripts, or in bytes that are not msgpack.

    A put takes three round trips. An item's time is renewed, and what has expired is removed, only
    where the store can do that safely against other writers.
    """

    def __init__(self, steps: StoreSteps, driver: Driver) -> None:
        super().__init__(steps, driver)
        self._steps = steps
        self._clustered = driver.clustered

    def look(
        self,
        now: int,
        *,
        items: Sequence[str] = (),
        vectors: Sequence[str] = (),
        versions: Sequence[str] = (),
        rows: Sequence[Place] = (),
    ) -> Steps[Seen]:
        """Return much at once. One round trip."""
        key = self._steps.layout.key
        singles: dict[str, list[str]] = {}
        for place in rows:
            singles.setdefault(place.name, []).append(place.key)
        whole = [*map(items_of, items), *map(vectors_of, vectors)]
        spaces = [*whole, *map(vectors_of, versions), *map(items_of, singles)]
        keys = [key(space) for space in spaces]
        commands: list[Command] = [("HGETALL", each) for each in keys[: len(whole)]]
        rest = iter(keys[len(whole) :])
        commands += [("HGET", next(rest), VERSION) for _ in versions]
        commands += [("HMGET", next(rest), *several) for several in singles.values()]
        if not commands:
            return Seen([], [], [], [])
        replies = iter((yield from self._steps.asked(commands, keys)))
        found = [self._live(name, self._entries(next(replies), name), now) for name in items]
        indexes = [vectors_from(self._entries(next(replies), name)) for name in vectors]
        known = [self._decoded(next(replies), name, VERSION) for name in versions]
        values = {
            Place(name, each): data
            for name, several in singles.items()
            for each, data in zip(several, next(replies), strict=True)
        }
        return Seen(
            found, indexes, known, [self.row_from(values[place], place, now) for place in rows]
        )

    def row_from(self, data: bytes | None, place: Place, now: int) -> Row | None:
        """Return an item from its bytes; None if it is absent."""
        decoded = self._decoded(data, *place)
        return None if decoded is None else self._row(decoded, place, now)

    def _entries(self, reply: Any, name: str) -> list[tuple[str, Any]]:
        found = []
        for raw, data in fields(reply).items():
            try:
                key = raw.decode()
            except UnicodeDecodeError:
                # No key of ours: another program's.
                continue
            found.append((key, self._decoded(data, name, key)))
        return found

    def _decoded(self, data: bytes | None, name: str, key: str) -> Any:
        try:
            return None if data is None else self._steps.codec.decode(data)
        except DecodeError as error:
            raise DecodeError(
                f"item {shown(key)} of namespace {shown(labels_of(name))}: {error}"
            ) from error

    def renew(self, places: Sequence[Place], now: int) -> Steps[None]:
        """Renew items, if the server lets us: a read does not fail for that."""
        with suppress(AccessDenied):
            yield from super().renew(places, now)

    def _store(
        self, names: list[tuple[str, str, Any]], stored: list[tuple[str, str, Any]]
    ) -> Steps[None]:
        if self._clustered and names:
            # Their node may be slower, or fail.
            yield from self._steps.set_many(names)
            names = []
        yield from super()._store(names, stored)


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
        self.names = self.plain.names
        self.look = self.plain.look
        self.scripting = steps.codec.wire == "msgpack"
        """Whether the server lets us use scripts, as far as known, and these know the bytes."""

    def _keys(self, name: str) -> tuple[bytes, bytes, bytes]:
        layout = self._steps.layout
        items = layout.key(items_of(name))
        return items, layout.key(vectors_of(name)), layout.derived("expiry", items)

    @_or_plainly
    def fetch(
        self, places: Sequence[Place], renew: Sequence[bool], now: int
    ) -> Steps[list[Row | None]]:
        """Return items and renew them. One round trip."""
        if not any(renew):
            return (yield from self.plain.look(now, rows=places)).rows
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
        commands = self._listing(listed)
        first = len(commands)
        clustered = self._driver.clustered
        parts = [
            (name, flat[at : at + 3 * _AT_ONCE])
            for name, flat in encoded.items()
            for at in range(0, len(flat), 3 * _AT_ONCE)
        ]
        # On a cluster the names are on another node: there a new one comes first.
        commands += [
            self._writing(name, flat, now, new=not (clustered and name in listed))
            for name, flat in parts
        ]
        expiring = [key for name in encoded for key in self._keys(name)]
        if listed:
            expiring.append(self._steps.layout.key(NAMES))
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
        at = self._steps.layout.key(NAMES)
        one = self._steps.encode(1)
        return [
            ("HSET", at, *(part for name in some for part in (name, one)))
            for some in _in_parts(names)
        ]

    def _writing(self, name: str, flat: Sequence[Any], now: int, *, new: bool) -> Command:
        version = self._steps.encode(getrandbits(63))
        return WRITE(self._keys(name), [now, version, "1" if new else "", *flat])

    def _encoded(self, change: Change) -> tuple[str, bytes, bytes]:
        row = change.row
        encode = self._steps.encode
        vectors = encode(list(change.vectors)) if change.vectors else b""
        return change.place.key, b"" if row is None else _encoded_row(row, encode), vectors

    @_or_plainly
    def sweep(self, now: int) -> Steps[int]:
        """Remove all expired items: a round trip for some 500 items of each of 100 namespaces."""
        names = yield from self.names()
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
