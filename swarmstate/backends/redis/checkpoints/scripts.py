"""The scripts of the checkpointer.

All of one thread's keys share a cluster slot, so a script may name keys that it was not given. The
first six keys are always the same ones of one checkpoint namespace:

1. the thread: checkpoint namespace -> 1; what it does not list does not exist, whatever remains
2. checkpoints: id -> record
3. values: field -> value
4. orphans: ids that have writes but no checkpoint -> 1
5. derived, a sorted set of the ids, every score 0
6. derived, id -> msgpack of [start of the record's SHA-1, parent or "", field, ...]

ARGV[1] is the checkpoint namespace, ARGV[2] what the keys of its writes start with, and ARGV[3] the
time to live in milliseconds, or "" for none. Replies hold bytes only; lists may hold nulls.
"""

from __future__ import annotations

from swarmstate.backends.redis.commands import Script

__all__ = [
    "ANCESTORS",
    "DELETE",
    "DELETE_THREAD",
    "DUMP_THREAD",
    "LIST_IDS",
    "PUT",
    "PUT_WRITES",
    "READ",
    "REVIVE",
]

_CALL = "local call = redis.call\n"

_EACH = """
local function each(items, size, run)
  for first = 1, #items, size do run(first, math.min(first + size - 1, #items)) end
end
"""

# The keys of other namespaces of the same thread; only what needs them pays for them.
_KEYS = """
local function base(i) return KEYS[i]:sub(1, #KEYS[i] - #ARGV[1]) end
local function writes_of(ns)
  return ARGV[2]:sub(1, #ARGV[2] - #ARGV[1] - 1 - #tostring(#ARGV[1])) .. #ns .. ':' .. ns
end
local function everything()
  local keys = {KEYS[1]}
  for _, ns in ipairs(call('HKEYS', KEYS[1])) do
    for i = 2, 6 do keys[#keys + 1] = base(i) .. ns end
    local prefix = writes_of(ns)
    for _, i in ipairs({2, 4}) do
      for _, id in ipairs(call('HKEYS', base(i) .. ns)) do keys[#keys + 1] = prefix .. id end
    end
  end
  return keys
end
"""


def _renew(own: str) -> str:
    """Return what renews keys. The thread's first must not outlive the others: with it go all."""
    return f"""
if ARGV[3] ~= '' then
  {_KEYS}
  local own, ttl = {own}, tonumber(ARGV[3])
  if call('PTTL', KEYS[1]) * 2 < ttl then own = everything() end
  for _, key in ipairs(own) do call('PEXPIRE', key, ttl) end
end
"""


# What is left of a namespace whose thread expired must not come back to life; ARGV[4] is an id.
_BURY = """
local alive = call('HEXISTS', KEYS[1], ARGV[1]) == 1
if not alive then
  call('UNLINK', KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6])
  if ARGV[4] then call('UNLINK', ARGV[2] .. ARGV[4]) end
end
"""

_ORDER = """
local function order(ids, checkpoints)
  local top = call('ZREVRANGE', ids, 0, 0)[1]
  local held = call('HLEN', checkpoints)
  if call('ZCARD', ids) == held and (not top or call('HEXISTS', checkpoints, top) == 1) then
    return top
  end
  call('UNLINK', ids)
  local found = call('HKEYS', checkpoints)
  each(found, 1000, function(a, b)
    local add = {}
    for i = a, b do add[#add + 1] = 0; add[#add + 1] = found[i] end
    call('ZADD', ids, unpack(add))
  end)
  local left = call('PTTL', checkpoints)
  if left > 0 then call('PEXPIRE', ids, left) end
  return call('ZREVRANGE', ids, 0, 0)[1]
end
"""

_ENTRY = """
local function entry(id, record)
  local raw = call('HGET', KEYS[6], id)
  if not raw then return nil end
  local found = cmsgpack.unpack(raw)
  if found[1] ~= redis.sha1hex(record):sub(1, 16) then return nil end
  return found
end
"""

PUT = Script(
    "put",
    _CALL
    + _BURY
    + """
local id = ARGV[4]
local values = 10 + ARGV[9]
local missing = nil
for i = 10, values - 1 do
  if call('HEXISTS', KEYS[3], ARGV[i]) == 0 then
    missing = missing or {}
    missing[#missing + 1] = ARGV[i]
  end
end
if missing then return missing end
-- The record and the thread last: a command that is refused ends the script where it stands.
for i = values, #ARGV, 1000 do
  call('HSET', KEYS[3], unpack(ARGV, i, math.min(i + 999, #ARGV)))
end
call('HDEL', KEYS[4], id)
call('HSET', KEYS[6], id, ARGV[6])
call('ZADD', KEYS[5], 0, id)
call('HSET', KEYS[2], id, ARGV[5])
if not alive then call('HSET', KEYS[1], ARGV[1], ARGV[7]) end
"""
    + _renew("{KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]}")
    + """
if ARGV[8] == '1' then return call('HLEN', KEYS[2]) end
return 0
""",
)
"""Store a checkpoint. Returns how many there are, or the inherited fields without a value.

ARGV: id, record, entry for key 6, encoded 1, 1 to count, number of inherited fields, these, then
field, value, and so on. If a value is missing, nothing is stored.
"""

PUT_WRITES = Script(
    "put_writes",
    _CALL
    + _BURY
    + """
local id = ARGV[4]
if not alive then call('HSET', KEYS[1], ARGV[1], ARGV[5]) end
local target = ARGV[2] .. id
if call('EXISTS', target) == 0 then
  for i = 6, #ARGV, 1000 do
    call('HSET', target, unpack(ARGV, i, math.min(i + 999, #ARGV)))
  end
else
  for i = 6, #ARGV, 2 do
    local set = 'HSETNX'
    if ARGV[i]:byte() == 45 then set = 'HSET' end
    call(set, target, ARGV[i], ARGV[i + 1])
  end
end
local orphan = nil
if call('HEXISTS', KEYS[2], id) == 0 then
  orphan = KEYS[4]
  call('HSET', orphan, id, ARGV[5])
end
"""
    + _renew("{target, orphan}"),
)
"""Store pending writes. ARGV: id, encoded 1, then key, write, and so on.

A key that starts with a minus sign is that of a special channel, which may be replaced. A call
never names a positional key twice.
"""

READ = Script(
    "read",
    _CALL
    + _EACH
    + _ORDER
    + _ENTRY
    + """
local want_values, want_writes = ARGV[4], ARGV[5] == '1'
if call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return {{}, {}, {}} end
local wanted = nil
if want_values == 'some' then wanted = {} end
local first = 7 + tonumber(ARGV[6])
for i = 7, first - 1 do wanted[ARGV[i]] = true end
local found, fields, seen = {}, {}, {}
for i = first, #ARGV do
  local id = ARGV[i]
  if id == '' then id = order(KEYS[5], KEYS[2]) end
  local record = id and call('HGET', KEYS[2], id)
  if record then
    local known = 1
    if want_values ~= 'none' then
      local list = entry(id, record)
      if not list then
        known = 0
      else
        for j = 3, #list do
          local field = list[j]
          if not seen[field] then
            seen[field] = true
            local length, rest = nil, nil
            if wanted then length, rest = field:match('^(%d+)[:ifz](.*)$') end
            if not wanted or wanted[rest:sub(1, length)] then fields[#fields + 1] = field end
          end
        end
      end
    end
    local writes = {}
    if want_writes then writes = call('HGETALL', ARGV[2] .. id) end
    found[#found + 1] = {id, record, known, writes}
  end
end
local values = {}
each(fields, 1000, function(a, b)
  for _, value in ipairs(call('HMGET', KEYS[3], unpack(fields, a, b))) do
    values[#values + 1] = value
  end
end)
if #found > 0 then
"""
    + _renew("{}")
    + """
end
return {found, fields, values}
""",
)
"""Read checkpoints at one moment: {{id, record, 1 if key 6 knows it, writes}, ...}, fields, values.

ARGV: "all", "some" or "none" of the values, 1 for the writes, the number of channels (for "some"),
these, then ids; an empty one means the greatest. What is gone is left out.
"""

ANCESTORS = Script(
    "ancestors",
    _CALL
    + _ENTRY
    + """
if call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return {1, {}} end
local id, left, found = ARGV[4], tonumber(ARGV[5]), {}
while id ~= '' and left > 0 do
  local record = call('HGET', KEYS[2], id)
  if not record then break end
  found[#found + 1] = id
  found[#found + 1] = record
  left = left - 1
  local list = entry(id, record)
  if not list then return {0, found} end
  id = list[2]
end
return {1, found}
""",
)
"""Follow parents: {1, {id, record, id, record, ...}}. ARGV: id, how many at most.

Starts with 0 where it ended early at a checkpoint that key 6 does not know.
"""

LIST_IDS = Script(
    "list_ids",
    _CALL
    + _KEYS
    + _EACH
    + _ORDER
    + """
local before, limit = ARGV[5], tonumber(ARGV[6])
local spaces = {ARGV[1]}
if ARGV[4] == 'all' then
  spaces = call('HKEYS', KEYS[1])
elseif call('HEXISTS', KEYS[1], ARGV[1]) == 0 then
  spaces = {}
end
local top = '+'
if before ~= '' then top = '(' .. before end
local found = {}
for _, ns in ipairs(spaces) do
  order(base(5) .. ns, base(2) .. ns)
  found[#found + 1] = ns
  found[#found + 1] = call('ZREVRANGEBYLEX', base(5) .. ns, top, '-', 'LIMIT', 0, limit)
end
return found
""",
)
"""Return {namespace, ids newest first, ...}. ARGV: "all" or "one", before or "", limit or -1."""

DELETE = Script(
    "delete",
    _CALL
    + _EACH
    + _ORDER
    + _ENTRY
    + """
if call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 1 end
local gone, doomed = {}, {}
for i = 5, #ARGV do gone[#gone + 1] = ARGV[i]; doomed[ARGV[i]] = true end
local used = {}
for _, id in ipairs(call('HKEYS', KEYS[2])) do
  if not doomed[id] then
    local list = entry(id, call('HGET', KEYS[2], id))
    if not list then return 0 end
    for j = 3, #list do used[list[j]] = true end
  end
end
order(KEYS[5], KEYS[2])
-- Not Lua's own: that compares text as the server's locale does.
local function less(a, b)
  for i = 1, math.min(#a, #b) do
    if a:byte(i) ~= b:byte(i) then return a:byte(i) < b:byte(i) end
  end
  return #a < #b
end
for _, id in ipairs(call('HKEYS', KEYS[4])) do
  if less(id, ARGV[4]) and call('HEXISTS', KEYS[2], id) == 0 then gone[#gone + 1] = id end
end
for _, id in ipairs(gone) do
  for _, k in ipairs({2, 4, 6}) do call('HDEL', KEYS[k], id) end
  call('ZREM', KEYS[5], id)
  call('UNLINK', ARGV[2] .. id)
end
for _, field in ipairs(call('HKEYS', KEYS[3])) do
  if not used[field] then call('HDEL', KEYS[3], field) end
end
if call('HLEN', KEYS[2]) == 0 and call('HLEN', KEYS[4]) == 0 then
  call('HDEL', KEYS[1], ARGV[1])
  call('UNLINK', KEYS[3], KEYS[5], KEYS[6])
end
return 1
""",
)
"""Remove checkpoints, their writes and the values that only they refer to.

ARGV: an id or "", then ids. Orphans with a lesser id than the first go as well.

Returns 0, with nothing done, if key 6 does not know a checkpoint that stays.
"""

DELETE_THREAD = Script(
    "delete_thread",
    _CALL
    + _EACH
    + _KEYS
    + """
local keys = everything()
each(keys, 1000, function(a, b) call('UNLINK', unpack(keys, a, b)) end)
""",
)
"""Remove all keys of a thread."""

DUMP_THREAD = Script(
    "dump_thread",
    _CALL
    + _KEYS
    + """
local out = {}
for _, ns in ipairs(call('HKEYS', KEYS[1])) do
  local writes, prefix = {}, writes_of(ns)
  for _, i in ipairs({2, 4}) do
    for _, id in ipairs(call('HKEYS', base(i) .. ns)) do
      writes[#writes + 1] = id
      writes[#writes + 1] = call('HGETALL', prefix .. id)
    end
  end
  out[#out + 1] = {
    ns,
    call('HGETALL', base(2) .. ns),
    call('HGETALL', base(3) .. ns),
    call('HGETALL', base(4) .. ns),
    writes,
  }
end
return out
""",
)
"""Return {{namespace, checkpoints, values, orphans, {id, writes, ...}}, ...} at one moment."""

REVIVE = Script("revive", _CALL + _BURY)
"""Remove what an expired thread left behind, before a namespace of it is filled again."""
