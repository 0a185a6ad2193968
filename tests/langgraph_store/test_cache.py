"""Cached results of nodes: found until they expire, by exactly their own names."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable, Iterator
from typing import Any, TypedDict

import pytest
from freezegun import freeze_time
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph import END, START, StateGraph
from langgraph.types import CachePolicy
from servers import running

from swarmstate import Store
from swarmstate.backends.redis import RedisStore
from swarmstate.errors import ArgumentTypeError, ArgumentValueError, StoreUnavailable
from swarmstate.integrations.langgraph import SwarmStateCache, SwarmStateSaver, SwarmStateStore
from swarmstate.protocols import StoreLike


class Awaited:
    """Calls the awaited methods of a cache, each on a loop of its own."""

    def __init__(self, cache: SwarmStateCache[Any]) -> None:
        self._cache = cache

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._cache, f"a{name}")
        return lambda *args: asyncio.run(method(*args))


@pytest.fixture(params=["blocking", "awaited"])
def cache(request: pytest.FixtureRequest, store: StoreLike) -> Any:
    made: SwarmStateCache[Any] = SwarmStateCache(store)
    return made if request.param == "blocking" else Awaited(made)


@pytest.fixture
def clock() -> Iterator[Any]:
    with freeze_time("2026-05-01 12:00", real_asyncio=True) as frozen:
        yield frozen.tick


def test_what_was_set_is_found_and_nothing_else(cache: Any) -> None:
    one, two = (("a", "b"), "1"), (("c",), "2")
    cache.set({one: ({"n": [1, b"\x00"]}, None), two: ("text", 60)})
    assert cache.get([two, (("a",), "1"), one, (("a", "b"), "2")]) == {
        one: {"n": [1, b"\x00"]},
        two: "text",
    }
    cache.set({one: (None, None)})
    assert cache.get([one]) == {one: None}
    assert cache.get([]) == {}
    cache.set({})


def test_an_entry_expires_when_its_own_time_is_over(cache: Any, clock: Any) -> None:
    one, two, three = ((("a",), key) for key in "123")
    cache.set({one: (1, 10), two: (2, 20), three: (3, None)})
    clock(10)
    assert cache.get([one, two, three]) == {two: 2, three: 3}
    clock(10)
    assert cache.get([one, two, three]) == {three: 3}
    cache.set({one: (4, 10)})
    assert cache.get([one]) == {one: 4}
    cache.set({one: (5, 0)})
    assert cache.get([one]) == {}


NAMES: list[tuple[str, ...]] = [
    ("a", "b"),
    ("a:b",),
    ("a",),
    ("a", "b", "c"),
    (),
    ("",),
    ("1:a",),
    ("a", "b}"),
    ("*",),
]


def test_no_two_names_collide_and_clear_removes_exactly_one(cache: Any) -> None:
    entries = {(name, key): (f"{name} {key}", None) for name in NAMES for key in ("k", "k:l", "")}
    cache.set(entries)
    kept = {full: value for full, (value, _) in entries.items()}
    assert cache.get(list(entries)) == kept
    for name in NAMES:
        cache.clear([name])
        kept = {full: value for full, value in kept.items() if full[0] != name}
        assert cache.get(list(entries)) == kept


def test_clear_without_names_removes_every_entry_and_nothing_else(cache: Any, store: Any) -> None:
    store.set("own", "key", 1)
    store.scratch().set("others", "key", 1)
    cache.set({(name, "k"): (1, 60) for name in NAMES})
    cache.clear()
    assert cache.get([(name, "k") for name in NAMES]) == {}
    assert store.scratch().namespaces() == ["others"]
    assert store.namespaces() == ["own"]


def test_what_is_cached_is_in_no_snapshot_and_survives_clear_and_restore(
    cache: Any, store: StoreLike
) -> None:
    full = (("a",), "k")
    cache.set({full: (1, None)})
    assert len(store) == 0
    snapshot = store.snapshot()
    assert snapshot.keys == []
    store.clear()
    store.restore(snapshot)
    assert cache.get([full]) == {full: 1}


def entries(store: Any) -> int:
    scratch = store.scratch()
    return sum(len(scratch.keys(name)) for name in scratch.namespaces("langgraph:cache:"))


def test_each_set_removes_a_bounded_number_of_expired_entries(
    cache: Any, store: StoreLike, clock: Any
) -> None:
    cache.set({(("a",), str(n)): (n, 10) for n in range(250)})
    cache.set({(("a",), "stays"): (1, None), (("a",), "again"): (1, 5)})
    cache.set({(("a",), "again"): (1, 100)})
    clock(10)
    assert entries(store) == 252
    cache.set({(("b",), "new"): (1, None)})
    assert 100 <= entries(store) < 253
    for _ in range(3):
        cache.set({(("b",), "new"): (1, None)})
    assert entries(store) == 3
    assert len(cache.get([(("a",), "stays"), (("a",), "again"), (("b",), "new")])) == 3


def test_a_later_process_removes_what_an_earlier_one_left(store: StoreLike, clock: Any) -> None:
    SwarmStateCache[Any](store).set({(("a",), str(n)): (n, 10) for n in range(5)})
    clock(10)
    SwarmStateCache[Any](store).set({(("a",), "new"): (1, 10)})
    assert entries(store) == 1


def test_what_cannot_be_read_is_a_miss(cache: Any, store: Any) -> None:
    one, two, good = ((("a",), key) for key in ("1", "2", "good"))
    cache.set({one: (1, None), two: (2, None), good: (3, None)})
    store.scratch().set("langgraph:cache:{c:1:a}", "1", "something else")
    store.scratch().set("langgraph:cache:{c:1:a}", "2", [None, "msgpack", b"\xc1"])
    assert cache.get([one, two, good]) == {good: 3}
    cache.set({one: (4, None)})
    assert cache.get([one]) == {one: 4}


def test_bytes_that_are_no_value_are_a_miss(server_url: str) -> None:
    import redis

    with RedisStore(server_url, prefix="broken-cache") as store:
        cache: SwarmStateCache[Any] = SwarmStateCache(store)
        cache.set({(("a",), "1"): (1, None), (("a",), "2"): (2, None)})
        with redis.Redis.from_url(server_url) as raw:
            (key,) = raw.keys("!broken-cache:*langgraph:cache:*")
            raw.hset(key, "1", b"\xc1")
        assert cache.get([(("a",), "1"), (("a",), "2")]) == {(("a",), "2"): 2}


def test_a_serializer_of_ones_own_is_used(store: StoreLike) -> None:
    class Shouting(JsonPlusSerializer):
        def dumps_typed(self, value: Any) -> tuple[str, bytes]:
            return super().dumps_typed(value.upper())

    cache: SwarmStateCache[str] = SwarmStateCache(store, serde=Shouting())
    cache.set({(("a",), "k"): ("text", None)})
    assert cache.get([(("a",), "k")]) == {(("a",), "k"): "TEXT"}


class State(TypedDict, total=False):
    n: int
    double: int


def counting(calls: list[int]) -> Any:
    def double(state: State) -> State:
        calls.append(state["n"])
        return {"double": 2 * state["n"]}

    graph: StateGraph[Any] = StateGraph(State)
    graph.add_node("double", double, cache_policy=CachePolicy(ttl=60))
    graph.add_edge(START, "double")
    graph.add_edge("double", END)
    return graph


def test_a_graph_calls_a_cached_node_once_for_each_input_until_it_expires(
    make_store: Callable[..., Any], clock: Any
) -> None:
    calls: list[int] = []
    store = make_store()
    cache: SwarmStateCache[Any] = SwarmStateCache(store)
    graph = counting(calls).compile(cache=cache)
    for number in (1, 2, 1, 2):
        assert graph.invoke({"n": number})["double"] == 2 * number
        assert asyncio.run(graph.ainvoke({"n": number}))["double"] == 2 * number
    assert calls == [1, 2]
    assert counting(calls).compile(cache=cache).invoke({"n": 1})["double"] == 2
    clock(61)
    graph.invoke({"n": 1})
    assert calls == [1, 2, 1]
    graph.clear_cache()
    graph.invoke({"n": 1})
    assert calls == [1, 2, 1, 1]


def test_checkpoints_memory_and_cache_share_one_store(make_store: Callable[..., Any]) -> None:
    calls: list[int] = []
    store = make_store()
    graph = counting(calls).compile(
        checkpointer=SwarmStateSaver(store),
        store=SwarmStateStore(store),
        cache=SwarmStateCache(store),
    )
    for thread in "12":
        config: Any = {"configurable": {"thread_id": thread}}
        assert graph.invoke({"n": 3}, config)["double"] == 6
        assert graph.get_state(config).values["double"] == 6
    assert calls == [3]


def test_a_server_that_is_down_is_a_miss_with_one_warning_each_time() -> None:
    full = (("a",), "k")
    with running() as server:
        url = server.url
        store = RedisStore(url, retries=0)
        cache: SwarmStateCache[Any] = SwarmStateCache(store)
        raising: SwarmStateCache[Any] = SwarmStateCache(store, on_unavailable="raise")
        cache.set({full: (1, None)})
        assert cache.get([full]) == {full: 1}

    def use() -> None:
        assert cache.get([full]) == {}
        cache.set({full: (2, None)})
        assert asyncio.run(cache.aget([full])) == {}

    with pytest.warns(RuntimeWarning, match="cannot be reached") as noted:
        use()
    assert len(noted) == 1
    with pytest.raises(StoreUnavailable):
        cache.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for call in (lambda: raising.get([full]), lambda: raising.set({full: (1, None)})):
            with pytest.raises(StoreUnavailable):
                call()
        with pytest.raises(StoreUnavailable):
            asyncio.run(raising.aget([full]))
    store.close()


def test_a_store_without_scratch_is_refused_by_naming_it() -> None:
    class Plain:
        def set_many(self, items: Any) -> None:
            raise NotImplementedError

    store: Any = Plain()
    with pytest.raises(ArgumentTypeError, match=r"scratch\(\).*Plain"):
        SwarmStateCache(store)


def test_arguments_that_mean_nothing_are_refused(cache: Any) -> None:
    with pytest.raises(ArgumentValueError, match="on_unavailable"):
        SwarmStateCache(Store(), on_unavailable="ignore")  # type: ignore[arg-type]
    for bad in [("a", "k"), (("a",), 1), "ak", ((1,), "k")]:
        with pytest.raises(ArgumentTypeError):
            cache.get([bad])
        with pytest.raises(ArgumentTypeError):
            cache.set({bad: (1, None)})
    with pytest.raises(ArgumentTypeError, match="ttl"):
        cache.set({(("a",), "k"): (1, "60")})
