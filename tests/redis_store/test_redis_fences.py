"""A request that was given up and arrives later than what was written since: it must not count."""

from __future__ import annotations

import asyncio
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from proxies import Proxy
from rights import SCRIPTS, STORE, limited
from servers import Cluster, Server, cluster

from swarmstate.backends.redis import AsyncRedisStore, RedisStore
from swarmstate.errors import StoreUnavailable

Make = Callable[..., RedisStore]

FIRST: dict[str, Callable[[RedisStore, Any], Any]] = {
    "set": lambda store, _: store.set("n", "k", "late"),
    "set_many": lambda store, _: store.set_many([("n", "k", "late"), ("m", "k", "late")]),
    "clear": lambda store, _: store.clear(),
    "restore": lambda store, old: store.restore(old),
}
THEN: dict[str, tuple[Callable[[RedisStore], Any], Any]] = {
    "set": (lambda store: store.set("n", "k", "new"), "new"),
    "update": (lambda store: store.update("n", "k", lambda _: "new"), "new"),
    "delete": (lambda store: store.set("n", "k", "new") or store.delete("n", "k"), None),
}


def settled(store: RedisStore) -> None:
    """Open the store's connection, and write its marker."""
    store.set("other", "k", 1)
    store.get("other", "k")


@pytest.mark.parametrize("then", THEN)
@pytest.mark.parametrize("first", FIRST)
def test_a_request_that_was_sent_again_undoes_nothing_when_it_arrives(
    proxy: Proxy, make: Make, store: RedisStore, first: str, then: str
) -> None:
    store.set("n", "k", "old")
    old = store.snapshot()
    slow = make(proxy.url, timeout=0.2)
    settled(slow)
    proxy.hold_request()
    FIRST[first](slow, old)
    assert proxy.held.is_set(), "it was carried out by another request than the one held back"
    act, expected = THEN[then]
    act(slow)
    proxy.release()
    assert store.get("n", "k") == expected


def test_a_request_that_failed_undoes_nothing_when_it_arrives(
    proxy: Proxy, make: Make, store: RedisStore
) -> None:
    slow = make(proxy.url, timeout=0.2, retries=0)
    settled(slow)
    proxy.hold_request()
    with pytest.raises(StoreUnavailable, match="may or may not have been carried out"):
        slow.set_default("n", "k", "late")
    slow.set("n", "k", "new")
    slow.delete("n", "k")
    proxy.release()
    assert store.get("n", "k") is None


def test_a_request_whose_connection_broke_undoes_nothing_when_it_arrives(
    proxy: Proxy, make: Make, store: RedisStore
) -> None:
    slow = make(proxy.url, timeout=10, retries=0)
    settled(slow)
    proxy.hold_request()
    proxy.when_held(lambda: proxy.drop_clients())
    with pytest.raises(StoreUnavailable):
        slow.set("n", "k", "late")
    slow.set("n", "k", "new")
    proxy.release()
    assert store.get("n", "k") == "new"


def test_a_request_that_was_interrupted_undoes_nothing_when_it_arrives(
    proxy: Proxy, make: Make, store: RedisStore
) -> None:
    slow = make(proxy.url, timeout=10)
    settled(slow)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    main = threading.get_ident()
    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        proxy.hold_request()
        proxy.when_held(lambda: signal.pthread_kill(main, signal.SIGUSR1))
        with pytest.raises(KeyboardInterrupt):
            slow.set("n", "k", "late")
    finally:
        signal.signal(signal.SIGUSR1, before)
    slow.set("n", "k", "new")
    proxy.release()
    assert store.get("n", "k") == "new"


async def test_an_awaited_request_that_was_sent_again_undoes_nothing_when_it_arrives(
    proxy: Proxy, store: RedisStore
) -> None:
    async with AsyncRedisStore(proxy.url, prefix=store.prefix, timeout=0.2) as slow:
        await slow.set("other", "k", 1)
        proxy.hold_request()
        await slow.set("n", "k", "late")
        assert proxy.held.is_set()
        await slow.set("n", "k", "new")
        await asyncio.to_thread(proxy.release)
    assert store.get("n", "k") == "new"


@pytest.mark.parametrize("size", [10, 1_000_000])
@pytest.mark.parametrize("then", ["awaited", "blocking"])
async def test_a_request_of_a_task_that_was_cancelled_undoes_nothing_when_it_arrives(
    proxy: Proxy, store: RedisStore, size: int, then: str
) -> None:
    async with AsyncRedisStore(proxy.url, prefix=store.prefix, timeout=5) as slow:
        await slow.set("other", "k", "x" * size)
        proxy.hold_request()
        task = asyncio.create_task(slow.set("n", "k", "late" * size))
        await asyncio.to_thread(proxy.held.wait, 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        if then == "awaited":
            await slow.set("n", "k", "new")
        else:
            # As a checkpointer does that is called both ways.
            await asyncio.to_thread(slow.driver.run, slow.steps.set("n", "k", "new"))
        await asyncio.to_thread(proxy.release)
    assert store.get("n", "k") == "new"


async def test_a_request_of_a_task_that_was_cancelled_before_it_was_sent_is_not_sent(
    proxy: Proxy, store: RedisStore
) -> None:
    async with AsyncRedisStore(proxy.url, prefix=store.prefix, timeout=20) as slow:
        await slow.set("other", "k", 1)
        proxy.hold_request()
        held = asyncio.create_task(slow.set("n", "held", 1))
        await asyncio.to_thread(proxy.held.wait, 30)
        waiting = [asyncio.create_task(slow.set("n", f"k{i}", "late")) for i in range(20)]
        await asyncio.sleep(0)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        last = asyncio.create_task(slow.set("n", "last", 1))
        await asyncio.to_thread(proxy.release)
        await held
        await last
    assert sorted(store.keys("n")) == ["held", "last"]


@pytest.mark.parametrize("protocol", [2, 3])
def test_a_request_of_a_borrowed_client_undoes_nothing_when_it_arrives(
    proxy: Proxy, make: Make, store: RedisStore, protocol: int
) -> None:
    with redis.Redis(port=proxy.port, protocol=protocol, socket_timeout=30) as client:
        slow = make(client=client, timeout=0.2)
        settled(slow)
        proxy.hold_request()
        slow.set("n", "k", "late")
        assert proxy.held.is_set()
        slow.set("n", "k", "new")
        proxy.release()
    assert store.get("n", "k") == "new"


@pytest.fixture(scope="module")
def nodes() -> Iterator[Cluster]:
    with cluster() as started:
        yield started


def test_a_request_to_a_node_of_a_cluster_undoes_nothing_when_it_arrives(
    nodes: Cluster, make: Make, prefix: str
) -> None:
    proxies = {node.port: Proxy(node.port) for node in nodes.nodes}

    def through(address: tuple[str, int]) -> tuple[str, int]:
        host, port = address
        return host, proxies[port].port if port in proxies else port

    client = redis.RedisCluster(
        host="127.0.0.1", port=nodes.nodes[0].port, address_remap=through, socket_timeout=30
    )
    try:
        store = make(nodes.url)
        slow = make(client=client, timeout=0.2)
        names = [f"n{number}" for number in range(12)]
        for proxy in proxies.values():
            slow.set_many([(name, "k", "old") for name in names])
            proxy.hold_request()
            slow.set_many([(name, "k", "late") for name in names])
            assert proxy.held.is_set()
            slow.set_many([(name, "k", "new") for name in names])
            proxy.release()
            assert store.get_many([(name, "k") for name in names]) == ["new"] * len(names)
    finally:
        for proxy in proxies.values():
            proxy.close()
        client.close()


def test_connections_of_others_are_left_alone(
    proxy: Proxy, make: Make, raw: redis.Redis, server: Server
) -> None:
    stranger = redis.Redis(port=server.port, single_connection_client=True)
    mine = stranger.client_id()
    slow = make(proxy.url, timeout=0.2)
    settled(slow)
    before = {each["id"] for each in raw.client_list()}
    proxy.hold_request()
    slow.set("n", "k", 1)
    proxy.release()
    assert len(before - {each["id"] for each in raw.client_list()}) == 1
    assert stranger.client_id() == mine
    stranger.close()


@pytest.mark.parametrize("rights", [["client|info"], ["client|kill"], []])
def test_a_user_that_may_close_no_connections_is_told_once_what_that_means(
    proxy: Proxy, make: Make, raw: redis.Redis, server: Server, prefix: str, rights: list[str]
) -> None:
    url = limited(server, raw, prefix, [*STORE, *SCRIPTS, *rights])
    slow = make(url.replace(str(server.port), str(proxy.port)), prefix=prefix, timeout=0.2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        settled(slow)
        proxy.hold_request()
        assert slow.get("n", "k") is None, "what only reads needs no fence"
        proxy.release()
    for told_before in (False, True):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            proxy.hold_request()
            slow.set("n", "k", 1)
            proxy.release()
        told = [str(each.message) for each in caught if each.category is RuntimeWarning]
        assert len(told) == (0 if told_before else 1)
        assert all("+client|info and +client|kill" in text for text in told)


def test_nothing_is_asked_beside_the_request_while_all_is_well(proxy: Proxy, make: Make) -> None:
    store = make(proxy.url)
    settled(store)
    with proxy.counted() as commands:
        for number in range(20):
            store.set("n", f"k{number}", number)
            store.get("n", f"k{number}")
    assert "CLIENT" not in commands
    assert proxy.trips == 40
