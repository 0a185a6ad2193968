"""Whole graphs leave the same history as on LangGraph's InMemorySaver, whatever they do.

The graphs run on a saver that does everything on both and compares every answer.
"""

from __future__ import annotations

import operator
import threading
from collections.abc import Callable
from enum import Enum
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langgraph.channels import DeltaChannel
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import Command, RetryPolicy, Send, interrupt
from twin import TwinSaver

from swarmstate.integrations.langgraph import SwarmStateSaver
from swarmstate.protocols import StoreLike

DURABILITIES = ("sync", "async", "exit")


class State(TypedDict, total=False):
    messages: Annotated[list[AnyMessage], add_messages]
    log: Annotated[list[str], operator.add]
    number: int


@pytest.fixture
def twin(make_store: Callable[..., StoreLike]) -> TwinSaver:
    return TwinSaver(SwarmStateSaver(make_store()))


@pytest.fixture(params=DURABILITIES)
def durability(request: pytest.FixtureRequest) -> Any:
    return request.param


def config(thread: Any = "thread") -> Any:
    return {"configurable": {"thread_id": thread}}


def say(name: str) -> Callable[[State], dict[str, Any]]:
    def node(state: State) -> dict[str, Any]:
        return {"messages": [AIMessage(name, id=f"{name}{len(state['messages'])}")], "log": [name]}

    return node


def chain(*nodes: tuple[str, Any]) -> StateGraph[Any]:
    graph: StateGraph[Any] = StateGraph(State)
    previous = START
    for name, node in nodes:
        graph.add_node(name, node)
        graph.add_edge(previous, name)
        previous = name
    graph.add_edge(previous, END)
    return graph


def hello() -> dict[str, Any]:
    return {"messages": [HumanMessage("hello", id="h")], "number": 1}


def test_a_conversation_of_several_turns(twin: TwinSaver, durability: Any) -> None:
    graph = chain(("a", say("a")), ("b", say("b"))).compile(checkpointer=twin)
    for turn in range(3):
        turn_input = {"messages": [HumanMessage("hi", id=f"turn{turn}")]}
        graph.invoke(turn_input, config(), durability=durability)
    assert len(graph.get_state(config()).values["messages"]) == 9
    assert len(twin.assert_same_history("thread")) == (3 if durability == "exit" else 12)


async def test_the_same_awaited(twin: TwinSaver, durability: Any) -> None:
    graph = chain(("a", say("a")), ("b", say("b"))).compile(checkpointer=twin)
    for _ in range(2):
        await graph.ainvoke(hello(), config(), durability=durability)
    history = [one async for one in graph.aget_state_history(config())]
    assert len(history) == len(twin.assert_same_history("thread"))


def test_an_interrupt_waits_for_its_answer(twin: TwinSaver, durability: Any) -> None:
    def ask(state: State) -> dict[str, Any]:
        return {"log": [interrupt("really?"), interrupt("sure?")]}

    graph = chain(("a", say("a")), ("ask", ask), ("b", say("b"))).compile(checkpointer=twin)
    graph.invoke(hello(), config(), durability=durability)
    assert graph.get_state(config()).tasks[0].interrupts[0].value == "really?"
    graph.invoke(Command(resume="yes"), config(), durability=durability)
    assert graph.get_state(config()).tasks[0].interrupts[0].value == "sure?"
    done = graph.invoke(Command(resume="very"), config(), durability=durability)
    assert done["log"] == ["a", "yes", "very", "b"]
    twin.assert_same_history("thread")


def test_several_interrupts_in_one_step_are_answered_by_id(twin: TwinSaver) -> None:
    def asking(name: str) -> Callable[[State], dict[str, Any]]:
        return lambda state: {"log": [f"{name}:{interrupt(name)}"]}

    graph: StateGraph[Any] = StateGraph(State)
    for name in ("x", "y", "z"):
        graph.add_node(name, asking(name))
        graph.add_edge(START, name)
    app = graph.compile(checkpointer=twin)
    app.invoke(hello(), config())
    waiting = [i for task in app.get_state(config()).tasks for i in task.interrupts]
    assert len(waiting) == 3
    app.invoke(Command(resume={waiting[0].id: "one"}), config())
    rest = {i.id: i.value for task in app.get_state(config()).tasks for i in task.interrupts}
    done = app.invoke(Command(resume=rest), config())
    assert sorted(done["log"]) == ["x:one", "y:y", "z:z"]
    twin.assert_same_history("thread")


def test_a_fan_out_of_twelve_tasks_keeps_its_order(twin: TwinSaver, durability: Any) -> None:
    graph: StateGraph[Any] = StateGraph(State)
    graph.add_node("work", lambda state: {"log": [str(state["number"])]})
    graph.add_conditional_edges(
        START, lambda state: [Send("work", {"number": n}) for n in range(12)], ["work"]
    )
    graph.add_edge("work", END)
    app = graph.compile(checkpointer=twin)
    done = app.invoke(hello(), config(), durability=durability)
    assert done["log"] == [str(n) for n in range(12)]
    twin.assert_same_history("thread")


@pytest.mark.parametrize("own", [None, True])
def test_a_subgraph_with_and_without_its_own_checkpointer(twin: TwinSaver, own: Any) -> None:
    def ask(state: State) -> dict[str, Any]:
        return {"log": [interrupt("inside")]}

    inner = chain(("i", say("i")), ("ask", ask)).compile(checkpointer=own)
    graph = chain(("a", say("a")), ("inner", inner), ("b", say("b"))).compile(checkpointer=twin)
    for turn in ("first", "second"):
        graph.invoke(hello(), config())
        state = graph.get_state(config(), subgraphs=True)
        assert state.tasks[0].interrupts[0].value == "inside"
        done = graph.invoke(Command(resume=turn), config())
        assert turn in done["log"]
    history = twin.assert_same_history("thread")
    spaces = {one.config["configurable"]["checkpoint_ns"] for one in history}
    assert len(spaces) > 1


def test_a_fork_by_update_state_and_time_travel_from_any_checkpoint(twin: TwinSaver) -> None:
    graph = chain(("a", say("a")), ("b", say("b")), ("c", say("c"))).compile(checkpointer=twin)
    graph.invoke(hello(), config())
    history = list(graph.get_state_history(config()))
    for state in history:
        fork = graph.update_state(state.config, {"log": ["forked"], "number": 7})
        graph.invoke(None, fork)
        graph.invoke(None, state.config)
    for state in history:
        again = graph.get_state(state.config)
        assert again.values == state.values
        assert again.next == state.next
    twin.assert_same_history("thread")


def test_commands_update_and_go_to(twin: TwinSaver, durability: Any) -> None:
    def route(state: State) -> Command[Any]:
        hops = len(state.get("log", ()))
        return Command(goto="route" if hops < 3 else END, update={"log": [str(hops)]})

    graph: StateGraph[Any] = StateGraph(State)
    graph.add_node("route", route)
    graph.add_edge(START, "route")
    app = graph.compile(checkpointer=twin)
    assert app.invoke(hello(), config(), durability=durability)["log"] == ["0", "1", "2", "3"]
    app.invoke(Command(update={"log": ["more"]}, goto="route"), config(), durability=durability)
    twin.assert_same_history("thread")


def test_what_finished_beside_a_failure_is_not_run_again(twin: TwinSaver, durability: Any) -> None:
    runs = {"good": 0, "bad": 0}
    stored = threading.Event()
    put_writes = twin.put_writes

    def noting(config: Any, writes: Any, task_id: str, task_path: str = "") -> None:
        put_writes(config, writes, task_id, task_path)
        if ("log", ["good"]) in writes:
            stored.set()

    twin.put_writes = noting  # type: ignore[method-assign]

    def good(state: State) -> dict[str, Any]:
        runs["good"] += 1
        return {"log": ["good"]}

    def bad(state: State) -> dict[str, Any]:
        runs["bad"] += 1
        # The run ends with the failure, so it comes after what must not be lost by it.
        assert durability == "exit" or stored.wait(60)
        if runs["bad"] < 3:
            raise ValueError("not yet")
        return {"log": ["bad"]}

    graph: StateGraph[Any] = StateGraph(State)
    graph.add_node("good", good)
    graph.add_node("bad", bad)
    graph.add_edge(START, "good")
    graph.add_edge(START, "bad")
    app = graph.compile(checkpointer=twin)
    for attempt in (hello(), None):
        with pytest.raises(ValueError, match="not yet"):
            app.invoke(attempt, config(), durability=durability)
        twin.assert_same_history("thread")
    done = app.invoke(None, config(), durability=durability)
    assert sorted(done["log"]) == ["bad", "good"]
    assert durability == "exit" or runs["good"] == 1
    twin.assert_same_history("thread")


def test_a_node_that_is_retried_writes_once(twin: TwinSaver) -> None:
    tries: list[int] = []

    def flaky(state: State) -> dict[str, Any]:
        tries.append(1)
        if len(tries) < 3:
            raise ConnectionError("flaky")
        return {"log": ["done"]}

    graph: StateGraph[Any] = StateGraph(State)
    graph.add_node("flaky", flaky, retry_policy=RetryPolicy(max_attempts=5, initial_interval=0.001))
    graph.add_edge(START, "flaky")
    app = graph.compile(checkpointer=twin)
    assert app.invoke(hello(), config())["log"] == ["done"]
    twin.assert_same_history("thread")


def test_thread_ids_may_be_ints(twin: TwinSaver) -> None:
    saver = twin.ours
    graph = chain(("a", say("a"))).compile(checkpointer=saver)
    graph.invoke(hello(), config(17))
    assert graph.get_state(config("17")).values == graph.get_state(config(17)).values
    assert len(list(saver.list(config(17)))) == 3
    saver.delete_thread(17)  # type: ignore[arg-type]
    assert saver.get_tuple(config(17)) is None


class Name(str, Enum):
    LOG = "log"
    NUMBER = "number"
    THREAD = "thread"


def test_channels_and_threads_may_be_named_by_members_of_an_enum(twin: TwinSaver) -> None:
    def node(state: State) -> Any:
        return {Name.LOG: [str(state["number"])], Name.NUMBER: state["number"] + 1}

    graph = chain(("a", node), ("b", node)).compile(checkpointer=twin)
    graph.invoke({Name.LOG: ["in"], Name.NUMBER: 1}, config(Name.THREAD))
    assert graph.get_state(config("thread")).values["log"] == ["in", "1", "2"]
    twin.assert_same_history("thread")


def append(state: list[str] | None, writes: list[Any]) -> list[str]:
    """Not invariant under the order of the writes."""
    result = list(state or [])
    for write in writes:
        result += write if isinstance(write, list) else [write]
    return result


def delta_graph(saver: Any, frequency: int) -> Any:
    channel = DeltaChannel(append, list, snapshot_frequency=frequency)

    # Made by a call: annotations are text in this module, and cannot name a local.
    fields: dict[str, Any] = {"items": Annotated[list, channel], "number": int}
    deltas = TypedDict("deltas", fields, total=False)  # type: ignore[misc]

    def fan(state: Any) -> list[Send]:
        return [Send("work", {"number": n}) for n in range(12)]

    graph: StateGraph[Any] = StateGraph(deltas)
    graph.add_node("begin", lambda state: {"items": [f"begin{len(state['items'])}"]})
    graph.add_node("work", lambda state: {"items": [f"w{state['number']}"]})
    graph.add_node("end", lambda state: {"items": ["end"]})
    graph.add_edge(START, "begin")
    graph.add_conditional_edges("begin", fan, ["work"])
    graph.add_edge("work", "end")
    return graph.compile(checkpointer=saver)


def values_by_id(app: Any, thread: str) -> dict[str, Any]:
    history = app.get_state_history(config(thread))
    return {state.config["configurable"]["checkpoint_id"]: state.values for state in history}


@pytest.mark.parametrize("frequency", [1, 3, 1000])
def test_a_delta_channel_is_rebuilt_as_the_run_made_it(
    twin: TwinSaver, durability: Any, frequency: int
) -> None:
    app = delta_graph(twin, frequency)
    expected: list[str] = []
    for turn in range(4):
        done = app.invoke({"items": [f"in{turn}"]}, config(), durability=durability)
        expected = [*expected, f"in{turn}", f"begin{len(expected) + 1}"]
        expected += [*(f"w{n}" for n in range(12)), "end"]
        assert done["items"] == expected
        assert app.get_state(config()).values["items"] == expected
    twin.assert_same_history("thread")


@pytest.mark.parametrize("frequency", [3, 7, 1000])
def test_pruning_and_copying_keep_what_a_delta_channel_is_rebuilt_from(
    make_store: Callable[..., StoreLike], frequency: int
) -> None:
    saver = SwarmStateSaver(make_store())
    app = delta_graph(saver, frequency)
    for turn in range(5):
        app.invoke({"items": [f"in{turn}"]}, config())
    before = app.get_state(config()).values["items"]
    states = values_by_id(app, "thread")

    saver.copy_thread("thread", "copy")
    assert app.get_state(config("copy")).values["items"] == before
    assert values_by_id(app, "copy") == states

    saver.prune(["thread"])
    assert app.get_state(config()).values["items"] == before
    left = len(list(saver.list(config())))
    assert left < len(states) or frequency == 1000
    done = app.invoke({"items": ["more"]}, config())
    assert done["items"][: len(before) + 1] == [*before, "more"]
    # The copy lives on by itself.
    saver.delete_thread("thread")
    assert app.get_state(config("copy")).values["items"] == before


def test_a_limit_keeps_the_newest_and_what_they_need(
    make_store: Callable[..., StoreLike],
) -> None:
    saver = SwarmStateSaver(make_store(), max_checkpoints_per_thread=3)
    app = delta_graph(saver, 4)
    unlimited = delta_graph(SwarmStateSaver(make_store()), 4)
    for turn in range(6):
        app.invoke({"items": [f"in{turn}"]}, config())
        unlimited.invoke({"items": [f"in{turn}"]}, config())
        kept = list(app.get_state_history(config(), limit=3))
        assert [s.values["items"] for s in kept] == [
            s.values["items"] for s in unlimited.get_state_history(config(), limit=3)
        ]
    assert len(list(saver.list(config()))) < 15

    plain = chain(*((name, say(name)) for name in "abcdef")).compile(checkpointer=saver)
    plain.invoke(hello(), config("plain"))
    assert len(list(saver.list(config("plain")))) == 3


def test_a_limit_never_removes_a_branch_that_waits_for_an_answer(
    make_store: Callable[..., StoreLike],
) -> None:
    def ask(state: State) -> dict[str, Any]:
        return {"log": [interrupt("?")]}

    saver = SwarmStateSaver(make_store(), max_checkpoints_per_thread=2)
    graph = chain(("a", say("a")), ("ask", ask), ("b", say("b"))).compile(checkpointer=saver)
    graph.invoke(hello(), config())
    waiting = graph.get_state(config())
    # A fork that goes past the question, and on: the branch that asks is no longer the newest.
    branch = graph.update_state(waiting.parent_config, {"log": ["fork"]}, as_node="ask")
    for number in range(5):
        branch = graph.update_state(branch, {"log": [str(number)]}, as_node="ask")
    ids = [one.checkpoint["id"] for one in saver.list(config())]
    assert len(ids) == 3
    assert ids[-1] == waiting.config["configurable"]["checkpoint_id"]
    assert graph.invoke(Command(resume="yes"), waiting.config)["log"] == ["a", "yes", "b"]
