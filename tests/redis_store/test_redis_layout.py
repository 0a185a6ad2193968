"""Which key is what: nothing but namespaces under a prefix, and what is derived apart from it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.crc import key_slot
from rights import SCRIPTS, STORE, limited
from servers import Server

from swarmstate.backends.redis import RedisStore
from swarmstate.backends.redis.keys import Layout

Make = Callable[..., RedisStore]

TAIL = "1:{t:thread}:"


@pytest.fixture(params=["with scripts", "without scripts"])
def build(request: pytest.FixtureRequest, make: Make) -> Make:
    """Make stores that enumerate in one of two ways."""

    def built(**options: object) -> RedisStore:
        store = make(**options)
        store.steps._scripting = request.param == "with scripts"
        return store

    return built


def under(raw: redis.Redis, prefix: str) -> dict[bytes, dict[bytes, bytes]]:
    """Return what a foreign program finds that reads all keys under the prefix as hashes."""
    return {key: raw.hgetall(key) for key in raw.keys(f"{prefix}:*")}


def left_by_0_1_0(raw: redis.Redis, prefix: str) -> list[bytes]:
    """Write what 0.1.0 kept under the prefix besides namespaces; return the keys."""
    raw.set(f"{prefix}:\0store", "1")
    raw.zadd(f"{prefix}:\0ids:{TAIL}", {"id": 0})
    raw.hset(f"{prefix}:\0fields:{TAIL}", "id", b"\x91\xa1x")
    return [f"{prefix}:\0{name}".encode() for name in (f"fields:{TAIL}", f"ids:{TAIL}", "store")]


def test_a_program_that_reads_all_keys_under_the_prefix_as_hashes_finds_the_namespaces(
    build: Make, raw: redis.Redis, prefix: str
) -> None:
    store, nested = build(), build(prefix=f"{prefix}:prod")
    store.set_many([("a", "k", 1), ("b:c", "k", 2)])
    store.update("a", "k", lambda value: value + 1)
    nested.set("n", "k", 3)
    store.restore(store.snapshot())
    assert under(raw, prefix) == {
        f"{prefix}:a".encode(): {b"k": b"\x02"},
        f"{prefix}:b:c".encode(): {b"k": b"\x02"},
        f"{prefix}:prod:n".encode(): {b"k": b"\x03"},
    }
    assert sorted(raw.keys(f"!{prefix}:*")) == [
        f"!{prefix}:\0store".encode(),
        f"!{prefix}:prod:\0store".encode(),
    ]


def test_the_mark_that_0_1_0_left_protects_a_nested_store(
    build: Make, raw: redis.Redis, prefix: str
) -> None:
    left_by_0_1_0(raw, f"{prefix}:old")
    raw.hset(f"{prefix}:old:n", "k", b"\x01")
    outer = build()
    outer.set("n", "k", 1)
    assert (outer.namespaces(), len(outer)) == (["n"], 1)
    outer.restore(outer.snapshot())
    outer.clear()
    assert raw.hget(f"{prefix}:old:n", "k") == b"\x01"
    assert raw.exists(f"{prefix}:old:\0store", f"{prefix}:old:\0ids:{TAIL}") == 2


@pytest.mark.parametrize(
    "write",
    [
        lambda store: store.set("n", "k", 1),
        lambda store: store.set_many([("n", "k", 1), ("m", "k", 1)]),
        lambda store: store.update("n", "k", lambda value: 1),
        lambda store: store.restore(store.snapshot()),
    ],
)
def test_the_first_write_moves_what_0_1_0_left_and_nothing_else(
    make: Make, raw: redis.Redis, prefix: str, write: Callable[[RedisStore], object]
) -> None:
    left_by_0_1_0(raw, prefix)
    nested = left_by_0_1_0(raw, f"{prefix}:nested")
    raw.hset(f"{prefix}:n", "k", b"\x05")
    raw.hset(f"{prefix}:\0theirs", "k", "a foreign program's")
    store = make()
    assert store.get("n", "k") == 5
    assert len(store) == 1
    write(store)
    assert {*raw.keys(f"{prefix}:*\0*")} == {*nested, f"{prefix}:\0theirs".encode()}
    assert raw.exists(f"!{prefix}:\0store")
    assert store.get("n", "k") in (1, 5)


def test_a_move_that_was_cut_short_is_finished_by_the_next_store_that_writes(
    make: Make, raw: redis.Redis, prefix: str
) -> None:
    left_by_0_1_0(raw, prefix)
    raw.set(f"!{prefix}:\0store", "1")
    make().set("n", "k", 1)
    assert raw.keys(f"{prefix}:*\0*") == []


def test_what_0_1_0_left_is_moved_on_a_cluster_too(
    cluster_url: str, make: Make, prefix: str
) -> None:
    port = int(cluster_url.rpartition(":")[2])
    with redis.RedisCluster(host="127.0.0.1", port=port) as client:
        old = left_by_0_1_0(client, prefix)
        store = make(cluster_url)
        store.set("n", "k", 1)
        assert [key for key in old if client.exists(key)] == []
        assert client.exists(f"!{prefix}:\0store") == 1


def test_clear_removes_what_0_1_0_derived(build: Make, raw: redis.Redis, prefix: str) -> None:
    left_by_0_1_0(raw, prefix)
    raw.hset(f"{prefix}:n", "k", b"\x05")
    build().clear()
    assert raw.keys(f"{prefix}:*") == [f"{prefix}:\0store".encode()], "the mark stays"


def test_clear_and_restore_leave_what_nested_stores_derive(
    build: Make, raw: redis.Redis, prefix: str
) -> None:
    store, nested = build(), build(prefix=f"{prefix}:n")
    store.set("x", "k", 1)
    nested.set("x", "k", 2)
    # The first of these ends the prefix: this one is derived, not a marker of a longer prefix.
    tricky = f"!{prefix}:\0ids:a:\0store"
    raw.zadd(tricky, {"id": 0})
    raw.zadd(f"!{prefix}:n:\0ids:a", {"id": 0})
    raw.hset(f"{prefix}:\0ids:a:y", "k", b"\x01")
    raw.zadd(f"!{prefix}:theirs:\0ids:a:\0store", {"id": 0})
    raw.hset(f"{prefix}:theirs:y", "k", b"\x01")
    assert sorted(store.namespaces()) == ["theirs:y", "x"]
    store.clear()
    assert not raw.exists(tricky)
    assert raw.exists(f"!{prefix}:n:\0ids:a")
    store.restore(store.snapshot())
    assert raw.exists(f"!{prefix}:n:\0ids:a")
    assert nested.get("x", "k") == 2


def test_a_prefix_whose_keys_would_be_those_of_derived_data_is_refused(make: Make) -> None:
    with pytest.raises(ValueError, match="prefix must not start with '!'"):
        make(prefix="!app")


BRACES = st.text(st.sampled_from("ab:{}\0é"), max_size=12)


@settings(deadline=None)
@given(BRACES.filter(lambda prefix: "\0" not in prefix and "{" not in prefix), BRACES, BRACES)
def test_what_is_derived_from_a_namespace_lies_in_its_slot_at_a_key_of_its_own(
    prefix: str, one: str, other: str
) -> None:
    layout = Layout(prefix)
    keys = [layout.head + name.encode() for name in (one, other)]
    derived = [layout.derived("tail", of=key) for key in keys]
    for key, key_derived in zip(keys, derived, strict=True):
        assert key_slot(key_derived) == key_slot(key)
        assert key_derived.startswith(f"!{prefix}:\0tail".encode())
    assert (keys[0] == keys[1]) == (derived[0] == derived[1])


def test_a_prefix_with_a_hash_tag_keeps_everything_in_one_slot() -> None:
    layout = Layout("{app}")
    key = layout.key("n{x}")
    assert key_slot(layout.derived("tail", of=key)) == key_slot(key) == key_slot(layout.marker)


def test_a_user_of_just_the_two_patterns_may_do_everything(
    server: Server, make: Make, raw: redis.Redis, prefix: str
) -> None:
    store = make(limited(server, raw, prefix, [*STORE, *SCRIPTS]))
    store.set_many([("a", "k", 1), ("b", "k", 2)])
    assert store.update("a", "k", lambda value: value + 1) == 2
    assert store.get_many([("a", "k"), ("b", "k")]) == [2, 2]
    taken = store.snapshot()
    store.clear()
    store.restore(taken)
    assert len(store) == 2
    assert store.delete_many([("a", "k"), ("b", "k")]) == 2
    assert store.namespaces() == []
