"""What savers store and send: each row prepares nothing and returns nothing, it fills a thread."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.graph import END, START, MessagesState, StateGraph
from workloads import Thread, graph, messages

__all__ = ["FOOTPRINTS", "Footprint"]


@dataclass(frozen=True)
class Footprint:
    """A row, or two. Limits are the largest accepted ratios to the baseline, if there are any.

    Attributes:
        name: What is done.
        fill: Does it with a saver.
        stored: The limit of the memory that it takes on the server.
        sent: The limit of the bytes that the server receives.
        zstd: The limit of the memory with the codec ``zstd``.
    """

    name: str
    fill: Callable[[Any], None]
    stored: float | None = None
    sent: float | None = None
    zstd: float | None = None


def invokes(saver: Any) -> None:
    app = graph(saver)
    for _ in range(50):
        app.invoke({"messages": [("user", "hello")]}, {"configurable": {"thread_id": "t"}})


def puts(saver: Any) -> None:
    """400 checkpoints, each with one message more."""
    thread = Thread(saver, 0, "t")
    for message in messages(400):
        thread.values = {**thread.values, "messages": [*thread.values["messages"], message]}
        thread.put(["messages", "step"])


def turns(saver: Any) -> None:
    """200 turns of a conversation, each with a tool call."""

    def model(state: MessagesState) -> dict[str, Any]:
        last = state["messages"][-1]
        number = len(state["messages"])
        if isinstance(last, ToolMessage):
            return {"messages": [AIMessage(f"The answer to question {number}.", id=f"a{number}")]}
        call = {"name": "search", "args": {"query": f"query {number}"}, "id": f"call{number}"}
        return {"messages": [AIMessage("", tool_calls=[call], id=f"c{number}")]}

    def tool(state: MessagesState) -> dict[str, Any]:
        number = len(state["messages"])
        call = state["messages"][-1].tool_calls[0]["id"]  # type: ignore[union-attr]
        found = f"result {number}: " + "some text that was found " * 8
        return {"messages": [ToolMessage(found, tool_call_id=call, id=f"t{number}")]}

    builder: StateGraph[Any] = StateGraph(MessagesState)
    builder.add_node("model", model)
    builder.add_node("tool", tool)
    builder.add_edge(START, "model")
    builder.add_conditional_edges(
        "model", lambda state: "tool" if state["messages"][-1].tool_calls else END, ["tool", END]
    )
    builder.add_edge("tool", "model")
    app = builder.compile(checkpointer=saver)
    for number in range(200):
        said = HumanMessage(f"Question {number} of this conversation?", id=f"h{number}")
        app.invoke({"messages": [said]}, {"configurable": {"thread_id": "t"}})


FOOTPRINTS = [
    Footprint("50 invokes of one thread", invokes, 0.25),
    Footprint("400 puts of one message each", puts, 0.06, 0.07, 0.03),
    Footprint("200 turns of add_messages", turns, 0.12),
]
