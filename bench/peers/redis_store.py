"""RedisStore against the Rust package's, on one private server, by the clock on the wall.

Also the latency of :class:`AsyncRedisStore` against a hop to a thread per call, and against the
asyncio client of redis-py, which it does not use.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

import packages
import redis
from measuring import Measure, Row, Run, loop, table
from servers import chosen_url

from swarmstate.backends.redis import AsyncRedisStore, RedisStore

REPEATS = 9
SECONDS = 0.1  # of a repeat
VALUE = {"a": 1, "b": "text", "c": [1, 2, 3]}
ONE = [("ns", f"key{number}", VALUE) for number in range(50)]
FIFTY = [(f"ns{number}", "key", VALUE) for number in range(50)]
FOREIGN = 100_000
TASKS = 50

Make = Callable[[], Any]


def _call(statement: str, **names: Any) -> Callable[..., Run]:
    def build(make: Make, codec: str) -> Run:
        store = make()
        store.set_many([*ONE, *FIFTY])
        return loop(statement, time.perf_counter, SECONDS, store=store, value=VALUE, **names)

    return build


def _thousand(statement: str) -> Callable[..., Run]:
    def build(make: Make, codec: str) -> Run:
        store = make()
        store.clear()
        store.set_many([(f"ns{n}", f"key{i}", VALUE) for n in range(1000) for i in range(3)])
        return loop(statement, time.perf_counter, SECONDS, store=store, taken=store.snapshot())

    return build


def _pairs(items: list[tuple[str, str, Any]]) -> list[tuple[str, str]]:
    return [item[:2] for item in items]


CALLS = [
    Measure("Redis: get", 0.95, _call("store.get('ns', 'key1')")),
    Measure("Redis: set", 0.95, _call("store.set('ns', 'key1', value)")),
    Measure("Redis: set_many of 50, one namespace", 1.8, _call("store.set_many(b)", b=ONE)),
    Measure("Redis: get_many of 50, one namespace", 1.8, _call("store.get_many(b)", b=_pairs(ONE))),
    Measure("Redis: set_many of 50, 50 namespaces", 0.85, _call("store.set_many(b)", b=FIFTY)),
    Measure(
        "Redis: get_many of 50, 50 namespaces", 0.85, _call("store.get_many(b)", b=_pairs(FIFTY))
    ),
    Measure("Redis: snapshot of 1,000 namespaces", 5, _thousand("store.snapshot()")),
    Measure("Redis: restore of 1,000 namespaces", 1, _thousand("store.restore(taken)")),
]
BESIDE_FOREIGN_KEYS = [
    Measure(
        f"Redis: namespaces() beside {FOREIGN:,} foreign keys",
        1,
        _call("store.namespaces()"),
    ),
    Measure(
        f"Redis: set_many and clear() beside {FOREIGN:,} foreign keys",
        1,
        _call("store.set_many(b); store.clear()", b=FIFTY),
    ),
]


def redis_stores() -> int:
    """Print every measure; return how many fall short."""
    peer = packages.rust("backends.redis")
    with chosen_url() as url:
        return _measure(url, peer)


def _measure(url: str, peer: Any) -> int:
    def ours() -> RedisStore:
        return RedisStore(url, prefix="bench-ours", codec="ormsgpack")

    def theirs() -> Any:
        return peer.RedisStore(url, prefix="bench-peer")

    short = table(measure.against(ours, theirs, REPEATS) for measure in CALLS)
    with redis.Redis.from_url(url) as client:
        names = [f"bench-foreign:{number}" for number in range(FOREIGN)]
        client.mset(dict.fromkeys(names, b"x"))
        try:
            short += table(each.against(ours, theirs, 5) for each in BESIDE_FOREIGN_KEYS)
        finally:
            client.unlink(*names)
    print()
    return short + asyncio.run(_latency(url))


async def _latency(url: str) -> int:
    """Compare the median latency of a get with 50 tasks at it; return how many fall short."""
    import redis.asyncio

    store = RedisStore(url, prefix="bench-ours", codec="ormsgpack")
    awaited = AsyncRedisStore(url, prefix="bench-ours", codec="ormsgpack")
    pool = redis.asyncio.BlockingConnectionPool.from_url(url, max_connections=TASKS)
    plain = redis.asyncio.Redis(connection_pool=pool)
    store.set("ns", "key", VALUE)
    ways: dict[str, Callable[[], Awaitable[Any]]] = {
        "AsyncRedisStore": lambda: awaited.get("ns", "key"),
        "a thread hop per call": lambda: asyncio.to_thread(store.get, "ns", "key"),
        "redis.asyncio, undecoded": lambda: plain.hget("bench-ours:ns", "key"),
    }
    found: dict[str, list[float]] = {name: [] for name in ways}

    async def work(call: Callable[[], Awaitable[Any]], latencies: list[float]) -> None:
        for _ in range(30):
            start = time.perf_counter()
            await call()
            latencies.append(time.perf_counter() - start)

    for _ in range(REPEATS):
        for name, call in ways.items():
            latencies: list[float] = []
            await asyncio.gather(*[work(call, latencies) for _ in range(TASKS)])
            found[name].append(statistics.median(latencies))
    rows = [
        Row(f"get, {TASKS} tasks: {name}", found["AsyncRedisStore"], found[name], most=limit)
        for name, limit in (("a thread hop per call", 0.75), ("redis.asyncio, undecoded", None))
    ]
    short = table(rows, other="other", limit="at most")
    await awaited.close()
    await plain.aclose()
    store.close()
    return short
