"""Users that may do only what docs/redis.md says a store needs."""

from __future__ import annotations

from itertools import count

import redis
from servers import Server

_numbers = count()

STORE = [
    *("hset", "hget", "hmget", "hgetall", "hkeys", "hlen", "hexists", "hsetnx", "hdel"),
    *("set", "touch", "type", "scan", "unlink", "pexpire", "multi", "exec"),
]
"""What every store needs, whatever it is asked to do."""

SCRIPTS = ["evalsha", "eval"]
"""What ``update`` needs, and what saves other methods round trips."""


LARGE = ["rename", "persist", "watch"]
"""What calls need that are too large for one command or for a transaction of the server."""


SAVER = [
    *("exists", "persist", "pttl", "zadd", "zcard", "zlexcount", "zrangebylex", "zrem"),
    *("zrevrange", "zrevrangebylex"),
]
"""What a checkpointer needs beside these; its scripts may do no more than their user."""


MEMORY = [
    *("hexists", "hscan", "zadd", "zcard", "zrange", "zrangebylex", "zrangebyscore", "zrem"),
    "zscore",
]
"""What LangGraph's long-term memory needs beside what a store does; in scripts, too."""


PAGES = ["hstrlen", "memory|usage"]
"""What bounding the pages of a listing by bytes needs."""


FENCES = ["client|info", "client|kill"]
"""What closing the connection of a request that was given up needs."""


CLUSTER = ["cluster|slots", "cluster|nodes", "command", "asking"]
"""What finding the nodes of a cluster needs beside these."""


def limited(
    server: Server,
    client: redis.Redis,
    prefix: str,
    commands: list[str],
    name: str | None = None,
) -> str:
    """Make a user for a prefix; return the server's URL for it.

    A ``*`` in the prefix stands for anything, so that a suite with many prefixes has one user.
    """
    allowed = [f"+{command}" for command in commands]
    keys = (f"~{prefix}:*", f"~!{prefix}:*")
    return user(server, client, *keys, "resetchannels", "-@all", *allowed, name=name)


def user(server: Server, client: redis.Redis, *rules: str, name: str | None = None) -> str:
    """Make a user with these rules of ``ACL SETUSER``; return the server's URL for it.

    No two have the same name: a suite shares its servers, and the rules of one test would change
    what another's user may do. The nodes of a cluster have to be given one.
    """
    name = name or f"user{next(_numbers)}"
    client.execute_command("ACL", "SETUSER", name, "on", ">secret", *rules)
    return f"redis://{name}:secret@127.0.0.1:{server.port}/0"
