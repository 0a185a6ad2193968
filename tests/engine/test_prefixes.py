"""Names under a prefix: as a walk over all of them finds, at the cost of those that are there."""

from __future__ import annotations

import random
from typing import Any

import pytest

from swarmstate import Store
from swarmstate._core import work_done

NAMES = ["", "a", "a\N{DEGREE SIGN}", "ab", "ab\U0001f600", "abc", "b", "\uffff", "\U00010000", "é"]


def under(names: Any, prefix: str) -> list[str]:
    return sorted(name for name in names if name.startswith(prefix))


@pytest.mark.parametrize("seed", range(8))
def test_what_starts_with_a_prefix_is_what_a_dict_says(seed: int) -> None:
    chance = random.Random(seed)
    store, model = Store(), dict[str, dict[str, int]]()
    held: list[tuple[Any, dict[str, dict[str, int]]]] = []

    def name() -> str:
        many = chance.random() < 0.3  # enough of them for the index to be dropped and sorted
        return chance.choice(NAMES) + (str(chance.randrange(200)) if many else "")

    for _ in range(2000):
        namespace, key = name(), name()
        action = chance.randrange(12)
        if action < 5:
            store.set(namespace, key, 1)
            model.setdefault(namespace, {})[key] = 1
        elif action < 8:
            store.delete(namespace, key)
            model.get(namespace, {}).pop(key, None)
        elif action == 8:
            some = [(name(), name(), 2) for _ in range(chance.randrange(40))]
            store.set_many(some)
            for space, each, value in some:
                model.setdefault(space, {})[each] = value
        elif action == 9:
            store.delete_namespace(namespace)
            model.pop(namespace, None)
        elif action == 10 and chance.random() < 0.1:
            held.append((store.snapshot(), {space: dict(keys) for space, keys in model.items()}))
        elif action == 11 and held and chance.random() < 0.1:
            snapshot, then = chance.choice(held)
            store.restore(snapshot)
            model = {space: dict(keys) for space, keys in then.items()}
        elif chance.random() < 0.01:
            store.clear()
            model.clear()
        model = {space: keys for space, keys in model.items() if keys}
        if chance.random() < 0.5:
            prefix = name()
            found = store.namespaces(prefix)
            assert (found if prefix else sorted(found)) == under(model, prefix)
            found = store.keys(namespace, prefix)
            assert (found if prefix else sorted(found)) == under(model.get(namespace, ()), prefix)


@pytest.mark.parametrize("what", ["keys", "namespaces"])
def test_a_prefix_costs_what_lies_under_it(what: str) -> None:
    def compared(size: int) -> int:
        store = Store()
        names = [f"{number:06}" for number in range(size)]
        random.Random(1).shuffle(names)
        store.set_many([(name, name, 1) for name in names])
        store.set_many([("all", name, 1) for name in names])
        ask = store.namespaces if what == "namespaces" else lambda prefix: store.keys("all", prefix)
        assert len(ask("00000")) == 10
        before = work_done()["keys_compared"]
        for number in range(100):
            assert len(ask("00000")) == 10
            store.set(f"9{number:06}", "key", 1)
            store.set("all", f"9{number:06}", 1)
        return work_done()["keys_compared"] - before

    assert compared(10_000) < compared(100) * 3


def test_names_that_come_and_go_do_not_stay_in_the_index() -> None:
    store = Store()
    store.set("all", "stays", 1)
    assert store.keys("all", "s") == store.keys("all", "st") == ["stays"]
    before = work_done()["keys_compared"]
    for number in range(10_000):
        store.set("all", f"s{number}", 1)
        store.delete("all", f"s{number}")
    assert store.keys("all", "s") == ["stays"]
    assert work_done()["keys_compared"] - before < 100
