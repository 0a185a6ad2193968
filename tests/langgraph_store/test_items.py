"""Single items and batches: what was put is there, and nothing else."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from freezegun import freeze_time
from langgraph.store.base import (
    GetOp,
    InvalidNamespaceError,
    ListNamespacesOp,
    PutOp,
    SearchOp,
)
from stores import CODECS

from swarmstate import Store
from swarmstate.errors import ArgumentTypeError, ArgumentValueError, DecodeError, EncodeError
from swarmstate.integrations.langgraph import SwarmStateStore
from swarmstate.protocols import StoreLike

NOW = datetime(2026, 5, 1, 12, tzinfo=timezone.utc)


@pytest.fixture(params=CODECS)
def codec(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_an_item_comes_back_as_it_was_put(memory: Any) -> None:
    value = {"name": "Ana", "tags": ["a", {"b": None}], "n": 2**60, "raw": b"\x00\xff"}
    with freeze_time(NOW, real_asyncio=True):
        memory.put(("users", "ana"), "profile", value)
    item = memory.get(("users", "ana"), "profile")
    assert item.value == value
    assert (item.namespace, item.key) == (("users", "ana"), "profile")
    assert item.created_at == item.updated_at == NOW
    assert memory.get(("users", "ana"), "other") is None
    assert memory.get(("users",), "profile") is None


def test_overwriting_keeps_when_the_item_was_created(memory: Any) -> None:
    with freeze_time(NOW, real_asyncio=True) as clock:
        memory.put(("a",), "k", {"n": 1})
        clock.tick(5)
        memory.put(("a",), "k", {"n": 2})
    item = memory.get(("a",), "k")
    assert item.value == {"n": 2}
    assert item.created_at == NOW
    assert item.updated_at == NOW + timedelta(seconds=5)
    memory.delete(("a",), "k")
    memory.put(("a",), "k", {"n": 3})
    assert memory.get(("a",), "k").created_at > NOW


def test_a_deleted_item_is_gone_and_deleting_it_again_does_nothing(memory: Any) -> None:
    memory.put(("a",), "k", {"n": 1})
    memory.put(("a",), "other", {"n": 2})
    memory.delete(("a",), "k")
    memory.delete(("a",), "k")
    assert memory.get(("a",), "k") is None
    assert [item.key for item in memory.search(("a",))] == ["other"]


def test_what_is_returned_shares_nothing_with_what_is_stored(memory: Any) -> None:
    value = {"list": [1]}
    memory.put(("a",), "k", value)
    value["list"].append(2)
    memory.get(("a",), "k").value["list"].append(3)
    assert memory.get(("a",), "k").value == {"list": [1]}


def test_results_come_in_the_order_of_the_operations(memory: Any) -> None:
    memory.put(("a",), "1", {"n": 1})
    memory.put(("b", "c"), "2", {"n": 2})
    results = memory.batch(
        [
            GetOp(("a",), "1"),
            PutOp(("a",), "3", {"n": 3}),
            SearchOp(("b",)),
            GetOp(("a",), "missing"),
            ListNamespacesOp(),
            GetOp(("b", "c"), "2"),
        ]
    )
    assert results[0].value == {"n": 1}
    assert results[1] is None
    assert [item.key for item in results[2]] == ["2"]
    assert results[3] is None
    assert results[4] == [("a",), ("b", "c")]
    assert results[5].value == {"n": 2}
    assert memory.get(("a",), "3").value == {"n": 3}
    assert memory.batch([]) == []


def test_a_batch_reads_before_it_writes_and_the_last_put_counts(memory: Any) -> None:
    results = memory.batch(
        [
            PutOp(("a",), "k", {"n": 1}),
            GetOp(("a",), "k"),
            PutOp(("a",), "gone", {"n": 1}),
            PutOp(("a",), "k", {"n": 2}),
            PutOp(("a",), "gone", None),
        ]
    )
    assert results == [None] * 5
    assert memory.get(("a",), "k").value == {"n": 2}
    assert memory.get(("a",), "gone") is None


def test_a_batch_of_a_thousand_items_in_a_hundred_namespaces(memory: Any) -> None:
    places = [((f"ns{n % 100}", "x"), f"key{n}") for n in range(1000)]
    memory.batch([PutOp(*place, {"n": n}) for n, place in enumerate(places)])
    found = memory.batch([GetOp(*place) for place in places])
    assert [item.value["n"] for item in found] == list(range(1000))
    assert len(memory.list_namespaces(limit=1000)) == 100
    assert len(memory.search((), limit=2000)) == 1000


@pytest.mark.parametrize(
    "other",
    [("ab",), ("a:b",), ("a", "b:"), ("a", "b", "c"), ("1:a", "b"), ("a}", "b"), ("a", "b}")],
    ids=repr,
)
def test_no_two_namespaces_collide(memory: Any, other: tuple[str, ...]) -> None:
    memory.put(("a", "b"), "k", {"whose": "first"})
    memory.put(other, "k", {"whose": "second"})
    assert memory.get(("a", "b"), "k").value == {"whose": "first"}
    assert memory.get(other, "k").value == {"whose": "second"}
    memory.delete(other, "k")
    assert memory.get(("a", "b"), "k").value == {"whose": "first"}
    assert set(memory.list_namespaces()) == {("a", "b"), other}


@pytest.mark.parametrize("text", ["", "a/b", "ключ", "🦋", "a\nb", "%*?[x]", "a\0b", "k" * 5000])
def test_any_text_is_a_key_and_any_label_a_namespace(memory: Any, text: str) -> None:
    memory.put(("a",), text, {"n": 1})
    assert memory.get(("a",), text).key == text
    assert [item.key for item in memory.search(("a",))] == [text]
    memory.batch([PutOp((text, "x.y"), "k", {"n": 2})])
    (found,) = memory.batch([GetOp((text, "x.y"), "k")])
    assert found.namespace == (text, "x.y")
    assert (text, "x.y") in memory.list_namespaces()


def test_public_methods_refuse_the_names_that_langgraph_refuses(memory: Any) -> None:
    for namespace in [(), ("a.b",), ("a", ""), ("langgraph", "x")]:
        with pytest.raises(InvalidNamespaceError):
            memory.put(namespace, "k", {})


@pytest.mark.parametrize(
    ("op", "error"),
    [
        (PutOp(("a",), 1, {}), ArgumentTypeError),  # type: ignore[arg-type]
        (PutOp("a", "k", {}), ArgumentTypeError),  # type: ignore[arg-type]
        (PutOp((1,), "k", {}), ArgumentTypeError),  # type: ignore[arg-type]
        (PutOp(("\ud800",), "k", {}), ArgumentValueError),
        (PutOp(("a",), "\ud800", {}), ArgumentValueError),
        (PutOp(("a",), "k", [1]), ArgumentTypeError),  # type: ignore[arg-type]
        (PutOp(("a",), "k", {}, ttl=0), ArgumentValueError),
        (PutOp(("a",), "k", {}, ttl=-1.5), ArgumentValueError),
        (PutOp(("a",), "k", {}, ttl=float("nan")), ArgumentValueError),
        (PutOp(("a",), "k", {}, ttl="5"), ArgumentTypeError),  # type: ignore[arg-type]
        (GetOp(("a",), None), ArgumentTypeError),  # type: ignore[arg-type]
        (SearchOp(("a",), limit=-1), ArgumentValueError),
        (SearchOp(("a",), offset=-1), ArgumentValueError),
        (SearchOp(("a",), limit="1"), ArgumentTypeError),  # type: ignore[arg-type]
        (SearchOp(("a",), query=5), ArgumentTypeError),  # type: ignore[arg-type]
        (ListNamespacesOp(limit=-1), ArgumentValueError),
        (ListNamespacesOp(max_depth=-1), ArgumentValueError),
        ("a text", ValueError),
    ],
    ids=repr,
)
def test_a_batch_with_one_operation_that_is_refused_writes_nothing(
    memory: Any, op: Any, error: type[Exception]
) -> None:
    with pytest.raises(error):
        memory.batch([PutOp(("good",), "k", {"n": 1}), op])
    assert memory.get(("good",), "k") is None
    assert memory.list_namespaces() == []


def test_a_value_that_cannot_be_encoded_is_named_by_its_place_in_the_value(memory: Any) -> None:
    with pytest.raises(EncodeError, match=r"cannot encode set at value\['a'\]\[1\]"):
        memory.batch([PutOp(("b",), "k", {"n": 1}), PutOp(("a",), "k", {"a": [1, {2}]})])
    assert memory.search(()) == []


def test_what_another_program_left_there_is_an_error_that_names_the_place(
    memory: Any, store: StoreLike
) -> None:
    memory.put(("a",), "k", {"n": 1})
    (namespace,) = [name for name in store.namespaces() if name.startswith("langgraph:items:")]
    store.set(namespace, "odd", ["no", "item"])
    with pytest.raises(DecodeError, match=r"'odd' of namespace \('a',\)"):
        memory.get(("a",), "odd")
    memory.put(("a",), "odd", {"n": 2})
    assert memory.get(("a",), "odd").value == {"n": 2}


def test_two_memories_over_one_store_see_the_same(make: Any) -> None:
    make().put(("a",), "k", {"n": 1})
    assert make().get(("a",), "k").value == {"n": 1}
    assert make().list_namespaces() == [("a",)]


def test_a_snapshot_carries_a_memory_into_any_other_store(store: StoreLike, make: Any) -> None:
    make().put(("a",), "k", {"n": 1}, ttl=5)
    other = Store()
    other.restore(store.snapshot())
    assert SwarmStateStore(other).get(("a",), "k") == make().get(("a",), "k", refresh_ttl=False)
    assert SwarmStateStore(other).list_namespaces() == [("a",)]
    store.clear()
    assert make().search(()) == []
    assert make().list_namespaces() == []
    store.restore(other.snapshot())
    assert make().get(("a",), "k").value == {"n": 1}


def test_without_a_store_it_keeps_everything_in_memory() -> None:
    memory = SwarmStateStore()
    memory.put(("a",), "k", {"n": 1})
    assert memory.get(("a",), "k") is not None
    assert isinstance(memory.store, Store)
    assert "SwarmStateStore" in repr(memory)


@pytest.mark.parametrize("store", [5, "redis://localhost", ..., Store], ids=repr)
def test_what_is_not_a_store_is_refused(store: Any) -> None:
    with pytest.raises(ArgumentTypeError, match="store must be"):
        SwarmStateStore(store)
