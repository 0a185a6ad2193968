"""Nothing leaks: references, blocks, resident memory."""

from __future__ import annotations

import contextlib
import gc
import itertools
import subprocess
import sys
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from swarmstate import Snapshot, Store, codecs
from swarmstate.codecs import registry
from swarmstate.codecs.zstd import ZstdCodec
from swarmstate.errors import SwarmStateError
from swarmstate.protocols import FastPath


@pytest.fixture(autouse=True, scope="module")
def _rest_frozen() -> None:
    """Keep what other tests left out of the collections here, which it would make slow."""
    gc.collect()
    gc.freeze()


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


# A codec is at work in every call, so that half of the calls with each will do.
@pytest.mark.parametrize(
    ("call", "codec"), [*zip(CALLS, itertools.cycle(["msgpack", "ormsgpack"]), strict=False)]
)
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
    repeat(100)
    gc.collect()
    blocks, counts = sys.getallocatedblocks(), [sys.getrefcount(one) for one in watched]
    repeat(250)
    gc.collect()
    grown = [sys.getrefcount(one) - old for one, old in zip(watched, counts, strict=True)]
    assert max(grown) < 50
    assert sys.getallocatedblocks() - blocks < 100


class Holder:
    """What refers to itself through a store, or through a snapshot that it holds."""

    def __init__(self, how: Callable[[Holder], Store], hold: Callable[[Store], Any]) -> None:
        self.ballast = bytearray(10)
        self.hook = str
        store = how(self)
        store.set("n", "k", [1])
        self.held = hold(store)

    def encode(self, value: Any) -> Any:
        return sorted(value)

    def pack(self, *args: Any) -> bytes:
        return b"\x01"


class OwnedCodec:
    name = wire = "owned"

    def __init__(self, owner: Holder) -> None:
        self.owner = owner

    def encode(self, value: object, *, default: Any = None) -> bytes:
        return b"\x01"

    def decode(self, data: bytes) -> Any:
        return 1


class FastCodec(OwnedCodec):
    """Refers to its owner by its fast path only."""

    def __init__(self, owner: Holder) -> None:
        self.fast = FastPath(owner.pack, (), owner.pack, (owner,))


def with_codec(codec: Any) -> Store:
    """Make a store with a codec that is forgotten by the registry, as a replaced one is."""
    codecs.register("owned", codec)
    store = Store(codec="owned", max_history=2)
    codecs.register("owned", codecs.get("msgpack"), replace=True)
    registry._entries.pop("owned")
    return store


MAKERS: dict[str, Callable[[Holder], Store]] = {
    "a hook": lambda holder: Store(default=holder.encode),
    "a hook, compressed": lambda holder: Store(codec="zstd", default=holder.encode),
    "a hook and a history": lambda holder: Store(default=holder.encode, max_history=3),
    "a codec": lambda holder: with_codec(OwnedCodec(holder)),
    "a fast path": lambda holder: with_codec(FastCodec(holder)),
    "a codec of ours": lambda holder: with_codec(tagged(ZstdCodec(), holder)),
}


def tagged(codec: Any, holder: Holder) -> Any:
    codec.owner = holder
    return codec


def snapshots(store: Store) -> list[Snapshot]:
    """Snapshots in every state: with a log of one entry, of more, full, with persistent maps."""
    taken = [store.snapshot()]
    store.set("n", "k", [2])
    taken.append(store.snapshot())
    store.set_many([("n", "a", 1), ("n", "b", 1)])
    taken.append(store.snapshot())
    store.clear()
    assert taken[1].state
    return taken


HELD: dict[str, Callable[[Store], Any]] = {
    "the store": lambda store: store,
    "its snapshots": snapshots,
    "both": lambda store: (store, snapshots(store)),
    "a store restored from one": lambda store: restored(store),
    "a snapshot of that": lambda store: restored(store).snapshot(),
}


def restored(store: Store) -> Store:
    other = Store()
    with contextlib.suppress(SwarmStateError):  # of another wire format
        other.restore(snapshots(store)[0])
    return other


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("how", MAKERS)
@pytest.mark.parametrize("hold", HELD)
def test_no_cycle_through_a_store_or_a_snapshot_is_hidden_from_the_collector(
    how: str, hold: str
) -> None:
    holder = Holder(MAKERS[how], HELD[hold])
    died = weakref.ref(holder)
    del holder
    gc.collect()
    assert died() is None


@pytest.mark.usefixtures("registered")
def test_very_many_snapshots_with_a_codec_of_the_users_are_dropped_without_recursion() -> None:
    codecs.register("owned", OwnedCodec(None))  # type: ignore[arg-type]
    store = Store(codec="owned", max_history=None)
    for n in range(200_000):
        store.set("n", f"k{n % 100}", n)
        store.snapshot()
    held = store.history()
    assert held[0].get("n", "k0") == 1
    assert isinstance(held[0], Snapshot)
    del store, held
    gc.collect()


def test_a_snapshot_keeps_no_hook_alive() -> None:
    holder = Holder(MAKERS["a hook"], snapshots)
    died = weakref.ref(holder)
    kept = holder.held
    gc.disable()
    try:
        del holder
        assert died() is None
    finally:
        gc.enable()
    assert kept[0].get("n", "k") == [1]


def test_what_others_do_to_the_dicts_of_a_snapshot_changes_nothing() -> None:
    entries = {"k": b"\x01"}
    values = {"n": entries}
    snapshot = Snapshot.from_values(values)
    entries["k"] = snapshot  # type: ignore[assignment]
    entries["more"] = b"\x02"
    values["m"] = entries
    assert snapshot.values() == {"n": {"k": b"\x01"}}
    assert (len(snapshot), snapshot.size_bytes, snapshot.get("n", "k")) == (1, 1, 1)
    Store().restore(snapshot)


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
