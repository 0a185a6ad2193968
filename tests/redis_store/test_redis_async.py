"""The same store, awaited: shared pipelines, many loops, cancelled tasks."""

from __future__ import annotations

import asyncio
import gc
import inspect
import subprocess
import sys
import threading
import weakref
from collections.abc import AsyncIterator

import pytest
from proxies import Proxy
from servers import Server

from swarmstate.backends.redis import AsyncRedisStore, RedisStore
from swarmstate.errors import StoreUnavailable


@pytest.fixture
async def store(server: Server, prefix: str) -> AsyncIterator[AsyncRedisStore]:
    async with AsyncRedisStore(server.url, prefix=prefix) as made:
        yield made


def test_both_stores_have_the_same_methods() -> None:
    def methods(kind: type) -> set[str]:
        return {name for name, _ in inspect.getmembers(kind, callable) if name[0] != "_"}

    assert methods(AsyncRedisStore) - methods(RedisStore) == {"count", "has_namespace"}
    assert methods(RedisStore) <= methods(AsyncRedisStore)
    for name in methods(RedisStore):
        blocking, awaited = getattr(RedisStore, name), getattr(AsyncRedisStore, name)
        assert inspect.signature(blocking) == inspect.signature(awaited)
        assert awaited.__doc__


async def test_a_thousand_tasks_share_a_bounded_number_of_connections(
    proxy: Proxy, prefix: str
) -> None:
    async with AsyncRedisStore(proxy.url, prefix=prefix) as store:

        async def work(number: int) -> None:
            await store.set(f"n{number % 7}", f"k{number}", number)
            assert await store.get(f"n{number % 7}", f"k{number}") == number
            await store.update("sums", f"k{number % 50}", lambda value: value + number, default=0)

        await asyncio.gather(*map(work, range(1000)))
        assert sum(value for _, value in await store.items("sums")) == sum(range(1000))
        assert await store.count() == 1050
    assert proxy.most_open <= 4


async def test_concurrent_calls_coalesce_into_few_round_trips(proxy: Proxy, prefix: str) -> None:
    async with AsyncRedisStore(proxy.url, prefix=prefix) as store:
        await store.set("n", "k", 1)
        with proxy.counted() as commands:
            assert await asyncio.gather(*[store.get("n", "k") for _ in range(500)]) == [1] * 500
        assert commands["HGET"] == 500
        assert proxy.trips <= 50


async def test_a_cancelled_task_harms_no_other(store: AsyncRedisStore) -> None:
    async def endless(number: int) -> None:
        while True:
            assert await store.set_default("n", f"k{number}", number) in (True, False)
            assert await store.get("n", f"k{number}") == number

    tasks = [asyncio.create_task(endless(number)) for number in range(40)]
    for _ in range(20):
        await store.get("n", "k1")
        for task in tasks[::2]:
            task.cancel()
        tasks[::2] = [asyncio.create_task(endless(number)) for number in range(0, 40, 2)]
    assert not any(task.done() for task in tasks[1::2])
    for task in tasks:
        task.cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)
    assert await store.get("n", "k39") == 39


async def test_one_bad_call_fails_alone(store: AsyncRedisStore, raw: object, prefix: str) -> None:
    raw.set(f"{prefix}:text", "theirs")  # type: ignore[attr-defined]
    await store.set("n", "k", 1)
    outcomes = await asyncio.gather(
        *[store.get("n", "k") if i % 3 else store.set("text", "k", 1) for i in range(99)],
        return_exceptions=True,
    )
    for index, outcome in enumerate(outcomes):
        if index % 3:
            assert outcome == 1
        else:
            assert isinstance(outcome, ValueError)


async def test_the_loop_goes_on_while_the_server_is_mute(proxy: Proxy, prefix: str) -> None:
    async with AsyncRedisStore(proxy.url, prefix=prefix, timeout=0.3, retries=0) as store:
        await store.get("n", "k")
        proxy.swallow()
        waiting = asyncio.create_task(store.get("n", "k"))
        turns = 0
        while not waiting.done():
            turns += 1
            await asyncio.sleep(0)
        assert turns > 100
        with pytest.raises(StoreUnavailable):
            waiting.result()
        proxy.swallow(False)


def test_it_works_from_several_event_loops_in_turn_and_at_the_same_time(
    server: Server, prefix: str
) -> None:
    store = AsyncRedisStore(server.url, prefix=prefix)

    async def work(name: str) -> int:
        for number in range(50):
            await store.set(name, f"k{number}", number)
        return len(await store.keys(name))

    assert [asyncio.run(work("a")), asyncio.run(work("b"))] == [50, 50]
    results: list[int] = []
    threads = [
        threading.Thread(target=lambda name=name: results.append(asyncio.run(work(name))))
        for name in "cdef"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [50] * 4
    asyncio.run(store.close())


def test_a_loop_that_is_closed_with_calls_under_way_harms_no_other(
    server: Server, prefix: str
) -> None:
    store = AsyncRedisStore(server.url, prefix=prefix)

    async def leave() -> None:
        for _ in range(100):
            task = asyncio.ensure_future(store.set("n", "k", 1))
            task.cancel()
            task.add_done_callback(lambda done: None)
        pending = asyncio.ensure_future(store.get("n", "k"))
        await asyncio.sleep(0)
        pending.cancel()

    asyncio.run(leave())
    assert asyncio.run(store.get("n", "absent", "default")) == "default"
    asyncio.run(store.close())


_FORK = """
import asyncio, os, sys
from swarmstate.backends.redis import AsyncRedisStore, RedisStore

url, prefix = sys.argv[1:]
blocking, awaited = RedisStore(url, prefix=prefix), AsyncRedisStore(url, prefix=prefix)
blocking.set("n", "k", 0)
asyncio.run(awaited.set("n", "k", 0))
parent = os.getpid()
child = os.fork()
# Both go on at the same time: on one connection their replies would be mixed up.
for number in range(300):
    mine = [os.getpid(), number]
    blocking.set(str(os.getpid()), "blocking", mine)
    assert blocking.get(str(os.getpid()), "blocking") == mine
    asyncio.run(awaited.set(str(os.getpid()), "awaited", mine))
    assert asyncio.run(awaited.get(str(os.getpid()), "awaited")) == mine
if child == 0:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""


def test_a_forked_child_and_its_parent_go_on_at_the_same_time(server: Server, prefix: str) -> None:
    subprocess.run([sys.executable, "-c", _FORK, server.url, prefix], check=True, timeout=60)


_FORK_ALONE = """
import os, sys
import redis
from swarmstate.backends.redis import RedisStore

url, prefix = sys.argv[1:]
store = RedisStore(f"{url}?client_name={prefix}", prefix=prefix)
store.set("n", "k", 0)
child = os.fork()
if child == 0:
    assert store.get("n", "k") == 0
    with redis.Redis.from_url(url) as client:
        named = [each for each in client.client_list() if each["name"] == prefix]
    os._exit(0 if len(named) == 2 else 1)
assert os.waitpid(child, 0)[1] == 0
"""


def test_a_forked_child_talks_over_connections_of_its_own(server: Server, prefix: str) -> None:
    command = [sys.executable, "-c", _FORK_ALONE, server.url, prefix]
    subprocess.run(command, check=True, timeout=60)


_FORK_AT_THE_START = """
import asyncio, os, sys, threading
from swarmstate.backends.redis import AsyncRedisStore

url, prefix = sys.argv[1:]
store = AsyncRedisStore(url, prefix=prefix)
start = threading.Thread.start
children = []

def forking(thread):
    # The first awaited call is about to start the thread that carries all of them.
    if thread.name == "swarmstate-redis" and not children:
        children.append(os.fork())
        if children == [0]:
            # Nobody else is here: the call that was going on is the parent's.
            done = threading.Thread(target=lambda: asyncio.run(store.set("n", "child", 1)))
            done.start()
            done.join(30)
            os._exit(int(done.is_alive()))
    start(thread)

threading.Thread.start = forking
asyncio.run(store.set("n", "parent", 1))
assert os.waitpid(children[0], 0)[1] == 0
assert asyncio.run(store.get_many([("n", "parent"), ("n", "child")])) == [1, 1]
"""


def test_a_child_that_is_forked_in_the_middle_of_the_first_call_works(
    server: Server, prefix: str
) -> None:
    arguments = [sys.executable, "-c", _FORK_AT_THE_START, server.url, prefix]
    subprocess.run(arguments, check=True, timeout=60)


async def test_a_store_that_is_dropped_ends_its_thread(server: Server, prefix: str) -> None:
    store = AsyncRedisStore(server.url, prefix=prefix)
    await store.get("n", "k")
    thread = next(t for t in threading.enumerate() if t.name == "swarmstate-redis")
    gone = weakref.ref(store)
    del store
    gc.collect()
    assert gone() is None
    thread.join(10)
    assert not thread.is_alive()


async def test_closing_lets_calls_under_way_finish_and_refuses_new_ones(
    server: Server, prefix: str
) -> None:
    store = AsyncRedisStore(server.url, prefix=prefix)
    await store.set("n", "k", 1)
    under_way = [asyncio.create_task(store.get("n", "k")) for _ in range(20)]
    await asyncio.sleep(0)
    await store.close()
    await store.close()
    assert await asyncio.gather(*under_way) == [1] * 20
    with pytest.raises(StoreUnavailable, match="the store is closed"):
        await store.get("n", "k")
    with pytest.raises(StoreUnavailable, match="the store is closed"):
        store.history()
