"""A place for what need not last, and namespaces that expire."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from servers import wait_until

from swarmstate.errors import ArgumentTypeError, ArgumentValueError
from swarmstate.protocols import Expiring, Scratch


def test_every_store_of_ours_offers_both(store: Any) -> None:
    assert isinstance(store, Scratch)
    assert isinstance(store, Expiring)


def test_scratch_is_a_store_of_its_own(store: Any) -> None:
    scratch = store.scratch()
    store.set("ns", "key", "kept")
    scratch.set("ns", "key", "scratch")
    scratch.set_many([("ns", "2", [1]), ("a:b", "1", {"n": None})])
    assert store.get("ns", "key") == "kept"
    assert scratch.get("ns", "key") == "scratch"
    assert scratch.get_many([("a:b", "1"), ("ns", "2"), ("ns", "3")]) == [{"n": None}, [1], None]
    assert sorted(scratch.namespaces()) == ["a:b", "ns"]
    assert sorted(scratch.namespaces("n")) == ["ns"]
    assert dict(scratch.items("ns")) == {"key": "scratch", "2": [1]}
    assert scratch.max_key("ns") == "key"
    assert len(scratch) == 3
    assert "ns" in scratch
    assert scratch.update("ns", "2", lambda value: [*value, 2]) == [1, 2]
    assert not scratch.set_default("ns", "2", 0)
    assert scratch.delete("ns", "key")
    assert scratch.delete_many([("ns", "2"), ("ns", "3")]) == 1
    assert scratch.delete_namespace("a:b") == 1
    assert len(scratch) == 0
    assert store.items("ns") == [("key", "kept")]


def test_scratch_is_no_part_of_the_store(store: Any) -> None:
    scratch = store.scratch()
    scratch.set("ns", "key", 1)
    store.set("own", "key", 2)
    assert store.namespaces() == ["own"]
    assert len(store) == 1
    assert "ns" not in store
    snapshot = store.snapshot()
    assert snapshot.keys == [("own", "key")]
    store.clear()
    assert scratch.items("ns") == [("key", 1)]
    store.restore(snapshot)
    assert scratch.items("ns") == [("key", 1)]
    assert len(store) == 1


def test_clearing_and_restoring_scratch_leave_the_store_alone(store: Any) -> None:
    scratch = store.scratch()
    store.set("own", "key", 2)
    scratch.set_many([("a", "1", 1), ("b", "1", 1)])
    snapshot = scratch.snapshot()
    assert sorted(snapshot.keys) == [("a", "1"), ("b", "1")]
    scratch.set("c", "1", 1)
    scratch.restore(snapshot)
    assert sorted(scratch.namespaces()) == ["a", "b"]
    scratch.clear()
    assert scratch.namespaces() == []
    assert len(scratch) == 0
    assert store.items("own") == [("key", 2)]


def test_scratch_is_always_the_same_place(store: Any) -> None:
    store.scratch().set("ns", "key", 1)
    assert store.scratch().get("ns", "key") == 1
    assert store.scratch().scratch().get("ns", "key") == 1
    store.scratch().close()
    assert store.scratch().get("ns", "key") == 1


def test_scratch_of_a_closed_store_is_closed(make_store: Callable[..., Any]) -> None:
    store = make_store()
    scratch = store.scratch()
    store.close()
    with pytest.raises(ConnectionError):
        scratch.get("ns", "key")


def gone(store: Any, namespace: str) -> Callable[[], bool]:
    return lambda: namespace not in store


def test_a_namespace_is_gone_once_its_time_is_over(store: Any) -> None:
    store.set_many([("short", "1", 1), ("short", "2", 2), ("long", "1", 1), ("stays", "1", 1)])
    assert store.expire("long", 1000)
    assert store.expire("short", 0.001)
    wait_until(gone(store, "short"))
    assert sorted(store.namespaces()) == ["long", "stays"]
    assert store.items("short") == []
    assert store.get("short", "1") is None
    assert len(store) == 2
    assert sorted(store.snapshot().keys) == [("long", "1"), ("stays", "1")]
    store.set("short", "3", 3)
    assert store.items("short") == [("3", 3)]


def test_expiring_a_namespace_that_does_not_exist_says_so(store: Any) -> None:
    assert not store.expire("none", 10)
    store.set("none", "key", 1)
    assert store.get("none", "key") == 1


def test_a_longer_time_takes_the_place_of_a_shorter_one(store: Any) -> None:
    store.set_many([("renewed", "1", 1), ("other", "1", 1)])
    for seconds in (0.5, 1000, 0.4, 1000):
        assert store.expire("renewed", seconds)
    assert store.expire("other", 0.6)
    wait_until(gone(store, "other"))
    assert store.get("renewed", "1") == 1


def test_what_was_removed_and_came_back_stays(store: Any) -> None:
    store.set_many([(name, "1", 1) for name in ("emptied", "dropped", "restored", "other")])
    snapshot = store.snapshot()
    for name in ("emptied", "dropped", "restored"):
        assert store.expire(name, 0.3)
    store.delete("emptied", "1")
    store.delete_namespace("dropped")
    store.restore(snapshot)
    assert store.expire("other", 0.4)
    wait_until(gone(store, "other"))
    assert sorted(store.namespaces()) == ["dropped", "emptied", "restored"]


def test_writes_do_not_put_the_end_off(store: Any) -> None:
    store.set("ns", "1", 1)
    assert store.expire("ns", 0.2)
    store.set("ns", "2", 2)
    store.update("ns", "1", lambda value: value)
    wait_until(gone(store, "ns"))


def test_scratch_expires_too(store: Any) -> None:
    scratch = store.scratch()
    scratch.set("ns", "1", 1)
    store.set("ns", "1", 1)
    assert scratch.expire("ns", 0.001)
    wait_until(gone(scratch, "ns"))
    assert store.get("ns", "1") == 1


@pytest.mark.parametrize("seconds", [0, -1, 0.0001, 10**11, float("nan"), float("inf")], ids=repr)
def test_a_time_out_of_bounds_is_refused(store: Any, seconds: Any) -> None:
    store.set("ns", "1", 1)
    with pytest.raises(ArgumentValueError, match="seconds"):
        store.expire("ns", seconds)


@pytest.mark.parametrize("seconds", [None, "1", True], ids=repr)
def test_what_is_no_time_is_refused(store: Any, seconds: Any) -> None:
    with pytest.raises(ArgumentTypeError, match="seconds"):
        store.expire("ns", seconds)
    with pytest.raises(ArgumentValueError, match="reserved"):
        store.expire("\0ns", 1)
