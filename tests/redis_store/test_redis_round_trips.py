"""How often each method goes to the server, counted between client and server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import redis
from proxies import Proxy

from swarmstate.backends.redis import AsyncRedisStore, RedisStore

Make = Callable[..., RedisStore]

FIFTY = [(f"n{number}", "k", number) for number in range(50)]
ONE_NAMESPACE = [("n", f"k{number}", number) for number in range(50)]

# Once scripts are known to the server, and the store has written before.
TRIPS: dict[str, tuple[int, Callable[[RedisStore], Any]]] = {
    "set": (1, lambda store: store.set("n", "k", 1)),
    "get": (1, lambda store: store.get("n", "k")),
    "get of nothing": (1, lambda store: store.get("absent", "k")),
    "contains": (1, lambda store: store.contains("n", "k")),
    "set_default": (1, lambda store: store.set_default("n", "k", 1)),
    "delete": (1, lambda store: store.delete("n", "k")),
    "set_many in one namespace": (1, lambda store: store.set_many(ONE_NAMESPACE)),
    "set_many in fifty namespaces": (1, lambda store: store.set_many(FIFTY)),
    "set_many of nothing": (0, lambda store: store.set_many([])),
    "get_many in one namespace": (1, lambda store: store.get_many([i[:2] for i in ONE_NAMESPACE])),
    "get_many in fifty namespaces": (1, lambda store: store.get_many([i[:2] for i in FIFTY])),
    "delete_many": (1, lambda store: store.delete_many([i[:2] for i in FIFTY])),
    "delete_namespace": (1, lambda store: store.delete_namespace("n")),
    "update": (2, lambda store: store.update("n", "k", lambda value: 1)),
    "append": (1, lambda store: store.append("n", [1, 2, 3])),
    "tail": (1, lambda store: store.tail("n")),
    "tail with a limit": (1, lambda store: store.tail("n", 2)),
    "pop": (1, lambda store: store.pop("n")),
    "append of nothing": (0, lambda store: store.append("n", [])),
    "commit": (1, lambda store: store.commit([("n", "k", 1)], [("m", "k")])),
    "commit that expects": (1, lambda store: store.commit(FIFTY, expect={("n", "k"): 1})),
    "commit that does not hold": (1, lambda store: store.commit(FIFTY, expect={("n", "k"): 2})),
    "commit of nothing": (1, lambda store: store.commit(expect={("n", "k"): 1, ("m", "k"): 2})),
    "keys": (1, lambda store: store.keys("n", "k")),
    "items": (1, lambda store: store.items("n")),
    "max_key": (1, lambda store: store.max_key("n")),
    "in": (1, lambda store: "n" in store),
    "namespaces": (1, lambda store: store.namespaces("n")),
    "len": (1, len),
    "snapshot": (1, lambda store: store.snapshot()),
    "clear": (1, lambda store: store.clear()),
    "history": (0, lambda store: store.history()),
}


@pytest.fixture
def warm(proxy: Proxy, make: Make) -> RedisStore:
    store = make(proxy.url)
    for _, call in TRIPS.values():
        call(store)
    store.set_many([*FIFTY, *ONE_NAMESPACE])
    return store


@pytest.mark.parametrize("name", TRIPS)
def test_a_call_takes_no_more_round_trips_than_it_needs(
    proxy: Proxy, warm: RedisStore, name: str
) -> None:
    expected, call = TRIPS[name]
    with proxy.counted():
        call(warm)
    assert proxy.trips == expected


@pytest.mark.parametrize("name", ["set", "set_many in fifty namespaces", "get", "update"])
def test_expiry_and_the_marker_ride_along(proxy: Proxy, make: Make, name: str) -> None:
    store = make(proxy.url, ttl=100, ttl_on_read=True)
    expected, call = TRIPS[name]
    make().update("n", "k", lambda value: 1)
    with proxy.counted():
        call(store)
    assert proxy.trips == expected


@pytest.mark.parametrize("scripting", [True, False])
def test_snapshot_and_restore_take_a_handful_whatever_the_number_of_namespaces(
    proxy: Proxy, make: Make, scripting: bool
) -> None:
    store = make(proxy.url)
    store.steps._scripting = scripting
    counts = []
    for size in (3, 1000):
        store.set_many([(f"n{number}", f"k{i}", i) for number in range(size) for i in range(3)])
        with proxy.counted():
            taken = store.snapshot()
        snapshot_trips = proxy.trips
        with proxy.counted():
            store.restore(taken)
        counts.append((snapshot_trips, proxy.trips))
        assert len(taken) == size * 3
    assert counts[0] == counts[1]
    assert counts[1][0] <= 2
    assert counts[1][1] <= 3


def test_foreign_keys_on_the_server_cost_no_round_trip(
    proxy: Proxy, warm: RedisStore, raw: redis.Redis
) -> None:
    raw.mset({f"foreign:{number}": b"x" for number in range(20_000)})
    try:
        for call in (warm.namespaces, lambda: len(warm), warm.snapshot, warm.clear):
            with proxy.counted():
                call()
            assert proxy.trips == 1
    finally:
        raw.delete(*(f"foreign:{number}" for number in range(20_000)))


def test_a_server_that_lacks_a_script_is_sent_its_source(
    proxy: Proxy, warm: RedisStore, raw: redis.Redis
) -> None:
    raw.script_flush()
    with proxy.counted() as commands:
        assert len(warm) == 100
    assert (commands["EVALSHA"], commands["EVAL"]) == (1, 1)
    with proxy.counted() as commands:
        assert len(warm) == 100
    assert (commands["EVALSHA"], commands["EVAL"]) == (1, 0)


async def test_an_awaited_call_takes_as_many(proxy: Proxy, prefix: str) -> None:
    async with AsyncRedisStore(proxy.url, prefix=prefix) as store:
        await store.set_many(FIFTY)
        await store.snapshot()
        for call in (
            lambda: store.get("n", "k"),
            lambda: store.set_many(FIFTY),
            lambda: store.snapshot(),
            lambda: asyncio.gather(store.get("n1", "k")),
        ):
            with proxy.counted():
                await call()
            assert proxy.trips == 1
