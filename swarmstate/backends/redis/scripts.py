"""The scripts of the store.

Those of the whole store enumerate the prefix themselves: ARGV[1] is the pattern of its keys,
ARGV[2] the length of ``{prefix}:``, ARGV[3] the pattern of what lies apart and ARGV[4] the marker's
key. They declare no keys but those that they fill, and are not used on clusters.

The others touch only the keys that they declare: hashes of one slot.
"""

from __future__ import annotations

from swarmstate.backends.redis.commands import Script

__all__ = [
    "ADOPT",
    "CLEAR",
    "COUNT",
    "DROP",
    "DUMP",
    "EXPIRE",
    "FILL",
    "NAMES",
    "READ",
    "REMOVE",
    "RESTORE",
    "SWAP",
]

# Mirrors Layout.classify. Positions instead of patterns: Lua's stop at NUL.
_OWN = """
local head = tonumber(ARGV[2])
local find = string.find
-- Whether a key is UTF-8. Bytes that begin a character never stand inside one, so that each of the
-- four beginnings that only overlong or surrogate characters have can be looked for anywhere.
local function text(key)
  if not key:find('[\\128-\\255]') then return true end
  if key:find('\\224[\\128-\\159]') or key:find('\\237[\\160-\\191]')
    or key:find('\\240[\\128-\\143]') or key:find('\\244[\\144-\\191]') then return false end
  local more = '[\\128-\\191]'
  key = key:gsub('[\\194-\\223]' .. more, 'x')
  key = key:gsub('[\\224-\\239]' .. more .. more, 'x')
  key = key:gsub('[\\240-\\244]' .. more .. more .. more, 'x')
  return not key:find('[\\128-\\255]')
end
local function scan(pattern)
  local all, cursor = {}, '0'
  repeat
    local page = redis.call('SCAN', cursor, 'MATCH', pattern, 'COUNT', 1000000000)
    cursor = page[1]
    if #all == 0 then
      all = page[2]
    else
      for _, key in ipairs(page[2]) do all[#all + 1] = key end
    end
  until cursor == '0'
  return all
end
local function enumerate()
  local hashes, derived, nested = {}, {}, {}
  for _, key in ipairs(scan(ARGV[3])) do
    if key ~= ARGV[4] then
      -- The first of these ends the prefix; it is this one's where it follows at once.
      local at = find(key, ':\\0', 1, true)
      if at == head + 1 then
        -- The scratch store lives by itself.
        if key:sub(at + 2, at + 8) ~= 'scratch' then derived[#derived + 1] = key end
      elseif at and key:sub(at + 2) == 'store' then
        nested[key:sub(2, at)] = true
      end
    end
  end
  -- Nearly every key is ASCII without NUL; what version 0.1.0 derived and what is not text are not.
  local plain, special = {}, {}
  for _, key in ipairs(scan(ARGV[1])) do
    if not find(key, '[%z\\128-\\255]', head + 1) then
      plain[#plain + 1] = key
    else
      special[#special + 1] = key
      if key:sub(-7) == ':\\0store' and #key > head + 6
        and redis.call('TYPE', key).ok ~= 'hash' then
        nested[key:sub(1, -7)] = true
      end
    end
  end
  for _, key in ipairs(special) do
    if key:byte(head + 1) ~= 0 then
      if text(key) then plain[#plain + 1] = key end
    elseif key:sub(head + 2, head + 5) == 'ids:' or key:sub(head + 2, head + 8) == 'fields:' then
      derived[#derived + 1] = key
    end
  end
  local any = next(nested)
  local function ours(key)
    local at = any and key:find(':', head + 1, true)
    while at do
      if nested[key:sub(1, at)] then return false end
      at = key:find(':', at + 1, true)
    end
    return true
  end
  for _, key in ipairs(plain) do
    if ours(key) and redis.call('TYPE', key).ok == 'hash' then hashes[#hashes + 1] = key end
  end
  return hashes, derived
end
"""

NAMES = Script("names", _OWN + "return (enumerate())")
"""Return the keys of every namespace."""

COUNT = Script(
    "count",
    _OWN
    + """
local sum = 0
for _, key in ipairs((enumerate())) do sum = sum + redis.call('HLEN', key) end
return sum
""",
)
"""Return how many keys all namespaces hold together."""

DUMP = Script(
    "dump",
    _OWN
    + """
local out = {}
for _, key in ipairs((enumerate())) do
  out[#out + 1] = key
  out[#out + 1] = redis.call('HGETALL', key)
end
return out
""",
)
"""Return every namespace's key, each followed by its fields and values."""

_UNLINK = """
local function unlink(keys)
  for first = 1, #keys, 1000 do
    redis.call('UNLINK', unpack(keys, first, math.min(first + 999, #keys)))
  end
end
"""

CLEAR = Script(
    "clear",
    _OWN
    + _UNLINK
    + """
local hashes, derived = enumerate()
-- First what a user may lack the right to remove: then nothing is gone.
unlink(derived)
unlink(hashes)
""",
)
"""Remove every namespace and everything derived; the marker stays."""

# A command that is refused ends a script where it stands, so that all that can be refused comes
# before the first change.
_PUT_IN = """
local function foreign()
  for _, key in ipairs(KEYS) do
    local kind = redis.call('TYPE', key).ok
    if kind ~= 'hash' and kind ~= 'none' then return {key, kind} end
  end
end
local lasting = ''
local function renew(key, ttl)
  local done = redis.pcall('PEXPIRE', key, ttl)
  if type(done) == 'table' and done.err then lasting = done.err end
end
local function add(key, from, first, last)
  if last == first + 1 then
    redis.call('HSET', key, from[first], from[last])
  else
    for i = first, last, 1000 do
      redis.call('HSET', key, unpack(from, i, math.min(i + 999, last)))
    end
  end
end
local function fill(at, ttl)
  for _, key in ipairs(KEYS) do
    local last = at + ARGV[at]
    add(key, ARGV, at + 1, last)
    if ttl ~= '' then renew(key, ttl) end
    at = last + 1
  end
  return {lasting}
end
"""

FILL = Script(
    "fill",
    _PUT_IN
    + """
local other = foreign()
if other then return other end
if ARGV[2] == '1' then
  for _, key in ipairs(KEYS) do redis.call('UNLINK', key) end
end
return fill(3, ARGV[1])
""",
)
"""Add fields and values to hashes, or nothing if one of the keys is not a hash.

ARGV: time to live in milliseconds or "", 1 to empty the hashes first, then for each key the length
of what follows, field, value, field, and so on.

Returns {what was said where the keys could not be made to expire, or ""}, or {key, its type}.
"""

RESTORE = Script(
    "restore",
    _OWN
    + _UNLINK
    + _PUT_IN
    + """
local hashes, derived = enumerate()
local other = foreign()
if other then return other end
-- The first change decides whether a full server lets the others follow.
redis.call('SET', ARGV[4], '1', 'NX')
unlink(derived)
unlink(hashes)
return fill(6, ARGV[5])
""",
)
"""Make the whole store what is given, and write the marker; as FILL.

ARGV from 5: time to live, then for each key the length of what follows, field, value, field, and
so on.
"""

ADOPT = Script(
    "adopt",
    _OWN
    + _UNLINK
    + _PUT_IN
    + """
local ttl, all, where, under = ARGV[5], ARGV[6] == '1', ARGV[7], ARGV[8]
local hashes, derived = enumerate()
local staged, others, fields = {}, {}, 0
for _, key in ipairs(derived) do
  if key:sub(1, #where) == where then
    staged[#staged + 1] = key
    fields = fields + redis.call('HLEN', key)
  else
    others[#others + 1] = key
  end
end
local other = foreign()
if #staged ~= #KEYS or fields ~= tonumber(ARGV[9]) then other = {'', 'incomplete'} end
if other then
  unlink(staged)
  return other
end
for _, key in ipairs(staged) do
  redis.call('RENAME', key, key)
  redis.call('PERSIST', key)
end
redis.call('SET', ARGV[4], '1', 'NX')
if all then
  unlink(others)
  unlink(hashes)
end
for _, key in ipairs(staged) do
  local name = under .. key:sub(#where + 1)
  if redis.call('TYPE', name).ok == 'none' then
    redis.call('RENAME', key, name)
  else
    local content = redis.call('HGETALL', key)
    add(name, content, 1, #content)
    redis.call('UNLINK', key)
  end
  if ttl ~= '' then renew(name, ttl) end
end
return {lasting}
""",
)
"""Put hashes that were filled elsewhere, in parts, where they belong, all at once; as FILL.

ARGV from 5: time to live, 1 to remove everything else, what the keys of the filled hashes start
with, what a namespace's key starts with, and how many fields there must be in all of them.

Returns {"", "incomplete"}, with nothing done, where a part is missing.
"""

READ = Script(
    "read",
    """
local out, at = {}, 1
for number, key in ipairs(KEYS) do
  local last = at + ARGV[at]
  if redis.call('TYPE', key).ok == 'hash' then
    local values = {}
    for i = at + 1, last, 1000 do
      for _, value in ipairs(redis.call('HMGET', key, unpack(ARGV, i, math.min(i + 999, last)))) do
        values[#values + 1] = value
      end
    end
    out[number] = values
  else
    out[number] = false
  end
  at = last + 1
end
return out
""",
)
"""Return, for each key, the values of fields, or null. ARGV: for each how many, then these."""

REMOVE = Script(
    "remove",
    """
local count, at = 0, 1
for _, key in ipairs(KEYS) do
  local last = at + ARGV[at]
  if redis.call('TYPE', key).ok == 'hash' then
    for i = at + 1, last, 1000 do
      count = count + redis.call('HDEL', key, unpack(ARGV, i, math.min(i + 999, last)))
    end
  end
  at = last + 1
end
return count
""",
)
"""Remove fields from hashes and return how many there were. ARGV: for each how many, then these."""

SWAP = Script(
    "swap",
    """
local now = redis.call('HGET', KEYS[1], ARGV[1])
if now == (ARGV[2] == '1' and ARGV[3]) then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[4])
  return {1}
end
return {0, now}
""",
)
"""Store ARGV[4] if the field ARGV[1] holds ARGV[3] (or, with ARGV[2] 0, nothing).

Returns {1}, or {0, what it holds}.
"""

DROP = Script(
    "drop",
    """
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then return 0 end
local count = redis.call('HLEN', KEYS[1])
redis.call('UNLINK', KEYS[1])
return count
""",
)
"""Remove a namespace and return how many keys it had; another type of key is left alone."""

EXPIRE = Script(
    "expire",
    """
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[1])
""",
)
"""Let a namespace expire in ARGV[1] milliseconds, and return whether there is one."""
