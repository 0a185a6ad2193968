"""A LangGraph agent whose threads are in a file: stop it at any moment, and start it again.

An order waits for a person's word, perhaps for days; meanwhile no process has to run::

    python examples/langgraph_in_a_file.py order-7 tea        # stops at the question
    python examples/langgraph_in_a_file.py order-7 --answer yes
    python examples/langgraph_in_a_file.py order-7            # what has become of it

Nothing here needs a server, a network or a key. The only line that says where the threads are is
the one that opens the saver: give it ``--store redis://localhost:6379/0``, and they are shared.
"""

from __future__ import annotations

import argparse
from typing import Any, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt

from swarmstate.integrations.langgraph import SwarmStateSaver


class Order(TypedDict, total=False):
    """What is known of an order."""

    goods: str
    answer: str
    status: str


def check(order: Order) -> Order:
    """Take the order in."""
    return {"status": f"{order['goods']} is in stock"}


def ask(order: Order) -> Order:
    """Wait for a person; the process may end here."""
    return {"answer": interrupt(f"{order['status']}. Ship it?")}


def ship(order: Order) -> Order:
    """Do what the person has said."""
    return {"status": "shipped" if order["answer"] == "yes" else "cancelled"}


def build() -> StateGraph[Any]:
    """Return the graph."""
    builder: StateGraph[Any] = StateGraph(Order)
    builder.add_node("check", check)
    builder.add_node("ask", ask)
    builder.add_node("ship", ship)
    builder.add_edge(START, "check")
    builder.add_edge("check", "ask")
    builder.add_edge("ask", "ship")
    builder.add_edge("ship", END)
    return builder


def main() -> None:
    """Begin an order, answer its question, or show it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("order", help="any name: one thread for each")
    parser.add_argument("goods", nargs="?")
    parser.add_argument("--answer")
    parser.add_argument("--store", default="sqlite:///orders.db", help="a URL of open_store")
    arguments = parser.parse_args()
    config: Any = {"configurable": {"thread_id": arguments.order}}
    with SwarmStateSaver.from_conn_string(arguments.store) as saver:
        graph = build().compile(checkpointer=saver)
        if arguments.goods:
            graph.invoke({"goods": arguments.goods}, config)
        elif arguments.answer:
            graph.invoke(Command(resume=arguments.answer), config)
        state = graph.get_state(config)
        for task in state.tasks:
            for question in task.interrupts:
                print(question.value)
        if not state.next:
            print(state.values.get("status", "there is no such order"))


if __name__ == "__main__":
    main()
