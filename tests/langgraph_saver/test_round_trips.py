"""How often the saver goes to the server, counted on the wire."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from langchain_core.messages import HumanMessage
from proxies import Proxy
from servers import Server
from threads import config, grow, ready

from swarmstate.backends.redis import RedisStore
from swarmstate.backends.redis.transport.topology import slot_of
from swarmstate.integrations.langgraph import SwarmStateSaver

Trips = Callable[[Callable[[], Any]], int]


@pytest.fixture
def trips(proxy: Proxy) -> Trips:
    def count(call: Callable[[], Any]) -> int:
        call()  # Connects, loads the script, writes the marker.
        with proxy.counted() as commands:
            call()
        assert not {"SCAN", "KEYS", "MODULE", "FT.INFO"} & commands.keys()
        return proxy.trips

    return count


@pytest.fixture(scope="module")
def crowded(server: Server) -> Iterator[None]:
    """100,000 keys of somebody else's on the server."""
    with server.client() as client:
        for start in range(0, 100_000, 10_000):
            client.mset({f"foreign:{number}": 1 for number in range(start, start + 10_000)})
        yield
        client.flushall()


@pytest.fixture
def saver(proxy: Proxy, make_redis: Callable[..., RedisStore], crowded: None) -> SwarmStateSaver:
    """A saver whose thread has 1,000 checkpoints."""
    store = make_redis(proxy.url)
    made = SwarmStateSaver(store)
    grow(made, 1000, writes=1)
    return made


def test_every_call_is_as_cheap_on_a_crowded_server_and_in_a_long_thread(
    saver: SwarmStateSaver, trips: Trips
) -> None:
    last = grow(saver, 1)
    counts = {
        "put": trips(ready(saver, last)),
        "one write": trips(lambda: saver.put_writes(last, [("x", 1)], "t")),
        "ten writes": trips(lambda: saver.put_writes(last, [("x", 1)] * 10, "t")),
        "latest": trips(lambda: saver.get_tuple(config())),
        "by id": trips(lambda: saver.get_tuple(last)),
        "list 10": trips(lambda: list(saver.list(config(), limit=10))),
        "list 10 filtered": trips(lambda: list(saver.list(config(), filter={"step": 3}, limit=10))),
        "list by id": trips(lambda: list(saver.list(last))),
    }
    assert counts == {
        "put": 1,
        "one write": 1,
        "ten writes": 1,
        "latest": 1,
        "by id": 1,
        "list 10": 2,
        # The ids, the records of 11 pages of 100, and the one checkpoint that matches.
        "list 10 filtered": 1 + 11 + 1,
        "list by id": 2,
    }
    assert trips(lambda: saver.delete_thread("thread")) <= 3
    assert saver.get_tuple(config()) is None


def test_a_delta_history_of_a_thousand_ancestors_comes_in_pages(
    saver: SwarmStateSaver, trips: Trips
) -> None:
    history = saver.get_delta_channel_history(config=config(), channels=["x"])
    assert len(history["x"]["writes"]) == 999
    count = trips(lambda: saver.get_delta_channel_history(config=config(), channels=["x", "never"]))
    assert count <= 1 + 2 * 10


def test_a_history_that_ends_where_a_thread_was_pruned_is_not_looked_for_twice(
    proxy: Proxy, make_redis: Callable[..., RedisStore], trips: Trips
) -> None:
    saver = SwarmStateSaver(make_redis(proxy.url))
    grow(saver, 3, writes=1)
    saver.prune(["thread"])
    # The latest id, and its ancestors.
    assert trips(lambda: saver.get_delta_channel_history(config=config(), channels=["x"])) == 2


def test_without_scripts_reading_takes_at_most_three(
    server: Server, no_scripts_url: str, proxy: Proxy, trips: Trips, crowded: None
) -> None:
    url = no_scripts_url.replace(f":{server.port}", f":{proxy.port}")
    with RedisStore(url, prefix="plain") as store:
        saver = SwarmStateSaver(store)
        last = grow(saver, 20, writes=1)
        assert trips(ready(saver, last)) == 1
        assert trips(lambda: saver.put_writes(last, [("x", 1)] * 10, "t")) == 1
        assert trips(lambda: saver.get_tuple(config())) <= 3
        assert trips(lambda: saver.get_tuple(last)) <= 2
        assert trips(lambda: list(saver.list(config(), limit=10))) <= 3
        assert trips(lambda: saver.delete_thread("thread")) <= 3


def test_a_step_of_a_graph_makes_one_trip_per_call(
    proxy: Proxy, make_redis: Callable[..., RedisStore]
) -> None:
    from langgraph.graph import START, MessagesState, StateGraph

    builder: StateGraph[Any] = StateGraph(MessagesState)
    previous = START
    for name in "abcde":
        builder.add_node(name, lambda state, name=name: {"messages": [HumanMessage(name)]})
        builder.add_edge(previous, name)
        previous = name
    saver = SwarmStateSaver(make_redis(proxy.url))
    app = builder.compile(checkpointer=saver)
    app.invoke({"messages": []}, config("warm"))
    with proxy.counted():
        app.invoke({"messages": []}, config("counted"), durability="sync")
    # 7 checkpoints, the writes of the input and of 5 tasks, and one look for a thread to resume.
    assert proxy.trips <= 14


def test_one_thread_is_one_slot_and_ends_without_a_trace(
    make_redis: Callable[..., RedisStore], raw: redis.Redis, prefix: str
) -> None:
    saver = SwarmStateSaver(make_redis())
    for thread in ("thread", "}", "", "{}", "ü", "a{b}c"):
        grow(saver, 3, thread=thread, writes=2)
        keys = [k for k in raw.keys(f"*{prefix}:*") if not k.endswith(b"\0store")]
        assert keys
        assert all(b"{t:" + thread.encode() + b"}" in key for key in keys)
        assert len({slot_of(key) for key in keys}) == 1
        saver.delete_thread(thread)
        assert [k for k in raw.keys(f"*{prefix}:*") if not k.endswith(b"\0store")] == []
