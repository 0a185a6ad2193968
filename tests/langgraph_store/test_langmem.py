"""The tools of LangMem, in a graph over our memory; they run where langmem is installed."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode

from swarmstate.integrations.langgraph import SwarmStateSaver, SwarmStateStore
from swarmstate.protocols import StoreLike

langmem = pytest.importorskip("langmem", reason="langmem is not installed")
NAMESPACE = ("memories", "{langgraph_user_id}")


def count_words(texts: list[str]) -> list[list[float]]:
    return [[text.count("tea") + 0.01, text.count("figs") + 0.01, 1.0] for text in texts]


@pytest.mark.parametrize("awaited", [False, True])
def test_an_agent_manages_and_finds_the_memories_of_its_own_user(
    make_store: Callable[..., StoreLike], awaited: bool
) -> None:
    store = make_store()
    tools = [
        langmem.create_manage_memory_tool(NAMESPACE),
        langmem.create_search_memory_tool(NAMESPACE),
    ]
    builder: StateGraph[Any] = StateGraph(MessagesState)
    builder.add_node("tools", ToolNode(tools))
    builder.add_edge(START, "tools")
    graph = builder.compile(
        checkpointer=SwarmStateSaver(store),
        store=SwarmStateStore(store, index={"dims": 3, "embed": count_words}),
    )
    threads = itertools.count()

    def call(name: str, user: str = "ana", **arguments: Any) -> str:
        made = {"name": name, "args": arguments, "id": "call", "type": "tool_call"}
        said: Any = {"messages": [AIMessage("", tool_calls=[made])]}
        config: Any = {"configurable": {"thread_id": str(next(threads)), "langgraph_user_id": user}}
        answer = asyncio.run(graph.ainvoke(said, config)) if awaited else graph.invoke(said, config)
        return str(answer["messages"][-1].content)

    def known(query: str, **options: Any) -> list[str]:
        found = json.loads(call("search_memory", query=query, **options))
        return [each["value"]["content"] for each in found]

    memory_id = call("manage_memory", content="Ana drinks tea").split()[-1]
    call("manage_memory", content="Ana eats figs")
    call("manage_memory", user="ben", content="Ben drinks tea")
    assert known("tea?", limit=1) == ["Ana drinks tea"]
    call("manage_memory", action="update", id=memory_id, content="Ana drinks coffee")
    assert sorted(known("tea?")) == ["Ana drinks coffee", "Ana eats figs"]
    call("manage_memory", action="delete", id=memory_id)
    assert known("figs?") == ["Ana eats figs"]
    assert known("tea?", user="ben") == ["Ben drinks tea"]
