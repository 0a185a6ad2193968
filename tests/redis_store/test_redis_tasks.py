"""Many tasks on one store: every call comes out, and one call's fault is its own."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import ContextVar
from typing import Any

import pytest
import redis
from proxies import Proxy
from servers import Cluster, Server, cluster, running, wait_until

from swarmstate import codecs
from swarmstate.backends.redis import AsyncRedisStore, RedisStore
from swarmstate.backends.redis.commands import Batch
from swarmstate.errors import InvalidArgumentError, StoreUnavailable
from swarmstate.steps import Steps

MANY = 3000


@pytest.fixture
async def store(server: Server, prefix: str) -> AsyncIterator[AsyncRedisStore]:
    async with AsyncRedisStore(server.url, prefix=prefix) as made:
        yield made


async def test_thousands_of_calls_at_once_all_come_back(store: AsyncRedisStore) -> None:
    async with asyncio.timeout(60) if hasattr(asyncio, "timeout") else _Unbounded():
        await asyncio.gather(*[store.set("n", f"k{i}", i) for i in range(MANY)])
        found = await asyncio.gather(*[store.get("n", f"k{i}") for i in range(MANY)])
    assert found == list(range(MANY))


class _Unbounded:
    async def __aenter__(self) -> None: ...

    async def __aexit__(self, *_: object) -> None: ...


async def test_a_store_that_is_closed_carries_out_or_refuses_what_thousands_of_tasks_ask(
    server: Server, prefix: str
) -> None:
    store = AsyncRedisStore(server.url, prefix=prefix)
    tasks = [asyncio.create_task(store.set("n", f"k{i}", i)) for i in range(MANY)]
    await asyncio.sleep(0)
    await store.close()
    outcomes = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 60)
    assert {type(outcome) for outcome in outcomes} <= {type(None), StoreUnavailable}
    with RedisStore(server.url, prefix=prefix) as looking:
        stored = {f"k{i}" for i, outcome in enumerate(outcomes) if outcome is None}
        assert set(looking.keys("n")) == stored


def _steps(*command: Any) -> Steps[Any]:
    replies = yield Batch([command], idempotent=True)
    return replies[0]


@pytest.mark.parametrize("argument", [True, 1.5, None, object(), "\ud800"])
async def test_an_argument_that_cannot_be_sent_fails_its_own_call(
    store: AsyncRedisStore, argument: Any
) -> None:
    bad = store.driver.arun(_steps("HSET", b"key", b"field", argument))
    outcomes = await asyncio.gather(
        bad,
        *[store.update("n", f"k{i}", lambda v: v + 1, default=0) for i in range(30)],
        return_exceptions=True,
    )
    assert isinstance(outcomes[0], InvalidArgumentError)
    assert outcomes[1:] == [1] * 30


# Requests and replies that a server ends a connection for ----------------------------------------


@pytest.fixture(scope="module")
def strict() -> Iterator[Server]:
    """A server that takes no value above 1 MB, and keeps no reply above 1 MB for a client."""
    with running(
        "valkey",
        *("--proto-max-bulk-len", "1mb"),
        *("--client-output-buffer-limit", "normal 1mb 1mb 0"),
    ) as server:
        yield server


async def test_a_value_that_is_too_large_fails_its_own_call_and_says_why(
    strict: Server, prefix: str
) -> None:
    async with AsyncRedisStore(strict.url, prefix=prefix) as store:
        await store.set("n", "k", 0)
        for round_ in range(5):
            outcomes = await asyncio.gather(
                store.set("n", "big", b"x" * (2 << 20)),
                *[store.update("n", f"k{i}", lambda v: v + 1, default=0) for i in range(20)],
                *[store.delete("n", f"none{i}") for i in range(20)],
                return_exceptions=True,
            )
            assert isinstance(outcomes[0], StoreUnavailable)
            assert "proto-max-bulk-len of 1048576" in str(outcomes[0])
            assert outcomes[1:21] == [round_ + 1] * 20
            assert outcomes[21:] == [False] * 20


async def test_a_reply_that_is_too_large_fails_its_own_call(strict: Server, prefix: str) -> None:
    async with AsyncRedisStore(strict.url, prefix=prefix, retries=2) as store:
        for part in range(8):
            await store.set("big", f"k{part}", b"x" * (1 << 19))
        outcomes = await asyncio.gather(
            store.items("big"),
            *[store.update("n", f"k{i}", lambda v: v + 1, default=0) for i in range(20)],
            *[store.get("n", "absent", i) for i in range(20)],
            *[store.set("m", f"k{i}", i) for i in range(20)],
            return_exceptions=True,
        )
        assert isinstance(outcomes[0], StoreUnavailable)
        assert outcomes[1:21] == [1] * 20
        assert outcomes[21:41] == list(range(20))
        assert outcomes[41:] == [None] * 20


@pytest.mark.parametrize(
    ("option", "value"),
    # One that is over the limit of a query only is sent in parts: see the tests of limits.
    [("maxmemory-clients", 1 << 21)],
)
def test_a_batch_over_a_limit_is_refused_at_once_with_the_limit_named(
    prefix: str, option: str, value: int
) -> None:
    with (
        running("valkey", f"--{option}", str(value)) as server,
        Proxy(server.port) as proxy,
        RedisStore(proxy.url, prefix=prefix) as store,
    ):
        store.set("n", "k", 1)
        with proxy.counted() as commands, pytest.raises(StoreUnavailable, match=option):
            store.set_many([(f"n{i}", "k", b"x" * 1000) for i in range(4000)])
        assert commands["MULTI"] <= 2
        assert store.get("n", "k") == 1


# Servers and replies that keep waiting ------------------------------------------------------------


@pytest.fixture(scope="module")
def nodes() -> Iterator[Cluster]:
    with cluster() as started:
        yield started


async def test_a_frozen_node_of_a_cluster_holds_up_no_call_to_another(
    nodes: Cluster, prefix: str
) -> None:
    frozen = nodes.nodes[1]
    with redis.RedisCluster(host="127.0.0.1", port=nodes.nodes[0].port) as client:
        by_node: dict[bool, list[str]] = {True: [], False: []}
        for name in map("n{}".format, range(40)):
            port = client.get_node_from_key(f"{prefix}:{name}").port
            by_node[port == frozen.port].append(name)
    async with AsyncRedisStore(nodes.url, prefix=prefix, timeout=60) as store:
        for names in by_node.values():
            await asyncio.gather(*[store.set(name, "k", name) for name in names])
        assert frozen.process is not None
        os.kill(frozen.process.pid, signal.SIGSTOP)
        try:
            stuck = [asyncio.create_task(store.get(name, "k")) for name in by_node[True]]
            for _ in range(3):
                found = await asyncio.gather(*[store.get(name, "k") for name in by_node[False]])
                assert found == by_node[False]
                await asyncio.gather(*[store.set(name, "k", name) for name in by_node[False]])
            assert not any(task.done() for task in stuck)
        finally:
            os.kill(frozen.process.pid, signal.SIGCONT)
        assert await asyncio.gather(*stuck) == by_node[True]


async def test_a_reply_that_takes_its_time_holds_up_no_other_call(
    proxy: Proxy, prefix: str
) -> None:
    async with AsyncRedisStore(proxy.url, prefix=prefix, timeout=60) as store:
        value = "x" * 500_000
        await store.set("n", "big", value)
        await store.set("n", "k", 0)
        proxy.hold_reply_after(100_000)
        big = asyncio.create_task(store.get("n", "big"))
        await asyncio.to_thread(proxy.held.wait, 30)
        for number in range(3):
            await asyncio.gather(*[store.set("n", f"k{i}", number) for i in range(20)])
            found = await asyncio.gather(*[store.get("n", f"k{i}") for i in range(20)])
            assert found == [number] * 20
            assert await store.update("n", "k", lambda v: v + 1) == number + 1
        assert not big.done()
        await asyncio.to_thread(proxy.release)
        assert await big == value


async def test_calls_that_were_sent_behind_a_reply_that_takes_its_time_come_out_before_it(
    proxy: Proxy, prefix: str
) -> None:
    async with AsyncRedisStore(proxy.url, prefix=prefix, timeout=60) as store:
        value = "x" * 500_000
        await store.set("n", "big", value)
        await store.set("n", "k", 1)
        proxy.hold_reply_after(100_000)
        big = asyncio.create_task(store.get("n", "big"))
        others = [asyncio.create_task(store.get("n", "k")) for _ in range(20)]
        assert await asyncio.gather(*others) == [1] * 20
        assert not big.done()
        await asyncio.to_thread(proxy.release)
        assert await big == value


# What is made of replies --------------------------------------------------------------------------


class Witness:
    """The default codec, which remembers who has decoded, and in which context."""

    name = wire = "msgpack"
    threads: set[str]
    contexts: set[str]

    def __init__(self) -> None:
        self._inner = codecs.get("msgpack")
        self.clear()

    def clear(self) -> None:
        self.threads, self.contexts = set(), set()

    def encode(self, value: Any, *, default: Any = None) -> bytes:
        return self._inner.encode(value, default=default)

    def decode(self, data: bytes) -> Any:
        self.threads.add(threading.current_thread().name)
        self.contexts.add(where.get())
        return self._inner.decode(data)


where: ContextVar[str] = ContextVar("where", default="nowhere")
witness = Witness()


@pytest.fixture
async def watched(server: Server, prefix: str) -> AsyncIterator[AsyncRedisStore]:
    if "witness" not in codecs.available():
        codecs.register("witness", witness)
    async with AsyncRedisStore(server.url, prefix=prefix, codec="witness") as made:
        await made.set_many([("n", f"k{i}", "x" * 1000) for i in range(500)])
        await made.set("n", "small", 1)
        witness.clear()
        yield made


async def test_a_large_reply_is_decoded_beside_the_event_loop_in_the_context_of_its_task(
    watched: AsyncRedisStore,
) -> None:
    where.set("a task")
    loop = threading.current_thread().name
    assert len(await watched.items("n")) == 501
    assert loop not in witness.threads
    assert witness.contexts == {"a task"}
    witness.clear()
    assert await watched.get("n", "small") == 1
    assert witness.threads == {loop}


async def test_a_function_of_the_callers_is_called_in_its_thread_however_large_the_value(
    watched: AsyncRedisStore,
) -> None:
    await watched.set("n", "big", "x" * 2_000_000)
    called: list[str] = []

    def change(value: Any) -> Any:
        called.append(threading.current_thread().name)
        return value + "y"

    await watched.update("n", "big", change)
    assert called == [threading.current_thread().name]


async def test_a_task_that_is_cancelled_while_its_reply_is_decoded_leaves_nothing_behind(
    watched: AsyncRedisStore,
) -> None:
    for _ in range(5):
        task = asyncio.create_task(watched.items("n"))
        while not witness.threads and not task.done():  # noqa: ASYNC110 (a thread tells it)
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        witness.clear()
    assert len(await watched.items("n")) == 501
    wait_until(lambda: _threads() <= 6)


def _threads() -> int:
    return sum(thread.name == "swarmstate-redis" for thread in threading.enumerate())


async def test_an_error_while_a_large_reply_is_decoded_is_its_callers(
    server: Server, raw: redis.Redis, prefix: str
) -> None:
    async with AsyncRedisStore(server.url, prefix=prefix) as store:
        raw.hset(f"{prefix}:n", mapping={f"k{i}": b"\xc1" + b"x" * 1000 for i in range(300)})
        with pytest.raises(ValueError, match="decode"):
            await store.items("n")
        assert await store.get("n", "absent", "none") == "none"


# What ends ----------------------------------------------------------------------------------------


def test_a_task_whose_loop_is_closed_and_the_threads_that_served_it_end(
    server: Server, prefix: str
) -> None:
    before = _threads()
    store = AsyncRedisStore(server.url, prefix=prefix)
    loop = asyncio.new_event_loop()
    task = loop.create_task(store.set("n", "k", 1))
    loop.run_until_complete(asyncio.sleep(0))
    task.cancel()
    loop.close()
    assert asyncio.run(store.get("n", "absent", "none")) == "none"
    asyncio.run(store.close())
    assert _threads() == before


@pytest.mark.parametrize("calls", [1, 200])
async def test_threads_are_few_and_end_with_the_store(
    server: Server, prefix: str, calls: int
) -> None:
    before = _threads()
    async with AsyncRedisStore(server.url, prefix=prefix) as store:
        await asyncio.gather(*[store.set("n", f"k{i}", "x" * 300_000) for i in range(calls)])
        assert _threads() - before <= 8
    assert _threads() == before


Make = Callable[..., RedisStore]
