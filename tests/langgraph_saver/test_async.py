"""Awaited calls: inline in memory, coalesced over Redis, mixed with blocking ones."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.graph import START, MessagesState, StateGraph
from proxies import Proxy
from threads import config, grow, ready

from swarmstate import Store
from swarmstate.backends.redis import RedisStore
from swarmstate.integrations.langgraph import SwarmStateSaver
from swarmstate.protocols import StoreLike


def app(saver: Any) -> Any:
    async def node(state: MessagesState) -> dict[str, Any]:
        await asyncio.sleep(0)
        return {"messages": [AIMessage(str(len(state["messages"])))]}

    builder: StateGraph[Any] = StateGraph(MessagesState)
    previous = START
    for name in "abcde":
        builder.add_node(name, node)
        builder.add_edge(previous, name)
        previous = name
    return builder.compile(checkpointer=saver)


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
async def test_fifty_graphs_at_once_on_one_saver(
    make_store: Callable[..., StoreLike], durability: Any
) -> None:
    saver = SwarmStateSaver(make_store())
    graph = app(saver)
    done = await asyncio.gather(
        *(
            graph.ainvoke(
                {"messages": [HumanMessage("hi")]}, config(f"t{n}"), durability=durability
            )
            for n in range(50)
        )
    )
    for number, result in enumerate(done):
        assert [m.content for m in result["messages"]] == ["hi", "1", "2", "3", "4", "5"]
        # Blocking calls on the same saver see the same.
        state = graph.get_state(config(f"t{number}"))
        assert state.values == result
    assert len(saver.threads()) == 50


async def test_many_tasks_share_round_trips(
    proxy: Proxy, make_redis: Callable[..., RedisStore]
) -> None:
    saver = SwarmStateSaver(make_redis(proxy.url))
    grow(saver, 1)
    await saver.aget_tuple(config())
    with proxy.counted():
        found = await asyncio.gather(*(saver.aget_tuple(config()) for _ in range(200)))
    assert len(found) == 200
    assert None not in found
    assert proxy.trips < 50
    assert proxy.most_open <= 4


async def test_a_cancelled_task_harms_no_other(make_store: Callable[..., StoreLike]) -> None:
    saver = SwarmStateSaver(make_store())
    last = grow(saver, 1)
    tasks = [
        asyncio.ensure_future(saver.aput_writes(last, [("x", n)], f"task{n:02}")) for n in range(60)
    ]
    await asyncio.sleep(0)
    for task in tasks[::3]:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    survivors = {f"task{n:02}" for n, r in enumerate(results) if r is None}
    assert {f"task{n:02}" for n in range(60) if n % 3} <= survivors
    found = await saver.aget_tuple(config())
    assert found is not None
    stored = {write[0] for write in found.pending_writes or ()}
    assert survivors <= stored
    put = ready(saver, last)
    assert put()["configurable"]["thread_id"] == "thread"


def test_two_event_loops_in_turn_and_at_once(make_store: Callable[..., StoreLike]) -> None:
    saver = SwarmStateSaver(make_store())
    graph = app(saver)

    def run(thread: str) -> None:
        asyncio.run(graph.ainvoke({"messages": [HumanMessage("hi")]}, config(thread)))

    run("first")
    run("second")
    workers = [threading.Thread(target=run, args=(f"at once {n}",)) for n in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for thread in ("first", "second", "at once 0", "at once 1"):
        assert len(graph.get_state(config(thread)).values["messages"]) == 6


def test_a_finalizer_may_use_the_saver_that_is_at_work() -> None:
    class Collecting(Store):
        def contains(self, namespace: str, key: str) -> bool:
            gc.collect()
            return super().contains(namespace, key)

    saver = SwarmStateSaver(Collecting())
    last = grow(saver, 1)

    class Late:
        def __init__(self) -> None:
            self.myself = self

        def __del__(self) -> None:
            saver.put_writes(last, [("x", 1)], "late")

    Late()
    worker = threading.Thread(target=ready(saver, last), daemon=True)
    worker.start()
    worker.join(60)
    assert not worker.is_alive()
    found = saver.get_tuple(last)
    assert found is not None
    assert found.pending_writes == [("late", "x", 1)]


async def test_in_memory_an_awaited_call_neither_hops_threads_nor_waits() -> None:
    seen: set[int] = set()

    class Watching(Store):
        def set_many(self, items: Any) -> None:
            seen.add(threading.get_ident())
            super().set_many(items)

    saver = SwarmStateSaver(Watching())
    ran: list[str] = []
    asyncio.get_running_loop().call_soon(ran.append, "another task")
    put = saver.aput(config(), {**_empty(), "id": "0001"}, {}, {})
    await put
    assert await saver.aget_tuple(config()) is not None
    assert [found async for found in saver.alist(config())]
    assert ran == []
    assert seen == {threading.get_ident()}


def _empty() -> Any:
    return {"v": 2, "ts": "", "channel_values": {}, "channel_versions": {}, "versions_seen": {}}


def test_the_latest_is_found_as_fast_in_a_long_thread() -> None:
    calls: list[str] = []

    class Counting(Store):
        def __getattribute__(self, name: str) -> Any:
            if not name.startswith("_"):
                calls.append(name)
            return super().__getattribute__(name)

    counts = []
    for length in (10, 10_000):
        saver = SwarmStateSaver(Counting())
        where = config()
        for number in range(length):
            where = saver.put(where, {**_empty(), "id": f"{number:06}"}, {}, {})
        calls.clear()
        found = saver.get_tuple(config())
        assert found is not None
        assert found.checkpoint["id"] == f"{length - 1:06}"
        counts.append(list(calls))
    assert counts[0] == counts[1]
    # None of these costs more where there is more: the greatest key is kept up to date.
    assert set(counts[0]) <= {"max_key", "get", "get_many", "items", "contains"}
