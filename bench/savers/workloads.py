"""What is measured: each workload prepares a saver and returns what one repeat does."""

from __future__ import annotations

import asyncio
import operator
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypedDict

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langchain_core.runnables import RunnableLambda
from langgraph.checkpoint.base.id import uuid6
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages

Run = Callable[[], float]
"""Does one repeat and returns its seconds per operation."""


def messages(count: int) -> list[AnyMessage]:
    text = "The quick brown fox jumps over the lazy dog, and then some more of the same. "
    return [
        (HumanMessage if number % 2 else AIMessage)(f"{number}: {text * 2}", id=f"message-{number}")
        for number in range(count)
    ]


class Thread:
    """A thread that grows as a graph would make it grow."""

    def __init__(self, saver: Any, size: int, name: str = "thread") -> None:
        self.saver = saver
        self.config: Any = {"configurable": {"thread_id": name, "checkpoint_ns": ""}}
        self.values: dict[str, Any] = {"messages": messages(size), "step": 0, "topic": "foxes"}
        self.versions: dict[str, Any] = {}
        self.number = 0
        self.put(["messages", "step", "topic"])

    def prepared(self, changed: list[str]) -> tuple[Any, Any, Any, Any]:
        """Return the arguments of the next put."""
        self.number += 1
        self.values = {**self.values, "step": self.number}
        next_version = self.saver.get_next_version
        new = {name: next_version(self.versions.get(name), None) for name in changed}
        self.versions = {**self.versions, **new}
        checkpoint = {
            "v": 2,
            "id": str(uuid6(clock_seq=self.number)),
            "ts": "2025-01-01T00:00:00+00:00",
            "channel_values": dict(self.values),
            "channel_versions": dict(self.versions),
            "versions_seen": {"agent": dict(self.versions), "__input__": {}},
            "updated_channels": changed,
        }
        metadata = {"source": "loop", "step": self.number, "parents": {}}
        return self.config, checkpoint, metadata, new

    def put(self, changed: list[str]) -> None:
        self.config = self.saver.put(*self.prepared(changed))


@dataclass(frozen=True)
class Workload:
    """`limit` is the largest accepted ratio to the baseline, if there is one."""

    name: str
    build: Callable[[Any], Run]
    limit: float | None = None


def timed(operation: Callable[[], Any], rounds: int) -> float:
    start = time.perf_counter()
    for _ in range(rounds):
        operation()
    return (time.perf_counter() - start) / rounds


def grown(saver: Any, size: int, length: int) -> Thread:
    thread = Thread(saver, size)
    for _ in range(length - 1):
        thread.put(["step"])
    return thread


def put(size: int, changed: list[str], rounds: int = 20, length: int = 10) -> Callable[[Any], Run]:
    def build(saver: Any) -> Run:
        thread = grown(saver, size, length)
        return lambda: timed(lambda: thread.put(changed), rounds)

    return build


def put_writes(count: int, rounds: int = 40, length: int = 10) -> Callable[[Any], Run]:
    def build(saver: Any) -> Run:
        thread = grown(saver, 10, length)
        tasks = iter(range(10**9))
        written = [("messages", AIMessage("an answer of a few words", id="a"))] * count

        def one() -> None:
            saver.put_writes(thread.config, written, f"task-{next(tasks)}", "~__pregel_pull, a")

        def run() -> float:
            thread.put(["step"])
            return timed(one, rounds)

        return run

    return build


def get_tuple(size: int, length: int, rounds: int = 20) -> Callable[[Any], Run]:
    def build(saver: Any) -> Run:
        thread = grown(saver, size, length)
        config = {"configurable": {"thread_id": "thread", "checkpoint_ns": ""}}
        saver.put_writes(thread.config, [("step", 1)], "task", "")
        return lambda: timed(lambda: saver.get_tuple(config), rounds)

    return build


def listed(size: int, length: int, limit: int = 10, rounds: int = 5) -> Callable[[Any], Run]:
    def build(saver: Any) -> Run:
        grown(saver, size, length)
        config = {"configurable": {"thread_id": "thread", "checkpoint_ns": ""}}
        return lambda: timed(lambda: list(saver.list(config, limit=limit)), rounds)

    return build


class State(TypedDict, total=False):
    messages: Annotated[list[AnyMessage], add_messages]
    log: Annotated[list[str], operator.add]


def graph(saver: Any) -> Any:
    """Five nodes in a row: two speak, three route, check and count."""
    builder: StateGraph[Any] = StateGraph(State)
    previous = START
    for number in range(5):
        name = f"node{number}"

        def node(state: State, name: str = name, speaks: bool = number % 2 == 1) -> dict[str, Any]:
            said = {"messages": [AIMessage(f"{name} says something")]} if speaks else {}
            return {**said, "log": [name]}

        async def anode(state: State, node: Any = node) -> dict[str, Any]:
            return node(state)  # type: ignore[no-any-return]

        builder.add_node(name, RunnableLambda(node, anode))
        builder.add_edge(previous, name)
        previous = name
    return builder.compile(checkpointer=saver)


def invokes(count: int = 50) -> Callable[[Any], Run]:
    def build(saver: Any) -> Run:
        app = graph(saver)
        threads = iter(range(10**9))

        def run() -> float:
            config: Any = {"configurable": {"thread_id": f"run{next(threads)}"}}
            start = time.perf_counter()
            for _ in range(count):
                app.invoke({"messages": [HumanMessage("hello")]}, config, durability="sync")
                config = {"configurable": {"thread_id": f"run{next(threads)}"}}
            return time.perf_counter() - start

        return run

    return build


def concurrent_invokes(count: int = 50) -> Callable[[Any], Run]:
    def build(saver: Any) -> Run:
        app = graph(saver)
        threads = iter(range(10**9))

        async def all_of_them() -> None:
            await asyncio.gather(
                *(
                    app.ainvoke(
                        {"messages": [HumanMessage("hello")]},
                        {"configurable": {"thread_id": f"run{next(threads)}"}},
                        durability="sync",
                    )
                    for _ in range(count)
                )
            )

        def run() -> float:
            start = time.perf_counter()
            asyncio.run(all_of_them())
            return time.perf_counter() - start

        return run

    return build


REDIS = [
    Workload("put, 10 messages", put(10, ["messages", "step"]), 1.25),
    Workload("put, 100 messages", put(100, ["messages", "step"]), 1.25),
    Workload("put, 100 unchanged messages", put(100, ["step"]), 0.4),
    Workload("put_writes, 1 write", put_writes(1), 0.6),
    Workload("put_writes, 10 writes", put_writes(10), 0.2),
    Workload("get_tuple, 10 messages", get_tuple(10, 10), 0.55),
    Workload("get_tuple, 100 messages", get_tuple(100, 10), 0.8),
    Workload("put, 10 messages, 1,000 checkpoints", put(10, ["messages", "step"], length=1000)),
    Workload("put_writes, 1 write, 1,000 checkpoints", put_writes(1, length=1000)),
    Workload("put_writes, 10 writes, 1,000 checkpoints", put_writes(10, length=1000)),
    Workload("get_tuple, 10 messages, 1,000 checkpoints", get_tuple(10, 1000)),
    Workload("list(10), 10 messages, 1,000 checkpoints", listed(10, 1000)),
    Workload("list(10), 10 messages", listed(10, 50), 0.55),
    Workload("list(10), 100 messages", listed(100, 50), 0.55),
    Workload("50 invokes of 5 nodes", invokes(), 0.85),
]
CONCURRENT = Workload("50 concurrent ainvoke", concurrent_invokes(), 0.75)

MEMORY = [
    Workload("put, 10 messages", put(10, ["messages", "step"], 200), 1.25),
    Workload("put, 100 messages", put(100, ["messages", "step"], 40), 1.15),
    Workload("put_writes, 1 write", put_writes(1, 500), 1.2),
    Workload("put_writes, 10 writes", put_writes(10, 100), 1.5),
    Workload("get_tuple, 10 checkpoints", get_tuple(10, 10, 200), 1.05),
    Workload("get_tuple, 10,000 checkpoints", get_tuple(10, 10_000, 200), 0.5),
]
