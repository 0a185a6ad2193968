"""Real graphs that remember: ``compile(store=...)``, injected stores, tools."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langchain_core.tools import tool
from langgraph.config import get_store
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.prebuilt import InjectedStore, ToolNode
from langgraph.runtime import Runtime
from langgraph.store.base import BaseStore

from swarmstate.integrations.langgraph import SwarmStateSaver, SwarmStateStore
from swarmstate.protocols import StoreLike


class State(TypedDict, total=False):
    messages: Annotated[list[AnyMessage], add_messages]
    recalled: list[str]


@tool
def remember(fact: str, store: Annotated[Any, InjectedStore()]) -> str:
    """Keep a fact."""
    store.put(("facts", "ana"), str(uuid.uuid5(uuid.NAMESPACE_OID, fact)), {"fact": fact})
    return "remembered"


@tool
async def recall(topic: str, store: Annotated[Any, InjectedStore()]) -> str:
    """Look for facts."""
    found = await store.asearch(("facts", "ana"), filter={"fact": topic})
    return ", ".join(item.value["fact"] for item in found) or "nothing"


def call(name: str, **arguments: Any) -> Any:
    made = {"name": name, "args": arguments, "id": f"call-{name}", "type": "tool_call"}
    return {"messages": [AIMessage("", tool_calls=[made])]}


def assistant(store: StoreLike) -> Any:
    """A graph that notes what it hears and looks up what it heard in other threads."""

    def note(state: State, *, store: BaseStore) -> State:
        heard = str(state["messages"][-1].content)
        store.put(("heard", "ana"), heard, {"text": heard})
        return {}

    def look(state: State, runtime: Runtime[Any]) -> State:
        assert isinstance(runtime.store, BaseStore)
        found = runtime.store.search(("heard",), limit=10)
        return {"recalled": sorted(item.key for item in found)}

    def same(state: State) -> State:
        assert get_store().get(("heard", "ana"), state["recalled"][0]) is not None
        return {}

    graph: StateGraph[Any] = StateGraph(State)
    graph.add_node("note", note)
    graph.add_node("look", look)
    graph.add_node("same", same)
    graph.add_edge(START, "note")
    graph.add_edge("note", "look")
    graph.add_edge("look", "same")
    graph.add_edge("same", END)
    return graph.compile(checkpointer=SwarmStateSaver(store), store=SwarmStateStore(store))


def say(text: str, thread: str) -> Any:
    return {"messages": [HumanMessage(text)]}, {"configurable": {"thread_id": thread}}


def test_a_graph_recalls_in_one_thread_what_it_heard_in_another(
    make_store: Callable[..., StoreLike],
) -> None:
    store = make_store()
    assert assistant(store).invoke(*say("figs", "1"))["recalled"] == ["figs"]
    assert assistant(store).invoke(*say("tea", "2"))["recalled"] == ["figs", "tea"]
    assert assistant(store).get_state({"configurable": {"thread_id": "1"}}).values["recalled"] == [
        "figs"
    ]


async def test_many_awaited_runs_share_one_memory(make_store: Callable[..., StoreLike]) -> None:
    graph = assistant(make_store())
    texts = [f"text {number}" for number in range(10)]
    await asyncio.gather(*(graph.ainvoke(*say(text, text)) for text in texts))
    memory = graph.store
    assert sorted(item.key for item in await memory.asearch(("heard",))) == texts


@pytest.mark.parametrize("awaited", [False, True])
def test_tools_are_given_the_memory_of_the_graph(
    make_store: Callable[..., StoreLike], awaited: bool
) -> None:
    graph: StateGraph[Any] = StateGraph(State)
    graph.add_node("tools", ToolNode([remember, recall]))
    graph.add_edge(START, "tools")
    compiled = graph.compile(store=SwarmStateStore(make_store()))

    def run(request: Any) -> Any:
        if awaited:
            return asyncio.run(compiled.ainvoke(request))
        return compiled.invoke(request)

    assert run(call("remember", fact="tea"))["messages"][-1].content == "remembered"
    found = asyncio.run(compiled.ainvoke(call("recall", topic="tea")))
    assert found["messages"][-1].content == "tea"
    found = asyncio.run(compiled.ainvoke(call("recall", topic="coffee")))
    assert found["messages"][-1].content == "nothing"
