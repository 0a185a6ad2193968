"""What a long conversation costs: 200 turns, and the bytes that each turn adds to the store.

A LangGraph program with a scripted model and a tool, so nothing here needs a network or a key. It
keeps its state with ``SwarmStateSaver`` in memory, looks after each turn how much the store holds,
and beside that adds up what the same checkpoints and writes would take if every one of them held
the whole list of messages, as it does in other checkpointers.

Run it with ``python examples/long_conversation.py``; a number makes it so many turns.
"""

from __future__ import annotations

import argparse
from typing import Any

from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph import END, START, MessagesState, StateGraph

from swarmstate import Store
from swarmstate.integrations.langgraph import SwarmStateSaver

WIDTH = 60
ROWS = 10


def model(state: MessagesState) -> dict[str, Any]:
    """Ask the tool once, then answer."""
    said = state["messages"]
    if isinstance(said[-1], ToolMessage):
        return {"messages": [AIMessage(f"It is in paragraph {len(said)} of the manual.")]}
    call = {"name": "search", "args": {"query": said[-1].content}, "id": f"call-{len(said)}"}
    return {"messages": [AIMessage("", tool_calls=[call])]}


def search(state: MessagesState) -> dict[str, Any]:
    """Find a paragraph."""
    asked: Any = state["messages"][-1]
    found = f"Paragraph {len(state['messages'])}. " + "Turn the valve, then press the button. " * 6
    return {"messages": [ToolMessage(found, tool_call_id=asked.tool_calls[0]["id"])]}


def conversation(saver: SwarmStateSaver) -> Any:
    """Return the graph."""
    builder: StateGraph[Any] = StateGraph(MessagesState)
    builder.add_node("model", model)
    builder.add_node("search", search)
    builder.add_edge(START, "model")
    builder.add_conditional_edges(
        "model",
        lambda state: END if isinstance(state["messages"][-2], ToolMessage) else "search",
        ["search", END],
    )
    builder.add_edge("search", "model")
    return builder.compile(checkpointer=saver)


class Whole(JsonPlusSerializer):
    """The same bytes; but only those of the serializer itself are divided, so here none are."""


def measured(turns: int, *, whole: bool) -> list[int]:
    """Return how many bytes the store holds after each turn."""
    store = Store()
    graph = conversation(SwarmStateSaver(store, serde=Whole() if whole else None))
    sizes = []
    for turn in range(turns):
        question = HumanMessage(f"Question {turn}: how do I start the pump?")
        graph.invoke({"messages": [question]}, {"configurable": {"thread_id": "pump"}})
        sizes.append(store.snapshot().size_bytes)
    return sizes


def plot(ours: list[int], whole: list[int]) -> str:
    """Return both sizes by turn, the turns from left to right."""
    columns = [index * (len(ours) - 1) // (WIDTH - 1) for index in range(WIDTH)]
    top = whole[-1]
    lines = []
    for row in range(ROWS, 0, -1):
        least = top * (row - 0.5) / ROWS
        marks = (
            "#" if row == 1 or ours[at] >= least else "." if whole[at] >= least else " "
            for at in columns
        )
        lines.append(f"{top * row / ROWS / 1e6:7.1f} MB |{''.join(marks).rstrip()}")
    lines.append(" " * 11 + "+" + "-" * WIDTH)
    lines.append(" " * 11 + f"turn 1{f'turn {len(ours)}':>{WIDTH - 5}}")
    return "\n".join(lines)


def main() -> None:
    """Measure and plot."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("turns", nargs="?", type=int, default=200, help="how many turns")
    turns = max(parser.parse_args().turns, 2)
    ours, whole = measured(turns, whole=False), measured(turns, whole=True)
    print(f"Bytes stored after each of {turns} turns, four messages a turn:\n")
    print(plot(ours, whole))
    print(f"\n. each checkpoint with its whole list: {whole[-1] / 1e6:.1f} MB")
    print(f"# what swarmstate stores:              {ours[-1] / 1e6:.1f} MB")
    print(f"\nThe last turn added {(whole[-1] - whole[-2]) / 1e3:.0f} kB and", end=" ")
    print(f"{(ours[-1] - ours[-2]) / 1e3:.0f} kB.")


if __name__ == "__main__":
    main()
