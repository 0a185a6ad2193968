"""The table of stores: every test of the store interface runs on each of them.

A backend added later adds one line to :data:`STORES`.
"""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from servers import present

from swarmstate import Store
from swarmstate.protocols import StoreLike

CODECS = ("msgpack", "ormsgpack")
# Several runs, and the workers of one, may share a server.
_run = secrets.token_hex(4)
_prefixes = itertools.count()


@dataclass(frozen=True)
class Kind:
    """How stores of one kind are made.

    Attributes:
        make: makes a store from the URL of its server and keyword arguments.
        server: the fixture that gives that URL, or None where no server is needed.
        codecs: with which codecs the interface is tested; a variant of a kind that is tested with
            all of them needs only one.
    """

    make: Callable[..., StoreLike]
    server: str | None = None
    codecs: tuple[str, ...] = CODECS


def _redis(url: str, **options: Any) -> StoreLike:
    from swarmstate.backends.redis import RedisStore

    options.setdefault("prefix", f"test{_run}-{next(_prefixes)}")
    return RedisStore(url, **options)


def _awaited_redis(url: str, **options: Any) -> StoreLike:
    from awaited import awaited

    from swarmstate.backends.redis import AsyncRedisStore

    options.setdefault("prefix", f"test{_run}-{next(_prefixes)}")
    return awaited(AsyncRedisStore(url, **options))


STORES: dict[str, Kind] = {
    "memory": Kind(Store),
    "redis": Kind(_redis, "server_url"),
    "redis-awaited": Kind(_awaited_redis, "server_url", ("msgpack",)),
    "redis-cluster": Kind(_redis, "cluster_url", ("msgpack",)),
    "redis-least-rights": Kind(_redis, "limited_url", ("msgpack",)),
    "redis-6.2": Kind(_redis, "redis_6_url", ("msgpack",)),
    "redis-7.0": Kind(_redis, "redis_7_url", ("msgpack",)),
}
# A server that this machine lacks is reported once, by the tests of the servers, not by each test.
for _binary in ("redis-6.2", "redis-7.0"):
    if not present(_binary):
        del STORES[_binary]
