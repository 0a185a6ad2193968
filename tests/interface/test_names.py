"""What a namespace and a key may be called, and what happens to those that may not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from swarmstate.errors import ArgumentTypeError, ArgumentValueError, InvalidArgumentError
from swarmstate.protocols import StoreLike

NAMES = [
    "",
    " ",
    "a",
    "a:b",
    ":",
    "a:",
    "*",
    "?",
    "[a]",
    "a*",
    "{a}",
    "{",
    "}",
    "{t:1}x",
    "\\",
    "a\\*",
    "a\nb",
    "a\0b",
    "é",
    "日本",
    "🐝",
    "e\u0301",
    "\uffff",
    "\U0010ffff",
    "name " * 100,
]


class Name(str):
    """A subclass whose own idea of equality must not reach the store."""

    __slots__ = ()

    def __hash__(self) -> int:
        return 1

    def __eq__(self, other: object) -> bool:
        return True


@pytest.fixture
def codec() -> str:
    """One is enough here: names are not encoded."""
    return "msgpack"


CALLS: dict[str, Callable[[StoreLike, Any, Any], Any]] = {
    "set": lambda store, namespace, key: store.set(namespace, key, 1),
    "get": lambda store, namespace, key: store.get(namespace, key),
    "set_default": lambda store, namespace, key: store.set_default(namespace, key, 1),
    "contains": lambda store, namespace, key: store.contains(namespace, key),
    "delete": lambda store, namespace, key: store.delete(namespace, key),
    "update": lambda store, namespace, key: store.update(namespace, key, lambda old: 1),
    "set_many": lambda store, namespace, key: store.set_many([(namespace, key, 1)]),
    "get_many": lambda store, namespace, key: store.get_many([(namespace, key)]),
    "delete_many": lambda store, namespace, key: store.delete_many([(namespace, key)]),
}
NAMESPACE_CALLS: dict[str, Callable[[StoreLike, Any], Any]] = {
    "delete_namespace": lambda store, namespace: store.delete_namespace(namespace),
    "keys": lambda store, namespace: store.keys(namespace),
    "items": lambda store, namespace: store.items(namespace),
    "max_key": lambda store, namespace: store.max_key(namespace),
    "in": lambda store, namespace: namespace in store,
}


def test_every_name_is_distinct_as_a_namespace_and_as_a_key(store: StoreLike) -> None:
    store.set_many((namespace, key, [namespace, key]) for namespace in NAMES for key in NAMES)
    assert len(store) == len(NAMES) ** 2
    assert sorted(store.namespaces()) == sorted(NAMES)
    for namespace in NAMES:
        assert sorted(store.keys(namespace)) == sorted(NAMES)
        assert store.get(namespace, namespace) == [namespace, namespace]
        assert namespace in store
    for namespace in NAMES:
        assert store.delete_namespace(namespace) == len(NAMES)
    assert len(store) == 0


def test_names_survive_a_snapshot_and_a_restore(store: StoreLike) -> None:
    store.set_many((name, name, name) for name in NAMES)
    snapshot = store.snapshot()
    store.clear()
    store.restore(snapshot)
    assert store.get_many([(name, name) for name in NAMES]) == NAMES
    assert sorted(snapshot.keys) == sorted((name, name) for name in NAMES)


def test_a_subclass_of_str_counts_as_its_base(store: StoreLike) -> None:
    store.set(Name("ns"), Name("a"), 1)
    store.set(Name("ns"), Name("b"), 2)
    store.set_many([(Name("ns"), Name("c"), 3)])
    assert store.get("ns", "a") == 1
    assert store.get_many([(Name("ns"), Name("b")), ("ns", "c")]) == [2, 3]
    assert {type(name) for name in (*store.keys("ns"), *store.namespaces())} == {str}
    assert Name("ns") in store
    assert store.delete(Name("ns"), Name("a")) is True
    assert sorted(store.keys(Name("ns"))) == ["b", "c"]


@pytest.mark.parametrize("call", CALLS)
def test_a_name_of_another_type_is_refused(store: StoreLike, call: str) -> None:
    for name in (None, 1, b"bytes", ["list"], ("t",), object):
        kind = type(name).__name__
        with pytest.raises(ArgumentTypeError, match=f"namespace must be a str, not .*{kind}"):
            CALLS[call](store, name, "key")
        with pytest.raises(ArgumentTypeError, match=f"key must be a str, not .*{kind}"):
            CALLS[call](store, "ns", name)
    assert len(store) == 0


@pytest.mark.parametrize("call", CALLS)
def test_a_lone_surrogate_is_refused(store: StoreLike, call: str) -> None:
    for name in ("\ud800", "a\udfff", "é\udc80b"):
        with pytest.raises(ArgumentValueError, match="surrogate"):
            CALLS[call](store, name, "key")
        with pytest.raises(ArgumentValueError, match="surrogate"):
            CALLS[call](store, "ns", name)
    assert len(store) == 0


@pytest.mark.parametrize("call", CALLS)
def test_a_namespace_that_starts_with_nul_is_reserved(store: StoreLike, call: str) -> None:
    for namespace in ("\0", "\0a", Name("\0é")):
        with pytest.raises(ArgumentValueError, match="reserved"):
            CALLS[call](store, namespace, "key")
    assert len(store) == 0


@pytest.mark.parametrize("call", NAMESPACE_CALLS)
def test_calls_about_a_namespace_refuse_what_is_none(store: StoreLike, call: str) -> None:
    for namespace in (None, 1, b"ns", "\0", "\ud800"):
        with pytest.raises(InvalidArgumentError, match="namespace"):
            NAMESPACE_CALLS[call](store, namespace)


@pytest.mark.parametrize("namespace", [None, 5, b"ns"], ids=repr)
def test_a_snapshot_refuses_the_same_names(store: StoreLike, namespace: Any) -> None:
    snapshot = store.snapshot()
    with pytest.raises(ArgumentTypeError, match="namespace"):
        snapshot.get(namespace, "key")
    with pytest.raises(ArgumentTypeError, match="key"):
        snapshot.get("ns", namespace)
    with pytest.raises(ArgumentValueError, match="reserved"):
        snapshot.get("\0ns", "key")


@pytest.mark.parametrize("prefix", [1, b"a", ["a"]], ids=repr)
def test_a_prefix_of_another_type_is_refused(store: StoreLike, prefix: Any) -> None:
    with pytest.raises(ArgumentTypeError, match="prefix"):
        store.keys("ns", prefix)
    with pytest.raises(ArgumentTypeError, match="prefix"):
        store.namespaces(prefix)


@pytest.mark.parametrize("fn", [None, 1, "name"], ids=repr)
def test_an_update_without_a_function_is_refused(store: StoreLike, fn: Any) -> None:
    with pytest.raises(ArgumentTypeError, match="fn must be callable"):
        store.update("ns", "key", fn)
