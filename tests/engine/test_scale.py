"""Costs that must not grow, counted rather than timed, and chains of very many snapshots."""

from __future__ import annotations

import gc
import random
import sys
import tracemalloc

import pytest

from swarmstate import Snapshot, Store
from swarmstate._core import work_done

NOTHING: dict[str, list[tuple[str, str]]] = {"added": [], "removed": [], "changed": []}


def comparisons_per_insert(keys: int) -> float:
    """Key comparisons of an insert and a max_key() after it, in a namespace of so many keys."""
    store = Store()
    store.set_many(("ns", f"{n:08}", n) for n in range(keys))
    assert store.max_key("ns") == f"{keys - 1:08}"
    before = work_done()["keys_compared"]
    for n in range(keys, keys + 100):
        store.set("ns", f"{n:08}", n)
        assert store.max_key("ns") == f"{n:08}"
    return (work_done()["keys_compared"] - before) / 100


def test_max_key_after_each_insert_costs_the_same_at_ten_and_at_ten_thousand_keys() -> None:
    assert comparisons_per_insert(10_000) == comparisons_per_insert(10) <= 2


@pytest.mark.parametrize("order", ["random", "descending"])
def test_max_key_stays_logarithmic_in_any_order_and_with_deletions(order: str) -> None:
    rng = random.Random(5)
    names = [f"{n:06}" for n in range(10_000)]
    rng.shuffle(names)
    if order == "descending":
        names.sort(reverse=True)
    store = Store()
    store.set("ns", "", 0)
    store.max_key("ns")
    before = work_done()["keys_compared"]
    model = {""}
    for name in names:
        store.set("ns", name, 0)
        model.add(name)
        greatest = store.max_key("ns")
        if rng.random() < 0.3 and greatest is not None:
            assert greatest == max(model)
            model.remove(greatest)
            store.delete("ns", greatest)
    assert (work_done()["keys_compared"] - before) / len(names) < 40


def test_the_index_of_a_queue_forgets_what_went_through_it() -> None:
    store = Store()
    store.set("queue", f"{0:09}", 0)
    assert store.max_key("queue") == f"{0:09}"
    tracemalloc.start()
    try:
        for n in range(20_000):
            store.set("queue", f"{n + 1:09}", 0)
            store.delete("queue", f"{n:09}")
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 100_000
    assert store.max_key("queue") == f"{20_000:09}"


def test_the_oldest_of_very_many_held_snapshots_is_walked_to_only_once() -> None:
    store = Store(max_history=None)
    store.set_many(("ns", str(n), -1) for n in range(20_000))
    for n in range(20_000):
        store.snapshot()
        store.set("ns", str(n), n)
    held = store.history()

    def walked(index: int) -> int:
        before = work_done()["versions_walked"]
        assert held[index].get("ns", "19999") == -1
        assert held[index].get("ns", "absent") is None
        return work_done()["versions_walked"] - before

    assert walked(0) > 20_000
    assert walked(0) < 500
    assert max(walked(index) for index in random.Random(1).sample(range(20_000), 200)) < 1000
    assert held[0].state["ns"]["0"] == b"\xff"
    before = work_done()["versions_walked"]
    assert held[0].state["ns"]["19999"] == b"\xff"
    assert work_done()["versions_walked"] == before


def test_a_shortcut_is_made_where_one_from_a_dropped_snapshot_ended() -> None:
    store = Store()
    store.set("n", "untouched", 0)
    held = []
    for n in range(300):
        held.append(store.snapshot())
        store.set("n", "k", n)

    def walked(snapshot: Snapshot) -> int:
        before = work_done()["versions_walked"]
        assert snapshot.get("n", "untouched") == 0
        return work_done()["versions_walked"] - before

    assert walked(held[1]) > 250
    held.pop(1)
    walked(held[0])
    assert walked(held[0]) < 100


def test_two_hundred_thousand_snapshots_are_held_read_compared_and_dropped() -> None:
    store = Store(codec="ormsgpack")
    store.set("ns", "key", 0)
    gc.collect()
    before = sys.getallocatedblocks()
    for direction in (1, -1):
        held = []
        for n in range(200_000):
            store.set("ns", f"key{n % 1000}", n)
            held.append(store.snapshot())
        for n in [*range(100), *range(100_000, 100_100), *range(199_900, 200_000)]:
            assert held[n].get("ns", f"key{n % 1000}") == n
        assert held[-1].diff(held[-2])["changed"] == [("ns", "key999")]
        assert len(held[-1].diff(held[100_000])["changed"]) == 1000
        assert held[0].diff(held[-1])["changed"] == [("ns", "key0")]
        assert held[7].diff(held[7]) == NOTHING
        if direction == 1:
            held.reverse()
        while len(held) > 100_000:
            held.pop()
        assert len(held[-1]) <= 1001
        held.clear()
    store.clear()
    store.set("ns", "key", 0)
    del held
    gc.collect()
    assert sys.getallocatedblocks() - before < 500


def test_a_long_history_drops_its_oldest() -> None:
    store = Store(max_history=100)
    for n in range(100_000):
        store.set("ns", "key", n)
        store.snapshot()
    assert [kept.get("ns", "key") for kept in store.history()] == list(range(99_900, 100_000))
