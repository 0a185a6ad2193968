"""The end of a store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from swarmstate.errors import StoreUnavailable
from swarmstate.protocols import StoreLike

CALLS: dict[str, Callable[[Any], Any]] = {
    "set": lambda store: store.set("ns", "key", 1),
    "get": lambda store: store.get("ns", "key"),
    "set_many": lambda store: store.set_many([("ns", "key", 1)]),
    "set_many of nothing": lambda store: store.set_many([]),
    "get_many": lambda store: store.get_many([("ns", "key")]),
    "get_many of nothing": lambda store: store.get_many([]),
    "set_default": lambda store: store.set_default("ns", "key", 1),
    "contains": lambda store: store.contains("ns", "key"),
    "delete": lambda store: store.delete("ns", "key"),
    "delete_many": lambda store: store.delete_many([("ns", "key")]),
    "delete_many of nothing": lambda store: store.delete_many([]),
    "delete_namespace": lambda store: store.delete_namespace("ns"),
    "update": lambda store: store.update("ns", "key", lambda old: 1),
    "commit": lambda store: store.commit([("ns", "key", 1)], expect={("ns", "key"): 1}),
    "commit of nothing": lambda store: store.commit(),
    "append": lambda store: store.append("ns", [1]),
    "append of nothing": lambda store: store.append("ns", []),
    "tail": lambda store: store.tail("ns", 1),
    "pop": lambda store: store.pop("ns"),
    "keys": lambda store: store.keys("ns"),
    "namespaces": lambda store: store.namespaces(),
    "items": lambda store: store.items("ns"),
    "max_key": lambda store: store.max_key("ns"),
    "clear": lambda store: store.clear(),
    "snapshot": lambda store: store.snapshot(),
    "history": lambda store: store.history(),
    "clear_history": lambda store: store.clear_history(),
    "len": len,
    "in": lambda store: "ns" in store,
    "with": lambda store: store.__enter__(),
}


@pytest.fixture
def codec() -> str:
    """One is enough here: nothing is encoded any more."""
    return "msgpack"


@pytest.mark.parametrize("call", CALLS)
def test_a_closed_store_refuses_every_call(store: StoreLike, call: str) -> None:
    store.set("ns", "key", 1)
    store.close()
    with pytest.raises(StoreUnavailable, match="the store is closed"):
        CALLS[call](store)


def test_a_closed_store_refuses_to_restore(store: StoreLike) -> None:
    snapshot = store.snapshot()
    store.close()
    with pytest.raises(StoreUnavailable, match="the store is closed"):
        store.restore(snapshot)


def test_closing_again_does_nothing(store: StoreLike) -> None:
    store.close()
    store.close()


def test_a_closed_store_still_tells_how_it_was_made(make_store: Any) -> None:
    store: StoreLike = make_store(codec="ormsgpack", max_history=2)
    store.close()
    assert store.codec == "ormsgpack"
    assert store.max_history == 2


def test_with_closes_the_store(store: StoreLike) -> None:
    with store as entered:
        assert entered is store
        store.set("ns", "key", 1)
    with pytest.raises(StoreUnavailable):
        store.get("ns", "key")


def test_with_closes_the_store_when_the_block_fails(store: StoreLike) -> None:
    with pytest.raises(ZeroDivisionError), store:
        _ = 1 / 0
    with pytest.raises(StoreUnavailable):
        len(store)


def test_snapshots_outlive_their_store(store: StoreLike) -> None:
    store.set("ns", "key", [1])
    first = store.snapshot()
    store.set("ns", "key", [2])
    second = store.snapshot()
    store.close()
    assert first.get("ns", "key") == [1]
    assert second.get("ns", "key") == [2]
    assert second.diff(first)["changed"] == [("ns", "key")]
    assert second.state["ns"]["key"] == b"\x91\x02"
