"""What doctor asks a Redis or Valkey server."""

from __future__ import annotations

from typing import Any

from swarmstate import open_store
from swarmstate.backends.redis.commands import Batch, CommandRefused
from swarmstate.backends.redis.transport.urls import parse
from swarmstate.cli.doctor import Findings, latency, warn_if_slow
from swarmstate.cli.opening import Place
from swarmstate.cli.showing import bytes_of
from swarmstate.steps import Steps, named

__all__ = ["NEEDED", "examine_server"]

NEEDED = {
    "stores": (
        *("hset", "hget", "hmget", "hgetall", "hkeys", "hlen", "hexists", "hsetnx", "hdel"),
        *("set", "touch", "type", "scan", "unlink", "pexpire", "multi", "exec"),
    ),
    "scripts": ("evalsha", "eval"),
    "large calls": ("rename", "persist", "watch"),
    "LangGraph threads": (
        *("exists", "persist", "pttl", "zadd", "zcard", "zlexcount", "zrangebylex", "zrem"),
        *("zrevrange", "zrevrangebylex"),
    ),
    "pages bounded by bytes": ("hstrlen", "memory|usage"),
    "LangGraph memory": (
        *("hexists", "hscan", "zadd", "zcard", "zrange", "zrangebylex", "zrangebyscore", "zrem"),
        "zscore",
    ),
    "fencing": ("client|info", "client|kill"),
}
"""Which commands are needed for what, as docs/redis.md lists them."""

_CLUSTER = ("cluster|slots", "cluster|nodes", "command", "asking")
_FATAL = ("stores", "a cluster")
# Redis 7 and Valkey: asks for no right but that of running scripts, and runs nothing.
_ASK = """
if not redis.acl_check_cmd then return false end
local refused = {}
for at = 1, #ARGV, 4 do
  local asked = {}
  for each = at, at + 3 do
    if ARGV[each] ~= '' then asked[#asked + 1] = ARGV[each] end
  end
  local known, allowed = pcall(redis.acl_check_cmd, unpack(asked))
  if known and not allowed then refused[#refused + 1] = (at - 1) / 4 end
end
return refused
"""
# What a command is asked about with, where it takes more than one key.
_ARGUMENTS = {
    **dict.fromkeys(("hset", "hsetnx"), ("f", "v")),
    **dict.fromkeys(("hget", "hmget", "hexists", "hdel", "hstrlen", "hscan", "zscore"), ("f",)),
    **dict.fromkeys(("set", "pexpire", "zrem"), ("1",)),
    "rename": ("{key}",),
    **dict.fromkeys(("zadd", "zrange", "zrevrange", "zlexcount", "zrangebylex"), ("-", "+")),
    **dict.fromkeys(("zrevrangebylex", "zrangebyscore"), ("-", "+")),
}


def examine_server(place: Place, facts: dict[str, Any], found: Findings) -> None:
    """Ask a server, or each node of a cluster, what it is and what it lets us do.

    Args:
        place: Where it is.
        facts: Where to put what it says.
        found: Where to put what is wrong.
    """
    options = {"prefix": place.prefix, "timeout": place.timeout}
    store: Any
    with open_store(place.url, **{k: v for k, v in options.items() if v is not None}) as store:
        ask = _Asked(store)
        ask.one("PING")
        info = ask.info()
        facts["kind"] = _kind(info)
        facts["version"] = info.get("valkey_version") or info.get("redis_version")
        facts["address"] = store.driver.address
        facts["prefix"] = store.prefix
        facts["cluster"] = store.driver.clustered
        facts["role"] = info.get("role")
        named_in_url = parse(place.url).options.get("username")
        facts["user"] = _text(ask.one("ACL", "WHOAMI")) or named_in_url or "default"
        facts["maxmemory"] = _number(info.get("maxmemory"))
        facts["used_memory"] = _number(info.get("used_memory"))
        facts["maxmemory_policy"] = info.get("maxmemory_policy") or ask.setting("maxmemory-policy")
        facts["evicted_keys"] = _number(info.get("evicted_keys"))
        facts["persistence"] = _persistence(info)
        facts["latency"] = latency(lambda: ask.one("PING"))
        warn_if_slow(facts["latency"], found)
        facts["scripts"] = ask.one("EVAL", "return 1", "0") == 1
        facts["refused_commands"] = _refused(ask, store, facts, found)
        _judge(info, facts, found)


class _Asked:
    """What a server answers; None for what it does not let us ask."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def each(self, *command: str) -> list[Any]:
        """Return the answers of all nodes."""

        def steps() -> Steps[list[Any]]:
            replies = yield Batch([command], idempotent=True, everywhere=True)
            return list(replies[0])

        try:
            answers: list[Any] = self._store.driver.run(named("doctor", steps()))
        except CommandRefused:
            return []
        return answers

    def one(self, *command: str) -> Any:
        """Return the answer of a node."""
        return next(iter(self.each(*command)), None)

    def info(self) -> dict[str, str]:
        """Return what INFO says, of the nodes together the most alarming."""
        found: dict[str, str] = {}
        for answer in self.each("INFO"):
            for line in (_text(answer) or "").splitlines():
                name, colon, value = line.partition(":")
                if colon:
                    known = found.setdefault(name, value)
                    if known == "noeviction" or (name == "role" and known == "master"):
                        found[name] = value
        return found

    def setting(self, name: str) -> str | None:
        """Return what is configured."""
        answer = self.one("CONFIG", "GET", name)
        if isinstance(answer, dict):
            answer = [part for pair in answer.items() for part in pair]
        return _text(answer[1]) if isinstance(answer, list) and len(answer) > 1 else None


def _text(answer: Any) -> str | None:
    if isinstance(answer, bytes):
        return answer.decode(errors="replace")
    return answer if isinstance(answer, str) else None


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None


def _kind(info: dict[str, str]) -> str:
    if "valkey_version" in info or info.get("server_name") == "valkey":
        return "Valkey"
    return "Redis" if "redis_version" in info else "a server that does not say what it is"


def _persistence(info: dict[str, str]) -> str | None:
    if "aof_enabled" not in info:
        return None
    if info["aof_enabled"] == "1":
        return "append-only file"
    saved = _number(info.get("rdb_last_save_time")), _number(info.get("rdb_saves"))
    return "snapshots (RDB)" if saved[1] else "no append-only file, and no snapshot since the start"


def _refused(ask: _Asked, store: Any, facts: dict[str, Any], found: Findings) -> list[str] | None:
    """Return the commands that the user may not run; None where that cannot be known."""
    needed = dict(NEEDED)
    if store.driver.clustered:
        needed["a cluster"] = _CLUSTER
    names = list(dict.fromkeys(name for some in needed.values() for name in some))
    if not facts["scripts"]:
        found.warning(
            "the user may not run scripts, or the server has none",
            "allow EVALSHA and EVAL: without them calls take more round trips, and update() does "
            "not work",
        )
        return None
    layout = store.steps.layout
    key = layout.key("doctor").decode(errors="replace")
    asked: dict[str, list[str]] = {name: _example(name, key) for name in names}
    needed["what is derived"] = ("!",)
    asked["!"] = ["set", layout.marker.decode(errors="replace"), "1"]
    arguments = [part for parts in asked.values() for part in [*parts, "", "", "", ""][:4]]
    answer = ask.one("EVAL", _ASK, "0", *arguments)
    if not isinstance(answer, list):
        return None
    refused = [list(asked)[int(at)] for at in answer]
    user = facts["user"]
    for what, commands in needed.items():
        lacks = [name for name in commands if name in refused]
        if not lacks:
            continue
        tell = found.error if what in _FATAL else found.warning
        patterns = f"~{store.prefix}:* ~!{store.prefix}:*"
        if what == "what is derived":
            found.error(
                f"the user {user} may not write keys !{store.prefix}:*, where a store keeps what "
                "is derived",
                f"ACL SETUSER {user} {patterns}",
            )
            continue
        tell(
            f"the user {user} may not run, or not on keys of the prefix {store.prefix}: "
            f"{' '.join(lacks).upper()} (for {what})",
            f"ACL SETUSER {user} {patterns} {' '.join(f'+{name}' for name in lacks)}",
        )
    return [name for name in refused if name != "!"]


def _example(name: str, key: str) -> list[str]:
    """Return a call of a command, to be asked about."""
    command, _, sub = name.partition("|")
    if sub:
        return [command, sub, *([key] if command == "memory" else [])]
    if command in ("multi", "exec", "asking", "command"):
        return [command]
    if command == "scan":
        return [command, "0"]
    if command in ("eval", "evalsha"):
        return [command, "return 1", "1", key]
    arguments = (part.format(key=key) for part in _ARGUMENTS.get(command, ()))
    return [command, key, *arguments]


def _judge(info: dict[str, str], facts: dict[str, Any], found: Findings) -> None:
    policy = facts["maxmemory_policy"]
    if policy is None:
        found.warning(
            "the server does not say its maxmemory-policy",
            "see that it is noeviction where state must not be lost",
        )
    elif policy != "noeviction":
        what = "any key" if policy.startswith("allkeys") else "keys with a ttl"
        found.warning(
            f"maxmemory-policy is {policy}: a full server removes {what}, threads in part",
            "CONFIG SET maxmemory-policy noeviction, or with a ttl for every store volatile-ttl",
        )
    if facts["evicted_keys"]:
        found.warning(
            f"{facts['evicted_keys']:,} keys were evicted since the server started",
            "give it more memory, or bound what is kept by ttl and max_checkpoints_per_thread",
        )
    used, most = facts["used_memory"], facts["maxmemory"]
    if used and most and used > 0.9 * most:
        found.warning(
            f"{bytes_of(used)} of {bytes_of(most)} are used",
            "give it more memory: a full server refuses writes",
        )
    if facts["role"] == "slave":
        found.error("this is a replica, which refuses writes", "give the URL of its primary")
    if info.get("loading") == "1":
        found.warning("the server is still loading its data", "wait")
    if info.get("rdb_last_bgsave_status") == "err" or info.get("aof_last_write_status") == "err":
        found.error("the server could not write its data to disk", "see its log and its disk")
    if facts["persistence"] and facts["persistence"].startswith("no "):
        found.warning(
            "the server keeps nothing on disk: a restart loses all state",
            "CONFIG SET appendonly yes, unless that is meant",
        )
