"""What a memory costs on Redis, counted on the wire, and what lies there."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import msgpack
import pytest
import redis
from freezegun import freeze_time
from langgraph.store.base import GetOp, PutOp
from proxies import Proxy
from servers import Server

from swarmstate.backends.redis import AsyncRedisStore, RedisStore
from swarmstate.integrations.langgraph import SwarmStateStore

Trips = Callable[[Callable[[], Any]], int]
_prefixes = itertools.count()


@pytest.fixture
def make(server: Server) -> Iterator[Callable[..., RedisStore]]:
    made: list[RedisStore] = []
    prefix = f"memory{next(_prefixes)}"

    def build(url: str = server.url, **options: Any) -> RedisStore:
        made.append(RedisStore(url, **{"prefix": prefix, **options}))
        return made[-1]

    yield build
    for store in made:
        store.close()


@pytest.fixture
def trips(proxy: Proxy) -> Trips:
    def count(call: Callable[[], Any]) -> int:
        call()  # Connects, loads the script, writes the marker.
        with proxy.counted() as commands:
            call()
        assert not {"SCAN", "KEYS", "MODULE", "FT.INFO"} & commands.keys()
        return proxy.trips

    return count


def test_round_trips(proxy: Proxy, make: Callable[..., RedisStore], trips: Trips) -> None:
    memory = SwarmStateStore(make(proxy.url))
    numbers = itertools.count()
    memory.batch([PutOp((f"n{n % 50}",), f"k{n}", {"n": n}) for n in range(500)])

    def put(**options: Any) -> Callable[[], Any]:
        return lambda: memory.put(("a",), "k", {"n": next(numbers)}, **options)

    assert {
        "put": trips(put()),
        "put with ttl": trips(put(ttl=5)),
        "put in a new namespace": trips(lambda: memory.put((f"new{next(numbers)}",), "k", {})),
        "puts": trips(lambda: memory.batch([PutOp((f"n{n}",), "x", {}) for n in range(50)])),
        "get": trips(lambda: memory.get(("n1",), "k1")),
        "get that renews": trips(lambda: memory.get(("a",), "k")),
        "get that does not": trips(lambda: memory.get(("a",), "k", refresh_ttl=False)),
        "gets": trips(lambda: memory.batch([GetOp((f"n{n}",), f"k{n}") for n in range(50)])),
        "delete": trips(lambda: memory.delete(("a",), f"k{next(numbers)}")),
        "list_namespaces": trips(lambda: memory.list_namespaces(limit=1000)),
        "search": trips(lambda: memory.search((), filter={"n": {"$gt": 3}}, limit=100)),
        "search of one": trips(lambda: memory.search(("n1",))),
        "search that renews": trips(lambda: memory.search(("a",))),
    } == {
        "put": 1,
        "put with ttl": 1,
        "put in a new namespace": 1,
        "puts": 1,
        "get": 1,
        "get that renews": 1,
        "get that does not": 1,
        "gets": 1,
        "delete": 1,
        "list_namespaces": 1,
        "search": 2,
        "search of one": 2,
        "search that renews": 3,
    }


def test_round_trips_of_semantic_search(
    proxy: Proxy, make: Callable[..., RedisStore], trips: Trips, index: Any
) -> None:
    memory = SwarmStateStore(make(proxy.url), index=index)
    memory.batch([PutOp((f"n{n % 5}",), f"k{n}", {"text": f"text {n}"}) for n in range(50)])
    assert trips(lambda: memory.search((), query="text 7", limit=5)) == 2
    memory.put(("n1",), "other", {"text": "text"})
    with proxy.counted():
        memory.search((), query="text 7", limit=5)
    assert proxy.trips == 4
    assert trips(lambda: memory.search((), query="text 7", limit=100)) <= 3


def test_round_trips_where_scripts_are_refused(
    proxy: Proxy, make: Callable[..., RedisStore], no_scripts_url: str, trips: Trips
) -> None:
    url = no_scripts_url.replace(
        no_scripts_url.rpartition(":")[2].partition("/")[0], str(proxy.port)
    )
    memory = SwarmStateStore(make(url))
    assert trips(lambda: memory.put(("a",), "k", {"n": 1})) <= 3
    assert trips(lambda: memory.get(("a",), "k")) == 1
    assert trips(lambda: memory.list_namespaces()) == 1
    assert trips(lambda: memory.search(("a",))) == 2


def test_the_hashes_hold_the_documented_format(
    make: Callable[..., RedisStore], raw: redis.Redis, index: Any
) -> None:
    store = make()
    memory = SwarmStateStore(store, index=index)
    with freeze_time("2026-05-01 12:00"):
        memory.put(("users", "ana"), "k", {"text": "one"}, ttl=1.5)
    tag = "{s:5:users3:ana}"
    assert raw.hgetall(f"{store.prefix}:langgraph:store") == {b"5:users3:ana": b"\x01"}
    (row,) = raw.hgetall(f"{store.prefix}:langgraph:items:{tag}").values()
    noon = 1_777_636_800_000_000
    assert msgpack.unpackb(row) == [noon, noon, noon + 90_000_000, 1.5, True, {"text": "one"}]
    vectors = raw.hgetall(f"{store.prefix}:langgraph:vectors:{tag}")
    assert vectors.keys() == {b"=k", b"version"}
    (vector,) = msgpack.unpackb(vectors[b"=k"])
    assert len(vector) == 16 * 4
    under = {key.decode() for key in raw.keys(f"{store.prefix}:*")}
    assert under == {
        f"{store.prefix}:langgraph:{name}" for name in ("store", f"items:{tag}", f"vectors:{tag}")
    }


def test_what_is_derived_is_put_right_where_it_is_lost_or_of_a_wrong_type(
    make: Callable[..., RedisStore], raw: redis.Redis
) -> None:
    store = make()
    memory = SwarmStateStore(store)
    with freeze_time("2026-05-01 12:00") as clock:
        memory.put(("a",), "1", {"n": 1}, ttl=1)
        (derived,) = [key for key in raw.keys(f"!{store.prefix}:*") if b"expiry" in key]
        raw.set(derived, "something else")
        memory.put(("a",), "2", {"n": 2}, ttl=1)
        assert memory.get(("a",), "1").value == {"n": 1}  # type: ignore[union-attr]
        raw.delete(derived)
        assert memory.get(("a",), "2") is not None
        clock.tick(60)
        assert memory.search(("a",)) == []
        assert memory.sweep_ttl() == 2
    assert not raw.exists(f"{store.prefix}:langgraph:items:{{s:1:a}}")


def test_namespaces_of_a_store_with_a_ttl_expire_as_a_whole(
    make: Callable[..., RedisStore], raw: redis.Redis, index: Any
) -> None:
    store = make(ttl=1000)
    memory = SwarmStateStore(store, index=index)
    memory.put(("a",), "k", {"text": "one"})
    for key in raw.keys(f"{store.prefix}:*"):
        assert 900_000 < raw.pttl(key) <= 1_000_000, key
        raw.pexpire(key, 5000)
    memory.put(("a",), "k", {"text": "two"})
    for key in raw.keys(f"{store.prefix}:*"):
        assert raw.pttl(key) > 900_000, key


def test_reads_renew_namespaces_where_the_store_says_so(
    make: Callable[..., RedisStore], raw: redis.Redis
) -> None:
    store = make(ttl=1000, ttl_on_read=True)
    memory = SwarmStateStore(store)
    key = f"{store.prefix}:langgraph:items:{{s:1:a}}"
    memory.put(("a",), "k", {})
    for read in (lambda: memory.get(("a",), "k"), lambda: memory.search(("a",))):
        raw.pexpire(key, 5000)
        read()
        assert raw.pttl(key) > 900_000


def test_a_replica_answers_reads_and_renews_nothing(
    make: Callable[..., RedisStore], raw: redis.Redis, server: Server
) -> None:
    memory = SwarmStateStore(make())
    memory.put(("a",), "k", {"n": 1}, ttl=5)
    with server.client() as client:
        client.execute_command(
            *("ACL", "SETUSER", "reader", "on", ">secret", "~*", "+@read", "+evalsha", "+eval")
        )
    reader = SwarmStateStore(make(f"redis://reader:secret@127.0.0.1:{server.port}/0"))
    assert reader.get(("a",), "k").value == {"n": 1}  # type: ignore[union-attr]
    assert len(reader.search(("a",))) == 1
    assert reader.list_namespaces() == [("a",)]


def test_a_namespace_is_listed_before_its_first_item_on_a_cluster(cluster_url: str) -> None:
    with RedisStore(cluster_url, prefix="listed") as store:
        memory = SwarmStateStore(store)
        memory.batch([PutOp((f"n{n}",), "k", {"n": n}) for n in range(100)])
        assert len(memory.list_namespaces(limit=1000)) == 100
        store.delete_namespace("langgraph:store")
        memory.put(("n7",), "k", {"n": 8})
        assert memory.list_namespaces() == [("n7",)]


def test_writers_in_many_threads_lose_nothing(make: Callable[..., RedisStore]) -> None:
    memory = SwarmStateStore(make())

    def write(number: int) -> None:
        for each in range(50):
            memory.put((f"n{each}",), f"k{number}", {"n": each}, ttl=5)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(memory.search((), limit=1000)) == 400
    assert len(memory.list_namespaces()) == 50


async def test_an_awaited_store_serves_both_kinds_of_methods(server: Server) -> None:
    async with AsyncRedisStore(server.url, prefix=f"memory{next(_prefixes)}") as store:
        memory = SwarmStateStore(store)  # type: ignore[arg-type]
        await memory.aput(("a",), "k", {"n": 1})
        assert (await memory.aget(("a",), "k")).value == {"n": 1}  # type: ignore[union-attr]
        assert memory.list_namespaces() == [("a",)]


def test_another_wire_format_is_kept_as_well(make: Callable[..., RedisStore]) -> None:
    memory = SwarmStateStore(make(codec="zstd"))
    memory.put(("a",), "k", {"text": "one" * 100})
    first = memory.get(("a",), "k")
    memory.put(("a",), "k", {"text": "two"})
    item = memory.get(("a",), "k")
    assert item is not None
    assert first is not None
    assert item.created_at == first.created_at
    assert item.value == {"text": "two"}
