"""The scripts of the store.

All take the marker's key as KEYS[1], so that it can be routed, and enumerate the prefix themselves:
ARGV[1] is the pattern of its keys, ARGV[2] the length of ``{prefix}:`` and ARGV[3] the pattern of
what lies apart. What they touch belongs to one prefix on one server; on clusters they are not used.
"""

from __future__ import annotations

from swarmstate.backends.redis.commands import Script

__all__ = ["CLEAR", "COUNT", "DUMP", "NAMES", "SWAP"]

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
    if key ~= KEYS[1] then
      -- The first of these ends the prefix; it is this one's where it follows at once.
      local at = find(key, ':\\0', 1, true)
      if at == head + 1 then
        derived[#derived + 1] = key
      elseif at and key:sub(at + 2) == 'store' then
        nested[key:sub(2, at)] = true
      end
    end
  end
  -- Nearly every key is ASCII without NUL; what version 0.1.0 derived and what is no text are not.
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

CLEAR = Script(
    "clear",
    _OWN
    + """
local hashes, derived = enumerate()
for _, keys in ipairs({hashes, derived}) do
  for first = 1, #keys, 1000 do
    redis.call('UNLINK', unpack(keys, first, math.min(first + 999, #keys)))
  end
end
return #hashes
""",
)
"""Remove every namespace and everything derived; the marker stays."""

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
