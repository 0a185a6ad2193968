"""The marker of a prefix is kept warm by whatever the store does, and never needed for a read."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from proxies import Proxy
from redis.crc import key_slot
from rights import STORE, limited, user
from servers import Cluster, Server, cluster, running

from swarmstate.backends.redis import AsyncRedisStore, RedisStore
from swarmstate.errors import AccessDenied

Make = Callable[..., RedisStore]

READS: dict[str, Callable[[RedisStore], object]] = {
    "get": lambda store: store.get("n", "k"),
    "get_many": lambda store: store.get_many([("n", "k"), ("m", "k")]),
    "contains": lambda store: store.contains("n", "k"),
    "keys": lambda store: store.keys("n"),
    "items": lambda store: store.items("n"),
    "max_key": lambda store: store.max_key("n"),
    "in": lambda store: "n" in store,
    "namespaces": lambda store: store.namespaces(),
    "len": len,
    "snapshot": lambda store: store.snapshot(),
}


class Clock:
    """The time by which markers are due, which a test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from time import monotonic

        self.ahead = 0.0
        for module in ("marker", "sending", "whole"):
            monkeypatch.setattr(
                f"swarmstate.backends.redis.{module}.monotonic", lambda: monotonic() + self.ahead
            )

    def move(self, seconds: float) -> None:
        self.ahead += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.mark.parametrize("read", READS)
def test_a_read_touches_the_marker_once_in_a_while_in_the_same_round_trip(
    proxy: Proxy, make: Make, clock: Clock, read: str
) -> None:
    make().set_many([("n", "k", 1), ("m", "k", 2)])
    store = make(proxy.url)
    READS[read](store)
    for waited, touches in ((0.0, 0), (2.0, 1)):
        clock.move(waited)
        with proxy.counted() as commands:
            READS[read](store)
        assert (proxy.trips, commands["TOUCH"]) == (1, touches)


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-lfu"])
def test_an_evicting_server_keeps_the_marker_of_a_store_that_only_reads(policy: str) -> None:
    options = ("--maxmemory", "8mb", "--maxmemory-policy", policy, "--maxmemory-samples", "10")
    with (
        running("valkey", *options) as server,
        server.client() as client,
        RedisStore(server.url, prefix="app") as outer,
        RedisStore(server.url, prefix="app:prod") as nested,
        RedisStore(server.url, prefix="app:prod") as reader,
    ):
        outer.set("n", "k", 1)
        nested.set("users", "u", "x" * 50)
        for number in range(20_000):
            client.set(f"foreign:{number}", "x" * 600)
            if number % 20 == 0:
                assert reader.get("users", "u") == "x" * 50
            if number % 1000 == 0:
                assert client.exists("!app:prod:\0store")
        assert client.info("stats")["evicted_keys"] > 1000
        outer.clear()
        assert reader.get("users", "u") == "x" * 50


def test_a_marker_that_reads_find_gone_is_written_again(
    make: Make, raw: redis.Redis, prefix: str, clock: Clock
) -> None:
    make().set("n", "k", 1)
    reader = make()
    reader.get("n", "k")
    raw.delete(f"!{prefix}:\0store")
    clock.move(2)
    assert reader.get("n", "k") == 1
    assert raw.exists(f"!{prefix}:\0store")


def test_a_prefix_without_a_marker_gets_none_by_being_read(
    make: Make, raw: redis.Redis, prefix: str, clock: Clock
) -> None:
    outer = make()
    outer.set("prod:n", "k", 1)
    mistaken = make(prefix=f"{prefix}:prod")
    for _ in range(3):
        assert mistaken.get("n", "k") == 1
        clock.move(2)
    assert not raw.exists(f"!{prefix}:prod:\0store")
    assert outer.namespaces() == ["prod:n"]


def test_a_marker_that_may_not_be_written_again_is_no_concern_of_a_read(
    server: Server, make: Make, raw: redis.Redis, proxy: Proxy, prefix: str, clock: Clock
) -> None:
    make().set("n", "k", 1)
    url = limited(server, raw, prefix, [each for each in STORE if each != "set"])
    reader = make(url.replace(str(server.port), str(proxy.port)))
    reader.get("n", "k")
    raw.delete(f"!{prefix}:\0store")
    for expected in (1, 0):
        clock.move(2)
        with proxy.counted() as commands:
            assert reader.get("n", "k") == 1
        assert commands["SET"] == expected, "it is tried once"


@pytest.fixture
def confined(server: Server, raw: redis.Redis, prefix: str) -> str:
    """The URL of a user who has the first of the two key patterns only."""
    return user(server, raw, f"~{prefix}:*", "+@all")


@pytest.mark.parametrize("read", READS)
def test_a_user_without_the_second_pattern_reads(
    make: Make, confined: str, prefix: str, read: str
) -> None:
    store = make()
    store.set_many([("n", "k", 1), ("m", "k", 2)])
    make(prefix=f"{prefix}:nested").set("n", "k", 3)

    def seen(by: RedisStore) -> Any:
        result = READS[read](by)
        return sorted(result.keys) if read == "snapshot" else result  # type: ignore[attr-defined]

    reader = make(confined)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            found = seen(reader)
            assert (sorted(found) if isinstance(found, list) else found) == (
                sorted(seen(store)) if isinstance(found, list) else seen(store)
            )


@pytest.mark.parametrize(
    "write",
    [
        lambda store: store.set("n", "k", 5),
        lambda store: store.set_default("new", "k", 5),
        lambda store: store.set_many([("n", "k", 5), ("m", "k", 5)]),
        lambda store: store.update("n", "k", lambda value: 5),
        lambda store: store.restore(store.snapshot()),
    ],
)
def test_a_user_without_the_second_pattern_is_told_it_and_writes_nothing(
    make: Make, raw: redis.Redis, confined: str, prefix: str, write: Callable[[RedisStore], object]
) -> None:
    raw.hset(f"{prefix}:n", "k", b"\x01")
    with pytest.raises(AccessDenied) as denied:
        write(make(confined))
    assert f"~{prefix}:*" in str(denied.value)
    assert f"~!{prefix}:*" in str(denied.value)
    assert "secret" not in str(denied.value)
    assert {key: raw.hgetall(key) for key in raw.keys(f"*{prefix}:*")} == {
        f"{prefix}:n".encode(): {b"k": b"\x01"}
    }


@pytest.fixture(scope="module")
def nodes() -> Iterator[Cluster]:
    with cluster() as started:
        yield started


def placed(nodes: Cluster, prefix: str) -> tuple[Server, str, str]:
    """Return the marker's node, a namespace that lies there, and one that lies elsewhere."""

    def at(key: str) -> int:
        return key_slot(key.encode()) * 3 // 16384

    home = at(f"!{prefix}:\0store")
    names = [f"n{number}" for number in range(100)]
    near = next(name for name in names if at(f"{prefix}:{name}") == home)
    far = next(name for name in names if at(f"{prefix}:{name}") != home)
    return nodes.nodes[home], near, far


async def test_on_a_cluster_calls_to_one_node_do_not_wait_for_the_node_of_the_marker(
    nodes: Cluster, prefix: str, clock: Clock
) -> None:
    home, near, far = placed(nodes, prefix)
    async with AsyncRedisStore(nodes.url, prefix=prefix, timeout=1, retries=0) as store:
        await store.set_many([(near, "k", 1), (far, "k", 2)])
        with home.client() as direct:
            direct.execute_command("CLIENT", "PAUSE", "4000", "ALL")
            try:
                clock.move(2)
                assert await store.get(far, "k") == 2
                await store.set(far, "k", 3)
                assert await store.get(far, "k") == 3
            finally:
                direct.execute_command("CLIENT", "UNPAUSE")


def test_on_a_cluster_the_marker_is_kept_warm_by_calls_to_its_node_and_seldom_by_others(
    nodes: Cluster, make: Make, prefix: str, clock: Clock
) -> None:
    home, near, far = placed(nodes, prefix)
    store = make(nodes.url)
    store.set_many([(near, "k", 1), (far, "k", 2)])
    with home.client() as direct:

        def gone_and_back(call: Callable[[], object], seconds: float) -> bool:
            direct.delete(f"!{prefix}:\0store")
            clock.move(seconds)
            call()
            return bool(direct.exists(f"!{prefix}:\0store"))

        for name, seconds, expected in ((near, 2, True), (far, 2, False), (far, 60, True)):
            assert gone_and_back(lambda name=name: store.get(name, "k"), seconds) is expected
            assert gone_and_back(lambda name=name: store.set(name, "k", 1), seconds) is expected
            store.set(near, "k", 1)
