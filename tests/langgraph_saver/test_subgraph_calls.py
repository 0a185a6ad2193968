"""The namespaces of one call of a subgraph go with the checkpoint that called it, not before."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Annotated, Any, TypedDict

import pytest
import redis
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send, interrupt
from servers import Server
from threads import checkpoint, config

from swarmstate.backends.redis import RedisStore
from swarmstate.checkpoints import names
from swarmstate.integrations.langgraph import SwarmStateSaver
from swarmstate.protocols import StoreLike


class State(TypedDict, total=False):
    log: Annotated[list[str], operator.add]
    number: int


def chain(*nodes: tuple[str, Any]) -> StateGraph[Any]:
    graph: StateGraph[Any] = StateGraph(State)
    previous = START
    for name, node in nodes:
        graph.add_node(name, node)
        graph.add_edge(previous, name)
        previous = name
    graph.add_edge(previous, END)
    return graph


def step(state: State) -> dict[str, Any]:
    return {"log": ["step"]}


def ask(state: State) -> dict[str, Any]:
    return {"log": [interrupt("really?")]}


def spaces(saver: SwarmStateSaver, thread: str = "thread") -> dict[str, list[Any]]:
    """Return what is listed of each checkpoint namespace."""
    found: dict[str, list[Any]] = {}
    for one in saver.list({"configurable": {"thread_id": thread}}):
        found.setdefault(one.config["configurable"]["checkpoint_ns"], []).append(one)
    return found


def assert_callers_are_there(saver: SwarmStateSaver, thread: str = "thread") -> None:
    found = spaces(saver, thread)
    known = {
        (space, one.config["configurable"]["checkpoint_id"])
        for space, listed in found.items()
        for one in listed
    }
    for space, listed in found.items():
        if ":" in space:
            for above, checkpoint_id in listed[0].metadata["parents"].items():
                assert (above, checkpoint_id) in known, f"{space} was called from what is gone"


def leftovers(store: StoreLike, saver: SwarmStateSaver) -> set[str]:
    """Return the store's namespaces that belong to no checkpoint namespace of the thread."""
    found = set(store.namespaces())
    for space in [*spaces(saver), ""]:
        where = names("thread", space)
        found -= {where.thread, where.checkpoints, where.values, where.orphans}
        found -= {name for name in found if name.startswith(where.writes)}
    return found


@pytest.fixture
def store(make_store: Callable[..., StoreLike]) -> StoreLike:
    return make_store()


def test_a_limit_bounds_what_the_calls_of_nested_subgraphs_leave(store: StoreLike) -> None:
    innermost = chain(("deep", step)).compile()
    inner = chain(("a", step), ("inner", innermost)).compile()
    saver = SwarmStateSaver(store, max_checkpoints_per_thread=5)
    app = chain(("sub", inner), ("b", step)).compile(checkpointer=saver)
    sizes = []
    for _ in range(8):
        app.invoke({"number": 1}, config())
        assert_callers_are_there(saver)
        # Writes may come before their checkpoint, or after: what notes that comes and goes.
        found = store.namespaces()
        sizes.append(sum(not name.startswith("langgraph:strays:") for name in found))
    assert sizes[3:] == [sizes[3]] * 5
    assert leftovers(store, saver) == set()
    assert any(space.count("|") == 1 for space in spaces(saver))
    saver.prune(["thread"])
    assert spaces(saver).keys() == {""}
    saver.delete_thread("thread")
    assert len(store) == 0


def test_many_calls_from_one_checkpoint_go_together(store: StoreLike) -> None:
    inner = chain(("a", step)).compile()
    graph: StateGraph[Any] = StateGraph(State)
    graph.add_node("sub", inner)
    graph.add_conditional_edges(
        START, lambda state: [Send("sub", {"log": [str(n)]}) for n in range(12)], ["sub"]
    )
    saver = SwarmStateSaver(store, max_checkpoints_per_thread=3)
    app = graph.compile(checkpointer=saver)
    for _ in range(4):
        app.invoke({"number": 1}, config())
        assert_callers_are_there(saver)
    assert len(spaces(saver)) <= 1 + 12
    assert leftovers(store, saver) == set()


def test_what_a_node_calls_twice_goes_with_the_checkpoint_too(store: StoreLike) -> None:
    inner = chain(("a", step)).compile()

    def twice(state: State) -> dict[str, Any]:
        return {"log": inner.invoke({"number": 1})["log"] + inner.invoke({"number": 2})["log"]}

    saver = SwarmStateSaver(store, max_checkpoints_per_thread=3)
    app = chain(("sub", twice)).compile(checkpointer=saver)
    for _ in range(4):
        app.invoke({"number": 1}, config())
        assert_callers_are_there(saver)
    assert any(space.endswith("|1") for space in spaces(saver))
    assert len(spaces(saver)) <= 3
    saver.prune(["thread"])
    assert spaces(saver).keys() == {""}


def test_a_call_that_was_never_finished_goes_as_well(store: StoreLike) -> None:
    class Cancelled(BaseException):
        """What ends a task without leaving a trace."""

    def cancelled(state: State) -> dict[str, Any]:
        raise Cancelled

    inner = chain(("a", step), ("never", cancelled)).compile()
    saver = SwarmStateSaver(store, max_checkpoints_per_thread=4)
    app = chain(("sub", inner)).compile(checkpointer=saver)
    for _ in range(6):
        with pytest.raises(Cancelled):
            app.invoke({"number": 1}, config())
        assert_callers_are_there(saver)
    assert len(spaces(saver)) <= 1 + 4


def test_a_namespace_without_task_ids_is_only_limited(store: StoreLike) -> None:
    inner = chain(("a", step), ("b", step)).compile(checkpointer=True)
    saver = SwarmStateSaver(store, max_checkpoints_per_thread=3)
    app = chain(("sub", inner)).compile(checkpointer=saver)
    lengths = [0]
    for _ in range(4):
        app.invoke({"number": 1}, config())
        permanent = next(iter(saver.list(config(namespace="sub"))))
        lengths.append(len(permanent.checkpoint["channel_values"]["log"]))
        assert lengths[-1] > lengths[-2], "it goes on from where it was"
    assert {space: len(listed) for space, listed in spaces(saver).items()} == {"": 3, "sub": 3}
    saver.prune(["thread"])
    assert {space: len(listed) for space, listed in spaces(saver).items()} == {"": 1, "sub": 1}


@pytest.mark.parametrize("prune", [False, True])
def test_a_question_within_a_subgraph_can_be_answered_however_late(
    store: StoreLike, prune: bool
) -> None:
    inner = chain(("a", step), ("ask", ask)).compile()
    saver = SwarmStateSaver(store, max_checkpoints_per_thread=2)
    app = chain(("first", step), ("sub", inner), ("last", step)).compile(checkpointer=saver)
    app.invoke({"number": 1}, config())
    waiting = app.get_state(config())
    if prune:
        saver.prune(["thread"])
    else:
        # Another branch goes past the question, until the one that asks is far behind.
        branch = app.update_state(waiting.parent_config, {"log": ["fork"]}, as_node="sub")
        for number in range(5):
            branch = app.update_state(branch, {"log": [str(number)]}, as_node="sub")
    assert_callers_are_there(saver)
    done = app.invoke(Command(resume="yes"), waiting.config)
    assert done["log"] == ["step", "step", "step", "yes", "step"]
    app.invoke({"number": 2}, done and config())
    app.update_state(config(), {"log": ["on"]}, as_node="last")
    app.update_state(config(), {"log": ["on"]}, as_node="last")
    assert_callers_are_there(saver)


def test_pruning_keeps_a_call_whose_caller_is_not_known(store: StoreLike) -> None:
    saver = SwarmStateSaver(store)
    for number in range(3):
        for namespace in ("", "child:1"):
            body = checkpoint({}, {}, f"{number}")
            saver.put(config("thread", namespace), body, {"step": number}, {})
    saver.prune(["thread"])
    assert {space: len(listed) for space, listed in spaces(saver).items()} == {"": 1, "child:1": 1}


@pytest.mark.parametrize("above", ["", "sub:1"])
def test_a_call_that_overtakes_its_caller_goes_with_it(store: StoreLike, above: str) -> None:
    """LangGraph stores in the background, and the checkpoint that calls does not wait for it."""
    saver = SwarmStateSaver(store, max_checkpoints_per_thread=2)
    called = f"{above}|sub:2".removeprefix("|")
    parents = {"parents": {"": "1", above: "1"}}
    saver.put(config("thread", called), checkpoint({}, {}, "5"), {"step": 0, **parents}, {})
    for number in range(4):
        body = checkpoint({}, {}, f"{number}")
        saver.put(config("thread", above), body, {"step": number}, {})
    assert {space: len(listed) for space, listed in spaces(saver).items()} == {above: 2}


def test_a_call_whose_caller_never_comes_goes_with_its_thread(
    raw: redis.Redis, server: Server
) -> None:
    with RedisStore(server.url, prefix="overtaken") as store:
        saver = SwarmStateSaver(store, max_checkpoints_per_thread=2)
        body, metadata = checkpoint({}, {}, "5"), {"step": 0, "parents": {"": "1"}}
        saver.put(config("thread", "sub:1"), body, metadata, {})
        saver.delete_thread("thread")
        left = [key for key in raw.keys("*overtaken*") if raw.type(key) == b"hash"]
    assert left == []


def test_calls_that_were_made_before_there_was_a_limit_go_when_it_comes(store: StoreLike) -> None:
    inner = chain(("a", step)).compile()
    graph = chain(("sub", inner))
    free = graph.compile(checkpointer=SwarmStateSaver(store))
    for _ in range(6):
        free.invoke({"number": 1}, config())
    saver = SwarmStateSaver(store, max_checkpoints_per_thread=3)
    app = graph.compile(checkpointer=saver)
    for _ in range(3):
        app.invoke({"number": 1}, config())
        assert_callers_are_there(saver)
    assert len(spaces(saver)) <= 3
    assert leftovers(store, saver) == set()
