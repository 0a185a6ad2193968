"""One value at a time: set, get, set_default, contains, delete, update."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from swarmstate.errors import EncodeError
from swarmstate.protocols import StoreLike

VALUES: list[Any] = [
    None,
    True,
    0,
    -(2**63),
    2**64 - 1,
    1.5,
    float("inf"),
    "",
    "text with \0, é and 🐝",
    b"",
    b"\x00\xff",
    [],
    [1, [2, [3]]],
    {},
    {"a": {"b": [None, {"c": b"d"}]}},
    {1: "int key", None: "none key", b"k": "bytes key", (1, "t"): "tuple key"},
    "long " * 10_000,
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:30])
def test_a_value_comes_back_as_it_was_set(store: StoreLike, value: Any) -> None:
    store.set("ns", "key", value)
    back = store.get("ns", "key", "absent")
    assert back == value
    assert type(back) is type(value)


def test_a_tuple_comes_back_as_a_list_and_a_bytearray_as_bytes(store: StoreLike) -> None:
    store.set("ns", "key", (1, bytearray(b"x")))
    assert store.get("ns", "key") == [1, b"x"]


def test_an_absent_key_gives_the_default(store: StoreLike) -> None:
    sentinel = object()
    assert store.get("ns", "key") is None
    assert store.get("ns", "key", sentinel) is sentinel
    store.set("ns", "key", None)
    assert store.get("ns", "key", sentinel) is None
    assert store.get("ns", "other", sentinel) is sentinel
    assert store.get("other", "key", default=sentinel) is sentinel


def test_setting_again_replaces(store: StoreLike) -> None:
    store.set("ns", "key", {"a": 1, "b": 2})
    store.set("ns", "key", {"c": 3})
    assert store.get("ns", "key") == {"c": 3}
    assert len(store) == 1


def test_callers_share_no_mutable_state_with_the_store(store: StoreLike) -> None:
    value = {"list": [1]}
    store.set("ns", "key", value)
    value["list"].append(2)
    first = store.get("ns", "key")
    assert first == {"list": [1]}
    first["list"].append(3)
    assert store.get("ns", "key") == {"list": [1]}


def test_arguments_may_be_named(store: StoreLike) -> None:
    store.set(namespace="ns", key="key", value=1)
    assert store.get(namespace="ns", key="key", default=None) == 1
    assert store.contains(namespace="ns", key="key")
    assert store.delete(namespace="ns", key="key")


def test_set_default_stores_only_what_is_absent(store: StoreLike) -> None:
    assert store.set_default("ns", "key", 1) is True
    assert store.set_default("ns", "key", 2) is False
    assert store.get("ns", "key") == 1
    store.delete("ns", "key")
    assert store.set_default("ns", "key", 3) is True
    assert store.get("ns", "key") == 3


def test_set_default_refuses_a_bad_value_even_where_it_would_not_be_stored(
    store: StoreLike,
) -> None:
    store.set("ns", "key", 1)
    with pytest.raises(EncodeError):
        store.set_default("ns", "key", object())
    assert store.get("ns", "key") == 1


def test_contains_tells_whether_a_key_exists(store: StoreLike) -> None:
    assert store.contains("ns", "key") is False
    store.set("ns", "key", None)
    assert store.contains("ns", "key") is True
    assert store.contains("ns", "other") is False
    assert store.contains("other", "key") is False


def test_delete_tells_whether_the_key_existed(store: StoreLike) -> None:
    assert store.delete("ns", "key") is False
    store.set("ns", "key", 1)
    store.set("ns", "other", 2)
    assert store.delete("ns", "key") is True
    assert store.delete("ns", "key") is False
    assert store.get("ns", "key") is None
    assert store.get("ns", "other") == 2


def test_a_value_that_no_codec_knows_is_refused_and_nothing_is_written(store: StoreLike) -> None:
    store.set("ns", "key", 1)
    with pytest.raises(EncodeError):
        store.set("ns", "key", {"a": object()})
    with pytest.raises(EncodeError):
        store.set("new", "key", {1, 2})
    assert store.get("ns", "key") == 1
    assert store.namespaces() == ["ns"]


def test_a_default_hook_encodes_what_the_codec_does_not_know(make_store: Any, codec: str) -> None:
    store: StoreLike = make_store(codec=codec, default=lambda value: sorted(value))
    store.set("ns", "key", {"tags": {"b", "a"}})
    assert store.get("ns", "key") == {"tags": ["a", "b"]}


def test_what_a_default_hook_raises_passes_unchanged(make_store: Any, codec: str) -> None:
    class HookError(Exception):
        pass

    def refuse(value: object) -> object:
        raise HookError(value)

    store: StoreLike = make_store(codec=codec, default=refuse)
    with pytest.raises(HookError):
        store.set("ns", "key", {1, 2})
    assert len(store) == 0


def test_update_replaces_a_value_by_what_a_function_makes_of_it(store: StoreLike) -> None:
    store.set("ns", "list", [1])
    assert store.update("ns", "list", lambda old: [*old, 2]) == [1, 2]
    assert store.get("ns", "list") == [1, 2]


def test_update_starts_from_the_default_where_there_is_no_value(store: StoreLike) -> None:
    assert store.update("ns", "count", lambda old: old + 1, default=0) == 1
    assert store.update("ns", "count", lambda old: old + 1, default=0) == 2
    assert store.update("ns", "seen", lambda old: old is None) is True
    store.set("ns", "none", None)
    assert store.update("ns", "none", lambda old: [old], default="absent") == [None]


def test_an_update_that_fails_writes_nothing(store: StoreLike) -> None:
    store.set("ns", "key", 1)
    with pytest.raises(ZeroDivisionError):
        store.update("ns", "key", lambda old: old / 0)
    with pytest.raises(EncodeError):
        store.update("ns", "key", lambda old: object())
    with pytest.raises(EncodeError):
        store.update("ns", "new", lambda old: object())
    assert store.items("ns") == [("key", 1)]


def test_an_update_sees_a_write_that_came_in_between_and_starts_over(store: StoreLike) -> None:
    store.set("ns", "key", 1)
    calls = []

    def add_ten(old: int) -> int:
        calls.append(old)
        if len(calls) == 1:
            store.set("ns", "key", 2)
        return old + 10

    assert store.update("ns", "key", add_ten) == 12
    assert calls == [1, 2]


def test_an_update_sees_that_the_key_was_deleted_in_between(store: StoreLike) -> None:
    store.set("ns", "key", 1)
    calls = []

    def add_ten(old: int) -> int:
        calls.append(old)
        if len(calls) == 1:
            store.delete("ns", "key")
        return old + 10

    assert store.update("ns", "key", add_ten, default=0) == 10
    assert calls == [1, 0]


def test_concurrent_updates_lose_nothing(store: StoreLike) -> None:
    threads = [
        threading.Thread(
            target=lambda: [store.update("ns", "n", lambda n: n + 1, default=0) for _ in range(50)]
        )
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.get("ns", "n") == 200
