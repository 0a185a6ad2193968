"""What belongs to a store, and what does not."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

import msgpack
import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from swarmstate.backends.redis import RedisStore
from swarmstate.backends.redis.keys import Layout
from swarmstate.errors import DecodeError, InvalidArgumentError

Make = Callable[..., RedisStore]

ODD = [
    *(
        "*",
        "a*",
        "[ab]",
        "a?c",
        "\\",
        "a\\*",
        "^x",
        "a-z",
        "{",
        "}",
        "{}",
        "{t:1}",
        "a:b",
        ":",
        "::",
    ),
    *("%s", " ", "a b", "\n", "\x01", "a\0b", "x:\0y", "é", "日本"),
]


@pytest.fixture(params=["with scripts", "without scripts"])
def scripting(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "with scripts")


@pytest.fixture
def build(make: Make, scripting: bool) -> Make:
    def built(**options: object) -> RedisStore:
        store = make(**options)
        store.steps._scripting = scripting
        return store

    return built


def test_a_hash_is_a_marker_nowhere_and_a_namespace_only_outside_the_reserved_part(
    build: Make, raw: redis.Redis, prefix: str
) -> None:
    store = build()
    store.set("a", "k", 1)
    for name in ("\0index", "\0store", "b:\0store", "b:c"):
        raw.hset(f"{prefix}:{name}", "k", b"\x02")
    assert sorted(store.namespaces()) == ["a", "b:\0store", "b:c"]
    assert len(store) == len(store.snapshot().keys) == 3


def test_a_store_with_a_longer_prefix_is_neither_counted_nor_touched(
    build: Make, prefix: str
) -> None:
    outer, inner, deeper = (build(prefix=prefix + tail) for tail in ("", ":prod", ":prod:eu"))
    for store in (outer, inner, deeper):
        store.set_many([("n", "k", store.prefix), ("a:b", "k", 1), ("", "", 2)])
    outer.set("prod", "k", "the outer one's")
    outer.set("production", "k", "the outer one's too")
    assert len(outer) == 5
    assert sorted(outer.namespaces()) == ["", "a:b", "n", "prod", "production"]
    assert len(inner) == len(deeper) == 3
    taken = outer.snapshot()
    assert sorted({namespace for namespace, _ in taken.keys}) == sorted(outer.namespaces())
    outer.clear()
    assert (len(outer), len(inner), len(deeper)) == (0, 3, 3)
    outer.restore(taken)
    inner.clear()
    assert (len(outer), len(inner), len(deeper)) == (5, 0, 3)
    # The marker outlives clear(), so that what comes next is protected as well.
    build(prefix=f"{prefix}:prod").set("n", "k", "again")
    outer.restore(taken)
    assert inner.get("n", "k") == "again"
    assert deeper.get("n", "k") == deeper.prefix


def test_a_marker_is_written_with_the_first_write_and_not_before(
    make: Make, raw: redis.Redis, prefix: str
) -> None:
    store = make()
    store.get("n", "k")
    store.namespaces()
    store.clear()
    store.snapshot()
    assert raw.keys(f"*{prefix}:*") == []
    store.set("n", "k", 1)
    assert sorted(raw.keys(f"*{prefix}:*")) == [
        f"!{prefix}:\0store".encode(),
        f"{prefix}:n".encode(),
    ]


@pytest.mark.parametrize(
    "write",
    [
        lambda store: store.set_default("n", "k", 1),
        lambda store: store.set_many([("n", "k", 1)]),
        lambda store: store.update("n", "k", lambda value: 1),
    ],
)
def test_whichever_write_is_the_first_writes_the_marker(
    make: Make, raw: redis.Redis, prefix: str, write: Callable[[RedisStore], object]
) -> None:
    write(make())
    assert raw.exists(f"!{prefix}:\0store")


def test_a_marker_that_a_flush_took_away_comes_back_with_a_later_write(
    make: Make, raw: redis.Redis, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make()
    store.set("n", "k", 1)
    raw.delete(f"!{prefix}:\0store")
    store.set("n", "k", 2)
    assert not raw.exists(f"!{prefix}:\0store")
    later = monotonic() + 2
    monkeypatch.setattr("swarmstate.backends.redis.sending.monotonic", lambda: later)
    store.set("n", "k", 3)
    assert raw.exists(f"!{prefix}:\0store")


def test_a_restore_into_a_fresh_prefix_writes_the_marker(
    build: Make, raw: redis.Redis, prefix: str
) -> None:
    source = build(prefix=f"{prefix}-source")
    source.set("n", "k", 1)
    build().restore(source.snapshot())
    assert raw.exists(f"!{prefix}:\0store")


@pytest.mark.parametrize("odd", ODD)
def test_special_characters_are_literal_in_prefixes_namespaces_and_keys(
    build: Make, prefix: str, odd: str
) -> None:
    if "\0" not in odd:
        store, sibling = build(prefix=f"{prefix}{odd}"), build(prefix=f"{prefix}aXc")
    else:
        store, sibling = build(), build(prefix=f"{prefix}aXc")
    sibling.set("theirs", "k", 1)
    items = [(f"n{odd}", f"k{odd}", 1), (odd + "n", odd, 2), ("", "", 3)]
    store.set_many(items)
    assert sorted(store.namespaces()) == sorted(namespace for namespace, _, _ in items)
    assert store.namespaces(f"n{odd}") == [f"n{odd}"]
    assert store.keys(f"n{odd}", f"k{odd}") == [f"k{odd}"]
    assert store.get_many([item[:2] for item in items]) == [1, 2, 3]
    taken = store.snapshot()
    store.clear()
    assert len(store) == 0
    store.restore(taken)
    assert sorted(store.snapshot().keys) == sorted(item[:2] for item in items)
    assert len(sibling) == 1


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.dictionaries(
        st.text(st.sampled_from("a:*[]\\{}\0é"), max_size=6).filter(lambda n: n[:1] != "\0"),
        st.dictionaries(
            st.text(st.sampled_from("k:*\0"), max_size=3), st.integers(0, 9), min_size=1
        ),
        max_size=5,
    )
)
def test_a_restore_brings_back_exactly_the_namespaces_that_there_were(
    make: Make, state: dict[str, dict[str, int]]
) -> None:
    store = make()
    store.clear()
    store.set_many([(n, k, v) for n, content in state.items() for k, v in content.items()])
    taken = store.snapshot()
    store.set_many([("x", "y", 1), ("a", "z", 2)])
    store.restore(taken)
    assert {name: dict(store.items(name)) for name in store.namespaces()} == state


def test_keys_of_another_type_are_left_alone_and_read_as_absent(
    build: Make, raw: redis.Redis, prefix: str
) -> None:
    store = build()
    raw.set(f"{prefix}:text", "theirs")
    raw.zadd(f"{prefix}:sorted", {"theirs": 1})
    store.set("ours", "k", 1)
    assert (len(store), store.namespaces()) == (1, ["ours"])
    for name in ("text", "sorted"):
        assert store.get(name, "k", "absent") == "absent"
        assert not store.contains(name, "k")
        assert name not in store
        assert (store.keys(name), store.items(name), store.max_key(name)) == ([], [], None)
        assert not store.delete(name, "k")
        assert store.delete_namespace(name) == 0
    assert store.get_many([("text", "k"), ("ours", "k")]) == [None, 1]
    assert store.delete_many([("text", "k"), ("ours", "nothing")]) == 0
    taken = store.snapshot()
    store.clear()
    store.restore(taken)
    assert taken.keys == [("ours", "k")]
    assert raw.get(f"{prefix}:text") == b"theirs"
    assert raw.zscore(f"{prefix}:sorted", "theirs") == 1


@pytest.mark.parametrize(
    "write",
    [
        lambda store: store.set("text", "k", 1),
        lambda store: store.set_default("text", "k", 1),
        lambda store: store.set_many([("text", "k", 1)]),
        lambda store: store.update("text", "k", lambda value: 1),
    ],
)
def test_writing_to_another_programs_key_is_refused(
    make: Make, raw: redis.Redis, prefix: str, write: Callable[[RedisStore], object]
) -> None:
    raw.set(f"{prefix}:text", "theirs")
    with pytest.raises(InvalidArgumentError, match="another program"):
        write(make())
    assert raw.get(f"{prefix}:text") == b"theirs"


def test_a_plain_client_reads_and_writes_the_public_format(
    store: RedisStore, raw: redis.Redis, prefix: str
) -> None:
    store.set("chat", "last", {"role": "user", "n": [1, None, b"\xff"]})
    data = raw.hget(f"{prefix}:chat", "last")
    assert msgpack.unpackb(data) == {"role": "user", "n": [1, None, b"\xff"]}
    raw.hset(f"{prefix}:chat", "next", msgpack.packb([1.5, "x"]))
    raw.hset(f"{prefix}:new", "k", msgpack.packb(True))
    assert store.get("chat", "next") == [1.5, "x"]
    assert sorted(store.namespaces()) == ["chat", "new"]


def test_what_is_not_the_format_is_a_decode_error(
    store: RedisStore, raw: redis.Redis, prefix: str
) -> None:
    raw.hset(f"{prefix}:n", "k", b"\xc1")
    with pytest.raises(DecodeError):
        store.get("n", "k")
    raw.hset(f"{prefix}:n", mapping={"k": b"\x01", b"\xff": b"\x01"})
    for read in (lambda: store.keys("n"), lambda: store.items("n"), store.snapshot):
        with pytest.raises(DecodeError, match="is not UTF-8"):
            read()


def test_a_hash_whose_name_is_no_text_is_left_alone(
    build: Make, raw: redis.Redis, prefix: str
) -> None:
    store = build()
    # Stray, cut, overlong, a surrogate, beyond the last code point.
    tails = [
        *(b"\xff", b"a\x80", b"\xc3", b"\xc0\x80", b"\xe0\x80\x80", b"\xed\xa0\x80"),
        *(b"\xf0\x80\x80\x80", b"\xf4\x90\x80\x80", b"\xe2\x82a", b"\xc3\xc3\xa9\xa9"),
    ]
    theirs = [f"{prefix}:".encode() + tail for tail in tails]
    for key in theirs:
        raw.hset(key, "k", "v")
    ours = ["é", "€", "𝄞", "\uffff\ud7ff", "\U0010ffff"]
    store.set_many([(name, "k", 1) for name in ours])
    assert sorted(store.namespaces()) == sorted(ours)
    assert len(store) == len(store.snapshot()) == len(ours)
    store.clear()
    assert raw.exists(*theirs) == len(theirs)
    assert len(store) == 0


@pytest.mark.parametrize("wrong", [None, 1, b"app", "a\0b", "\ud800", "!", "!app"])
def test_a_prefix_that_cannot_be_is_refused(wrong: object) -> None:
    with pytest.raises(InvalidArgumentError, match="prefix must"):
        Layout(wrong)  # type: ignore[arg-type]
