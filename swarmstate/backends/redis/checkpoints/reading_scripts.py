r"""The scripts of the checkpointer that read, and what they compare what is derived with.

Keys and replies are as :mod:`~.scripts` says.
"""

from __future__ import annotations

from swarmstate.backends.redis.checkpoints.scripts import CALL
from swarmstate.backends.redis.commands import Script

__all__ = ["ANCESTORS", "ENTRIES", "LIST_IDS", "READ"]

_ENTRY = """
local function entry(key, id, record)
  local raw = try('HGET', key, id)
  if type(raw) ~= 'string' then return nil end
  local good, found = pcall(cmsgpack.unpack, raw)
  if not good or type(found) ~= 'table' or found[1] ~= redis.sha1hex(record):sub(1, 16) then
    return nil
  end
  return found
end
"""


# A foreign program that adds as many checkpoints as it removes leaves their number as it was. Only
# comparing one by one shows that: all of them, or of many a stretch, another one each time.
def _compare(order: str, turn: str) -> str:
    """Return what ends a script with 0 if an order does not fit key 2, and gives its size and top.

    Args:
        order: The key of the order.
        turn: What the script is given to compare one by one: a number, another each time, or "".
    """
    return f"""
local size = try('ZCARD', {order})
if size ~= call('HLEN', KEYS[2]) then return 0 end
local top
if {turn} ~= '' and size <= 2000 then
  local all, listed = call('ZREVRANGE', {order}, 0, -1), {{}}
  for i = 1, size do listed[all[i]] = true end
  for _, id in ipairs(call('HKEYS', KEYS[2])) do
    if not listed[id] then return 0 end
  end
  top = all[1]
else
  if {turn} ~= '' then
    local start = math.floor({turn} * 0.6180339887 % 1 * size)
    for _, id in ipairs(call('ZREVRANGE', {order}, start, start + 499)) do
      if call('HEXISTS', KEYS[2], id) == 0 then return 0 end
    end
  end
  top = call('ZREVRANGE', {order}, 0, 0)[1]
end
"""


# Marks lie between ids that begin with lesser characters and the usual ones.
_GREATEST = """
local function greatest(order, before, limit)
  local top, below = '+', '(\\0p'
  if before ~= '' then
    top = '(' .. before
    if before:byte() == 0 and (before:byte(2) or 0) < 112 then below = top end
  end
  local found = call('ZREVRANGEBYLEX', order, top, '[\\0x', 'LIMIT', 0, limit)
  if #found < limit then
    local more = call('ZREVRANGEBYLEX', order, below, '-', 'LIMIT', 0, limit - #found)
    for _, id in ipairs(more) do found[#found + 1] = id end
  end
  return found
end
"""

READ = Script(
    "read",
    CALL
    + """
if call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return {{}, {}, {}, -2, 0, {}, #ARGV} end
local prefix, want_values, want_writes = ARGV[2], ARGV[3], ARGV[4] == '1'
local share, first, last, listed, latest = tonumber(ARGV[7]), 9 + ARGV[8], #ARGV, 0, nil
if ARGV[first] == '' then
"""
    + _compare("KEYS[4]", "ARGV[5]")
    + """
  if top and top:byte() == 0 then
"""
    + _GREATEST
    + """
    top = greatest(KEYS[4], '', 1)[1]
  end
  if not top then return {{}, {}, {}, -2, size, {}, 1} end
  if prefix == '' and top ~= ARGV[first + 1] then return top end
  last, listed, latest = first, size, top
end
"""
    + _ENTRY
    + """
local wanted, found, fields, seen, chosen, bare = nil, {}, {}, {}, {}, {}
local room, reached = share, last + 1 - first
local function measure(field)
  local length = try('HSTRLEN', KEYS[3], field)
  return type(length) == 'number' and length or 0
end
if want_values == 'some' then
  wanted = {}
  for i = 9, first - 1 do wanted[ARGV[i]] = true end
end
for i = first, last do
  local id, target = latest or ARGV[i], KEYS[6 + i - first]
  if prefix ~= '' then target = prefix .. id end
  local record = call('HGET', KEYS[2], id)
  if not record and latest then return 0 end
  local before, size = #fields, 0
  if record then
    local known = 1
    if want_values ~= 'none' then
      local list = entry(KEYS[5], id, record)
      if not list then
        known = 0
      else
        for j = 3, #list do
          local field = list[j]
          if not seen[field] then
            seen[field] = true
            local length, rest = nil, nil
            if wanted then length, rest = field:match('^(%d+)[:ifsz](.*)$') end
            if not wanted or wanted[rest:sub(1, length)] then
              fields[#fields + 1] = field
              chosen[field] = true
              if share > 0 then size = size + measure(field) end
            end
          end
        end
      end
    end
    local writes = {}
    if want_writes then
      writes = call('HGETALL', target)
      for j = 1, #writes, 2 do
        local field = writes[j]:sub(1, 2) == '\\0s' and writes[j]:sub(3)
        if field and not chosen[field] then
          chosen[field] = true
          fields[#fields + 1] = field
          if share > 0 then size = size + measure(field) end
        end
      end
      if share > 0 then
        for j = 2, #writes, 2 do size = size + #writes[j] end
      end
    end
    if share > 0 and i == first then
      room = math.max(room, size)
    elseif share > 0 then
      if size > room then
        for j = #fields, before + 1, -1 do fields[j] = nil end
        reached = i - first
        break
      end
      room = room - size
    end
    if want_writes and #writes == 0 then bare[#bare + 1] = '\\0w' .. id end
    found[#found + 1] = {id, record, known, writes}
  end
end
local missing = {}
if #bare > 0 then
  for i, mark in ipairs(call('HMGET', KEYS[2], unpack(bare))) do
    if mark then missing[#missing + 1] = bare[i] end
  end
end
local values, left = {}, -1
if #fields > 1000 then
  for i = 1, #fields, 1000 do
    local part = call('HMGET', KEYS[3], unpack(fields, i, math.min(i + 999, #fields)))
    for j = 1, #part do values[i + j - 1] = part[j] end
  end
elseif #fields > 0 then
  values = call('HMGET', KEYS[3], unpack(fields))
end
if ARGV[6] == '1' then left = call('PTTL', KEYS[1]) end
return {found, fields, values, left, listed, missing, reached}
""",
)
r"""Read checkpoints at one moment. Keys 1, 2, 3, 5, 6, and on a cluster those of the ids' writes.

ARGV: what the keys of writes start with, or "" if they are declared; "all", "some" or "none" of the
values; 1 for the writes; a number to compare the order one by one, another each time, or ""; 1 for
the time that is left; about how many bytes may be read besides the first, or as many again as that
has, or 0: any; the number of channels (for "some"), these, then ids. An empty one stands for the
greatest; then the only other is the one whose writes are declared.

Returns {{{id, record, 1 if key 6 knows it, writes}, ...}, fields, values, what is left of the first
key's time, how many keys the order lists, marks of writes that are missing, how many of the ids
were looked at}; what is gone is left out. Or 0 if the order does not fit; or the greatest id, if
its writes were not declared.
"""

ANCESTORS = Script(
    "ancestors",
    CALL
    + _ENTRY
    + """
if call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return {1, {}} end
local id, left, found, last = ARGV[2], tonumber(ARGV[3]), {}, nil
while id ~= '' and left > 0 do
  local record = call('HGET', KEYS[2], id)
  if not record then break end
  found[#found + 1] = id
  found[#found + 1] = record
  last, left = id, left - 1
  local list = entry(KEYS[3], id, record)
  if not list then return {0, found} end
  id = list[2]
end
if last and id ~= '' and call('HEXISTS', KEYS[2], id) == 0
  and call('HEXISTS', KEYS[2], '\\0p' .. last) == 1 then return {2, found} end
return {1, found}
""",
)
"""Follow parents: {1, {id, record, id, record, ...}}. Keys 1, 2, 6. ARGV: id, how many at most.

Starts with 0 where it ended early at a checkpoint that key 6 does not know, and with 2 where the
parent of the last was gone already when that was put.
"""

LIST_IDS = Script(
    "list_ids",
    CALL
    + """
if call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return {0} end
"""
    + _compare("KEYS[3]", "ARGV[4]")
    + _GREATEST
    + """
local found = greatest(KEYS[3], ARGV[2], tonumber(ARGV[3]))
for _, id in ipairs(found) do
  if call('HEXISTS', KEYS[2], id) == 0 then return 0 end
end
table.insert(found, 1, size)
return found
""",
)
"""Return how many keys the order lists, and ids, greatest first; or 0 if the order does not fit.

Keys 1, 2, 5. ARGV: before or "", limit, a number to compare as for READ, or "".
"""

ENTRIES = Script(
    "entries",
    CALL
    + _ENTRY
    + """
local found = {}
for i, id in ipairs(ARGV) do
  local record = call('HGET', KEYS[1], id)
  found[i] = ''
  if record and entry(KEYS[2], id, record) then found[i] = call('HGET', KEYS[2], id) end
end
return found
""",
)
"""Return the entry of each id, or "" where key 6 does not know it. Keys 2, 6."""
