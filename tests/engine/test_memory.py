"""Nothing leaks: references, blocks, resident memory."""

from __future__ import annotations

import contextlib
import gc
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from swarmstate import Snapshot, Store
from swarmstate.errors import SwarmStateError

VALUE = {"n": [1, 2.5, "text", None], "m": {"k": b"bytes"}}

CALLS: dict[str, Callable[[Store, Any], Any]] = {
    "set": lambda store, base: store.set("ns", "key", VALUE),
    "get": lambda store, base: store.get("ns", "key"),
    "get absent": lambda store, base: store.get("ns", "absent"),
    "set_many": lambda store, base: store.set_many([("ns", "key", VALUE), ("o", "é", VALUE)]),
    "get_many": lambda store, base: store.get_many([("ns", "key"), ("ns", "absent")]),
    "set_default": lambda store, base: store.set_default("ns", "key", VALUE),
    "contains": lambda store, base: store.contains("ns", "key"),
    "delete": lambda store, base: store.delete("ns", "key"),
    "delete_many": lambda store, base: store.delete_many([("ns", "key"), ("ns", "absent")]),
    "delete_namespace": lambda store, base: store.delete_namespace("ns"),
    "update": lambda store, base: store.update("ns", "key", lambda old: VALUE),
    "keys": lambda store, base: store.keys("ns", "k"),
    "namespaces": lambda store, base: store.namespaces("n"),
    "items": lambda store, base: store.items("ns"),
    "max_key": lambda store, base: store.max_key("ns"),
    "clear": lambda store, base: store.clear(),
    "snapshot": lambda store, base: store.snapshot(),
    "restore": lambda store, base: store.restore(base),
    "restore another's": lambda store, base: store.restore(
        Snapshot.from_values({"ns": {"key": b"\x01"}})
    ),
    "history": lambda store, base: (store.snapshot(), store.history()),
    "clear_history": lambda store, base: store.clear_history(),
    "len": lambda store, base: len(store),
    "in": lambda store, base: "ns" in store,
    "repr": lambda store, base: (repr(store), repr(base)),
    "snapshot.get": lambda store, base: base.get("ns", "key"),
    "snapshot.keys": lambda store, base: base.keys,
    "snapshot.values": lambda store, base: base.values(),
    "snapshot.state": lambda store, base: store.snapshot().state,
    "snapshot.diff": lambda store, base: store.snapshot().diff(base),
    "snapshot.properties": lambda store, base: (base.id, base.parent, base.timestamp, base.wire),
    "a store": lambda store, base: Store(default=lambda value: store).close(),
    "a store that refers to itself": lambda store, base: cycle(),
    "a bad value": lambda store, base: store.set("ns", "key", object()),
    "a bad batch": lambda store, base: store.set_many([("ns", "key", 1), ("ns", "key", object())]),
    "a bad name": lambda store, base: store.get("ns", 5),  # type: ignore[arg-type]
    "a bad pair": lambda store, base: store.get_many([("ns", "key"), ("ns",)]),  # type: ignore[list-item]
    "no snapshot": lambda store, base: store.restore(5),  # type: ignore[arg-type]
}


def cycle() -> None:
    held: list[Any] = []
    held.append(Store(default=lambda value: held))


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("codec", ["msgpack", "ormsgpack"])
def test_no_call_leaks_references(call: str, codec: str) -> None:
    store = Store(codec=codec, max_history=3)
    store.set("ns", "key", VALUE)
    base = store.snapshot()

    def repeat(times: int) -> None:
        for _ in range(times):
            with contextlib.suppress(SwarmStateError):
                CALLS[call](store, base)
            store.set("ns", "key", VALUE)

    watched = [None, True, VALUE, store, base, "ns", "key"]
    repeat(300)
    gc.collect()
    blocks, counts = sys.getallocatedblocks(), [sys.getrefcount(one) for one in watched]
    repeat(1000)
    gc.collect()
    grown = [sys.getrefcount(one) - old for one, old in zip(watched, counts, strict=True)]
    assert max(grown) < 100
    assert sys.getallocatedblocks() - blocks < 200


TEN_MILLION = """
import resource
from swarmstate import Store
store = Store(codec="ormsgpack", max_history=10)
value = {"n": 1, "text": "some text"}
def run(operations):
    for n in range(operations // 8):
        key = f"key{n % 997}"
        store.set("ns", key, value)
        store.get("ns", key)
        store.set_many([("ns", key, n), ("other", key, [n])])
        store.get_many([("ns", key), ("other", "absent")])
        store.contains("ns", key)
        store.delete("other", key)
        store.snapshot().get("ns", key)
        store.max_key("ns")
        if n % 5000 == 0:
            first = store.snapshot()
        elif n % 5000 == 4999:
            store.restore(first)
            store.clear()
run(1_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
run(9_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_ten_million_operations_leave_the_resident_memory_flat() -> None:
    done = subprocess.run(
        [sys.executable, "-c", TEN_MILLION], check=True, capture_output=True, text=True
    )
    kilobytes = int(done.stdout) // (1024 if sys.platform == "darwin" else 1)
    assert kilobytes < 1500


def test_a_snapshot_outlives_its_store() -> None:
    store = Store()
    store.set("ns", "key", [1])
    snapshot = store.snapshot()
    store.set("ns", "key", [2])
    later = store.snapshot()
    del store
    gc.collect()
    assert snapshot.get("ns", "key") == [1]
    assert later.get("ns", "key") == [2]
    assert later.diff(snapshot)["changed"] == [("ns", "key")]
    del snapshot
    assert later.get("ns", "key") == [2]
    with Store() as other:
        other.restore(later)
        assert other.get("ns", "key") == [2]
