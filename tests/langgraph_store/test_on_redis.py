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
from rights import MEMORY, SCRIPTS, STORE, limited, user
from servers import Server

from swarmstate.backends.redis import AsyncRedisStore, RedisStore
from swarmstate.errors import AccessDenied, SwarmStateError
from swarmstate.integrations.langgraph import SwarmStateCache, SwarmStateStore

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
    memory.put(("b",), "k", {"n": 1}, ttl=5)
    assert trips(lambda: memory.get(("b",), "k", refresh_ttl=True)) == 4
    assert trips(lambda: memory.search(("b",), refresh_ttl=True)) == 5


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


@pytest.mark.parametrize("harm", ["lost", "wrong type", "one too many", "swapped"])
def test_the_order_of_the_names_is_put_right_by_whoever_reads(
    make: Callable[..., RedisStore], raw: redis.Redis, harm: str
) -> None:
    store = make()
    SwarmStateStore(store).batch([PutOp((f"n{n % 9}", str(n)), "k", {"n": n}) for n in range(2000)])
    (order,) = [key for key in raw.keys(f"!{store.prefix}:*") if b"names" in key]
    if harm == "lost":
        raw.delete(order)
    elif harm == "wrong type":
        raw.set(order, "something else")
    elif harm == "one too many":
        raw.zadd(order, {"2:zz": 0})
    else:
        # As many as before: a foreign writer removed one name and added another.
        raw.hdel(f"{store.prefix}:langgraph:store", "2:n11:1")
        raw.hset(f"{store.prefix}:langgraph:store", "3:new", b"\x01")
    expected = {("new",)} if harm == "swapped" else {("n1", "1")}
    for _ in range(2):
        memory = SwarmStateStore(store)
        listed = set(memory.list_namespaces(limit=3000))
        assert len(listed) == 2000
        assert expected <= listed
        assert len(memory.list_namespaces(prefix=("n2",), limit=3000)) == 222
        assert raw.zcard(order) == 2000
    found = SwarmStateStore(store).search(("n1",), limit=3000)
    assert len(found) == (222 if harm == "swapped" else 223)


def test_the_documented_commands_are_enough(server: Server, index: Any) -> None:
    prefix = f"memory{next(_prefixes)}"
    with server.client() as client:
        url = limited(server, client, prefix, [*STORE, *SCRIPTS, *MEMORY])
    with RedisStore(url, prefix=prefix) as store, freeze_time("2026-05-01") as clock:
        memory = SwarmStateStore(store, index=index)
        cache: SwarmStateCache[Any] = SwarmStateCache(store)
        memory.batch([PutOp((f"n{n}",), "k", {"text": f"text {n}"}, ttl=n + 1) for n in range(9)])
        memory.delete(("n0",), "k")
        assert memory.get(("n1",), "k") is not None
        assert len(memory.search((), query="text 1")) == 8
        assert memory.list_namespaces(prefix=("n3",)) == [("n3",)]
        clock.tick(400)
        assert memory.sweep_ttl() == 5
        cache.set({(("a",), "k"): (1, 60)})
        assert cache.get([(("a",), "k")]) == {(("a",), "k"): 1}
        cache.clear()
        assert cache.get([(("a",), "k")]) == {}


def test_a_user_who_may_not_put_the_order_right_still_reads(
    make: Callable[..., RedisStore], raw: redis.Redis, server: Server
) -> None:
    store = make()
    SwarmStateStore(store).put(("a", "b"), "k", {"n": 1})
    with server.client() as client:
        looker = user(server, client, f"~{store.prefix}:*", "+@all")
        reader = user(server, client, "~*", "+@read", "+evalsha", "+eval")
    (order,) = [key for key in raw.keys(f"!{store.prefix}:*") if b"names" in key]
    raw.delete(order)
    for url in (looker, reader):
        memory = SwarmStateStore(make(url))
        assert memory.list_namespaces() == [("a", "b")]
        assert [item.key for item in memory.search(("a",))] == ["k"]
        assert memory.get(("a", "b"), "k").value == {"n": 1}  # type: ignore[union-attr]


def test_who_may_neither_run_scripts_nor_watch_finds_expired_items_absent(
    make: Callable[..., RedisStore], server: Server
) -> None:
    with server.client() as client:
        store = make(user(server, client, "~*", "+@all", "-@scripting", "-watch"))
    memory = SwarmStateStore(store)
    with freeze_time("2026-05-01") as clock:
        memory.put(("a",), "short", {"n": 1}, ttl=1)
        memory.put(("a",), "long", {"n": 2}, ttl=10)
        clock.tick(30)
        assert memory.get(("a",), "short", refresh_ttl=True) is not None
        clock.tick(31)
        assert memory.get(("a",), "short") is None
        memory.put(("a",), "new", {"n": 3})
        assert [item.key for item in memory.search(("a",))] == ["new", "long"]
        with pytest.raises(AccessDenied):
            memory.sweep_ttl()


def test_a_cache_never_enumerates_the_server(proxy: Proxy, make: Callable[..., RedisStore]) -> None:
    cache: SwarmStateCache[Any] = SwarmStateCache(make(proxy.url))
    names = [("a", "b"), ("a:b",), ("a",)]
    with proxy.counted() as commands:
        cache.set({(name, "k"): (str(name), 60) for name in names})
        cache.clear([("a",)])
        assert cache.get([(name, "k") for name in names]) == {
            (name, "k"): str(name) for name in names[:2]
        }
    assert commands
    assert not {"KEYS", "SCAN", "MODULE", "FT.SEARCH", "JSON.GET"} & commands.keys()


def test_a_search_asks_for_nothing_that_lies_elsewhere(
    proxy: Proxy, make: Callable[..., RedisStore]
) -> None:
    memory = SwarmStateStore(make(proxy.url))
    memory.batch([PutOp((f"n{n}",), "k", {"text": "x" * 1000}) for n in range(1000)])
    memory.search(("n7",))
    with proxy.counted() as commands:
        assert len(memory.search(("n7",))) == 1
        memory.list_namespaces(prefix=("n7",))
    assert commands["HGETALL"] == 1
    assert not {"HKEYS", "ZRANGE"} & commands.keys()


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
        reader = SwarmStateStore(make(user(server, client, "~*", "+@read", "+evalsha", "+eval")))
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
        assert memory.list_namespaces(prefix=("n7",)) == [("n7",)]
        assert memory.list_namespaces(prefix=("n8",)) == []


@pytest.mark.parametrize("kind", ["server_url", "cluster_url"])
def test_where_a_namespace_cannot_be_listed_nothing_is_stored_in_it(
    request: pytest.FixtureRequest, kind: str
) -> None:
    url = request.getfixturevalue(kind)
    prefix = f"unlisted{next(_prefixes)}"
    client: Any = redis.RedisCluster if kind == "cluster_url" else redis.Redis
    with (
        RedisStore(url, prefix=prefix) as store,
        client.from_url(url.replace("+cluster", "")) as raw,
    ):
        memory = SwarmStateStore(store)
        raw.set(f"{prefix}:langgraph:store", "another program's")
        for n in range(20):
            with pytest.raises(SwarmStateError):
                memory.put((f"n{n}",), "k", {"n": n})
        raw.delete(f"{prefix}:langgraph:store")
        assert store.namespaces() == []


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
