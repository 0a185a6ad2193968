"""Answers that say "not now", "not here" or "not you"."""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from moving import MovingSlot
from proxies import Proxy
from rights import STORE, limited
from servers import Cluster, Server, cluster, running, wait_until

from swarmstate.backends.redis import AsyncRedisStore, RedisStore
from swarmstate.backends.redis.commands import CommandDenied, CommandFailed
from swarmstate.backends.redis.transport.topology import slot_of
from swarmstate.errors import AccessDenied, StoreUnavailable

Make = Callable[..., RedisStore]


class Call:
    """A call in a thread of its own."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self._work = work
        self.outcome: Any = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.outcome = self._work()
        except BaseException as error:
            self.outcome = error

    def result(self) -> Any:
        self._thread.join(60)
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome


def refusals(client: redis.Redis, code: str) -> int:
    stats = client.info("errorstats")
    return int(stats.get(f"errorstat_{code}", {}).get("count", 0))


# Not now ------------------------------------------------------------------------------------------


@pytest.fixture(params=["blocking", "awaited"])
def opened(request: pytest.FixtureRequest, prefix: str) -> Callable[..., Callable[..., Any]]:
    """Open a store; return what calls a method of it, whether it blocks or is awaited."""
    kind = request.param

    def build(url: str, **options: Any) -> Callable[..., Any]:
        if kind == "blocking":
            store = RedisStore(url, prefix=prefix, **options)
            request.addfinalizer(store.close)
            return lambda name, *args: getattr(store, name)(*args)
        awaited = AsyncRedisStore(url, prefix=prefix, **options)
        request.addfinalizer(awaited.driver.close)

        async def call(name: str, args: tuple[Any, ...]) -> Any:
            return await getattr(awaited, name)(*args)

        return lambda name, *args: asyncio.run(call(name, args))

    return build


Opened = Callable[..., Callable[..., Any]]


def test_a_write_waits_until_there_are_enough_replicas(opened: Opened) -> None:
    with running() as server, server.client() as client:
        call = opened(server.url, retries=5)
        call("set", "n", "k", 1)
        client.config_set("min-replicas-to-write", 1)
        writing = [
            Call(lambda: call("set", "n", "k", 2)),
            Call(lambda: call("set_default", "n", "new", 2)),
            Call(lambda: call("delete_many", [("n", "k"), ("m", "k")])),
        ]
        wait_until(lambda: refusals(client, "NOREPLICAS") >= 12)
        client.config_set("min-replicas-to-write", 0)
        assert [each.result() for each in writing] in ([None, True, 1], [None, True, 0])


def test_a_call_waits_for_a_script_of_someone_elses(opened: Opened) -> None:
    with running("valkey", "--busy-reply-threshold", "20") as server, server.client() as client:
        call = opened(server.url, retries=5)
        call("set", "n", "k", 1)
        foreign = Call(
            lambda: server.client().eval(
                "local t = redis.call('TIME') local e = t[1] * 1000000 + t[2] + 400000 "
                "repeat t = redis.call('TIME') until t[1] * 1000000 + t[2] > e",
                0,
            )
        )
        with redis.Redis(port=server.port, socket_timeout=5) as asking:
            wait_until(lambda: _busy(asking))
        assert call("get", "n", "k") == 1
        assert call("delete", "n", "k") is True
        foreign.result()
        assert refusals(client, "BUSY") > 0


def _busy(client: redis.Redis) -> bool:
    try:
        client.ping()
    except redis.ResponseError as error:
        return "BUSY" in str(error)
    return False


@pytest.mark.parametrize("parser", ["hiredis", "python"])
@pytest.mark.parametrize("how", ["blocking", "awaited"])
def test_a_call_waits_for_a_server_that_loads_its_data(prefix: str, parser: str, how: str) -> None:
    from redis._parsers import _HiredisParser, _RESP2Parser

    kind = _HiredisParser if parser == "hiredis" else _RESP2Parser
    slow = ("--key-load-delay", "400", "--loading-process-events-interval-bytes", "1024")
    server = Server(options=("--dbfilename", "dump.rdb"))
    try:
        server.start()
        pool = redis.ConnectionPool(port=server.port, protocol=2, parser_class=kind)
        with redis.Redis(connection_pool=pool) as client:
            store = RedisStore(client=client, prefix=prefix, retries=5)
            store.set_many([(f"n{i}", "k", "x" * 100) for i in range(3000)])
            client.save()
            server.stop()
            server.options = (*server.options, *slow)
            # It answers what others ask of it, but has no data yet.
            server.start()
            wait_until(lambda: _loading(server.port))
            if how == "blocking":
                assert store.get("n1", "k") == "x" * 100
            else:
                awaited = AsyncRedisStore(client=client, prefix=prefix, retries=5)
                assert asyncio.run(_all(awaited)) == ["x" * 100] * 20 + [True] * 20
                awaited.driver.close()
            assert refusals(client, "LOADING") > 0
    finally:
        server.remove()


async def _all(store: AsyncRedisStore) -> list[Any]:
    return await asyncio.gather(
        *[store.get(f"n{i}", "k") for i in range(20)],
        *[store.delete(f"n{i}", "k") for i in range(100, 120)],
    )


def _loading(port: int) -> bool:
    with contextlib.suppress(redis.RedisError), redis.Redis(port=port) as client:
        return bool(client.info("persistence")["loading"])
    return False


# Not here -----------------------------------------------------------------------------------------


@pytest.fixture
def pair() -> Iterator[tuple[Server, Server]]:
    """A primary and its replica."""
    soon = ("--repl-diskless-sync-delay", "0")
    with running("valkey", *soon) as primary, running("valkey", *soon) as replica:
        yield primary, replica


def fail_over(proxy: Proxy, old: Server, new: Server, key: str) -> None:
    """Have servers change places, and the name lead to the new primary."""
    with old.client() as before, new.client() as after:
        wait_until(lambda: bool(after.exists(key)))
        after.execute_command("REPLICAOF", "NO", "ONE")
        before.execute_command("REPLICAOF", "127.0.0.1", new.port)
        proxy.lead_to(new.port)


def test_a_write_finds_the_new_primary_behind_the_same_name(
    pair: tuple[Server, Server], opened: Opened, prefix: str
) -> None:
    old, new = pair
    with Proxy(old.port) as proxy, new.client() as client:
        client.execute_command("REPLICAOF", "127.0.0.1", old.port)
        call = opened(proxy.url, retries=1)
        call("set", "n", "k", 1)
        fail_over(proxy, old, new, f"{prefix}:n")
        call("set", "n", "k", 2)
        assert call("update", "n", "k", lambda value: value + 1) == 3
        with RedisStore(new.url, prefix=prefix) as looking:
            assert looking.get("n", "k") == 3


@pytest.mark.parametrize("borrowed", [False, True])
def test_every_connection_is_led_to_the_new_primary(
    pair: tuple[Server, Server], prefix: str, borrowed: bool
) -> None:
    old, new = pair
    with Proxy(old.port) as proxy, new.client() as client:
        client.execute_command("REPLICAOF", "127.0.0.1", old.port)
        given = redis.Redis(port=proxy.port) if borrowed else None
        with RedisStore(proxy.url, client=given, prefix=prefix, retries=1) as store:
            together = threading.Barrier(6)

            def wait(value: Any) -> Any:
                together.wait(30)
                return value

            def everyone(work: Callable[[int], Any]) -> list[Any]:
                calls = [Call(lambda number=number: work(number)) for number in range(6)]
                return [each.result() for each in calls]

            store.set("n", "k", 1)
            everyone(lambda number: store.update("n", f"k{number}", wait, default=0))
            fail_over(proxy, old, new, f"{prefix}:n")
            together.reset()
            assert everyone(lambda number: store.set("n", f"k{number}", number)) == [None] * 6
        if given is not None:
            given.close()
        with RedisStore(new.url, prefix=prefix) as looking:
            assert [looking.get("n", f"k{number}") for number in range(6)] == list(range(6))


def test_a_replica_for_good_refuses_a_write_after_as_many_tries_as_were_asked_for(
    pair: tuple[Server, Server], prefix: str
) -> None:
    primary, replica = pair
    with replica.client() as client:
        client.execute_command("REPLICAOF", "127.0.0.1", primary.port)
    with (
        Proxy(replica.port) as proxy,
        RedisStore(proxy.url, prefix=prefix, retries=2) as store,
        proxy.counted() as commands,
    ):
        with pytest.raises(CommandFailed, match="READONLY") as refusal:
            store.set("n", "k", 1)
        assert commands["HSET"] == 3
        assert refusal.value.code == "READONLY"
        assert isinstance(refusal.value, StoreUnavailable)
        assert store.get("n", "k") is None


# Not you ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def locked() -> Iterator[Server]:
    """A server with a password."""
    with running() as server:
        with server.client() as client:
            client.config_set("requirepass", "right")
        yield server


@pytest.mark.parametrize(
    ("login", "database", "said"),
    [
        (":wrong@", 0, "invalid username-password"),
        ("who:right@", 0, "invalid username-password"),
        ("", 0, "Authentication required"),
        (":right@", 99, "DB index is out of range"),
    ],
)
def test_a_login_that_is_refused_is_not_tried_again(
    locked: Server, opened: Opened, login: str, database: int, said: str
) -> None:
    with Proxy(locked.port) as proxy:
        call = opened(f"redis://{login}127.0.0.1:{proxy.port}/{database}", retries=3)
        for name, *args in (("get", "n", "k"), ("set", "n", "k", 1), ("namespaces",)):
            proxy.connections = 0
            with pytest.raises(AccessDenied, match=said) as denied:
                call(name, *args)
            assert proxy.connections <= 1
            assert f"{name}()" in str(denied.value)
            assert f"127.0.0.1:{proxy.port}" in str(denied.value)
            assert not isinstance(denied.value, ConnectionError)
            assert "wrong" not in str(denied.value)


def test_a_login_that_a_cluster_refuses_is_not_tried_again(make: Make) -> None:
    with cluster() as nodes:
        for node in nodes.nodes:
            with node.client() as client:
                client.config_set("requirepass", "right")
        url = nodes.url.replace("//", "//:wrong@")
        for call in (lambda store: store.get("n", "k"), lambda store: store.namespaces()):
            with pytest.raises(AccessDenied):
                call(make(url))


def test_a_command_that_is_not_permitted_is_not_tried_again(
    proxy: Proxy, server: Server, raw: redis.Redis, prefix: str, opened: Opened
) -> None:
    url = limited(server, raw, prefix, [command for command in STORE if command != "hsetnx"])
    call = opened(url.replace(str(server.port), str(proxy.port)))
    call("set", "n", "k", 1)
    with proxy.counted() as commands, pytest.raises(AccessDenied, match="NOPERM"):
        call("set_default", "n", "k", 2)
    assert commands["HSETNX"] == 1


def test_a_refusal_can_be_pickled() -> None:
    for kind in (CommandDenied, CommandFailed):
        error = pickle.loads(pickle.dumps(kind("NOPERM", "HGET", "what it says")))
        assert (type(error), error.code, error.command) == (kind, "NOPERM", "HGET")
        assert str(error) == "what it says"


# Slots that move ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def nodes() -> Iterator[Cluster]:
    with cluster() as started:
        yield started


@pytest.mark.parametrize("where", ["some", "none"])
def test_a_batch_waits_for_a_slot_that_is_half_moved(
    nodes: Cluster, opened: Opened, prefix: str, where: str
) -> None:
    # Both hashes lie in one slot, and a transaction needs both of them on one node.
    names = ["{t}a", "{t}b"]
    call = opened(nodes.url, retries=5)
    call("set_many", [(name, "k", 1) for name in names])
    moving = MovingSlot(nodes.nodes[0].port, slot_of(f"{prefix}:{{t}}a".encode()))
    moving.begin()
    before = _redirects(nodes)
    if where == "some":
        moving.move(f"{prefix}:{{t}}a".encode())
    calls = [
        Call(lambda: call("set_many", [(name, "k", 2) for name in names])),
        Call(lambda: call("delete_many", [(name, "gone") for name in names])),
    ]
    if where == "some":
        wait_until(lambda: _redirects(nodes) > before + 3)
    for key in moving.left():
        moving.move(key)
    moving.end()
    assert [each.result() for each in calls] == [None, 0]
    assert call("get_many", [(name, "k") for name in names]) == [2, 2]


def _redirects(nodes: Cluster) -> int:
    count = 0
    for node in nodes.nodes:
        with node.client() as client:
            count += refusals(client, "TRYAGAIN") + refusals(client, "ASK")
    return count
