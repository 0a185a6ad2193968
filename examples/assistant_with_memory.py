"""An assistant that knows its user in every thread and process, and looks nothing up twice.

Checkpoints, long-term memory and the cache of node results are in one store, a file by default::

    python examples/assistant_with_memory.py "I like figs"
    python examples/assistant_with_memory.py --thread monday "What do you know about me?"

The model is a few rules, so nothing here needs a network or a key; put a real chat model in the
place of ``look_up`` and ``answer`` and the rest stays as it is.
"""

from __future__ import annotations

import argparse
import re
from typing import Any

from langchain_core.messages import AIMessage, HumanMessage
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.runtime import Runtime
from langgraph.store.base import BaseStore
from langgraph.types import CachePolicy

from swarmstate import open_store
from swarmstate.integrations.langgraph import SwarmStateCache, SwarmStateSaver, SwarmStateStore

SEASONS = {"figs": "August", "dates": "October", "cherries": "June"}


class State(MessagesState, total=False):
    """The conversation, and what was found out for its last message."""

    user: str
    season: str | None


def last(state: State) -> str:
    """Return what the user has said last."""
    return str(state["messages"][-1].content)


def remember(state: State, *, store: BaseStore) -> dict[str, Any]:
    """Keep what the user says of themselves, for every later conversation."""
    for verb, what in re.findall(r"\bI (like|have|drink) ([\w ]+)", last(state)):
        store.put(("facts", state["user"]), f"{verb} {what}", {"verb": verb, "what": what})
    return {}


def look_up(state: State) -> dict[str, Any]:
    """Find out when a fruit is in season: slow and dear, if it were a model's call."""
    fruit = next((fruit for fruit in SEASONS if fruit in last(state)), None)
    if fruit is not None:
        print(f"(looking up {fruit})")
    return {"season": fruit and f"{fruit} are in season in {SEASONS[fruit]}."}


def answer(state: State, runtime: Runtime[Any]) -> dict[str, Any]:
    """Answer from what is known."""
    assert runtime.store is not None
    said = [state.get("season") or "Noted."]
    if "about me" in last(state):
        facts = runtime.store.search(("facts", state["user"]), limit=20)
        known = sorted(f"you {item.value['verb']} {item.value['what']}" for item in facts)
        said = [f"I know that {', '.join(known)}." if known else "I know nothing about you yet."]
    count = sum(isinstance(message, HumanMessage) for message in state["messages"])
    return {"messages": [AIMessage(f"{' '.join(said)} (message {count} of this thread)")]}


def build() -> StateGraph[Any]:
    """Return the graph."""
    builder: StateGraph[Any] = StateGraph(State)
    builder.add_node("remember", remember)
    # What was looked up for a message is good for every thread, for an hour.
    builder.add_node("look_up", look_up, cache_policy=CachePolicy(key_func=last, ttl=3600))
    builder.add_node("answer", answer)
    builder.add_edge(START, "remember")
    builder.add_edge("remember", "look_up")
    builder.add_edge("look_up", "answer")
    builder.add_edge("answer", END)
    return builder


def main() -> None:
    """Say one thing to the assistant."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("message")
    parser.add_argument("--store", default="sqlite:///assistant.db", help="a URL of open_store")
    parser.add_argument("--thread", default="first")
    parser.add_argument("--user", default="ana")
    arguments = parser.parse_args()
    with open_store(arguments.store) as store:
        graph = build().compile(
            checkpointer=SwarmStateSaver(store),
            store=SwarmStateStore(store),
            cache=SwarmStateCache(store),
        )
        said = {"messages": [HumanMessage(arguments.message)], "user": arguments.user}
        config: Any = {"configurable": {"thread_id": f"{arguments.user}/{arguments.thread}"}}
        print(graph.invoke(said, config)["messages"][-1].content)


if __name__ == "__main__":
    main()
