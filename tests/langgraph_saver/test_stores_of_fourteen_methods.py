"""Stores written to the StoreLike of the Rust package that is also called swarmstate."""

from __future__ import annotations

from typing import Any, TypedDict

import pytest
from langgraph.graph import StateGraph

from swarmstate import Store
from swarmstate.errors import ArgumentTypeError
from swarmstate.integrations.langgraph import SwarmStateSaver

METHODS = (
    *("set", "get", "set_many", "get_many", "contains", "delete", "keys", "max_key"),
    *("namespaces", "clear", "snapshot", "restore"),
)


class Base:
    def __init__(self) -> None:
        self._kept = Store()

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, namespace: str) -> bool:
        return namespace in self._kept


def store_of(*methods: str) -> Any:
    def method(name: str) -> Any:
        return lambda self, *args, **options: getattr(self._kept, name)(*args, **options)

    return type("Theirs", (Base,), {name: method(name) for name in methods})()


class State(TypedDict):
    n: int


def graph(saver: SwarmStateSaver) -> Any:
    builder = StateGraph(State)
    builder.add_node("more", lambda state: {"n": state["n"] + 1})
    builder.set_entry_point("more")
    return builder.compile(checkpointer=saver)


@pytest.mark.parametrize("lacking", ["", "max_key"])
def test_a_store_of_fourteen_methods_keeps_threads(lacking: str) -> None:
    store = store_of(*(name for name in METHODS if name != lacking))
    saver = SwarmStateSaver(store)
    config: Any = {"configurable": {"thread_id": "t"}}
    assert graph(saver).invoke({"n": 1}, config) == {"n": 2}
    assert graph(saver).invoke({"n": 5}, config) == {"n": 6}
    assert [found.config for found in SwarmStateSaver(store).list(config)] == [
        found.config for found in SwarmStateSaver(store._kept).list(config)
    ]
    write = {**config["configurable"], "checkpoint_ns": "", "checkpoint_id": "1"}
    for value in ("first", "second"):
        saver.put_writes({"configurable": write}, [("c", value), ("__error__", value)], "task")
    saver.delete_thread("t")
    assert list(saver.list(None)) == []
    assert len(store) == 0


def test_savers_over_one_such_store_keep_a_limit_together() -> None:
    store = store_of(*METHODS)
    one, other = (SwarmStateSaver(store, max_checkpoints_per_thread=3) for _ in range(2))
    config: Any = {"configurable": {"thread_id": "t"}}
    for number in range(4):
        graph((one, other)[number % 2]).invoke({"n": number}, config)
        assert len(list(one.list(config))) == 3
    assert one.get_tuple(config) == other.get_tuple(config)


def test_what_cannot_be_added_is_named() -> None:
    with pytest.raises(ArgumentTypeError, match="Theirs has no get_many, keys"):
        SwarmStateSaver(store_of(*(name for name in METHODS if name not in ("get_many", "keys"))))
    with pytest.raises(ArgumentTypeError, match="Theirs has no set_many"):
        SwarmStateSaver(store_of("set", "get", "contains"))


def test_programs_that_ask_for_what_is_always_done_run() -> None:
    for asked in (True, False):
        saver = SwarmStateSaver(incremental=asked)
        assert graph(saver).invoke({"n": 1}, {"configurable": {"thread_id": "t"}}) == {"n": 2}
