"""Random commits and logs, among other operations, each compared with a plain dict."""

from __future__ import annotations

import copy
import os
from typing import Any

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from swarmstate import ABSENT, codecs
from swarmstate.protocols import LogStore, Pair, SnapshotLike

Content = dict[str, dict[str, Any]]

# Of one slot on a cluster.
namespaces = st.sampled_from(["{x}", "a{x}", "a:{x}b"])
numbered = st.sampled_from([f"{number:016d}" for number in (0, 1, 2, 3, 5, 8, 100)])
keys = st.one_of(numbered, st.sampled_from(["", "head", "1", "z" * 16]))
pairs = st.tuples(namespaces, keys)
values = st.one_of(st.none(), st.integers(0, 3), st.lists(st.integers(0, 2), max_size=2))
items = st.tuples(namespaces, keys, values)
expectations = st.dictionaries(pairs, st.one_of(values, st.just(ABSENT)), max_size=2)


def is_numbered(key: str) -> bool:
    return len(key) == 16 and key.isascii() and key.isdigit()


class Machine(RuleBasedStateMachine):
    make: Any  # set by the test
    snapshots: Bundle[tuple[SnapshotLike, Content]] = Bundle("snapshots")

    def __init__(self) -> None:
        super().__init__()
        self.store: LogStore = type(self).make()
        self.model: Content = {}

    def log(self, namespace: str) -> list[tuple[str, Any]]:
        entries = self.model.get(namespace, {})
        return sorted((key, value) for key, value in entries.items() if is_numbered(key))

    def put(self, namespace: str, key: str, value: Any) -> None:
        self.model.setdefault(namespace, {})[key] = value

    def drop(self, namespace: str, key: str) -> None:
        self.model.get(namespace, {}).pop(key, None)
        if not self.model.get(namespace, True):
            del self.model[namespace]

    def holds(self, pair: Pair, value: Any) -> bool:
        held = self.model.get(pair[0], {}).get(pair[1], ABSENT)
        if held is ABSENT or value is ABSENT:
            return held is value
        return codecs.dumps(held) == codecs.dumps(value)

    @rule(item=items)
    def set(self, item: tuple[str, str, Any]) -> None:
        self.store.set(*item)
        self.put(*item)

    @rule(pair=pairs)
    def delete(self, pair: Pair) -> None:
        self.store.delete(*pair)
        self.drop(*pair)

    @rule(
        batch=st.lists(items, max_size=4),
        gone=st.lists(pairs, max_size=4),
        expect=expectations,
        data=st.data(),
    )
    def commit(self, batch: Any, gone: Any, expect: Any, data: st.DataObject) -> None:
        stored = {item[:2] for item in batch}
        gone = [pair for pair in gone if pair not in stored]
        # What is there, as often as not.
        for pair in expect:
            if data.draw(st.booleans()):
                expect[pair] = self.model.get(pair[0], {}).get(pair[1], ABSENT)
        holds = all(self.holds(pair, value) for pair, value in expect.items())
        assert self.store.commit(batch, gone, expect=expect) is holds
        if holds:
            for item in batch:
                self.put(*item)
            for pair in gone:
                self.drop(*pair)

    @rule(namespace=namespaces, batch=st.lists(values, max_size=3))
    def append(self, namespace: str, batch: list[Any]) -> None:
        log = self.log(namespace)
        given = self.store.append(namespace, batch)
        assert len(given) == len(batch)
        assert given == sorted(set(given))
        assert all(is_numbered(key) and (not log or key > log[-1][0]) for key in given)
        for key, value in zip(given, batch, strict=True):
            self.put(namespace, key, value)

    @rule(namespace=namespaces)
    def pop(self, namespace: str) -> None:
        log = self.log(namespace)
        assert self.store.pop(namespace) == (log[-1] if log else None)
        if log:
            self.drop(namespace, log[-1][0])

    @rule(
        namespace=namespaces,
        limit=st.one_of(st.none(), st.integers(0, 4)),
        before=st.one_of(st.none(), numbered),
    )
    def tail(self, namespace: str, limit: int | None, before: str | None) -> None:
        log = [entry for entry in self.log(namespace) if before is None or entry[0] < before]
        expected = log if limit is None else log[max(len(log) - limit, 0) :]
        assert self.store.tail(namespace, limit, before=before) == expected

    @rule(target=snapshots)
    def snapshot(self) -> tuple[SnapshotLike, Content]:
        return self.store.snapshot(), copy.deepcopy(self.model)

    @rule(taken=snapshots)
    def restore(self, taken: tuple[SnapshotLike, Content]) -> None:
        self.store.restore(taken[0])
        self.model = copy.deepcopy(taken[1])

    @rule(taken=snapshots)
    def read_snapshot(self, taken: tuple[SnapshotLike, Content]) -> None:
        snapshot, frozen = taken
        assert {pair: snapshot.get(*pair) for pair in snapshot.keys} == {
            (n, k): v for n, entries in frozen.items() for k, v in entries.items()
        }

    @invariant()
    def agrees(self) -> None:
        assert {
            name: dict(self.store.items(name)) for name in self.store.namespaces()
        } == self.model
        assert len(self.store) == sum(map(len, self.model.values()))
        for name in self.model:
            assert self.store.max_key(name) == max(self.model[name])

    def teardown(self) -> None:
        self.store.close()


def test_commits_and_logs_agree_with_a_plain_dict(make_log_store: Any) -> None:
    class ThisMachine(Machine):
        make = staticmethod(make_log_store)

    examples = 40 if type(make_log_store()).__module__ == "swarmstate._core" else 8
    examples = int(os.environ.get("SWARMSTATE_TEST_EXAMPLES", examples))
    run_state_machine_as_test(
        ThisMachine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
