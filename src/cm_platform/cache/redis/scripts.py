"""The scripts that run inside Redis, so that a value is read and written as one act.

They know bytes 0-33 of an entry (`cache/entry.py`) and no more. Numbers in Lua are doubles,
exact to 2**53: sums that may be larger are made by Redis' own INCRBY, and a sum always leaves
a script as text.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Final

from .link import Command


@dataclass(frozen=True, slots=True)
class Script:
    """A script of one key. digest: the name by which a server knows it, once it has seen it."""

    source: str
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        # Redis names scripts by SHA-1; nothing is protected by it.
        digest = hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()
        object.__setattr__(self, "digest", digest)

    def call(self, key: str, *arguments: str | bytes | int) -> Command:
        """The command that runs it, for a server that knows it."""
        return ("EVALSHA", self.digest, 1, key, *arguments)

    def whole(self, key: str, *arguments: str | bytes | int) -> Command:
        """The command that runs it and makes it known."""
        return ("EVAL", self.source, 1, key, *arguments)


# ARGV: the amount; the initial entry; its milliseconds, or "".
# Strings are compared by byte: `<` on strings would ask the server's locale.
INCREMENT: Final = Script(
    """
local key, amount, initial, ttl = KEYS[1], ARGV[1], ARGV[2], ARGV[3]

local function keep_initial()
  if ttl == '' then
    redis.call('SET', key, initial)
  else
    redis.call('SET', key, initial, 'PX', ttl)
  end
  return {amount, string.sub(initial, 3, 10)}
end

local function is_older(stamp, other)
  for i = 1, 8 do
    local a, b = string.byte(stamp, i), string.byte(other, i)
    if a ~= b then
      return a < b
    end
  end
  return false
end

local entry = redis.pcall('GET', key)
if not entry then
  return keep_initial()
end
if type(entry) ~= 'string' then
  return entry
end
if #entry < 34 or string.byte(entry, 1) ~= 0xC5 then
  return redis.error_reply('ERR value is not an integer')
end
local stamp = string.sub(entry, 3, 10)
if is_older(stamp, string.sub(initial, 3, 10)) then
  return keep_initial()
end
local text = string.sub(entry, 35)
if string.byte(entry, 2) ~= 3 or not string.find(text, '^%-?%d+$') then
  return redis.error_reply('ERR value is not an integer')
end
local sum
if #text <= 15 and #amount <= 15 then
  sum = string.format('%.0f', tonumber(text) + tonumber(amount))
else
  redis.call('SET', key, text, 'KEEPTTL')
  local added = redis.pcall('INCRBY', key, amount)
  if type(added) == 'table' then
    redis.call('SET', key, entry, 'KEEPTTL')
    return added
  end
  sum = redis.call('GET', key)
end
redis.call('SET', key, string.sub(entry, 1, 34) .. sum, 'KEEPTTL')
return {sum, stamp}
"""
)

# ARGV: the amount; the milliseconds that a new counter lives.
INCREMENT_TEXT: Final = Script(
    """
local is_new = redis.call('EXISTS', KEYS[1]) == 0
local added = redis.pcall('INCRBY', KEYS[1], ARGV[1])
if type(added) == 'table' then
  return added
end
if is_new then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return redis.call('GET', KEYS[1])
"""
)

# ARGV: what is expected; "1" and the new value, or "0" and "" to forget it; milliseconds or "".
COMPARE_AND_SET: Final = Script(
    """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
if ARGV[2] == '0' then
  redis.call('DEL', KEYS[1])
elseif ARGV[4] == '' then
  redis.call('SET', KEYS[1], ARGV[3])
else
  redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4])
end
return 1
"""
)

__all__ = ["COMPARE_AND_SET", "INCREMENT", "INCREMENT_TEXT", "Script"]
