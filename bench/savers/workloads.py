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

    def __init__(
        self, saver: Any, size: int, name: str, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.saver = saver
        self.clock = clock
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
    """A saver that is measured, and the threads in it, which rows share: growing them is slow.

    `clock` is the processor's where nothing waits for another process.
    """

    def __init__(self, saver: Any, clock: Callable[[], float] = time.perf_counter) -> None:
        self.saver = saver
        self.clock = clock
        self._threads: dict[tuple[int, int], Thread] = {}

    def thread(self, size: int, length: int) -> Thread:
        """Return the thread with messages of that number that began with so many checkpoints."""
        if (size, length) not in self._threads:
            thread = Thread(self.saver, size, f"{size} messages, {length} checkpoints", self.clock)
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


def timed(thread: Thread, operation: Callable[[], Any], rounds: int) -> float:
    clock = thread.clock
    start = clock()
    for _ in range(rounds):
        operation()
    return (clock() - start) / rounds


def get_tuple(thread: Thread, rounds: int) -> float:
    return timed(thread, lambda: thread.saver.get_tuple(thread.latest), rounds)


def list_ten(thread: Thread, rounds: int) -> float:
    return timed(thread, lambda: list(thread.saver.list(thread.latest, limit=10)), rounds)


def put_writes(count: int) -> Callable[[Thread, int], float]:
    written = [("messages", AIMessage("an answer of a few words", id="a"))] * count

    def repeat(thread: Thread, rounds: int) -> float:
        thread.put(["step"])  # A checkpoint without writes.
        tasks = itertools.count()
        put = thread.saver.put_writes
        return timed(
            thread,
            lambda: put(thread.config, written, f"task-{next(tasks)}", "~__pregel_pull, a"),
            rounds,
        )

    return repeat


def put(changed: list[str]) -> Callable[[Thread, int], float]:
    return lambda thread, rounds: timed(thread, lambda: thread.put(changed), rounds)


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
    rounds = max(1, rounds * times // (10 if size > 100 else 1))

    def build(subject: Subject) -> Run:
        return functools.partial(repeat, subject.thread(size, length), rounds)

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


def sizes(small: float, middle: float, large: float | None = None, *, of: str) -> Limits:
    """Return the limits of an operation with 10, 100 and 1,000 messages."""
    limits: Limits = {(of, 10): small, (of, 100): middle}
    return limits if large is None else {**limits, (of, 1000): large}


# Beside the limits to the baseline; see `__main__` for those to HotKV.
REDIS_LIMITS: Limits = {
    **sizes(0.25, 0.22, 0.22, of="get_tuple"),
    **sizes(0.15, 0.15, of="list(10)"),
    **sizes(0.35, 0.35, of="put_writes, 1 write"),
    **sizes(0.12, 0.12, of="put_writes, 10 writes"),
    **sizes(0.6, 0.4, 0.25, of="put"),
    **sizes(0.4, 0.25, 0.05, of="put, messages unchanged"),
}
MEMORY_LIMITS: Limits = {
    **sizes(0.25, 0.12, of="get_tuple"),
    **sizes(0.3, 0.3, of="list(10)"),
    **sizes(0.6, 0.6, of="put_writes, 1 write"),
    **sizes(0.8, 0.8, of="put_writes, 10 writes"),
    **sizes(0.4, 0.15, of="put"),
    **sizes(1.3, 1.0, of="put, messages unchanged"),
}
FOREIGN_LIMITS: Limits = {key: 1.15 for name in OPERATIONS for key in ((name, 10), (name, 100))}

# Messages and checkpoints of the threads.
SHAPES = [(10, 10), (100, 10), (1000, 10), (10, 1000), (100, 1000)]
REDIS = [on_thread(name, *shape, REDIS_LIMITS) for shape in SHAPES for name in OPERATIONS]
REDIS += [Workload("50 invokes of 5 nodes", invokes(), 0.6)]
CONCURRENT = Workload("50 concurrent ainvoke", concurrent_invokes(), 0.35)
MEMORY = [on_thread(name, *shape, MEMORY_LIMITS, 10) for shape in SHAPES for name in OPERATIONS]
MEMORY += [on_thread(name, 10, 10_000, MEMORY_LIMITS, 10) for name in ("get_tuple", "list(10)")]
FOREIGN = [
    on_thread(name, size, 10, FOREIGN_LIMITS, 5) for size in (10, 100) for name in OPERATIONS
]
