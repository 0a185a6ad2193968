"""Searches without a query, and listings of namespaces."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest
from langgraph.store.base import ListNamespacesOp, MatchCondition, PutOp, SearchOp

from swarmstate.errors import DecodeError
from swarmstate.integrations.langgraph.matching import columns_of, field_tests, matcher
from swarmstate.protocols import StoreLike


def put_all(memory: Any, *items: tuple[tuple[str, ...], str, dict[str, Any]]) -> None:
    memory.batch([PutOp(*item) for item in items])


def keys(found: Any) -> list[str]:
    return [item.key for item in found]


def test_the_items_that_were_updated_last_come_first(memory: Any) -> None:
    put_all(memory, *[(("a",), f"k{n}", {"n": n}) for n in range(5)])
    memory.put(("a",), "k1", {"n": 1})
    assert keys(memory.search(("a",))) == ["k1", "k4", "k3", "k2", "k0"]
    assert keys(memory.search(("a",), limit=2)) == ["k1", "k4"]
    assert keys(memory.search(("a",), limit=2, offset=3)) == ["k2", "k0"]
    assert keys(memory.search(("a",), offset=5)) == []
    assert memory.search(("a",), limit=0) == []
    assert [item.score for item in memory.search(("a",))] == [None] * 5


def test_a_search_sees_what_lies_under_its_prefix_and_nothing_else(memory: Any) -> None:
    put_all(
        memory,
        (("a",), "1", {}),
        (("a", "b"), "2", {}),
        (("a", "b", "c"), "3", {}),
        (("ab",), "4", {}),
        (("a:b",), "5", {}),
        (("b", "a"), "6", {}),
        (("A",), "7", {}),
    )
    assert set(keys(memory.search(("a",)))) == {"1", "2", "3"}
    assert set(keys(memory.search(("a", "b")))) == {"2", "3"}
    assert keys(memory.search(("a", "*"))) == []
    assert len(memory.search(())) == 7
    assert {item.namespace for item in memory.search(("a", "b"))} == {("a", "b"), ("a", "b", "c")}


VALUE = {
    "color": "red",
    "size": 7,
    "price": 4.5,
    "on": True,
    "none": None,
    "tags": ["x", "y"],
    "owner": {"name": "Ana", "age": 30, "home": {"city": "Bern"}},
    "dotted.key": 1,
    "day": "2026-05-01",
}


FILTERS: list[tuple[dict[str, Any], bool]] = [
    ({}, True),
    ({"color": "red"}, True),
    ({"color": "blue"}, False),
    ({"color": "red", "size": 7}, True),
    ({"color": "red", "size": 8}, False),
    ({"missing": None}, True),
    ({"none": None}, True),
    ({"missing": 1}, False),
    ({"size": {"$eq": 7}}, True),
    ({"size": {"$ne": 7}}, False),
    ({"missing": {"$ne": 7}}, True),
    ({"size": {"$gt": 6.5}}, True),
    ({"size": {"$gt": 7}}, False),
    ({"size": {"$gte": 7}}, True),
    ({"size": {"$lt": 7}}, False),
    ({"size": {"$lte": 7}}, True),
    ({"size": {"$gt": 1, "$lt": 7}}, False),
    ({"size": {"$gt": "6"}}, True),
    ({"missing": {"$gt": 1}}, False),
    ({"none": {"$lte": 1}}, False),
    ({"color": {"$gt": 1}}, False),
    ({"tags": {"$gt": 1}}, False),
    ({"day": {"$gte": "2026-04-30"}}, True),
    ({"day": {"$lt": "2026-04-30"}}, False),
    ({"on": True}, True),
    ({"tags": ["x", "y"]}, True),
    ({"tags": ["x"]}, False),
    ({"tags": ["x", {"$ne": "z"}]}, True),
    ({"owner": {"name": "Ana"}}, True),
    ({"owner": {"name": "Ana", "home": {"city": "Bern"}}}, True),
    ({"owner": {"age": {"$gte": 31}}}, False),
    ({"owner.name": "Ana"}, True),
    ({"owner.home.city": {"$eq": "Bern"}}, True),
    ({"owner.home.city.street": None}, True),
    ({"owner.age": {"$lt": 30}}, False),
    ({"dotted.key": 1}, True),
    ({"color.length": 3}, False),
]


@pytest.mark.parametrize(("filter", "fits"), FILTERS, ids=repr)
def test_a_filter(filter: dict[str, Any], fits: bool) -> None:
    tests = field_tests(filter)
    fitting = matcher(tests)
    assert (fitting is None or fitting(VALUE)) is fits
    columns = columns_of(tests)
    assert (columns is None) is any("." in field for field in filter)
    others = [{}, {"color": 3, "size": "9", "price": float("nan"), "on": 2**70}, VALUE]
    for values in (others, [VALUE]):
        told = [
            [*tell([each.get(field) for each in values])] for field, tell in (columns or {}).items()
        ]
        if columns is not None and fitting is not None:
            assert [*map(all, zip(*told, strict=True))] == [*map(fitting, values)]


def test_a_search_finds_by_every_filter_what_fits_it(memory: Any) -> None:
    others = [(("a",), f"k{number}", {"number": number}) for number in range(3)]
    put_all(memory, (("a",), "k", VALUE), *others)
    for wanted, fits in FILTERS:
        assert ("k" in keys(memory.search(("a",), filter=wanted))) is fits, wanted


def test_a_filter_looks_at_values_of_every_type_that_a_store_keeps(memory: Any) -> None:
    day = datetime(2026, 5, 1, tzinfo=timezone.utc)
    value = {"day": day, "raw": b"\x00\xff", "deep": {(1, 2): [day]}, "é": 2**63, "n": 1}
    put_all(memory, (("a",), "k", value), (("a",), "other", {"n": 2, "nan": float("nan")}))
    for field in value:
        (item,) = memory.search(("a",), filter={field: value[field]})
        assert (item.key, item.value) == ("k", value)
    assert keys(memory.search(("a",), filter={f"f{number}": None for number in range(20)})) == [
        "other",
        "k",
    ]


def test_what_another_program_left_among_the_items_is_an_error(
    memory: Any, store: StoreLike
) -> None:
    put_all(memory, (("a",), "k", {"n": 1}), (("b",), "k", {"n": 1}))
    (namespace,) = [name for name in store.namespaces() if name.endswith("{s:1:b}")]
    for odd in (
        ["no", "item"],
        7,
        [1, 2, None, None, False, "no dict"],
        [1, "2", None, None, 0, {}],
    ):
        store.set(namespace, "odd", odd)
        with pytest.raises(DecodeError, match=r"'odd' of namespace \('b',\)"):
            memory.search((), filter={"n": 1})


def test_searches_and_listings_read_nothing_of_what_lies_elsewhere(
    memory: Any, store: StoreLike
) -> None:
    put_all(memory, (("a",), "k", {"n": 1}), (("b",), "k", {"n": 1}))
    (namespace,) = [name for name in store.namespaces() if name.endswith("{s:1:b}")]
    store.set(namespace, "odd", "what cannot be read as an item")
    assert keys(memory.search(("a",), filter={"n": 1})) == ["k"]
    assert memory.list_namespaces() == [("a",), ("b",)]
    with pytest.raises(DecodeError):
        memory.search(("b",))


def test_a_search_returns_only_what_fits_its_filter(memory: Any) -> None:
    put_all(memory, *[(("a", str(n % 3)), f"k{n}", {"n": n, "deep": {"n": n}}) for n in range(20)])
    assert keys(memory.search(("a",), filter={"n": {"$gte": 17}})) == ["k19", "k18", "k17"]
    assert keys(memory.search(("a",), filter={"deep.n": 4})) == ["k4"]
    assert keys(memory.search(("a",), filter={"n": {"$lt": 9}}, limit=2, offset=1)) == ["k7", "k6"]
    assert memory.search(("a",), filter={"n": 20}) == []


@pytest.mark.parametrize(
    "filter",
    [
        {"n": {"$unknown": 1}},
        {"n": {"$gt": 1, "field": 2}},
        {"n": {"$gt": None}},
        {"n": {"$lte": [1]}},
        {"deep": {"n": {"$nin": [1]}}},
        {"n": [{"$in": 1}]},
        {"$or": [{"n": 1}]},
        {1: 2},
        [("n", 1)],
        "n",
    ],
    ids=repr,
)
def test_a_malformed_filter_is_a_value_error_also_where_nothing_is_stored(
    memory: Any, filter: Any
) -> None:
    with pytest.raises(ValueError, match="filter"):
        memory.search(("a",), filter=filter)


NAMESPACES = [
    ("a", "b", "c"),
    ("a", "b", "d", "e"),
    ("a", "b", "d", "i"),
    ("a", "b", "f"),
    ("a", "c", "f"),
    ("b", "a", "f"),
    ("users", "123"),
    ("users", "456", "settings"),
]


def full(memory: Any) -> Any:
    put_all(memory, *[(namespace, "k", {}) for namespace in reversed(NAMESPACES)])
    return memory


def test_all_namespaces_are_listed_sorted_and_once(memory: Any) -> None:
    assert memory.list_namespaces() == []
    assert full(full(memory)).list_namespaces() == NAMESPACES


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"prefix": ("a", "b")}, NAMESPACES[:4]),
        (
            {"prefix": ("a", "b"), "max_depth": 3},
            [("a", "b", "c"), ("a", "b", "d"), ("a", "b", "f")],
        ),
        ({"suffix": ("f",)}, [("a", "b", "f"), ("a", "c", "f"), ("b", "a", "f")]),
        ({"prefix": ("a",), "suffix": ("f",)}, [("a", "b", "f"), ("a", "c", "f")]),
        ({"prefix": ("a", "*", "f")}, [("a", "b", "f"), ("a", "c", "f")]),
        ({"prefix": ("*", "*", "settings")}, [("users", "456", "settings")]),
        ({"suffix": ("*", "f")}, [("a", "b", "f"), ("a", "c", "f"), ("b", "a", "f")]),
        ({"suffix": ("b", "*")}, [("a", "b", "c"), ("a", "b", "f")]),
        ({"prefix": ("none",)}, []),
        ({"max_depth": 1}, [("a",), ("b",), ("users",)]),
        ({"max_depth": 2, "limit": 2, "offset": 1}, [("a", "c"), ("b", "a")]),
        ({"max_depth": 0}, [()]),
        ({"limit": 3}, NAMESPACES[:3]),
        ({"limit": 3, "offset": 6}, NAMESPACES[6:]),
        ({"limit": 0}, []),
        ({"offset": 99}, []),
    ],
    ids=repr,
)
def test_a_listing(memory: Any, asked: dict[str, Any], found: list[tuple[str, ...]]) -> None:
    assert full(memory).list_namespaces(**asked) == found


def test_labels_that_look_like_patterns_are_literal_where_they_are_stored(memory: Any) -> None:
    put_all(memory, (("*", "x"), "k", {}), (("q", "x"), "k", {}), (("%", "_"), "k", {}))
    assert memory.list_namespaces(prefix=("%",)) == [("%", "_")]
    assert memory.list_namespaces(prefix=("q",)) == [("q", "x")]
    assert keys(memory.search(("*",))) == ["k"]


def test_an_unknown_kind_of_match_is_a_value_error(memory: Any) -> None:
    condition = MatchCondition("infix", ("a",))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="infix"):
        memory.batch([ListNamespacesOp((condition,))])


def test_several_searches_in_one_batch_keep_to_their_own(memory: Any) -> None:
    put_all(memory, (("a",), "1", {"n": 1}), (("b",), "2", {"n": 2}))
    found = memory.batch([SearchOp(("b",)), SearchOp(("a",)), SearchOp((), {"n": {"$gt": 1}})])
    assert [keys(each) for each in found] == [["2"], ["1"], ["2"]]


def test_a_namespace_with_an_item_is_never_omitted_after_another_was_emptied(memory: Any) -> None:
    put_all(memory, (("a",), "k", {}), (("b",), "k", {}))
    memory.delete(("a",), "k")
    assert ("b",) in memory.list_namespaces()
    assert keys(memory.search(())) == ["k"]
