"""One line takes the place of another saver: opened by a URL, entered, set up, copied, printed."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any, TypedDict

import pytest
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.graph import END, START, StateGraph
from langgraph.types import CachePolicy

import swarmstate
from swarmstate import Store
from swarmstate.errors import ArgumentTypeError, ArgumentValueError, StoreUnavailable
from swarmstate.integrations.langgraph import SwarmStateCache, SwarmStateSaver, SwarmStateStore
from swarmstate.protocols import StoreLike

opening = pytest.mark.skipif(
    not hasattr(swarmstate, "open_store"), reason="stores cannot be opened by a URL yet"
)
PARTS: list[Any] = [SwarmStateSaver, SwarmStateStore, SwarmStateCache]


class State(TypedDict, total=False):
    n: int


def config(thread: str = "thread") -> Any:
    return {"configurable": {"thread_id": thread, "checkpoint_ns": ""}}


def put(saver: SwarmStateSaver, thread: str = "thread") -> None:
    saver.put(config(thread), {**empty_checkpoint(), "id": "1"}, {"source": "input"}, {})


def graph(**parts: Any) -> Any:
    built: StateGraph[Any] = StateGraph(State)
    built.add_node("add", lambda state: {"n": state["n"] + 1}, cache_policy=CachePolicy(ttl=60))
    built.add_edge(START, "add")
    built.add_edge("add", END)
    return built.compile(**parts)


@pytest.mark.parametrize("part", PARTS)
def test_what_was_given_a_store_leaves_it_open(part: Any) -> None:
    store = Store()
    with part(store) as entered:
        assert entered.setup() is None
    store.set("ns", "key", 1)


@pytest.mark.parametrize("part", PARTS)
async def test_what_was_given_a_store_leaves_it_open_when_awaited(part: Any) -> None:
    store = Store()
    async with part(store) as entered:
        assert await entered.asetup() is None
    store.set("ns", "key", 1)


@opening
@pytest.mark.parametrize("part", PARTS)
def test_what_opened_its_store_closes_it(part: Any) -> None:
    with part.from_conn_string("memory://") as entered:
        store = entered.store
        store.set("ns", "key", 1)
    with pytest.raises(StoreUnavailable):
        store.get("ns", "key")


@opening
@pytest.mark.parametrize("part", PARTS)
async def test_what_opened_its_store_closes_it_when_awaited(part: Any) -> None:
    async with part.from_conn_string("memory://") as entered:
        store = entered.store
        store.set("ns", "key", 1)
    with pytest.raises(StoreUnavailable):
        store.get("ns", "key")


@opening
def test_options_go_where_they_belong(server_url: str) -> None:
    saver = SwarmStateSaver.from_conn_string(
        server_url, prefix="swapped", ttl=1000, max_checkpoints_per_thread=1
    )
    store: Any = saver.store
    assert store.prefix == "swapped"
    assert store.steps.ttl_ms is None
    with saver:
        put(saver)
        assert saver.get(config()) is not None
        saver.delete_thread("thread")
    with pytest.raises(TypeError, match="wrong"):
        SwarmStateSaver.from_conn_string(server_url, wrong=1)
    with pytest.raises(ArgumentValueError):
        SwarmStateSaver.from_conn_string(server_url, max_checkpoints_per_thread=0)
    memory = SwarmStateStore.from_conn_string(server_url, prefix="swapped", ttl={"default_ttl": 1})
    assert memory.ttl_config == {"default_ttl": 1}
    memory.__exit__(None, None, None)


def test_a_deep_copy_over_memory_holds_the_same_and_goes_its_own_way() -> None:
    saver = SwarmStateSaver()
    put(saver)
    copied = copy.deepcopy(saver)
    assert copied.get(config()) == saver.get(config())
    put(copied, "other")
    assert saver.get(config("other")) is None
    assert copied.get(config("other")) is not None


def test_a_copy_of_a_graph_has_one_copy_of_the_store_for_all_of_its_parts() -> None:
    store = Store()
    made = graph(
        checkpointer=SwarmStateSaver(store),
        store=SwarmStateStore(store),
        cache=SwarmStateCache(store),
    )
    made.store.put(("a",), "k", {"n": 1})
    made.invoke({"n": 1}, config())
    copied = copy.deepcopy(made)
    assert copied.checkpointer.store is copied.store.store is copied.cache.store
    assert copied.get_state(config()).values == {"n": 2}
    assert copied.store.get(("a",), "k").value == {"n": 1}
    # LangGraph cannot run a copy of a compiled graph, but one that is compiled with its parts.
    graph(checkpointer=copied.checkpointer, cache=copied.cache).invoke({"n": 5}, config("other"))
    copied.store.put(("a",), "k", {"n": 2})
    assert made.get_state(config("other")).values == {}
    assert made.store.get(("a",), "k").value == {"n": 1}


def test_copies_use_the_same_store_but_for_deep_ones_over_memory(
    make_store: Callable[..., StoreLike],
) -> None:
    store = make_store()
    saver = SwarmStateSaver(store)
    put(saver)
    assert copy.copy(saver).get(config()) is not None
    deep = copy.deepcopy(saver)
    assert deep.get(config()) is not None
    put(copy.copy(saver), "shallow")
    assert saver.get(config("shallow")) is not None
    put(deep, "deep")
    assert (saver.get(config("deep")) is None) == isinstance(store, Store)


def test_a_deep_copy_of_an_indexed_memory_is_searched_as_its_own() -> None:
    def embed(texts: Any) -> Any:
        return [[float(len(text)), 1.0] for text in texts]

    memory = SwarmStateStore(index={"dims": 2, "embed": embed, "fields": ["t"]})
    memory.put(("a",), "1", {"t": "one"})
    copied = copy.deepcopy(memory)
    copied.put(("a",), "2", {"t": "three"})
    assert [item.key for item in copied.search(("a",), query="three")] == ["2", "1"]
    assert [item.key for item in memory.search(("a",), query="three")] == ["1"]


@pytest.mark.parametrize("part", PARTS)
def test_pickling_is_refused_with_the_way_out(part: Any) -> None:
    with pytest.raises(ArgumentTypeError, match=rf"{part.__name__}.*from_conn_string"):
        pickle.dumps(part(Store()))


@pytest.mark.parametrize("part", PARTS)
def test_each_part_says_what_it_is_and_over_what(part: Any) -> None:
    assert repr(part(Store())).startswith(f"<{part.__name__} over <swarmstate.Store")
