r"""The scripts of the checkpointer.

A script touches only the keys that it declares, except for ``READ`` and ``PUT_WITHIN`` on one
server, which name the writes of the checkpoints themselves. So on a cluster, a slot that is being
moved answers with a redirect, never with a part. Each script does a bounded amount of work.

The keys of a checkpoint namespace are, in this order, where a script says "all of them":

1. the thread: checkpoint namespace -> 1; what it does not list does not exist, whatever remains
2. checkpoints: id -> record; and marks: ``\0w<id>`` -> 1 of one that has writes, ``\0p<id>`` -> 1
   of one whose parent was gone
3. values: field -> value
4. orphans: ids that have writes but no checkpoint -> 1
5. derived, the order: a sorted set of the keys of the second, every score 0
6. derived, id -> msgpack of [start of the record's SHA-1, parent or "", field, ...];
   ``\0n`` -> what whoever removed checkpoints last, or replaced one, has drawn by lot, followed by
   a dot and what whoever wrote what needs segments since then has drawn

ARGV[1] is the checkpoint namespace. The derived keys may be missing, stale, or of any type; what
changes them never fails for that. Replies hold bytes and integers; lists may hold nulls.
"""

from __future__ import annotations

from swarmstate.backends.redis.commands import Script

__all__ = [
    "BURY",
    "CALL",
    "DELETE_THREAD",
    "DROP",
    "DROP_VALUES",
    "LESS",
    "ORDER",
    "PUT",
    "PUT_WRITES",
    "REMEMBER",
    "RENEW",
    "put_script",
]

CALL = "local call, try = redis.call, redis.pcall\n"
"""What every script starts with."""

LESS = """
-- Not Lua's own: that compares text as the server's locale does.
local function less(a, b)
  for i = 1, math.min(#a, #b) do
    if a:byte(i) ~= b:byte(i) then return a:byte(i) < b:byte(i) end
  end
  return #a < #b
end
"""

# What is left of a namespace that is not listed must not come back to life. Writers look for it
# here and let the engine bury it, which may take several parts.
_ALIVE = """
local left = call('PTTL', KEYS[1])
local alive = left ~= -2 and call('HEXISTS', KEYS[1], ARGV[1]) == 1
if not alive then
  if call('EXISTS', KEYS[2], KEYS[4]) > 0 then return {-1} end
  -- Not without need: once a script has written, a full server no longer refuses what follows.
  if call('EXISTS', KEYS[5], KEYS[6], KEYS[7]) > 0 then
    call('UNLINK', KEYS[5], KEYS[6], KEYS[7])
  end
end
"""


def _done(own: str) -> str:
    """Return how a write ends: it gives its keys their time, and tells what else is to be done.

    ARGV[2] is the time to live in milliseconds, "" for a thread that must stay, "-" to leave it.
    The keys written get all of the time, and the first no more than that: with it go all.
    """
    return f"""
local renew, refused = 0, ''
if ARGV[2] == '' then
  if left >= 0 then renew = 1 elseif not alive then try('PERSIST', KEYS[3]) end
elseif ARGV[2] ~= '-' then
  local keys, ttl = {own}, tonumber(ARGV[2])
  if left < 0 or left > ttl then table.insert(keys, 1, KEYS[1]) end
  if left ~= -2 and (left * 2 < ttl or left > ttl) then renew = 1 end
  for _, key in ipairs(keys) do
    local done = try('PEXPIRE', key, ttl)
    if type(done) ~= 'number' then refused = done.err; break end
  end
end
if fits and ARGV[3] == '1' then fits = try('ZCARD', KEYS[5]) == call('HLEN', KEYS[2]) end
if fits and renew == 0 and refused == '' and not surplus then return 0 end
if not fits and KEYS[8] then call('UNLINK', KEYS[8], KEYS[9]) end
return {{fits and 1 or 0, renew, left, refused, surplus}}
"""


def put_script(name: str, before: str, after: str) -> Script:
    """Return a script that stores a checkpoint and does something more.

    Args:
        name: What it is called.
        before: Runs when it is sure that the checkpoint will be stored.
        after: Runs when it is stored, where ``fits`` says whether the order could be kept right;
            may set ``surplus``, and add to ``own`` keys that get their time.
    """
    return Script(
        name,
        CALL
        + _ALIVE
        + """
local id, parent = ARGV[4], ARGV[8]
local given, last = 11 + ARGV[9], #ARGV
local values = given + 2 * ARGV[10]
local missing, surplus = nil, nil
for i = 11, given - 1 do
  if call('HEXISTS', KEYS[3], ARGV[i]) == 0 then
    missing = missing or {}
    missing[#missing + 1] = ARGV[i]
  end
end
if missing then return missing end
local own = {KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]}
"""
        + before
        + """
local orphan = call('HEXISTS', KEYS[4], id) == 1
-- The record and the thread last: a command that is refused ends the script where it stands.
for i = given, values - 1, 2 do call('HSETNX', KEYS[3], ARGV[i], ARGV[i + 1]) end
for i = values, last, 1000 do
  call('HSET', KEYS[3], unpack(ARGV, i, math.min(i + 999, last)))
end
if parent ~= '' and call('HEXISTS', KEYS[2], parent) == 0 then
  call('HSET', KEYS[2], '\\0p' .. id, ARGV[7])
  try('ZADD', KEYS[5], 0, '\\0p' .. id)
end
if call('HSET', KEYS[2], id, ARGV[5]) == 0 then
  -- It needs other values now: whoever removes some meanwhile learns by it to look again.
  local drawn = try('HGET', KEYS[6], '\\0n')
  drawn = redis.sha1hex((type(drawn) == 'string' and drawn or '') .. ARGV[5])
  try('HSET', KEYS[6], '\\0n', drawn)
end
local derived = cmsgpack.unpack(ARGV[6])
local entry = {redis.sha1hex(ARGV[5]):sub(1, 16), derived[1]}
for i = given, last, 2 do entry[#entry + 1] = ARGV[i] end
for i = 11, given - 1 do entry[#entry + 1] = ARGV[i] end
for i = 2, #derived do entry[#entry + 1] = derived[i] end
if orphan then call('HDEL', KEYS[4], id) end
if not alive then call('HSET', KEYS[1], ARGV[1], ARGV[7]) end
try('HSET', KEYS[6], id, cmsgpack.pack(entry))
local fits = type(try('ZADD', KEYS[5], 0, id)) == 'number'
"""
        + after
        + _done("own"),
    )


PUT = put_script("put", "", "")
"""Store a checkpoint. All of the keys, that of its writes, and where 0.1.0 kept what is derived.

ARGV: time to live, 1 to look whether the order fits, id, record, msgpack of [parent or "", fields
that are rebuilt from writes, ...], encoded 1, the parent if a channel is rebuilt from its writes or
else "", how many inherited fields follow, how many fields that stay if they are there, then the
first, then the second with their values, then field, value, and so on.

Returns 0; or {1 if the order fits, 1 to renew the other keys, what was left of the first key's
time, why expiry was refused}; or the inherited fields without a value, and then nothing was stored;
or {-1}, and nothing was stored because something must be buried first.
"""

PUT_WRITES = Script(
    "put_writes",
    CALL
    + "if #ARGV < 9 then return 0 end\n"
    + _ALIVE
    + LESS
    + """
local id, target = ARGV[4], KEYS[7]
local given = 9 + ARGV[6]
local first, missing = given + 2 * ARGV[7], nil
for i = 9, given - 1 do
  if call('HEXISTS', KEYS[3], ARGV[i]) == 0 then
    missing = missing or {}
    missing[#missing + 1] = ARGV[i]
  end
end
if missing then return missing end
local mark, fits, surplus = '\\0w' .. id, true, nil
local own = {KEYS[2], KEYS[4], KEYS[5], target}
for i = given, first - 1, 1000 do
  call('HSET', KEYS[3], unpack(ARGV, i, math.min(i + 999, first - 1)))
end
if ARGV[8] ~= '' then
  for _, key in ipairs({KEYS[3], KEYS[6], KEYS[10]}) do own[#own + 1] = key end
  -- Whoever removes segments meanwhile learns by it that they are needed.
  local drawn = try('HGET', KEYS[6], '\\0n')
  if type(drawn) ~= 'string' then drawn = '' end
  local now = drawn:match('^[^.]*') .. '.' .. ARGV[8]
  if call('HGET', KEYS[10], 'r') == drawn then
    local raw, known = call('HGET', KEYS[10], 's' .. id), {}
    local needed = raw and cmsgpack.unpack(raw) or {}
    for _, key in ipairs(needed) do known[key] = true end
    for i = first, #ARGV, 2 do
      if ARGV[i]:sub(1, 2) == '\\0s' then
        local key = ARGV[i]:sub(3)
        if not known[key] then needed[#needed + 1] = key end
        local last = call('HGET', KEYS[10], 'v' .. key)
        if not last or less(last, id) then call('HSET', KEYS[10], 'v' .. key, id) end
      end
    end
    call('HSET', KEYS[10], 's' .. id, cmsgpack.pack(needed), 'r', now)
  end
  try('HSET', KEYS[6], '\\0n', now)
end
local new = call('HSETNX', KEYS[2], mark, ARGV[5]) == 1
if new then fits = type(try('ZADD', KEYS[5], 0, mark)) == 'number' end
if call('EXISTS', target) == 0 then
  if not new then call('HSET', target, '\\0lost', ARGV[5]) end
  for i = first, #ARGV, 1000 do
    call('HSET', target, unpack(ARGV, i, math.min(i + 999, #ARGV)))
  end
else
  for i = first, #ARGV, 2 do
    local set = 'HSETNX'
    if ARGV[i]:byte() == 45 then set = 'HSET' end
    call(set, target, ARGV[i], ARGV[i + 1])
  end
end
if call('HEXISTS', KEYS[2], id) == 0 then call('HSET', KEYS[4], id, ARGV[5]) end
if not alive then call('HSET', KEYS[1], ARGV[1], ARGV[5]) end
"""
    + _done("own"),
)
"""Store pending writes. All of the keys, that of the writes, and where 0.1.0 kept what is derived;
where the writes need segments, the references too.

ARGV: time to live, 1 to look whether the order fits, id, encoded 1, how many inherited segments
follow, how many new ones, a number drawn if there are any or else "", then the first, then the
second with their values, then key, write, and so on. A key that starts with a minus sign is that of
a special channel, which may be replaced. A call never names a positional key twice.

Returns what PUT returns.
"""

_LIFE = """
local function as_long(key)
  local left = call('PTTL', KEYS[1])
  if left > 0 then try('PEXPIRE', key, left) end
end
"""

ORDER = Script(
    "order",
    CALL
    + _LIFE
    + """
local kind = call('TYPE', KEYS[2]).ok
if kind ~= 'zset' and kind ~= 'none' then try('UNLINK', KEYS[2]) end
for _, id in ipairs(ARGV) do
  local done
  if call('HEXISTS', KEYS[1], id) == 1 then
    done = try('ZADD', KEYS[2], 0, id)
  else
    done = try('ZREM', KEYS[2], id)
  end
  if type(done) ~= 'number' then return done.err end
end
as_long(KEYS[2])
return 1
""",
)
"""Make the order right about these keys. Keys 2, 5. ARGV: keys of the hash, or once there.

Returns 1, or why it was refused.
"""

REMEMBER = Script(
    "remember",
    CALL
    + _LIFE
    + """
local kind = call('TYPE', KEYS[2]).ok
if kind ~= 'hash' and kind ~= 'none' then try('UNLINK', KEYS[2]) end
local done = try('HSET', KEYS[2], unpack(ARGV))
if type(done) ~= 'number' then return done.err end
as_long(KEYS[2])
return 1
""",
)
"""Remember what records refer to. Keys 2, 6. ARGV: id, entry, and so on. Returns as ORDER does."""

RENEW = Script(
    "renew",
    CALL
    + """
local ttl, exact = ARGV[1], ARGV[2] == '1'
local first = call('PTTL', KEYS[1])
if ttl == '' then
  if exact and first ~= -1 then return 1 end
  for i = 2, #KEYS do
    local done = try('PERSIST', KEYS[i])
    if type(done) ~= 'number' then return done.err end
  end
  return 1
end
ttl = tonumber(ttl)
if exact and (first < 0 or first > ttl) then return 1 end
for i = 2, #KEYS do
  local left = exact and 0 or call('PTTL', KEYS[i])
  if left >= 0 and left < ttl then
    local done = try('PEXPIRE', KEYS[i], ttl)
    if type(done) ~= 'number' then return done.err end
  end
end
return 1
""",
)
"""Renew keys of a thread, the first of which is given but not renewed.

ARGV: time to live or ""; then 0 to lengthen what would end sooner, or 1 to give all of them that
time, unless the first key has meanwhile been given more by another writer.

Returns 1, or why it was refused.
"""

BURY = Script(
    "bury",
    CALL
    + """
if call('HEXISTS', KEYS[1], ARGV[1]) == 1 then return 0 end
call('UNLINK', unpack(KEYS, 2))
return 1
""",
)
"""Remove keys of a namespace that is not listed; where it is, return 0. KEYS: 1, then any."""

DELETE_THREAD = Script(
    "delete_thread",
    CALL
    + """
if call('HLEN', KEYS[1]) ~= tonumber(ARGV[1]) then return 0 end
for i = 2, #ARGV do
  if call('HLEN', KEYS[i]) ~= tonumber(ARGV[i]) then return 0 end
end
for i = 1, #KEYS, 1000 do call('UNLINK', unpack(KEYS, i, math.min(i + 999, #KEYS))) end
return 1
""",
)
"""Remove keys if as many fields as ARGV says are in each of the first, or else return 0."""

DROP = Script(
    "drop",
    CALL
    + """
local drawn = try('HGET', KEYS[6], '\\0n')
for i = 3, #ARGV do
  local id = ARGV[i]
  if ARGV[2] == '' or call('HEXISTS', KEYS[2], id) == 0 then
    local mark, severed = '\\0w' .. id, '\\0p' .. id
    call('HDEL', KEYS[2], id, mark, severed)
    call('HDEL', KEYS[4], id)
    try('HDEL', KEYS[6], id)
    try('ZREM', KEYS[5], id, mark, severed)
    call('UNLINK', KEYS[4 + i])
  end
end
try('HSET', KEYS[6], '\\0n', ARGV[1])
return type(drawn) == 'string' and drawn or ''
""",
)
"""Remove checkpoints with their marks and writes. All of the keys, and one for each id's writes.

ARGV: a number drawn; "" or, to remove only the writes of ids that have no checkpoint, "orphans";
then ids. Returns the number that was drawn before, or "".
"""

DROP_VALUES = Script(
    "drop_values",
    CALL
    + """
local drawn, needed, doomed = try('HGET', KEYS[6], '\\0n'), {}, {}
drawn = type(drawn) == 'string' and drawn or ''
if #KEYS > 7 then drawn = drawn:match('^[^.]*') end
if drawn ~= ARGV[2] or call('HLEN', KEYS[2]) ~= tonumber(ARGV[3]) then return 0 end
for i = 8, #KEYS do
  for _, key in ipairs(call('HKEYS', KEYS[i])) do
    if key:sub(1, 2) == '\\0s' then needed[key:sub(3)] = true end
  end
end
for i = 4, #ARGV do
  if not needed[ARGV[i]] then doomed[#doomed + 1] = ARGV[i] end
end
if #doomed > 0 then call('HDEL', KEYS[3], unpack(doomed)) end
if call('EXISTS', KEYS[2], KEYS[4]) == 0 then
  call('HDEL', KEYS[1], ARGV[1])
  call('UNLINK', KEYS[3], KEYS[5], KEYS[6], KEYS[7])
end
return 1
""",
)
"""Remove values, and an empty namespace with its last checkpoint. All of the keys, references, and
those of all writes, or of none.

ARGV: the number that was drawn last or "", how many fields key 2 has, then fields of values.
Returns 0, with nothing done, if that has changed: there may be something that refers to them. Where
the writes are given, what comes after a dot in that number is left out: the script itself looks
which segments they need.
"""
