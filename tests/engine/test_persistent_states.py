"""`Snapshot.state`: persistent maps that share their structure."""

from __future__ import annotations

import random
from typing import Any

import pytest

from swarmstate import Store


def buckets_apart(one: Any, other: Any) -> int:
    """How many buckets of two maps are not the very same object."""
    assert len(one._buckets) == len(other._buckets)
    return sum(a is not b for a, b in zip(one._buckets, other._buckets, strict=True))


@pytest.mark.parametrize("newer_first", [False, True])
def test_two_states_one_set_apart_share_all_but_the_touched_buckets(newer_first: bool) -> None:
    store = Store()
    store.set_many((f"ns{n % 10}", f"key{n}", n) for n in range(10_000))
    first = store.snapshot()
    store.set("ns3", "key3", "changed")
    second = store.snapshot()
    if newer_first:
        _ = second.state
    before, after = first.state, second.state
    assert buckets_apart(before, after) == 1
    assert buckets_apart(before["ns3"], after["ns3"]) == 1
    assert all(before[f"ns{n}"] is after[f"ns{n}"] for n in range(10) if n != 3)
    assert first.state is before


def test_states_agree_with_the_snapshots_in_whatever_order_they_are_asked_for() -> None:
    rng = random.Random(4)
    store = Store()
    snapshots, contents = [], []
    for n in range(120):
        for _ in range(rng.randrange(40)):
            store.set(f"ns{rng.randrange(4)}", f"key{rng.randrange(300)}", n)
        if n % 10 == 3:
            store.delete_namespace(f"ns{rng.randrange(4)}")
        if n % 50 == 30:
            store.clear()
        snapshots.append(store.snapshot())
        contents.append(snapshots[-1].values())
    for index in rng.sample(range(120), 120):
        assert snapshots[index].state == contents[index]


def test_a_state_goes_on_as_any_persistent_map() -> None:
    store = Store()
    store.set_many(("ns", f"key{n}", n) for n in range(100))
    inner = store.snapshot().state["ns"]
    evolved = inner.update({f"new{n}": b"" for n in range(500)}).remove("key1")
    assert len(evolved) == 599
    assert evolved["new499"] == b""
    assert "key1" in inner
    assert inner.get("key2") == b"\x02"
