"""What is in a store: keys, namespaces, items, len, in, max_key."""

from __future__ import annotations

import random

import pytest

from swarmstate.protocols import StoreLike


@pytest.fixture
def filled(store: StoreLike) -> StoreLike:
    store.set_many(
        [
            ("users", "ada", 1),
            ("users", "adam", 2),
            ("users", "bob", 3),
            ("user", "ada", 4),
            ("jobs", "1", 5),
        ]
    )
    return store


def test_an_empty_store_lists_nothing(store: StoreLike) -> None:
    assert store.namespaces() == []
    assert store.keys("ns") == []
    assert store.items("ns") == []
    assert store.max_key("ns") is None
    assert len(store) == 0
    assert "ns" not in store


def test_keys_lists_one_namespace(filled: StoreLike) -> None:
    assert sorted(filled.keys("users")) == ["ada", "adam", "bob"]
    assert filled.keys("user") == ["ada"]
    assert filled.keys("nobody") == []


def test_keys_may_be_narrowed_by_a_literal_prefix(filled: StoreLike) -> None:
    filled.set_many([("users", "a*", 6), ("users", "a?am", 7), ("users", "[ab]", 8)])
    assert sorted(filled.keys("users", "ada")) == ["ada", "adam"]
    assert filled.keys("users", prefix="a*") == ["a*"]
    assert filled.keys("users", prefix="[") == ["[ab]"]
    assert filled.keys("users", prefix="x") == []
    assert len(filled.keys("users", prefix="")) == 6
    assert len(filled.keys("users", prefix=None)) == 6


def test_namespaces_may_be_narrowed_by_a_literal_prefix(filled: StoreLike) -> None:
    filled.set_many([("u*", "k", 1), ("é", "k", 2), ("a:b", "k", 3), ("a", "k", 4)])
    assert sorted(filled.namespaces()) == ["a", "a:b", "jobs", "u*", "user", "users", "é"]
    assert sorted(filled.namespaces("user")) == ["user", "users"]
    assert filled.namespaces(prefix="u*") == ["u*"]
    assert filled.namespaces(prefix="a:") == ["a:b"]
    assert filled.namespaces(prefix="é") == ["é"]
    assert filled.namespaces(prefix="?") == []


def test_items_lists_keys_with_their_values(filled: StoreLike) -> None:
    assert sorted(filled.items("users")) == [("ada", 1), ("adam", 2), ("bob", 3)]
    assert filled.items("nobody") == []


def test_a_namespace_without_keys_does_not_exist(filled: StoreLike) -> None:
    assert "jobs" in filled
    filled.delete("jobs", "1")
    assert "jobs" not in filled
    assert sorted(filled.namespaces()) == ["user", "users"]


def test_len_counts_the_keys_of_all_namespaces(filled: StoreLike) -> None:
    assert len(filled) == 5
    filled.set("users", "ada", "again")
    assert len(filled) == 5
    filled.delete("users", "ada")
    assert len(filled) == 4
    filled.delete_namespace("users")
    assert len(filled) == 2


def test_max_key_is_the_greatest_by_code_point(store: StoreLike) -> None:
    for key in ["b", "a", "", "Z", "10", "9", "ÿ", "\uffff", "🐝"]:
        store.set("ns", key, 0)
    for greatest in ["🐝", "\uffff", "ÿ", "b", "a", "Z", "9", "10", ""]:
        assert store.max_key("ns") == greatest
        store.delete("ns", greatest)
    assert store.max_key("ns") is None


def test_max_key_follows_writes_of_every_kind(store: StoreLike) -> None:
    random.seed(7)
    model: set[str] = set()
    names = [f"{n:03}" for n in range(300)]
    for step in range(400):
        name = random.choice(names)
        match random.randrange(5):
            case 0 | 1:
                store.set("ns", name, step)
                model.add(name)
            case 2:
                store.set_many([("ns", name, step), ("ns", name + "x", step)])
                model |= {name, name + "x"}
            case 3:
                store.delete("ns", name)
                model.discard(name)
            case 4 if model:
                greatest = max(model)
                store.delete_many([("ns", greatest)])
                model.discard(greatest)
        assert store.max_key("ns") == max(model, default=None)


def test_max_key_follows_restore_and_clear(store: StoreLike) -> None:
    store.set_many([("ns", "a", 1), ("ns", "b", 2)])
    snapshot = store.snapshot()
    assert store.max_key("ns") == "b"
    store.set("ns", "c", 3)
    assert store.max_key("ns") == "c"
    store.restore(snapshot)
    assert store.max_key("ns") == "b"
    store.clear()
    assert store.max_key("ns") is None
    store.set("ns", "a", 1)
    assert store.max_key("ns") == "a"
    store.restore(snapshot)
    assert store.max_key("ns") == "b"
    store.delete_namespace("ns")
    assert store.max_key("ns") is None


def test_max_key_sees_a_key_that_came_back_with_what_was_cleared(store: StoreLike) -> None:
    store.set_many([("ns", "a", 1), ("ns", "b", 2)])
    snapshot = store.snapshot()
    store.delete("ns", "b")
    assert store.max_key("ns") == "a"
    store.clear()
    store.restore(snapshot)
    assert store.max_key("ns") == "b"
