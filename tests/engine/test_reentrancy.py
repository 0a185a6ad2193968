"""Foreign code that calls back into the store from within a call of it."""

from __future__ import annotations

import gc
import random
from collections.abc import Iterator
from typing import Any

import pytest

from swarmstate import Store, codecs
from swarmstate.codecs import registry
from swarmstate.errors import StoreUnavailable
from swarmstate.protocols import Default, FastPath, SnapshotLike

pytestmark = pytest.mark.usefixtures("registered")


@pytest.fixture(autouse=True)
def frequent_collections() -> Iterator[None]:
    thresholds = gc.get_threshold()
    gc.set_threshold(5, 2, 2)
    yield
    gc.set_threshold(*thresholds)


def check(store: Store) -> None:
    """What the store counts agrees with what it holds."""
    snapshot = store.snapshot()
    values = snapshot.values()
    assert sorted(values) == sorted(store.namespaces())
    assert all(values.values())
    assert len(store) == len(snapshot) == sum(map(len, values.values()))
    assert snapshot.size_bytes == sum(len(v) for e in values.values() for v in e.values())
    for namespace, entries in values.items():
        assert store.max_key(namespace) == max(entries)
        assert sorted(store.keys(namespace)) == sorted(entries)


def work(store: Store, rng: random.Random, model: dict[str, Any]) -> None:
    """Random calls on the namespaces of `model`, which nothing else writes."""
    snapshots: list[tuple[SnapshotLike, dict[str, Any]]] = []
    for n in range(1500):
        key = f"key{rng.randrange(12)}"
        match rng.randrange(8):
            case 0 | 1:
                store.set("mine", key, [n])
                model[key] = [n]
            case 2:
                store.set_many([("mine", key, n), ("mine", key + "x", {"n": n})])
                model |= {key: n, key + "x": {"n": n}}
            case 3:
                assert store.delete("mine", key) is (model.pop(key, None) is not None)
            case 4:
                pairs = [("mine", one) for one in model]
                assert store.get_many(pairs) == list(model.values())
            case 5:
                snapshots = [*snapshots[-20:], (store.snapshot(), dict(model))]
            case 6 if snapshots:
                snapshot, then = rng.choice(snapshots)
                assert {k: snapshot.get("mine", k) for k in then} == then
                assert snapshot.diff(snapshot) == {"added": [], "removed": [], "changed": []}
                _ = snapshot.state
            case 7:
                assert dict(store.items("mine")) == model
                assert store.max_key("mine") == max(model, default=None)
    assert dict(store.items("mine")) == model


def test_finalizers_that_write_lose_nothing() -> None:
    store = Store(codec="ormsgpack", max_history=5)
    written: list[str] = []

    class Writer:
        def __init__(self, n: int) -> None:
            self.me, self.n = self, n

        def __del__(self) -> None:
            name = f"final{self.n}"
            store.set("theirs", name, self.n)
            store.set(name, "own namespace", [self.n])
            store.delete(name, "own namespace")
            written.append(name)
            if self.n % 3 == 0:
                store.snapshot()
            if self.n % 7 == 0:
                store.update("theirs", "count", lambda old: old + 1, default=0)

    class Maker(random.Random):
        """Leaves a cycle with a finalizer at every draw."""

        made = 0

        def random(self) -> float:
            return super().random()

        def randrange(self, *args: Any, **kwargs: Any) -> int:
            Maker.made += 1
            Writer(Maker.made)
            return super().randrange(*args, **kwargs)

    model: dict[str, Any] = {}
    work(store, Maker(1), model)
    gc.collect()
    assert len(written) == Maker.made
    assert set(store.keys("theirs", "final")) == set(written)
    assert set(store.namespaces()) == {"mine", "theirs"}
    check(store)


def test_finalizers_that_drop_snapshots_and_clear_keep_the_counts_right() -> None:
    store = Store(codec="ormsgpack", max_history=3)
    held: list[SnapshotLike] = []

    class Dropper:
        def __init__(self, n: int) -> None:
            self.me, self.n = self, n

        def __del__(self) -> None:
            match self.n % 5:
                case 0:
                    held.append(store.snapshot())
                case 1:
                    held[: self.n % 3] = []
                case 2:
                    store.clear()
                case 3 if held:
                    store.restore(held[self.n % len(held)])
                case 4:
                    store.delete_namespace("a")

    rng = random.Random(2)
    for n in range(4000):
        Dropper(n)
        store.set(rng.choice("abc"), str(rng.randrange(9)), [n])
        store.set_many((namespace, str(n % 7), n) for namespace in "ab")
        if held and n % 5 == 0:
            one = rng.choice(held)
            assert sum(len(v) for e in one.state.values() for v in e.values()) == one.size_bytes
            assert len(one.keys) == len(one)
    gc.collect()
    check(store)


def test_a_default_hook_that_calls_back_loses_nothing() -> None:
    seen = []

    def hook(value: Any) -> Any:
        n = len(seen)
        seen.append(n)
        store.set("theirs", f"hook{n}", n)
        store.delete("mine", "victim")
        if n % 3 == 0:
            snapshots.append(store.snapshot())
        if n % 5 == 0:
            snapshots[:2] = []
        return sorted(value)

    snapshots: list[SnapshotLike] = []
    store = Store(default=hook)
    for n in range(300):
        store.set("mine", "victim", n)
        store.set("mine", f"key{n % 10}", {"set": {n, n + 1}})
        store.set_many([("mine", "one", {n}), ("mine", "two", [{n}, {n}])])
        assert store.get("mine", f"key{n % 10}") == {"set": [n, n + 1]}
        assert not store.contains("mine", "victim")
    assert sorted(store.keys("theirs")) == sorted(f"hook{n}" for n in seen)
    assert store.get_many([("mine", "one"), ("mine", "two")]) == [[299], [[299], [299]]]
    check(store)


class PythonCodec:
    """A codec without a fast path, which calls back into a store in both directions."""

    name = "calls back"
    wire = "msgpack"
    store: Store | None = None
    calls = 0
    busy = False

    def call_back(self) -> None:
        if self.store is None or self.busy:
            return
        self.busy = True  # its own calls must not call back again
        try:
            self.calls += 1
            self.store.set("theirs", f"call{self.calls}", self.calls)
            if self.calls % 4 == 0:
                self.store.snapshot()
            if self.calls % 6 == 0:
                self.store.clear_history()
        finally:
            self.busy = False

    def encode(self, value: object, *, default: Default | None = None) -> bytes:
        self.call_back()
        data = codecs.dumps(value, default=default)
        self.call_back()
        return data

    def decode(self, data: bytes) -> Any:
        self.call_back()
        return codecs.loads(data)


def test_a_codec_in_python_that_calls_back_loses_nothing() -> None:
    codec = PythonCodec()
    codecs.register("calls back", codec, replace=True)
    store = codec.store = Store(codec="calls back", max_history=4)
    work(store, random.Random(3), {})
    codec.store = None
    assert sorted(store.keys("theirs")) == sorted(f"call{n + 1}" for n in range(codec.calls))
    check(store)


def test_iterators_and_names_that_call_back_lose_nothing() -> None:
    store = Store()

    def items() -> Iterator[tuple[str, str, int]]:
        for n in range(50):
            store.set("theirs", str(n), n)
            store.clear_history()
            assert not store.contains("mine", "0")
            yield "mine", str(n), n

    store.set_many(items())
    assert len(store) == 100
    assert store.get_many(("mine", str(n)) for n in range(50)) == list(range(50))
    check(store)


def test_an_update_whose_function_writes_its_own_key_each_time_gives_up() -> None:
    store = Store()

    def fn(old: int) -> int:
        store.set("ns", "key", old + 1)
        return old

    with pytest.raises(StoreUnavailable, match="does the function itself write this key"):
        store.update("ns", "key", fn, default=0)
    check(store)


def test_a_codec_that_returns_something_other_than_bytes_is_named() -> None:
    class Broken(PythonCodec):
        name = "broken"

        def encode(self, value: object, *, default: Default | None = None) -> bytes:
            return bytearray(b"\x01")  # type: ignore[return-value]

    codecs.register("broken", Broken(), replace=True)
    store = Store(codec="broken")
    with pytest.raises(ValueError, match="codec 'broken' returned bytearray from encode"):
        store.set("ns", "key", 1)
    assert len(store) == 0


class Interrupted:
    """A codec that is interrupted whenever `armed`: by Ctrl-C, say."""

    name = wire = "interrupted"
    armed = False

    def __init__(self) -> None:
        self.fast = FastPath(self.pack, (), self.unpack, ())

    def pack(self, value: Any) -> bytes:
        if self.armed:
            raise KeyboardInterrupt("while packing")
        return repr(value).encode()

    def unpack(self, data: bytes) -> Any:
        if self.armed:
            raise KeyboardInterrupt("while unpacking")
        return data

    def encode(self, value: Any, *, default: Default | None = None) -> bytes:
        raise AssertionError("not asked after an interrupt")

    def decode(self, data: bytes) -> Any:
        raise AssertionError("not asked after an interrupt")


def test_an_interrupt_in_the_fast_path_passes_and_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    codec = Interrupted()
    monkeypatch.setitem(registry._entries, "interrupted", registry._Entry(codec))
    store = Store(codec="interrupted")
    store.set("n", "k", 1)
    codec.armed = True
    for use in (
        lambda: store.set("n", "k", 2),
        lambda: store.set_many([("n", "k", 2)]),
        lambda: store.update("n", "k", lambda value: value),
    ):
        with pytest.raises(KeyboardInterrupt, match="packing"):
            use()
    with pytest.raises(KeyboardInterrupt, match="while unpacking"):
        store.get("n", "k")
    codec.armed = False
    assert store.snapshot().values() == {"n": {"k": b"1"}}
