"""The scripts that find and remove what exceeds a limit. Keys and rules are those of ``scripts``.

The tenth key holds who refers to what, as :mod:`~.retention` tells.
"""

from __future__ import annotations

from swarmstate.backends.redis.checkpoints.scripts import CALL, LESS, put_script
from swarmstate.backends.redis.commands import Script

__all__ = ["LEAVE", "NOTE", "PUT_WITHIN", "RELEASE"]

_COUNT = """
local function count(order, checkpoints)
  local size, marks = try('ZCARD', order), try('ZLEXCOUNT', order, '[\\0p', '(\\0x')
  local held = call('HLEN', checkpoints)
  if type(marks) == 'number' and size == held then return held - marks end
  -- The order does not fit, and a server that is full may not let it be put right.
  for _, key in ipairs(call('HKEYS', checkpoints)) do
    local second = key:byte() == 0 and key:byte(2) or 0
    if second >= 112 and second <= 119 then held = held - 1 end
  end
  return held
end
"""

_SURPLUS = """
-- Returns the parent, the fields, those of them that no kept one refers to, whether one continues
-- it, and the namespaces called from it; nil where that is not known.
local function noted(refs, id, oldest)
  local good, entry = pcall(cmsgpack.unpack, try('HGET', KEYS[6], id) or '')
  if not good or type(entry) ~= 'table' then return end
  local needed = call('HGET', refs, 's' .. id)
  for _, key in ipairs(needed and cmsgpack.unpack(needed) or {}) do entry[#entry + 1] = key end
  local asked = {'p' .. id, 'c' .. id}
  for i = 3, #entry do asked[i] = 'v' .. entry[i] end
  local last = {}
  for from = 1, #asked, 1000 do
    local some = call('HMGET', refs, unpack(asked, from, math.min(from + 999, #asked)))
    for i = 1, #some do last[from + i - 1] = some[i] end
  end
  local fields, loose = {}, {}
  for i = 3, #entry do
    if not last[i] then return end
    fields[i - 2] = entry[i]
    if less(last[i], oldest) then loose[#loose + 1] = entry[i] end
  end
  return entry[2], fields, loose, last[1] and not less(last[1], oldest), last[2]
end

-- The usual case: nothing can need the only older checkpoint, so it goes at once. Returns whether.
local function past(refs, drawn)
  if drawn == '' or call('HEXISTS', refs, 'd') == 1 or call('HLEN', KEYS[4]) > 0 then return end
  local id, oldest = unpack(call('ZRANGEBYLEX', KEYS[5], '[\\0x', '+', 'LIMIT', 0, 2))
  local _, _, loose, continued, calls = noted(refs, id, oldest)
  if not continued or calls then return end
  local gone = {'p' .. id, 's' .. id}
  for i = 1, #loose do gone[i + 2] = 'v' .. loose[i] end
  call('HDEL', KEYS[2], id, '\\0w' .. id, '\\0p' .. id)
  call('ZREM', KEYS[5], id, '\\0w' .. id, '\\0p' .. id)
  call('HDEL', KEYS[6], id)
  call('UNLINK', KEYS[7]:sub(1, -#ARGV[4] - 1) .. id)
  for i = 1, #gone, 1000 do
    call('HDEL', refs, unpack(gone, i, math.min(i + 999, #gone)))
  end
  for i = 1, #loose, 1000 do
    call('HDEL', KEYS[3], unpack(loose, i, math.min(i + 999, #loose)))
  end
  call('HSET', KEYS[6], '\\0n', drawn)
  call('HINCRBY', refs, 'n', -1)
  call('HSET', refs, 'r', drawn)
  return true
end

-- Returns what there is beyond the newest, or 1 if all of the namespace has to be read for that.
local function beyond(refs, n, keep, drawn)
  local oldest = call('ZREVRANGEBYLEX', KEYS[5], '+', '[\\0x', 'LIMIT', keep - 1, 1)[1]
  if not oldest then return 1 end
  local ids = call('ZRANGEBYLEX', KEYS[5], '[\\0x', '(' .. oldest, 'LIMIT', 0, 501)
  if #ids ~= n - keep or #ids > 500 then return 1 end
  local rebuilt = call('HGET', refs, 'd')
  local older, called = {}, false
  for _, id in ipairs(ids) do
    local parent, fields, loose, continued, calls = noted(refs, id, oldest)
    if not parent then return 1 end
    local record = rebuilt and call('HGET', KEYS[2], id) or ''
    called = called or calls
    older[#older + 1] = {id, parent, fields, loose, continued and 1 or 0, calls or '', record}
  end
  local gate, fork = '', call('HGET', refs, 'f')
  if rebuilt and not (fork and less(oldest, fork)) then gate = call('HGET', KEYS[2], oldest) end
  local orphans, alone = {}, {}
  for _, id in ipairs(call('HKEYS', KEYS[4])) do
    if #orphans < 100 and less(id, oldest) and call('HEXISTS', KEYS[2], id) == 0 then
      orphans[#orphans + 1] = id
      local needed = call('HGET', refs, 's' .. id)
      for _, key in ipairs(needed and cmsgpack.unpack(needed) or {}) do
        if less(call('HGET', refs, 'v' .. key) or '', oldest) then alone[#alone + 1] = key end
      end
    end
  end
  local spaces = called and call('HKEYS', KEYS[1]) or {}
  return {n, drawn, oldest, older, rebuilt or '', gate, orphans, spaces, alone}
end
"""

PUT_WITHIN = put_script(
    "put_within",
    _COUNT
    + LESS
    + _SURPLUS
    + """
local refs = KEYS[10]
last = last - 1
local asked = cmsgpack.unpack(ARGV[#ARGV])
local keep, caller = asked[1], asked[2]
local before = count(KEYS[5], KEYS[2])
local again = call('HEXISTS', KEYS[2], id) == 1
local drawn, latest = try('HGET', KEYS[6], '\\0n'), nil
if type(drawn) ~= 'string' then drawn = '' end
local known = call('HMGET', refs, 'n', 'r')
if type(try('ZCARD', KEYS[5])) == 'number' then
  latest = call('ZREVRANGEBYLEX', KEYS[5], '+', '[\\0x', 'LIMIT', 0, 1)[1]
end
own[#own + 1] = refs
""",
    """
-- What was known stands if nobody else was there, and nothing that was noted is changed now.
local right = fits and not again
if before == 0 and drawn == '' and known[1] ~= '0' then
  call('UNLINK', refs)
elseif not (known[1] and tonumber(known[1]) == before and known[2] == drawn) then
  right = false
end
if right then
  local note = {'n', before + 1, 'r', drawn}
  local top = not latest or less(latest, id)
  local function refer(name)
    -- Also for the greatest: writes of one that is yet to come may need a segment already.
    local other = call('HGET', refs, name)
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
  if #asked > 3 then
    local raw = call('HGET', refs, 'd')
    local rebuilt = raw and cmsgpack.unpack(raw) or {}
    for i = 4, #asked do
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
if caller ~= '' then
  if call('EXISTS', KEYS[11]) == 0 then
    -- The call has overtaken its caller: all that is known there, if nothing else is there.
    call('HSET', KEYS[11], 'n', 0, 'r', '')
    own[#own + 1] = KEYS[11]
  end
  local raw, there = call('HGET', KEYS[11], 'c' .. caller), false
  local calls = raw and cmsgpack.unpack(raw) or {}
  for _, space in ipairs(calls) do there = there or space == ARGV[1] end
  if not there then
    calls[#calls + 1] = ARGV[1]
    call('HSET', KEYS[11], 'c' .. caller, cmsgpack.pack(calls))
  end
end
local n = before + (again and 0 or 1)
if n > keep then
  surplus = 1
  if right then
    local stay = tonumber(call('HGET', refs, 'k') or 0)
    -- Many that have to stay are not looked at again before an eighth more has come.
    if n == keep + 1 and past(refs, asked[3]) then
      surplus = nil
    elseif stay < 64 or (n - keep - stay) * 8 >= stay then
      surplus = beyond(refs, n, keep, drawn)
    else
      surplus = nil
    end
  end
end
""",
)
"""Store a checkpoint of a namespace that has a limit. Keys and ARGV are those of PUT, but with
the references of the namespace and of the caller's at the end of the keys; and at the end of ARGV
msgpack of [limit, the id of the caller or "", a number drawn, the channels that are rebuilt]. The
number is "" on a cluster, where the script may not remove what it does not declare.

Returns what PUT returns. A list has one more element if the limit is exceeded and more has to go
than the least checkpoint, or something may need it: 1 if all of the
namespace has to be read to know by what, or {how many checkpoints there are, what was drawn last,
the least that is kept, {{id, parent, fields, those of them that no kept one refers to, 1 if one
continues it, namespaces called from it, record or ""}, ...}, channels -> id, record of the least
that is kept or "", orphans, namespaces, segments that only the orphans and older ones need}.
"""

RELEASE = Script(
    "release",
    CALL
    + _COUNT
    + """
local refs, drawn = KEYS[7], try('HGET', KEYS[6], '\\0n')
local n = tonumber(ARGV[2])
if type(drawn) ~= 'string' then drawn = '' end
if drawn ~= ARGV[1] or count(KEYS[5], KEYS[2]) ~= n then
  return 0
end
local ids, orphans = tonumber(ARGV[3]), tonumber(ARGV[4])
local gone, records, writes, noted = {}, {}, {}, {}
local function add(list, ...)
  for _, each in ipairs({...}) do list[#list + 1] = each end
end
for i = 1, ids + orphans do
  local id = ARGV[6 + i]
  if i <= ids or call('HEXISTS', KEYS[2], id) == 0 then
    add(gone, id)
    add(records, id, '\\0w' .. id, '\\0p' .. id)
    add(writes, KEYS[7 + i])
    add(noted, 'p' .. id, 'c' .. id, 's' .. id)
  end
end
local function remove(try, command, key, list)
  for i = 1, #list, 1000 do try(command, key, unpack(list, i, math.min(i + 999, #list))) end
end
remove(call, 'HDEL', KEYS[2], records)
remove(call, 'HDEL', KEYS[4], gone)
remove(try, 'HDEL', KEYS[6], gone)
remove(try, 'ZREM', KEYS[5], records)
if #writes > 0 then call('UNLINK', unpack(writes)) end
local fields = {}
for i = 7 + ids + orphans, #ARGV do
  fields[#fields + 1] = ARGV[i]
  noted[#noted + 1] = 'v' .. ARGV[i]
end
remove(call, 'HDEL', KEYS[3], fields)
remove(try, 'HDEL', refs, noted)
try('HSET', KEYS[6], '\\0n', ARGV[6])
if call('EXISTS', refs) == 1 then
  try('HSET', refs, 'n', n - ids, 'k', ARGV[5], 'r', ARGV[6])
end
return 1
""",
)
"""Remove checkpoints and values. All of the keys, the references, and one for each id's writes.

ARGV: what was drawn last or "", how many checkpoints there are, how many ids of checkpoints and of
orphans follow, how many older ones stay, what is drawn now, these ids, then fields. Returns 0, with
nothing done, unless the first two are right.
"""

NOTE = Script(
    "note",
    CALL
    + _COUNT
    + """
local drawn = try('HGET', KEYS[4], '\\0n')
if type(drawn) ~= 'string' then drawn = '' end
if drawn ~= ARGV[1] or count(KEYS[3], KEYS[2]) ~= tonumber(ARGV[2])
  or call('HLEN', KEYS[1]) ~= tonumber(ARGV[3]) then
  call('UNLINK', KEYS[5])
  return 0
end
call('HSET', KEYS[5], 'n', ARGV[2], 'r', drawn)
local left = call('PTTL', KEYS[2])
if left > 0 then try('PEXPIRE', KEYS[5], left) end
return 1
""",
)
"""Make references that were noted count, unless another writer was there. Keys 1, 2, 5, 6, these.

ARGV: the number last drawn, how many checkpoints there are, how many namespaces.
"""

LEAVE = Script(
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
