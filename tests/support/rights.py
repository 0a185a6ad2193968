"""Users that may do only what docs/redis.md says a store needs."""

from __future__ import annotations

import redis
from servers import Server

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


PAGES = ["hstrlen", "memory|usage"]
"""What bounding the pages of a listing by bytes needs."""


FENCES = ["client|info", "client|kill"]
"""What closing the connection of a request that was given up needs."""


CLUSTER = ["cluster|slots", "cluster|nodes", "command", "asking"]
"""What finding the nodes of a cluster needs beside these."""


def limited(server: Server, client: redis.Redis, prefix: str, commands: list[str]) -> str:
    """Make a user for a prefix; return the server's URL for it.

    A ``*`` in the prefix stands for anything, so that a suite with many prefixes has one user.
    """
    name = f"user{len(client.acl_users())}"
    client.execute_command(
        *("ACL", "SETUSER", name, "on", ">secret", f"~{prefix}:*", f"~!{prefix}:*"),
        *("resetchannels", "-@all"),
        *(f"+{command}" for command in commands),
    )
    return f"redis://{name}:secret@127.0.0.1:{server.port}/0"
