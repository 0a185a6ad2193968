"""Random operations on a store, each compared with a plain dict."""

from __future__ import annotations

import copy
import itertools
import os
from typing import Any

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    rule,
    run_state_machine_as_test,
)

from swarmstate import codecs
from swarmstate.protocols import Pair, SnapshotLike, StoreLike

Content = dict[str, dict[str, Any]]

namespaces = st.sampled_from(["", "a", "a:b", "*", "é"])
keys = st.sampled_from(["", "k", "k1", "k2", "z", "🐝"])
pairs = st.tuples(namespaces, keys)
values = st.one_of(
    st.none(),
    st.integers(-1000, 1000),
    st.text(max_size=5),
    st.lists(st.integers(0, 9), max_size=3),
    st.dictionaries(st.text(max_size=2), st.booleans(), max_size=2),
)
items = st.tuples(namespaces, keys, values)


def difference(base: Content, target: Content) -> dict[str, list[Pair]]:
    before = {(n, k): v for n, entries in base.items() for k, v in entries.items()}
    after = {(n, k): v for n, entries in target.items() for k, v in entries.items()}
    return {
        "added": sorted(after.keys() - before.keys()),
        "removed": sorted(before.keys() - after.keys()),
        "changed": sorted(
            pair
            for pair in after.keys() & before.keys()
            if codecs.dumps(after[pair]) != codecs.dumps(before[pair])
        ),
    }


class Machine(RuleBasedStateMachine):
    """The store under test beside `model`, a dict of dicts without empty namespaces."""

    make: Any  # set by the test
    codec: str
    snapshots: Bundle[tuple[SnapshotLike, Content]] = Bundle("snapshots")

    def __init__(self) -> None:
        super().__init__()
        self.store: StoreLike = type(self).make(codec=type(self).codec, max_history=3)
        self.model: Content = {}
        self.history: list[Content] = []

    def put(self, namespace: str, key: str, value: Any) -> None:
        self.model.setdefault(namespace, {})[key] = value

    def drop(self, namespace: str, key: str) -> bool:
        found = key in self.model.get(namespace, {})
        if found:
            del self.model[namespace][key]
            if not self.model[namespace]:
                del self.model[namespace]
        return found

    @rule(item=items)
    def set(self, item: tuple[str, str, Any]) -> None:
        self.store.set(*item)
        self.put(*item)

    @rule(batch=st.lists(items, max_size=8))
    def set_many(self, batch: list[tuple[str, str, Any]]) -> None:
        self.store.set_many(batch)
        for item in batch:
            self.put(*item)

    @rule(item=items)
    def set_default(self, item: tuple[str, str, Any]) -> None:
        absent = item[1] not in self.model.get(item[0], {})
        assert self.store.set_default(*item) is absent
        if absent:
            self.put(*item)

    @rule(pair=pairs, value=values)
    def update(self, pair: Pair, value: Any) -> None:
        old = self.model.get(pair[0], {}).get(pair[1], "absent")
        new = self.store.update(*pair, lambda found: [found, value], default="absent")
        assert new == [old, value]
        self.put(*pair, new)

    @rule(pair=pairs)
    def delete(self, pair: Pair) -> None:
        assert self.store.delete(*pair) is self.drop(*pair)

    @rule(batch=st.lists(pairs, max_size=6))
    def delete_many(self, batch: list[Pair]) -> None:
        assert self.store.delete_many(batch) == sum(self.drop(*pair) for pair in batch)

    @rule(namespace=namespaces)
    def delete_namespace(self, namespace: str) -> None:
        assert self.store.delete_namespace(namespace) == len(self.model.pop(namespace, {}))

    @rule()
    def clear(self) -> None:
        self.store.clear()
        self.model = {}

    @rule(pair=pairs)
    def get(self, pair: Pair) -> None:
        expected = self.model.get(pair[0], {}).get(pair[1], "absent")
        assert self.store.get(*pair, "absent") == expected
        assert self.store.contains(*pair) is (pair[1] in self.model.get(pair[0], {}))

    @rule(batch=st.lists(pairs, max_size=6))
    def get_many(self, batch: list[Pair]) -> None:
        assert self.store.get_many(batch) == [self.model.get(n, {}).get(k) for n, k in batch]

    @rule(namespace=namespaces)
    def list_one(self, namespace: str) -> None:
        expected = self.model.get(namespace, {})
        assert dict(self.store.items(namespace)) == expected
        assert sorted(self.store.keys(namespace)) == sorted(expected)
        assert self.store.max_key(namespace) == max(expected, default=None)
        assert sorted(self.store.keys(namespace, "k")) == sorted(
            k for k in expected if k[:1] == "k"
        )

    @rule(target=snapshots)
    def snapshot(self) -> tuple[SnapshotLike, Content]:
        frozen = copy.deepcopy(self.model)
        self.history = [*self.history, frozen][-3:]
        return self.store.snapshot(), frozen

    @rule(taken=snapshots)
    def read_snapshot(self, taken: tuple[SnapshotLike, Content]) -> None:
        snapshot, frozen = taken
        expected = {(n, k): v for n, entries in frozen.items() for k, v in entries.items()}
        assert sorted(snapshot.keys) == sorted(expected)
        assert len(snapshot) == len(expected)
        assert {pair: snapshot.get(*pair) for pair in expected} == expected
        assert snapshot.size_bytes == sum(len(codecs.dumps(v)) for v in expected.values())

    @rule(taken=snapshots)
    def read_state(self, taken: tuple[SnapshotLike, Content]) -> None:
        snapshot, frozen = taken
        assert snapshot.state == {
            n: {k: codecs.dumps(v) for k, v in entries.items()} for n, entries in frozen.items()
        }

    @rule(taken=consumes(snapshots))
    def forget(self, taken: tuple[SnapshotLike, Content]) -> None:
        del taken

    @rule(taken=snapshots)
    def restore(self, taken: tuple[SnapshotLike, Content]) -> None:
        self.store.restore(taken[0])
        self.model = copy.deepcopy(taken[1])

    @rule(base=snapshots, taken=snapshots)
    def diff(self, base: tuple[SnapshotLike, Content], taken: tuple[SnapshotLike, Content]) -> None:
        assert taken[0].diff(base[0]) == difference(base[1], taken[1])

    @rule()
    def read_history(self) -> None:
        kept = self.store.history()
        assert len(kept) == len(self.history)
        for snapshot, frozen in zip(kept, self.history, strict=True):
            assert {(n, k): snapshot.get(n, k) for n, k in snapshot.keys} == {
                (n, k): v for n, entries in frozen.items() for k, v in entries.items()
            }

    @rule()
    def clear_history(self) -> None:
        self.store.clear_history()
        self.history = []

    @invariant()
    def counts_agree(self) -> None:
        assert len(self.store) == sum(map(len, self.model.values()))
        assert sorted(self.store.namespaces()) == sorted(self.model)

    def teardown(self) -> None:
        for namespace in itertools.chain(self.model, ["absent"]):
            assert dict(self.store.items(namespace)) == self.model.get(namespace, {})
        self.store.close()


def test_a_store_agrees_with_a_plain_dict_under_random_operations(
    make_store: Any, codec: str
) -> None:
    class ThisMachine(Machine):
        make = staticmethod(make_store)

    ThisMachine.codec = codec
    # A store behind a socket is some hundred times slower than one in memory.
    examples = 40 if type(make_store()).__module__ == "swarmstate._core" else 8
    examples = int(os.environ.get("SWARMSTATE_TEST_EXAMPLES", examples))
    run_state_machine_as_test(
        ThisMachine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
