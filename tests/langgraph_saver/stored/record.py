"""Record what a released version stores of LangGraph threads, for later versions to be held to.

Run with that version's package first on the path::

    PYTHONPATH=released:tests/support python tests/langgraph_saver/stored/record.py released-name

Each file holds the store's content as the version wrote it, and what the version gave back.
"""

from __future__ import annotations

import base64
import gzip
import json
import operator
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langgraph.channels import DeltaChannel
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import Command, Send, interrupt
from servers import running

from swarmstate import Store
from swarmstate.backends.redis import RedisStore
from swarmstate.integrations.langgraph import SwarmStateSaver

PREFIX = "recorded"
ODD = "ü:{t:odd}"


def append(state: list[str] | None, writes: list[Any]) -> list[str]:
    result = list(state or [])
    for write in writes:
        result += write
    return result


class State(TypedDict, total=False):
    messages: Annotated[list[AnyMessage], add_messages]
    log: Annotated[list[str], operator.add]
    items: Annotated[list[str], DeltaChannel(append, list, snapshot_frequency=3)]
    number: int


def config(thread: Any, **more: Any) -> Any:
    return {"configurable": {"thread_id": thread, **more}}


def call_tool(state: State) -> dict[str, Any]:
    call = {"name": "search", "args": {"q": "ünï"}, "id": "call"}
    said = AIMessage("", tool_calls=[call], id=f"ai{len(state['messages'])}")
    # Long, so that the list is stored in segments from the second message on.
    found = ToolMessage("found " * 600, tool_call_id="call", id=f"tool{len(state['messages'])}")
    return {"messages": [said, found], "items": ["called"], "number": state["number"] + 1}


def fan(state: State) -> list[Send]:
    return [Send("work", {"number": number}) for number in range(3)]


def fail(state: State) -> dict[str, Any]:
    raise ValueError("as it should")


def graph(saver: Any, own: Any) -> Any:
    inner: StateGraph[Any] = StateGraph(State)
    inner.add_node("think", lambda state: {"log": ["thought"], "items": ["inside"]})
    inner.add_node("ask", lambda state: {"log": [interrupt("really?")]})
    inner.add_edge(START, "think")
    inner.add_edge("think", "ask")
    outer: StateGraph[Any] = StateGraph(State)
    outer.add_node("tool", call_tool)
    outer.add_node("work", lambda state: {"log": [f"w{state['number']}"], "items": ["w"]})
    outer.add_node("inner", inner.compile(checkpointer=own))
    outer.add_node("fail", fail)
    outer.add_edge(START, "tool")
    outer.add_conditional_edges("tool", fan, ["work"])
    outer.add_edge("work", "inner")
    outer.add_conditional_edges(
        "inner", lambda state: "fail" if state["number"] > 9 else END, ["fail", END]
    )
    return outer.compile(checkpointer=saver)


def fill(saver: SwarmStateSaver) -> None:
    """Leave behind everything that a thread can hold."""

    def hello(turn: int) -> dict[str, Any]:
        return {"messages": [HumanMessage("hi", id=f"h{turn}")], "items": ["in"], "number": turn}

    app = graph(saver, None)
    app.invoke(hello(0), config("chat"))
    app.invoke(Command(resume="yes"), config("chat"))
    middle = list(app.get_state_history(config("chat")))[2]
    fork = app.update_state(middle.config, {"log": ["forked"], "number": 7}, as_node="work")
    app.invoke(None, fork)  # waits for an answer
    permanent = graph(saver, True)
    permanent.invoke(hello(1), config(7))
    permanent.invoke(Command(resume="no"), config(7))
    failing = graph(saver, None)
    failing.invoke(hello(20), config(ODD))
    with suppress(ValueError):
        failing.invoke(Command(resume="yes"), config(ODD))
    # What no graph does, but a thread may hold: other versions, tags and places.
    values = {"none": None, "bytes": b"\x00\xff", "array": bytearray(b"x"), "": "", "a:b": 1}
    versions: dict[str, Any] = {
        "none": 1,
        "bytes": 2.5,
        "array": "x:1",
        "": 3,
        "a:b": -1,
        "gone": 1,
    }
    body: Any = {**empty_checkpoint(), "id": "0001"}
    body |= {"channel_values": values, "channel_versions": versions}
    first = saver.put(config("by hand", checkpoint_ns="a|b:1"), body, {"step": -1}, versions)
    saver.put_writes(first, [("a:b", 2), ("__error__", "no"), ("none", None)], "task:1", "~b")
    saver.put_writes(first, [("a:b", b"w")], "task:0", "~a")
    saver.put(first, {**body, "id": "0002"}, {"step": 0}, {})
    orphan = config("by hand", checkpoint_ns="", checkpoint_id="0009")
    saver.put_writes(orphan, [("early", 1), ("list", [[n, "ü" * n] for n in range(90)])], "task")


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def answers(saver: SwarmStateSaver) -> dict[str, str]:
    """Return what the saver says of each thread, as its serializer writes it."""
    found: dict[str, str] = {}
    for thread in saver.threads():
        listed = [[*one] for one in saver.list(config(thread))]
        deltas = [
            saver.get_delta_channel_history(config=one[0], channels=["items"]) for one in listed
        ]
        paths = [saver.task_paths(one[0]) for one in listed]
        _, data = JsonPlusSerializer().dumps_typed([listed, deltas, paths])
        found[thread] = text(data)
    return found


def namespaces(store: Any) -> dict[str, dict[str, str]]:
    state = store.snapshot().state
    return {
        name: {key: text(data) for key, data in sorted(held.items())}
        for name, held in sorted(state.items())
    }


def keys(client: Any) -> list[list[Any]]:
    """Return every key: its name, its type, and what it holds."""
    found: list[list[Any]] = []
    for key in sorted(client.keys("*")):
        kind = client.type(key).decode()
        held: Any
        if kind == "hash":
            held = [[text(k), text(v)] for k, v in sorted(client.hgetall(key).items())]
        elif kind == "zset":
            held = [[text(k), score] for k, score in client.zrange(key, 0, -1, withscores=True)]
        else:
            held = text(client.get(key))
        found.append([text(key), kind, held])
    return found


def write(name: str, codec: str, store: Any, client: Any = None) -> None:
    saver = SwarmStateSaver(store)
    fill(saver)
    content: dict[str, Any] = {
        "made with": {lib: version(lib) for lib in ("langgraph", "langgraph-checkpoint")},
        "codec": codec,
        "answers": answers(saver),
    }
    if client is None:
        content["namespaces"] = namespaces(store)
    else:
        content["prefix"] = PREFIX
        content["keys"] = keys(client)
    path = Path(__file__).with_name(f"{name}.json.gz")
    data = json.dumps(content, indent=0, ensure_ascii=False) + "\n"
    path.write_bytes(gzip.compress(data.encode(), mtime=0))
    print(path.name, path.stat().st_size)


def main(release: str) -> None:
    for codec in ("msgpack", "zstd"):
        write(f"{release}-memory-{codec}", codec, Store(codec=codec))
    made: dict[str, Callable[[str], str]] = {
        "redis": lambda url: url,
        "redis-without-scripts": lambda url: url.replace("//", "//plain:secret@"),
    }
    for kind, url_for in made.items():
        with running() as server, server.client() as client:
            client.execute_command(
                *("ACL", "SETUSER", "plain", "on", ">secret", "~*", "+@all", "-eval", "-evalsha")
            )
            codec = "zstd" if kind == "redis" else "msgpack"
            with RedisStore(url_for(server.url), prefix=PREFIX, codec=codec) as store:
                write(f"{release}-{kind}-{codec}", codec, store, client)


if __name__ == "__main__":
    main(sys.argv[1])
