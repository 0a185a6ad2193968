"""Freezing and rolling back: snapshot, restore, diff, history, in one store and across stores."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Any

import pyrsistent
import pytest

from swarmstate import Snapshot, Store, codecs
from swarmstate.errors import ArgumentTypeError, DecodeError, StoreUnavailable, WireFormatError
from swarmstate.protocols import SnapshotLike, StoreLike


def content(store: StoreLike) -> dict[str, dict[str, Any]]:
    return {namespace: dict(store.items(namespace)) for namespace in store.namespaces()}


def plain(snapshot: SnapshotLike) -> dict[str, dict[str, bytes]]:
    return {namespace: dict(entries) for namespace, entries in snapshot.state.items()}


def test_a_snapshot_keeps_what_the_store_held(store: StoreLike) -> None:
    store.set_many([("a", "1", {"n": 1}), ("a", "2", None), ("b", "1", [3])])
    snapshot = store.snapshot()
    store.set("a", "1", "changed")
    store.delete("a", "2")
    store.set("c", "1", "added")
    store.delete_namespace("b")
    assert snapshot.get("a", "1") == {"n": 1}
    assert snapshot.get("a", "2", "absent") is None
    assert snapshot.get("b", "1") == [3]
    assert snapshot.get("c", "1") is None
    assert snapshot.get("c", "1", "absent") == "absent"
    assert sorted(snapshot.keys) == [("a", "1"), ("a", "2"), ("b", "1")]
    assert len(snapshot) == 3


def test_a_snapshot_tells_when_and_after_which_it_was_taken(store: StoreLike) -> None:
    before = time.time()
    first = store.snapshot()
    second = store.snapshot()
    third = store.snapshot()
    assert first.id < second.id < third.id
    assert (first.parent, second.parent, third.parent) == (None, first.id, second.id)
    assert before - 1 <= first.timestamp <= second.timestamp <= time.time() + 1


def test_size_bytes_is_that_of_all_encoded_values(store: StoreLike) -> None:
    assert store.snapshot().size_bytes == 0
    store.set("a", "1", "x" * 100)
    store.set("b", "1", [1, 2])
    first = store.snapshot()
    assert first.size_bytes == len(codecs.dumps("x" * 100)) + len(codecs.dumps([1, 2]))
    store.set("b", "1", None)
    store.delete("a", "1")
    assert store.snapshot().size_bytes == 1
    assert first.size_bytes == 105


def test_the_state_is_persistent_maps_of_standard_bytes(store: StoreLike) -> None:
    store.set_many([("a", "1", {"x": 1}), ("b", "é", [None])])
    state = store.snapshot().state
    assert isinstance(state, pyrsistent.PMap)
    assert isinstance(state["a"], pyrsistent.PMap)
    assert state == {"a": {"1": b"\x81\xa1x\x01"}, "b": {"é": b"\x91\xc0"}}
    assert state.set("a", pyrsistent.pmap()) != state


def test_a_snapshot_is_hashable_by_identity(store: StoreLike) -> None:
    first, second = store.snapshot(), store.snapshot()
    assert len({first, second, first}) == 2
    assert first != second


def test_restore_rolls_everything_back(store: StoreLike) -> None:
    store.set_many([("a", "1", 1), ("a", "2", 2), ("b", "1", 3)])
    snapshot = store.snapshot()
    before = content(store)
    store.set_many([("a", "1", "changed"), ("c", "1", "added")])
    store.delete("a", "2")
    store.delete_namespace("b")
    store.restore(snapshot)
    assert content(store) == before
    assert len(store) == 3
    assert snapshot.get("a", "1") == 1


def test_restore_leads_back_and_forth(store: StoreLike) -> None:
    states, snapshots = [], []
    for step in range(6):
        store.set("a", f"k{step % 3}", step)
        store.set("b", str(step), step)
        if step == 3:
            store.clear()
        snapshots.append(store.snapshot())
        states.append(content(store))
    for index in (0, 5, 3, 4, 4, 1, 2, 0):
        store.restore(snapshots[index])
        assert content(store) == states[index]
        assert len(store) == sum(map(len, states[index].values()))
    for snapshot, state in zip(snapshots, states, strict=True):
        assert {n: {k: snapshot.get(n, k) for k in v} for n, v in state.items()} == state


def test_restore_after_clear_brings_everything_back(store: StoreLike) -> None:
    store.set_many(("ns", str(n), n) for n in range(100))
    snapshot = store.snapshot()
    before = content(store)
    store.clear()
    empty = store.snapshot()
    store.restore(snapshot)
    assert content(store) == before
    assert len(empty) == 0
    assert empty.keys == []
    store.set("ns", "0", "changed")
    assert snapshot.get("ns", "0") == 0
    store.restore(empty)
    assert len(store) == 0


def test_an_empty_snapshot_restores_to_an_empty_store(store: StoreLike) -> None:
    snapshot = store.snapshot()
    store.set("a", "1", 1)
    store.restore(snapshot)
    assert len(store) == 0
    assert store.namespaces() == []


def test_diff_tells_what_was_added_removed_and_changed(store: StoreLike) -> None:
    store.set_many(
        [("a", "same", 1), ("a", "changed", 1), ("a", "removed", 1), ("b", "removed", 1)]
    )
    base = store.snapshot()
    store.set_many([("a", "changed", 2), ("c", "added", 1), ("a", "added", 1)])
    store.delete_many([("a", "removed"), ("b", "removed")])
    target = store.snapshot()
    assert target.diff(base) == {
        "added": [("a", "added"), ("c", "added")],
        "removed": [("a", "removed"), ("b", "removed")],
        "changed": [("a", "changed")],
    }
    assert base.diff(target) == {
        "added": [("a", "removed"), ("b", "removed")],
        "removed": [("a", "added"), ("c", "added")],
        "changed": [("a", "changed")],
    }
    nothing: dict[str, list[Any]] = {"added": [], "removed": [], "changed": []}
    assert base.diff(base) == nothing
    assert target.diff(store.snapshot()) == nothing


def test_what_was_written_but_is_equal_again_is_no_difference(store: StoreLike) -> None:
    store.set_many([("a", "1", 1), ("a", "2", 2)])
    base = store.snapshot()
    store.set("a", "1", "other")
    store.snapshot()
    store.set("a", "1", 1)
    store.delete("a", "2")
    store.set("a", "2", 2)
    store.set("a", "3", 3)
    store.delete("a", "3")
    assert store.snapshot().diff(base) == {"added": [], "removed": [], "changed": []}


def test_diff_sees_through_clear_and_restore(store: StoreLike) -> None:
    store.set_many([("a", "1", 1), ("a", "2", 2)])
    base = store.snapshot()
    store.clear()
    store.set("a", "2", "new")
    cleared = store.snapshot()
    assert cleared.diff(base) == {"added": [], "removed": [("a", "1")], "changed": [("a", "2")]}
    store.restore(base)
    assert store.snapshot().diff(base) == {"added": [], "removed": [], "changed": []}
    assert base.diff(cleared) == {"added": [("a", "1")], "removed": [], "changed": [("a", "2")]}


@pytest.mark.parametrize("order", ["oldest first", "newest first", "every other"])
def test_snapshots_are_independent_of_each_other(store: StoreLike, order: str) -> None:
    snapshots, states = [], []
    for step in range(20):
        store.set("a", str(step % 6), step)
        if step % 5 == 4:
            store.delete_namespace("a")
        snapshots.append(store.snapshot())
        states.append(content(store))
    indexes = {
        "oldest first": range(20),
        "newest first": range(19, -1, -1),
        "every other": (*range(0, 20, 2), *range(1, 20, 2)),
    }[order]
    held = dict(enumerate(snapshots))
    snapshots.clear()
    for dropped in indexes:
        del held[dropped]
        gc.collect(0)
        for index, snapshot in held.items():
            seen = {key: snapshot.get("a", key) for _, key in snapshot.keys}
            assert seen == states[index].get("a", {})


def test_no_history_is_kept_unless_asked_for(make_store: Any) -> None:
    store: StoreLike = make_store()
    store.snapshot()
    assert store.history() == []


def test_history_keeps_the_last_snapshots(make_store: Any) -> None:
    store: StoreLike = make_store(max_history=2)
    taken = [store.snapshot() for _ in range(4)]
    assert store.max_history == 2
    assert [kept.id for kept in store.history()] == [one.id for one in taken[-2:]]


def test_history_without_a_bound_keeps_all(make_store: Any) -> None:
    store: StoreLike = make_store(max_history=None)
    for step in range(10):
        store.set("a", "1", step)
        store.snapshot()
    assert store.max_history is None
    assert [kept.get("a", "1") for kept in store.history()] == list(range(10))


def test_the_list_of_the_history_is_a_copy(make_store: Any) -> None:
    store: StoreLike = make_store(max_history=5)
    store.snapshot()
    store.history().clear()
    assert len(store.history()) == 1


def test_clear_history_lets_go_of_it_and_clear_does_not(make_store: Any) -> None:
    store: StoreLike = make_store(max_history=5)
    store.set("a", "1", 1)
    store.snapshot()
    store.clear()
    assert [kept.get("a", "1") for kept in store.history()] == [1]
    store.clear_history()
    assert store.history() == []
    store.snapshot()
    assert len(store.history()) == 1


def test_a_kept_snapshot_can_be_restored(make_store: Any) -> None:
    store: StoreLike = make_store(max_history=3)
    for step in range(3):
        store.set("a", "1", step)
        store.snapshot()
    store.restore(store.history()[0])
    assert store.get("a", "1") == 0


@pytest.mark.parametrize(
    "thing", [None, 1, "snapshot", {}, object()], ids=lambda t: type(t).__name__
)
def test_restore_and_diff_refuse_what_is_not_a_snapshot(store: StoreLike, thing: Any) -> None:
    store.set("a", "1", 1)
    with pytest.raises(ArgumentTypeError, match="snapshot must be a snapshot"):
        store.restore(thing)
    with pytest.raises(ArgumentTypeError, match="base must be a snapshot"):
        store.snapshot().diff(thing)
    assert content(store) == {"a": {"1": 1}}


def test_a_snapshot_of_another_store_can_be_restored(
    store: StoreLike, make_store: Any, codec: str
) -> None:
    for other in (Store(codec="msgpack"), Store(codec="ormsgpack"), make_store(codec=codec)):
        other.set_many([("a", "1", {"x": [1.5]}), ("é", "", None)])
        snapshot = other.snapshot()
        store.set("gone", "1", 1)
        held = store.snapshot()
        store.restore(snapshot)
        assert content(store) == {"a": {"1": {"x": [1.5]}}, "é": {"": None}}
        assert plain(store.snapshot()) == plain(snapshot)
        assert store.snapshot().diff(snapshot) == {"added": [], "removed": [], "changed": []}
        assert held.get("gone", "1") == 1
        store.set("a", "1", "ours")
        assert snapshot.get("a", "1") == {"x": [1.5]}
        assert other.get("a", "1") == {"x": [1.5]}
        other.close()


def test_a_snapshot_can_be_restored_into_a_memory_store_and_back(store: StoreLike) -> None:
    store.set_many([("a", "1", {"x": [1.5]}), ("b", "1", b"bytes")])
    snapshot = store.snapshot()
    with Store() as local:
        local.restore(snapshot)
        assert content(local) == content(store)
        local.set("a", "2", "local")
        store.restore(local.snapshot())
    assert store.get("a", "2") == "local"
    assert store.snapshot().diff(snapshot)["added"] == [("a", "2")]


def test_a_snapshot_of_a_closed_store_can_be_restored(store: StoreLike) -> None:
    with Store() as other:
        other.set("a", "1", 1)
        snapshot = other.snapshot()
    store.restore(snapshot)
    assert store.get("a", "1") == 1


class ReversedCodec:
    """Its own wire format: nobody else reads it."""

    name = "reversed"
    wire = "reversed"

    def encode(self, value: object, *, default: Callable[[Any], Any] | None = None) -> bytes:
        return codecs.dumps(value, default=default)[::-1]

    def decode(self, data: bytes) -> Any:
        return codecs.loads(data[::-1])


def test_a_snapshot_of_another_wire_format_is_refused(store: StoreLike) -> None:
    codecs.register("reversed", ReversedCodec(), replace=True)
    with Store(codec="reversed") as other:
        other.set("a", "1", 1)
        snapshot = other.snapshot()
    store.set("b", "1", 2)
    with pytest.raises(WireFormatError, match=r"'reversed'.*'msgpack'"):
        store.restore(snapshot)
    with pytest.raises(WireFormatError):
        store.snapshot().diff(snapshot)
    assert content(store) == {"b": {"1": 2}}


class Foreign:
    """A snapshot of a store that is not ours, as the protocol asks for it."""

    id, timestamp, parent, wire, size_bytes = 1, 0.0, None, "msgpack", 1

    def __init__(self, values: dict[str, dict[str, bytes]]) -> None:
        self.state = pyrsistent.pmap({n: pyrsistent.pmap(v) for n, v in values.items()})
        self.keys = [(n, k) for n, entries in values.items() for k in entries]

    def get(self, namespace: str, key: str, default: Any = None) -> Any:
        return codecs.loads(self.state[namespace][key])

    def diff(self, base: SnapshotLike) -> Any:
        raise NotImplementedError

    def __len__(self) -> int:
        return len(self.keys)


def test_a_snapshot_of_a_foreign_class_can_be_restored_and_compared(store: StoreLike) -> None:
    store.set("a", "1", 1)
    foreign = Foreign({"a": {"1": b"\x01", "2": b"\x02"}, "empty": {}})
    assert store.snapshot().diff(foreign) == {"added": [], "removed": [("a", "2")], "changed": []}
    store.restore(foreign)
    assert content(store) == {"a": {"1": 1, "2": 2}}
    assert store.namespaces() == ["a"]


@pytest.mark.parametrize("data", [b"", b"\x01\x02", b"\x92\x01", b"\xa1\xff", b"\xc1"], ids=repr)
def test_foreign_bytes_are_checked_when_they_are_read(store: StoreLike, data: bytes) -> None:
    snapshot = Snapshot.from_values({"a": {"bad": data, "good": b"\x01"}}, codec=store.codec)
    with pytest.raises(DecodeError):
        snapshot.get("a", "bad")
    store.restore(snapshot)
    assert store.get("a", "good") == 1
    with pytest.raises(DecodeError):
        store.get("a", "bad")
    with pytest.raises(DecodeError):
        store.get_many([("a", "good"), ("a", "bad")])
    with pytest.raises(DecodeError):
        store.items("a")
    with pytest.raises(DecodeError):
        store.update("a", "bad", lambda old: old)
    with pytest.raises(DecodeError):
        store.snapshot().get("a", "bad")
    store.delete("a", "bad")
    assert store.items("a") == [("good", 1)]


def test_a_store_that_was_closed_while_encoding_writes_nothing(make_store: Any, codec: str) -> None:
    def close(value: object) -> object:
        store.close()
        return 1

    store: StoreLike = make_store(codec=codec, default=close)
    with pytest.raises(StoreUnavailable):
        store.set("a", "1", {1, 2})
