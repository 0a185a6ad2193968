"""What errors show of a value: little, for little work, and never a password."""

from __future__ import annotations

import collections
import dataclasses
import decimal
import enum
import sys
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from codec_values import Lying, Unspeakable, many, wild_values
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmstate import Snapshot, Store, codecs, dumps, loads
from swarmstate.codecs.zstd import ZstdCodec
from swarmstate.errors import SwarmStateError
from swarmstate.shown import place, shown


@settings(many, max_examples=300)
@given(wild_values, st.integers(10, 200))
def test_any_value_is_shown_within_the_limit(value: Any, limit: int) -> None:
    text = shown(value, limit)
    assert 0 < len(text) <= limit


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda items: st.lists(items) | st.tuples(items) | st.dictionaries(st.text(), items),
    max_leaves=5,
)


@settings(many, max_examples=300)
@given(plain)
def test_a_short_plain_value_is_shown_as_repr_does(value: Any) -> None:
    text = repr(value)
    if "://" in text or "=" in text or max(map(text.count, "[({")) > 3:
        return  # what could be a secret, and what is nested deeper than is shown
    assert shown(value, 10_000) == text
    if '"' in text:
        return  # which quotes are used depends on what is shown
    assert shown(value, 20) == (text if len(text) <= 20 else text[:17] + "...")


@dataclasses.dataclass
class Holder:
    items: Any


class Loud(list[Any]):
    def __repr__(self) -> str:
        raise AssertionError("a repr of the user's was called")

    __str__ = __iter__ = __len__ = __getitem__ = __repr__  # type: ignore[assignment]


class Name(str):
    __slots__ = ()

    def __repr__(self) -> str:
        raise AssertionError("a repr of the user's was called")

    __str__ = __len__ = __getitem__ = __repr__  # type: ignore[assignment]


class Colour(enum.Enum):
    RED = 1


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Loud([1, 2]), "[1, 2]"),
        (Name("abc"), "'abc'"),
        (collections.OrderedDict(a=1), "{'a': 1}"),
        (collections.Counter("aa"), "{'a': 2}"),
        ({1}, "{1}"),
        (set(), "set()"),
        (frozenset({1}), "frozenset({1})"),
        ((1,), "(1,)"),
        (bytearray(b"a"), "bytearray(b'a')"),
        (10**5000, "<int of 16610 bits>"),
        (-(10**5000), "<int of 16610 bits>"),
        ([[[[[[1]]]]]], "[[[[[...]]]]]"),
        (Unspeakable(), "<Unspeakable object>"),
        (Holder([1]), "<Holder object>"),
        (Colour.RED, "<Colour object>"),
        (decimal.Decimal(1), "<Decimal object>"),
        ({"a": 1j, "b": ...}, "{'a': 1j, 'b': Ellipsis}"),
        (int, "<class 'int'>"),
        (len, "<built-in function len>"),
    ],
    ids=lambda part: part if type(part) is str else type(part).__name__,
)
def test_a_value_is_shown_as_its_built_in_type_and_no_code_of_the_users_runs(
    value: Any, text: str
) -> None:
    assert shown(value) == text


def test_what_says_that_it_is_something_else_is_shown_by_its_class() -> None:
    assert shown(Lying()) == "<Lying object>"
    assert shown([Lying()]) == "[<Lying object>]"


SECRET = "hunter2/@:?secret"


@pytest.mark.parametrize(
    "value",
    [
        f"redis://user:{SECRET}@host:6379/0",
        f"redis://:{SECRET}@host",
        f"redis://:{SECRET * 1000}@host",
        f"redis://host/0?password={SECRET}",
        f"redis://host/0?a=b&PASSWORD={SECRET}&c=d",
        f"redis://:{SECRET}@host".encode(),
        [f"redis://:{SECRET}@host"],
        {"url": f"redis://:{SECRET}@host"},
        {"password": SECRET},
        {"db_password": SECRET.encode()},
        {"a": {"API_KEY": SECRET}},
        ("redis", {"client_secret": SECRET}),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_password_is_not_shown(value: Any) -> None:
    text = shown(value, 500)
    assert "hunter2" not in text
    assert "***" in text


@pytest.mark.parametrize("value", ["https://example.com/a?b=c", "a@b.c", {"max_tokens": 5}])
def test_what_holds_no_password_is_shown_whole(value: Any) -> None:
    assert shown(value) == repr(value)


def test_a_value_that_contains_itself_is_shown_as_far_as_there_is_room() -> None:
    loop: list[Any] = [1]
    loop.append(loop)
    assert shown(loop) == "[1, [1, [1, [1, [...]]]]]"


def test_a_place_in_a_store_is_named_briefly() -> None:
    assert place("n", "k") == "key 'k' of namespace 'n'"
    assert len(place("n" * 10**6, "k" * 10**6)) < 150


BIG: Any = [{"role": "user", "content": "x" * 200}] * 200_000
BIG_TEXT = "x" * 20_000_000
BIG_INT: Any = 1 << 10_000_000


CALLS: dict[str, Callable[[Any], Any]] = {
    "a namespace": lambda big: Store().get(big, "k"),
    "a key": lambda big: Store().set("n", big, 1),
    "a triple": lambda big: Store().set_many([("n", big)]),  # type: ignore[list-item]
    "a pair": lambda big: Store().get_many([big]),
    "a batch": lambda big: Store().get_many([big]),
    "a function": lambda big: Store().update("n", "k", big),
    "a prefix": lambda big: Store().keys("n", big),
    "a snapshot": lambda big: Store().restore(big),
    "a base": lambda big: Store().snapshot().diff(big),
    "a backend": lambda big: Store(backend=big),
    "a codec": lambda big: Store(codec=big),
    "a default": lambda big: Store(default=big),
    "a bound": lambda big: Store(max_history=[big]),
    "values of a snapshot": lambda big: Snapshot.from_values(big),
    "a snapshot's namespace": lambda big: Snapshot.from_values({"n": [big]}),  # type: ignore[dict-item]
    "a parent": lambda big: Snapshot.from_values({}, parent=big),
    "dumps": lambda big: dumps(1, codec=big),
    "dumps, default": lambda big: dumps(1, default=big),
    "loads": lambda big: loads(big),
    "register": lambda big: codecs.register(big, big),
    "register, codec": lambda big: codecs.register("mine", big),
    "zstd, level": lambda big: ZstdCodec(level=big),
    "zstd, size": lambda big: ZstdCodec(max_size=big),
}
VALUES = {
    "a long list": BIG,
    "a dict of it": {"a": BIG},
    "a set": {1, (BIG_TEXT,)},
    "a long text": BIG_TEXT + "\ud800",
    "long bytes": memoryview(BIG_TEXT.encode()),
    "an object that holds it": Holder(BIG),
    "a long int": -BIG_INT,
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("value", VALUES)
def test_an_argument_in_the_wrong_place_is_refused_without_printing_it(
    call: str, value: str
) -> None:
    big = VALUES[value]
    if value == "a long text" and call in ("a codec", "dumps"):
        big = big[:-1]  # a name like any other, and unknown
    if value == "long bytes" and call == "loads":
        big = big[:0]
    tracemalloc.start()
    try:
        with pytest.raises(SwarmStateError) as caught:
            CALLS[call](big)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(str(caught.value)) < 500
    if value != "a long text":  # in all of which the surrogate is looked for
        assert peak < 200_000


def test_a_value_that_cannot_be_encoded_is_not_printed(codec: str) -> None:
    for value in ({(BIG_TEXT, 1j): 1}, {BIG_TEXT: {BIG_TEXT: {1}}}, [BIG_INT], {Name("k"): {1}}):
        with pytest.raises(SwarmStateError) as caught:
            dumps(value, codec)
        assert len(str(caught.value)) < 400


def test_ids_are_not_quoted_whole() -> None:
    long = "k" * 1_000_000
    store = Store()
    with pytest.raises(SwarmStateError) as caught:
        store.update(long, long, lambda value: store.set(long, long, [value]))
    assert len(str(caught.value)) < 300
    foreign = Snapshot.from_values({long: {long: b"\xc1"}})
    with pytest.raises(SwarmStateError) as caught:
        foreign.get(long, long)
    assert len(str(caught.value)) < 300
    assert sys.getsizeof(str(caught.value.args)) < 1000
