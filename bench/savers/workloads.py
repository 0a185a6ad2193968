"""What is measured: each workload prepares a saver and returns what one repeat does."""

from __future__ import annotations

import asyncio
import functools
import itertools
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

    def __init__(self, saver: Any, size: int, name: str) -> None:
        self.saver = saver
        self.latest: Any = {"configurable": {"thread_id": name, "checkpoint_ns": ""}}
        self.config = self.latest
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


class Subject:
    """A saver that is measured, and the threads in it, which rows share: growing them is slow."""

    def __init__(self, saver: Any) -> None:
        self.saver = saver
        self._threads: dict[tuple[int, int], Thread] = {}

    def thread(self, size: int, length: int) -> Thread:
        """Return the thread with messages of that number that began with so many checkpoints."""
        if (size, length) not in self._threads:
            thread = Thread(self.saver, size, f"{size} messages, {length} checkpoints")
            for _ in range(length - 1):
                thread.put(["step"])
            self.saver.put_writes(thread.config, [("step", 1)], "task", "")
            self._threads[size, length] = thread
        return self._threads[size, length]


@dataclass(frozen=True)
class Workload:
    """A row. `limit` is the largest accepted ratio to the baseline, if there is one."""

    name: str
    build: Callable[[Subject], Run]
    limit: float | None = None


def timed(operation: Callable[[], Any], rounds: int) -> float:
    start = time.perf_counter()
    for _ in range(rounds):
        operation()
    return (time.perf_counter() - start) / rounds


def get_tuple(thread: Thread, rounds: int) -> float:
    return timed(lambda: thread.saver.get_tuple(thread.latest), rounds)


def list_ten(thread: Thread, rounds: int) -> float:
    return timed(lambda: list(thread.saver.list(thread.latest, limit=10)), rounds)


def put_writes(count: int) -> Callable[[Thread, int], float]:
    written = [("messages", AIMessage("an answer of a few words", id="a"))] * count

    def repeat(thread: Thread, rounds: int) -> float:
        thread.put(["step"])  # A checkpoint without writes.
        tasks = itertools.count()
        put = thread.saver.put_writes
        return timed(
            lambda: put(thread.config, written, f"task-{next(tasks)}", "~__pregel_pull, a"), rounds
        )

    return repeat


def put(changed: list[str]) -> Callable[[Thread, int], float]:
    return lambda thread, rounds: timed(lambda: thread.put(changed), rounds)


# Those that only read come first: they find the thread as long as its row says.
OPERATIONS: dict[str, tuple[Callable[[Thread, int], float], int]] = {
    "get_tuple": (get_tuple, 20),
    "list(10)": (list_ten, 4),
    "put_writes, 1 write": (put_writes(1), 20),
    "put_writes, 10 writes": (put_writes(10), 20),
    "put": (put(["messages", "step"]), 20),
    "put, messages unchanged": (put(["step"]), 20),
}
"""What is done to a thread, and how often in one repeat."""


Limits = dict[tuple[str, int] | tuple[str, int, int], float]
"""By operation and messages, or by these and checkpoints."""


def on_thread(name: str, size: int, length: int, limits: Limits, times: int = 1) -> Workload:
    repeat, rounds = OPERATIONS[name]

    def build(subject: Subject) -> Run:
        return functools.partial(repeat, subject.thread(size, length), rounds * times)

    limit = limits.get((name, size, length), limits.get((name, size)))
    return Workload(f"{name}; {size} messages, {length:,} checkpoints", build, limit)


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


def invokes(count: int = 50) -> Callable[[Subject], Run]:
    def build(subject: Subject) -> Run:
        app = graph(subject.saver)
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


def concurrent_invokes(count: int = 50) -> Callable[[Subject], Run]:
    def build(subject: Subject) -> Run:
        app = graph(subject.saver)
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


SIZES = (10, 100)
LENGTHS = (10, 1000)

REDIS_LIMITS: Limits = {
    ("get_tuple", 10): 0.55,
    ("get_tuple", 100): 0.8,
    ("list(10)", 10): 0.55,
    ("list(10)", 100): 0.55,
    ("put_writes, 1 write", 10): 0.6,
    ("put_writes, 1 write", 100): 0.6,
    ("put_writes, 10 writes", 10): 0.2,
    ("put_writes, 10 writes", 100): 0.2,
    ("put", 10): 1.25,
    ("put", 100): 1.25,
    ("put, messages unchanged", 100): 0.4,
}
MEMORY_LIMITS: Limits = {
    ("get_tuple", 10, 10): 1.05,
    ("get_tuple", 100, 10): 1.05,
    ("get_tuple", 10, 10_000): 0.5,
    ("put_writes, 1 write", 10): 1.2,
    ("put_writes, 1 write", 100): 1.2,
    ("put_writes, 10 writes", 10): 1.5,
    ("put_writes, 10 writes", 100): 1.5,
    ("put", 10): 1.25,
    ("put", 100): 1.15,
}

THREADS = list(itertools.product(LENGTHS, SIZES, OPERATIONS))
REDIS = [on_thread(name, size, length, REDIS_LIMITS) for length, size, name in THREADS]
REDIS += [Workload("50 invokes of 5 nodes", invokes(), 0.85)]
CONCURRENT = Workload("50 concurrent ainvoke", concurrent_invokes(), 0.75)
MEMORY = [on_thread(name, size, length, MEMORY_LIMITS, 10) for length, size, name in THREADS]
MEMORY += [on_thread("get_tuple", 10, 10_000, MEMORY_LIMITS, 10)]
