"""Many values at once: set_many, get_many, delete_many, delete_namespace, clear."""

from __future__ import annotations

from typing import Any

import pytest

from swarmstate.errors import ArgumentTypeError, EncodeError
from swarmstate.protocols import StoreLike


def test_set_many_stores_triples_in_any_namespaces(store: StoreLike) -> None:
    store.set_many([("a", "1", "one"), ("b", "1", [2]), ("a", "2", None)])
    assert store.get("a", "1") == "one"
    assert store.get("b", "1") == [2]
    assert store.contains("a", "2")
    assert len(store) == 3


def test_set_many_takes_any_iterable_of_tuples_or_lists(store: StoreLike) -> None:
    store.set_many((f"ns{i % 2}", str(i), i) for i in range(4))
    store.set_many([["ns0", "0", "new"]])  # type: ignore[list-item]
    store.set_many(iter(()))
    assert store.get_many([("ns0", "0"), ("ns1", "1"), ("ns0", "2"), ("ns1", "3")]) == [
        "new",
        1,
        2,
        3,
    ]


def test_of_two_values_for_one_key_in_a_batch_the_later_counts(store: StoreLike) -> None:
    store.set_many([("ns", "key", 1), ("ns", "other", 0), ("ns", "key", 2)])
    assert store.get("ns", "key") == 2
    assert len(store) == 2


def test_a_batch_with_one_bad_value_writes_nothing(store: StoreLike) -> None:
    store.set("ns", "1", "old")
    with pytest.raises(EncodeError):
        store.set_many([("ns", "1", "new"), ("ns", "2", object())])
    assert store.items("ns") == [("1", "old")]


@pytest.mark.parametrize(
    "batch",
    [
        [("ns", "1", "new"), ("ns", "2")],
        [("ns", "1", "new"), ("ns", 2, "value")],
        [("ns", "1", "new"), (None, "2", "value")],
        [("ns", "1", "new"), "abc"],
        [("ns", "1", "new"), None],
        "ns1",
        5,
        None,
    ],
    ids=repr,
)
def test_a_batch_with_one_bad_entry_writes_nothing(store: StoreLike, batch: Any) -> None:
    store.set("ns", "1", "old")
    with pytest.raises(ArgumentTypeError):
        store.set_many(batch)
    assert store.items("ns") == [("1", "old")]


def test_a_batch_whose_iterator_fails_writes_nothing(store: StoreLike) -> None:
    def broken() -> Any:
        yield ("ns", "1", 1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.set_many(broken())
    assert len(store) == 0


def test_get_many_keeps_the_order_and_gives_none_for_what_is_missing(store: StoreLike) -> None:
    store.set_many([("a", "1", 1), ("a", "2", 2), ("b", "1", 3)])
    pairs = [("b", "1"), ("a", "9"), ("a", "1"), ("c", "1"), ("a", "1"), ("a", "2")]
    assert store.get_many(pairs) == [3, None, 1, None, 1, 2]
    assert store.get_many(iter(pairs[:1])) == [3]
    assert store.get_many([]) == []


@pytest.mark.parametrize(
    "pairs", [["ab"], [("ns",)], [("ns", 1)], [(b"ns", "k")], "ab", 7, None], ids=repr
)
def test_pairs_that_are_none_are_refused(store: StoreLike, pairs: Any) -> None:
    store.set("ns", "k", 1)
    with pytest.raises(ArgumentTypeError):
        store.get_many(pairs)
    with pytest.raises(ArgumentTypeError):
        store.delete_many(pairs)
    assert store.get("ns", "k") == 1


def test_delete_many_counts_what_went(store: StoreLike) -> None:
    store.set_many([("a", "1", 1), ("a", "2", 2), ("b", "1", 3)])
    assert store.delete_many([("a", "1"), ("b", "1"), ("a", "9"), ("c", "1"), ("a", "1")]) == 2
    assert store.items("a") == [("2", 2)]
    assert store.namespaces() == ["a"]
    assert store.delete_many([]) == 0


def test_delete_many_with_one_bad_pair_deletes_nothing(store: StoreLike) -> None:
    store.set("ns", "1", 1)
    with pytest.raises(ArgumentTypeError):
        store.delete_many([("ns", "1"), ("ns", None)])  # type: ignore[list-item]
    assert store.get("ns", "1") == 1


def test_delete_namespace_counts_the_keys_and_leaves_other_namespaces(store: StoreLike) -> None:
    store.set_many([("a", "1", 1), ("a", "2", 2), ("ab", "1", 3)])
    assert store.delete_namespace("a") == 2
    assert store.delete_namespace("a") == 0
    assert store.namespaces() == ["ab"]
    assert len(store) == 1
    store.set("a", "3", 3)
    assert store.items("a") == [("3", 3)]


def test_clear_removes_everything_and_may_be_repeated(store: StoreLike) -> None:
    store.clear()
    store.set_many([("a", "1", 1), ("b", "2", 2)])
    store.clear()
    store.clear()
    assert len(store) == 0
    assert store.namespaces() == []
    assert store.get("a", "1") is None
    store.set("a", "1", 3)
    assert store.items("a") == [("1", 3)]


def test_a_thousand_entries_go_in_and_out(store: StoreLike) -> None:
    items = [(f"ns{i % 7}", f"key{i}", {"n": i}) for i in range(1000)]
    store.set_many(items)
    assert len(store) == 1000
    assert store.get_many([item[:2] for item in items]) == [item[2] for item in items]
    assert store.delete_many([item[:2] for item in items[:500]]) == 500
    assert len(store) == 500
