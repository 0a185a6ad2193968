"""The scripts of logs and conditional commits.

A log is the fields of a hash that have exactly 16 digits. Which of them is the last is told by a
counter, a hash with the fields ``last`` and ``fields`` (how many fields the log's hash had then):
derived, kept only for hashes of more than 1,000 fields, and trusted only while that number fits,
the last field is there and the one above it is not. Whatever else, and in smaller hashes always,
all fields are looked at.

They touch only the keys that they declare.
"""

from __future__ import annotations

from swarmstate.backends.redis.commands import Script

__all__ = ["APPEND", "COMMIT", "POP", "TAIL"]

# Lua's numbers are exact only up to 2^53, which has 16 digits as well: so a key is counted in
# halves. The counter need not outlive its log by much, and is made again.
_LOG = """
local call, try = redis.call, redis.pcall
local log, counter = KEYS[1], KEYS[2]
local kind = call('TYPE', log).ok
local size = kind == 'hash' and call('HLEN', log) or 0
local function numbered(key) return #key == 16 and not key:find('[^0-9]') end
local function step(key, by)
  local high, low = tonumber(key:sub(1, 8)), tonumber(key:sub(9)) + by
  high, low = high + math.floor(low / 100000000), low % 100000000
  if high < 0 or high > 99999999 then return nil end
  return string.format('%08d%08d', high, low)
end
local function listed(before)
  local all = {}
  for _, key in ipairs(call('HKEYS', log)) do
    if numbered(key) and (not before or key < before) then all[#all + 1] = key end
  end
  return all
end
local function latest()
  if size == 0 then return nil end
  if size > 1000 then
    local known = try('HMGET', counter, 'last', 'fields')
    local last = known[1]
    if last and numbered(last) and tonumber(known[2]) == size
      and call('HEXISTS', log, last) == 1 then
      local above = step(last, 1)
      if not above or call('HEXISTS', log, above) == 0 then return last end
    end
  end
  local top
  for _, key in ipairs(listed()) do
    if not top or key > top then top = key end
  end
  return top
end
local function remember(last, fields)
  if fields <= 1000 then return end
  local done = try('HSET', counter, 'last', last, 'fields', fields)
  if type(done) == 'table' then
    try('UNLINK', counter)
  else
    try('PEXPIRE', counter, 86400000)
  end
end
"""

APPEND = Script(
    "append",
    _LOG
    + """
if kind ~= 'hash' and kind ~= 'none' then return {-1, kind} end
local count, ttl = #ARGV - 1, ARGV[1]
local last = latest() or '0000000000000000'
if not step(last, count) then return {0, last} end
local first = step(last, 1)
for at = 2, #ARGV, 500 do
  local flat = {}
  for i = at, math.min(at + 499, #ARGV) do
    last = step(last, 1)
    flat[#flat + 1] = last
    flat[#flat + 1] = ARGV[i]
  end
  call('HSET', log, unpack(flat))
end
remember(last, size + count)
local lasting = ''
if ttl ~= '' then
  local done = try('PEXPIRE', log, ttl)
  if type(done) == 'table' then lasting = done.err end
end
return {1, first, lasting}
""",
)
"""Add values to the end of a log.

KEYS: the log, its counter. ARGV: time to live in milliseconds or "", then the values.

Returns {1, the first key, what was said where the log could not be made to expire, or ""}; or, with
nothing done, {0, the last key} where no keys of 16 digits are left, or {-1, the type of the key}.
"""

POP = Script(
    "pop",
    _LOG
    + """
local last = latest()
if not last then return false end
local value = call('HGET', log, last)
call('HDEL', log, last)
local key = last
for _ = 1, size > 1001 and 100 or 0 do
  key = step(key, -1)
  if not key then break end
  if call('HEXISTS', log, key) == 1 then
    remember(key, size - 1)
    break
  end
end
return {last, value}
""",
)
"""Remove the last entry of a log and return {its key, its value}, or null if there is none.

KEYS: the log, its counter.
"""

TAIL = Script(
    "tail",
    _LOG
    + """
local limit, before, ttl = tonumber(ARGV[1]), ARGV[2] ~= '' and ARGV[2], ARGV[3]
local lasting = ''
if ttl ~= '' and size > 0 then
  local done = try('PEXPIRE', log, ttl)
  if type(done) == 'table' then lasting = done.err end
end
local out = {}
if size > 1000 and limit < size / 4 then
  local key
  if before then key = step(before, -1) else key = latest() end
  local left = limit + 100
  while key and left > 0 and #out < 2 * limit do
    local value = call('HGET', log, key)
    if value then
      out[#out + 1] = key
      out[#out + 1] = value
    end
    key, left = step(key, -1), left - 1
  end
  if not key or #out == 2 * limit then return {lasting, out} end
  out = {}
end
if size > 0 then
  local all = listed(before)
  table.sort(all)
  for i = #all, math.max(#all - limit, 0) + 1, -1 do
    out[#out + 1] = all[i]
    out[#out + 1] = call('HGET', log, all[i])
  end
end
return {lasting, out}
""",
)
"""Return the last entries of a log, newest first.

KEYS: the log, its counter. ARGV: how many at most, the key before which they lie or "", the time to
live that starts again, in milliseconds, or "".

Returns {what was said where the log could not be made to expire, {key, value, key, ...}}.
"""

COMMIT = Script(
    "commit",
    """
local call, try = redis.call, redis.pcall
local ttl, expected, gone = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local kinds = {}
for number, key in ipairs(KEYS) do kinds[number] = call('TYPE', key).ok end
local different = {}
for i = 4, 3 + 4 * expected, 4 do
  local space = tonumber(ARGV[i])
  local held = kinds[space] == 'hash' and call('HGET', KEYS[space], ARGV[i + 1])
  if held ~= (ARGV[i + 2] == '1' and ARGV[i + 3]) then
    different[#different + 1] = (i - 4) / 4
    different[#different + 1] = held
  end
end
if #different > 0 then return {0, different} end
local removals = 4 + 4 * expected
local stores = removals + 2 * gone
for i = stores, #ARGV, 3 do
  local kind = kinds[tonumber(ARGV[i])]
  if kind ~= 'hash' and kind ~= 'none' then return {-1, KEYS[tonumber(ARGV[i])], kind} end
end
-- First what a full server may refuse: then nothing is done.
local written, lasting = {}, ''
for i = stores, #ARGV, 3 do
  local key = KEYS[tonumber(ARGV[i])]
  call('HSET', key, ARGV[i + 1], ARGV[i + 2])
  written[key] = true
end
for i = removals, stores - 1, 2 do
  local space = tonumber(ARGV[i])
  if kinds[space] == 'hash' then call('HDEL', KEYS[space], ARGV[i + 1]) end
end
if ttl ~= '' then
  for key in pairs(written) do
    local done = try('PEXPIRE', key, ttl)
    if type(done) == 'table' then lasting = done.err end
  end
end
return {1, lasting}
""",
)
"""Store and remove fields of hashes, if others hold what is expected.

KEYS: the hashes. ARGV: time to live in milliseconds or "", how many expectations and how many
removals there are; for each expectation the number of a key, a field, 1 or 0 for none, and what it
must hold; for each removal the number of a key and a field; then, for each item, the number of a
key, a field and what to store.

Returns {1, what was said where a key could not be made to expire, or ""}; or, with nothing done,
{0, {number of an expectation, what is there or null, ...}}, or {-1, a key, its type}.
"""
