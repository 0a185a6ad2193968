"""What each step of a graph costs with our saver, in memory and in Redis.

How it compares with other savers is what ``make bench-savers`` prints.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from savers.workloads import Subject, Thread
from stores import STORES

from swarmstate.integrations.langgraph import SwarmStateSaver

CHECKPOINTS = 20

Benchmark = Callable[..., Any]


@pytest.fixture(params=["memory", "redis"])
def saver(request: pytest.FixtureRequest) -> Iterator[SwarmStateSaver]:
    kind = STORES[request.param]
    url = () if kind.server is None else (request.getfixturevalue(kind.server),)
    with kind.make(*url, codec="ormsgpack") as store:
        yield SwarmStateSaver(store)
        store.clear()


@pytest.fixture(params=[10, 100], ids=lambda size: f"{size} messages")
def thread(saver: SwarmStateSaver, request: pytest.FixtureRequest) -> Thread:
    return Subject(saver).thread(request.param, CHECKPOINTS)


@pytest.mark.benchmark(group="put")
def test_put(benchmark: Benchmark, thread: Thread) -> None:
    benchmark(thread.put, ["messages", "step"])


@pytest.mark.benchmark(group="put, messages unchanged")
def test_put_unchanged(benchmark: Benchmark, thread: Thread) -> None:
    benchmark(thread.put, ["step"])


@pytest.mark.benchmark(group="put_writes")
@pytest.mark.parametrize("count", [1, 10], ids=lambda count: f"{count} writes")
def test_put_writes(benchmark: Benchmark, thread: Thread, count: int) -> None:
    written = [("messages", AIMessage("an answer of a few words", id="a"))] * count
    tasks = itertools.count()
    benchmark(
        lambda: thread.saver.put_writes(
            thread.config, written, f"task-{next(tasks)}", "~__pregel_pull, a"
        )
    )


@pytest.mark.benchmark(group="get_tuple")
def test_get_tuple(benchmark: Benchmark, thread: Thread) -> None:
    found = benchmark(thread.saver.get_tuple, thread.latest)
    assert found.checkpoint["channel_values"]["messages"] == thread.values["messages"]


@pytest.mark.benchmark(group="list(10)")
def test_list(benchmark: Benchmark, thread: Thread) -> None:
    assert len(benchmark(lambda: list(thread.saver.list(thread.latest, limit=10)))) == 10
