"""Threads move from any checkpointer to any other, and read the same afterwards."""

from __future__ import annotations

import io
import operator
import sqlite3
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import Command, Send, interrupt
from threads import checkpoint, config, grow

from swarmstate.errors import InvalidArgumentError
from swarmstate.integrations.langgraph import CopyMismatchError, SwarmStateSaver, copy_threads
from swarmstate.protocols import StoreLike


class State(TypedDict, total=False):
    messages: Annotated[list[AnyMessage], add_messages]
    log: Annotated[list[str], operator.add]
    number: int


@pytest.fixture
def sqlite() -> Iterator[SqliteSaver]:
    connection = sqlite3.connect(":memory:", check_same_thread=False)
    yield SqliteSaver(connection)
    connection.close()


def app(saver: Any) -> Any:
    """A fan-out, a question and an answer."""
    graph: StateGraph[Any] = StateGraph(State)
    graph.add_node("work", lambda state: {"log": [str(state["number"])]})
    graph.add_node("ask", lambda state: {"messages": [AIMessage(interrupt("?"), id="a")]})
    graph.add_conditional_edges(
        START, lambda state: [Send("work", {"number": n}) for n in range(12)], ["work"]
    )
    graph.add_edge("work", "ask")
    return graph.compile(checkpointer=saver)


def fill(saver: Any) -> None:
    graph = app(saver)
    for thread in ("one", "two", "three"):
        graph.invoke({"messages": [HumanMessage("hi", id="h")]}, config(thread))
    graph.invoke(Command(resume="yes"), config("two"))
    graph.update_state(config("two"), {"log": ["forked"]})


@pytest.mark.parametrize("kind", ["memory", "sqlite", "ours"])
def test_threads_read_and_go_on_the_same_after_the_move(
    sqlite: SqliteSaver, make_store: Callable[..., StoreLike], kind: str
) -> None:
    savers = {"memory": InMemorySaver, "sqlite": lambda: sqlite, "ours": SwarmStateSaver}
    source = savers[kind]()
    fill(source)
    target = SwarmStateSaver(make_store())
    seen: list[tuple[int, int | None]] = []
    report = copy_threads(source, target, progress=lambda r: seen.append((r.threads, r.total)))
    assert seen == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert (report.threads, report.skipped) == (3, 0)
    assert report.checkpoints == sum(1 for _ in source.list(None))
    for thread in ("one", "two", "three"):
        theirs = list(app(source).get_state_history(config(thread)))
        ours = list(app(target).get_state_history(config(thread)))
        assert [s.values for s in ours] == [s.values for s in theirs]
        assert [s.next for s in ours] == [s.next for s in theirs]
        assert [s.metadata for s in ours] == [s.metadata for s in theirs]
    if isinstance(source, SwarmStateSaver):
        for one in source.list(None):
            assert target.task_paths(one.config) == source.task_paths(one.config)
    done = app(target).invoke(Command(resume="go on"), config("one"))
    assert done["messages"][-1].content == "go on"


def test_a_copy_that_was_interrupted_anywhere_goes_on_where_it_stopped(
    make_store: Callable[..., StoreLike],
) -> None:
    class Breaking(SwarmStateSaver):
        left = 0

        def count_down(self) -> None:
            if self.left == 0:
                raise ConnectionError("gone")
            self.left -= 1

        def put(self, *arguments: Any) -> Any:
            self.count_down()
            return super().put(*arguments)

        def put_writes(self, *arguments: Any) -> None:
            self.count_down()
            super().put_writes(*arguments)

    source = InMemorySaver()
    fill(source)
    total = sum(1 for _ in source.list(None))
    for calls in range(1000):
        target = Breaking(make_store())
        target.left = calls
        try:
            copy_threads(source, target, ["two", "one"], progress=False)
        except ConnectionError:
            pass
        else:
            break
        target.left = 1000
        there = sum(1 for _ in target.list(None))
        report = copy_threads(source, target, progress=False)
        assert report.checkpoints + report.skipped == total
        # At most the one that lacked pending writes was put again.
        assert 0 <= report.checkpoints - (total - there) <= 1
        again = copy_threads(source, target, progress=False)
        assert (again.checkpoints, again.skipped) == (0, total)
    assert calls > 20


class Terminal(io.StringIO):
    """Standard error of a program that a person started."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("stderr", [Terminal(), io.StringIO()])
def test_only_the_threads_that_were_named_are_copied_with_a_bar_on_a_terminal_only(
    monkeypatch: pytest.MonkeyPatch, stderr: io.StringIO
) -> None:
    monkeypatch.setattr(sys, "stderr", stderr)
    source = InMemorySaver()
    fill(source)
    target = SwarmStateSaver()
    copy_threads(source, target, ["two", "two", "never"])
    assert target.threads() == ["two"]
    assert ("2/2" in stderr.getvalue()) == stderr.isatty()
    assert ("checkpoints copied, 0 already there" in stderr.getvalue()) == stderr.isatty()


class Careless(SwarmStateSaver):
    """Stores something else than it was given, in one part."""

    part = ""

    def put(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        checkpoint = dict(checkpoint)
        if self.part in checkpoint:
            checkpoint[self.part] = {"x": "another"}
        if self.part == "checkpoint":
            checkpoint["ts"] = "another"
        if self.part == "metadata":
            metadata = {**metadata, "step": 7}
        if self.part == "parent":
            config = {"configurable": {**config["configurable"], "checkpoint_id": "another"}}
        if self.part == "existence":
            return {"configurable": {**config["configurable"], "checkpoint_id": checkpoint["id"]}}
        return super().put(config, checkpoint, metadata, new_versions)

    def put_writes(self, config: Any, writes: Any, task_id: str, task_path: str = "") -> None:
        if self.part != "pending writes":
            super().put_writes(config, writes, task_id, task_path)


@pytest.mark.parametrize(
    "part",
    [
        *("existence", "channel_values", "channel_versions", "versions_seen", "checkpoint"),
        *("metadata", "parent", "pending writes"),
    ],
)
def test_what_does_not_arrive_as_it_was_is_an_error_that_names_it(part: str) -> None:
    source = InMemorySaver()
    body = checkpoint({"x": "1"}, {"x": 1}, "0001")
    where = source.put(config(), body, {"step": 1}, {"x": "1"})
    source.put_writes(where, [("x", 1)], "task")
    target = Careless()
    assert copy_threads(source, target, progress=False).checkpoints == 1
    target = Careless()
    target.part = part
    with pytest.raises(CopyMismatchError, match=rf"'0001'.*'thread'.*in: {part}$") as raised:
        copy_threads(source, target, progress=False)
    assert raised.value.part == part


@dataclass(eq=False)
class Array:
    """Compares as arrays do: not to one truth."""

    items: list[int]

    def __eq__(self, other: object) -> bool:
        raise ValueError("the truth of more than one item is ambiguous")

    __hash__ = None  # type: ignore[assignment]


def test_values_that_refuse_to_be_compared_are_compared_as_they_are_stored() -> None:
    source = InMemorySaver()
    versions = {"array": source.get_next_version(None, None)}
    for items in ([1, 2], [3, 4]):
        source.put(config(), checkpoint(versions, {"array": Array(items)}), {}, versions)
        versions = {"array": source.get_next_version(versions["array"], None)}
    target = SwarmStateSaver()
    assert copy_threads(source, target, progress=False).checkpoints == 2
    assert copy_threads(source, target, progress=False).skipped == 2

    class Mixing(SwarmStateSaver):
        def put(self, where: Any, body: Any, *rest: Any) -> Any:
            other = {**body, "channel_values": {"array": Array([0])}}
            return super().put(where, other, *rest)

    with pytest.raises(CopyMismatchError, match="channel_values"):
        copy_threads(source, Mixing(), progress=False)


def test_what_is_no_checkpointer_is_refused() -> None:
    saver = SwarmStateSaver()
    grow(saver, 1)
    for source, target, ids in ((3, saver, None), (saver, None, None), (saver, saver, "thread")):
        with pytest.raises(InvalidArgumentError):
            copy_threads(source, target, ids)  # type: ignore[arg-type]
