"""A server that is gone, mute, full, or not the primary."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from proxies import Proxy
from rights import user
from servers import Server, present, running, wait_until

from swarmstate import ABSENT
from swarmstate.backends.redis import AsyncRedisStore, RedisStore
from swarmstate.backends.redis.commands import CommandRefused
from swarmstate.backends.redis.transport.clock import monotonic
from swarmstate.errors import AccessDenied, StoreUnavailable

Make = Callable[..., RedisStore]

# Far above what any of these should take, far below for ever.
BOUND_SECONDS = 20.0

CALLS: dict[str, Callable[[Any], Any]] = {
    "set": lambda store: store.set("n", "k", 1),
    "get": lambda store: store.get("n", "k"),
    "set_many": lambda store: store.set_many([("n", "k", 1), ("m", "k", 2)]),
    "get_many": lambda store: store.get_many([("n", "k"), ("m", "k")]),
    "set_default": lambda store: store.set_default("n", "k", 1),
    "contains": lambda store: store.contains("n", "k"),
    "delete": lambda store: store.delete("n", "k"),
    "delete_many": lambda store: store.delete_many([("n", "k"), ("m", "k")]),
    "delete_namespace": lambda store: store.delete_namespace("n"),
    "update": lambda store: store.update("n", "k", lambda value: 1),
    "commit": lambda store: store.commit([("n", "k", 1)], expect={("n", "z"): ABSENT}),
    "append": lambda store: store.append("n", [1]),
    "tail": lambda store: store.tail("n", 1),
    "pop": lambda store: store.pop("n"),
    "keys": lambda store: store.keys("n"),
    "namespaces": lambda store: store.namespaces(),
    "items": lambda store: store.items("n"),
    "max_key": lambda store: store.max_key("n"),
    "clear": lambda store: store.clear(),
    "snapshot": lambda store: store.snapshot(),
    "restore": lambda store: store.restore(store.snapshot()),
    "len": len,
    "in": lambda store: "n" in store,
}
WRITES = {"set", "set_many", "set_default", "update", "commit", "append"}
ONCE = {"set_default", "delete", "delete_many", "delete_namespace", "commit", "append", "pop"}
REPEATED = set(CALLS) - ONCE - {"update"}


@pytest.fixture(params=CALLS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def call(name: str, store: RedisStore) -> Callable[[RedisStore], Any]:
    if name == "restore":
        taken = store.snapshot()
        return lambda broken: broken.restore(taken)
    return CALLS[name]


def refused(name: str, address: str, work: Callable[[], Any]) -> StoreUnavailable:
    """Run a call that must fail in bounded time, naming the operation and the address."""
    begin = time.monotonic()
    with pytest.raises(StoreUnavailable) as failure:
        work()
    assert time.monotonic() - begin < BOUND_SECONDS
    assert ("in failed" if name == "in" else f"{name}() ") in str(failure.value)
    assert address in str(failure.value)
    return failure.value


def test_every_call_fails_clearly_without_a_server_and_works_when_it_is_back(
    proxy: Proxy, make: Make, name: str, call: Callable[[RedisStore], Any]
) -> None:
    store = make(proxy.url, retries=1)
    proxy.refuse()
    refused(name, f"127.0.0.1:{proxy.port}", lambda: call(store))
    proxy.refuse(False)
    call(store)


def test_every_call_fails_in_bounded_time_when_the_server_is_mute_and_then_recovers(
    proxy: Proxy, make: Make, name: str, call: Callable[[RedisStore], Any]
) -> None:
    store = make(proxy.url, timeout=0.1, retries=1)
    store.get("n", "k")
    proxy.swallow()
    failure = refused(name, f"127.0.0.1:{proxy.port}", lambda: call(store))
    unknown = "may or may not have been carried out" in str(failure)
    assert unknown == (name not in REPEATED | {"update"})
    proxy.swallow(False)
    patient = make(proxy.url)
    call(patient)


def test_a_reply_that_is_cut_is_asked_for_again_where_that_is_safe(
    proxy: Proxy, make: Make, store: RedisStore, name: str, call: Callable[[RedisStore], Any]
) -> None:
    store.set_many([("n", "k", 1), ("m", "k", 2)])
    broken = make(proxy.url)
    broken.get("n", "k")
    if name in WRITES:
        broken.set("n", "k", 1)
    expected = call(store) if name in REPEATED else None
    proxy.cut_replies_after(1)
    if name in REPEATED:
        got = call(broken)
        if name != "snapshot":
            assert got == expected
    elif name == "update":
        # Its first trip only reads.
        refused(name, f"127.0.0.1:{proxy.port}", lambda: _cut_second(proxy, broken))
    else:
        failure = refused(name, f"127.0.0.1:{proxy.port}", lambda: call(broken))
        assert "may or may not" in str(failure)
    proxy.uncut()
    call(broken)


def _cut_second(proxy: Proxy, store: RedisStore) -> None:
    def cut(value: Any) -> Any:
        proxy.cut_replies_after(1)
        return value

    proxy.uncut()
    store.update("n", "k", cut)


def test_a_server_that_was_restarted_is_used_again_by_the_same_store(prefix: str) -> None:
    with running() as server:
        store = RedisStore(server.url, prefix=prefix, retries=1)
        store.set("n", "k", 1)
        server.stop()
        refused("get", f"127.0.0.1:{server.port}", lambda: store.get("n", "k"))
        server.start()
        assert store.get("n", "k") is None
        # The scripts are gone from the server as well.
        store.set("n", "k", 2)
        assert len(store) == 1
        assert store.update("n", "k", lambda value: value + 1) == 3
        store.close()


@pytest.fixture
def full() -> Iterator[Server]:
    """A server that has used up its memory."""
    with running("valkey", "--maxmemory-policy", "noeviction") as server:
        with server.client() as client:
            client.config_set("maxmemory", 1)
        yield server


@pytest.mark.parametrize("write", ["set", "set_many", "set_default", "commit", "append"])
def test_a_full_server_refuses_writes_and_still_answers_reads(
    full: Server, prefix: str, write: str
) -> None:
    with RedisStore(full.url, prefix=prefix) as store, full.client() as client:
        client.config_set("maxmemory", 0)
        store.set_many([("n", "k", 1), ("m", "k", 1)])
        taken = store.snapshot()
        client.config_set("maxmemory", 1)
        failure = refused(
            write, f"127.0.0.1:{full.port}", lambda: {**CALLS, "set_many": _two}[write](store)
        )
        assert "OOM" in str(failure)
        refused("restore", f"127.0.0.1:{full.port}", lambda: store.restore(taken))
        assert store.get_many([("n", "k"), ("m", "k"), ("new", "k")]) == [1, 1, None]
        assert len(store) == 2
        store.clear()
        assert len(store) == 0
        client.config_set("maxmemory", 0)
        store.restore(taken)
        assert len(store) == 2


def _two(store: RedisStore) -> None:
    store.set_many([("n", "k", 5), ("new", "k", 5)])


def test_a_replica_refuses_writes_in_bounded_time_and_answers_reads(
    server: Server, make: Make, store: RedisStore
) -> None:
    store.set("n", "k", 1)
    with running("valkey", "--replicaof", f"127.0.0.1 {server.port}") as replica:
        with replica.client() as client:
            wait_until(lambda: bool(client.exists(f"{store.prefix}:n")))
        reader = make(replica.url, retries=1)
        for name in ("set", "set_many", "set_default", "delete", "clear"):
            failure = refused(
                name, f"127.0.0.1:{replica.port}", lambda name=name: CALLS[name](reader)
            )
            assert "READONLY" in str(failure)
        assert reader.get("n", "k") == 1
        assert len(reader.snapshot()) == 1
        with replica.client() as client:
            client.execute_command("REPLICAOF", "NO", "ONE")
        reader.set("n", "k", 2)
        assert reader.get("n", "k") == 2


@pytest.mark.parametrize("kind", [kind for kind in ("valkey", "redis-6.2") if present(kind)])
def test_a_script_on_a_replica_is_tried_again_as_other_commands_are(kind: str, make: Make) -> None:
    with running(kind) as server, server.client() as client:
        store = make(server.url, retries=2)
        store.set("n", "k", 1)
        store.clear()
        store.set("n", "k", 1)
        client.execute_command("REPLICAOF", "127.0.0.1", "1")
        client.config_resetstat()
        with pytest.raises(CommandRefused, match="read only replica") as refusal:
            store.clear()
        assert refusal.value.code == "READONLY"
        assert client.info("commandstats")["cmdstat_evalsha"]["calls"] == 3
        client.execute_command("REPLICAOF", "NO", "ONE")
        store.clear()
        assert len(store) == 0


async def test_awaited_calls_fail_in_bounded_time_and_recover(proxy: Proxy, prefix: str) -> None:
    async with AsyncRedisStore(proxy.url, prefix=prefix, timeout=0.1, retries=1) as store:
        await store.set("n", "k", 1)
        proxy.swallow()
        begin = time.monotonic()
        with pytest.raises(StoreUnavailable, match="may or may not have been carried out"):
            await store.delete("n", "k")
        with pytest.raises(StoreUnavailable, match=rf"get\(\) failed on 127.0.0.1:{proxy.port}"):
            await store.get("n", "k")
        assert time.monotonic() - begin < BOUND_SECONDS
        proxy.swallow(False)
        proxy.refuse()
        with pytest.raises(StoreUnavailable, match=rf"get\(\) failed on 127.0.0.1:{proxy.port}"):
            await store.get("n", "k")
        proxy.refuse(False)
    async with AsyncRedisStore(proxy.url, prefix=prefix) as store:
        proxy.drop()
        assert await store.get("n", "k") == 1


def test_an_error_of_the_server_names_the_command_the_operation_and_the_address(
    server: Server, make: Make, raw: redis.Redis
) -> None:
    store = make(user(server, raw, "~*", "-@all", "+hget"))
    with pytest.raises(AccessDenied, match="refused: NOPERM") as failure:
        store.keys("n")
    assert f"HKEYS for keys() on 127.0.0.1:{server.port} was refused" in str(failure.value)
    assert not isinstance(failure.value, ConnectionError)


def test_connections_of_a_pool_that_is_used_up_are_waited_for_and_then_an_error(
    proxy: Proxy, make: Make
) -> None:
    store = make(proxy.url, max_connections=1, timeout=0.1, retries=0)
    node = store.driver._topology.primaries()[0]
    held = node.acquire(monotonic() + 5)
    refused("get", f"127.0.0.1:{proxy.port}", lambda: store.get("n", "k"))
    node.release(held)
    assert store.get("n", "k") is None
