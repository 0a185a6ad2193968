"""Namespaces that end some time after their last use."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from time import monotonic

import pytest
import redis
from rights import CLUSTER, SCRIPTS, STORE, limited
from servers import Server, cluster, wait_until

from swarmstate.backends.redis import RedisStore

Make = Callable[..., RedisStore]

WRITES: dict[str, Callable[[RedisStore], object]] = {
    "set": lambda store: store.set("n", "k", 1),
    "set_many": lambda store: store.set_many([("n", "k", 1), ("n", "l", 1)]),
    "set_many in two namespaces": lambda store: store.set_many([("n", "k", 1), ("m", "k", 1)]),
    "set_default": lambda store: store.set_default("n", "other", 1),
    "update": lambda store: store.update("n", "k", lambda value: 1),
    "restore": lambda store: store.restore(store.snapshot()),
}
READS: dict[str, Callable[[RedisStore], object]] = {
    "get": lambda store: store.get("n", "k"),
    "get_many": lambda store: store.get_many([("n", "k")]),
    "contains": lambda store: store.contains("n", "k"),
    "keys": lambda store: store.keys("n"),
    "items": lambda store: store.items("n"),
    "max_key": lambda store: store.max_key("n"),
}


@pytest.mark.parametrize("write", WRITES)
def test_every_write_starts_the_time_of_the_whole_namespace_anew(
    make: Make, raw: redis.Redis, prefix: str, write: str
) -> None:
    store = make(ttl=100)
    store.set("n", "k", 0)
    raw.expire(f"{prefix}:n", 5)
    WRITES[write](store)
    assert 99_000 < raw.pttl(f"{prefix}:n") <= 100_000
    assert raw.ttl(f"!{prefix}:\0store") == -1, "the marker stays"


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("renewed", [True, False])
def test_reads_start_it_anew_only_if_asked_to(
    make: Make, raw: redis.Redis, prefix: str, read: str, renewed: bool
) -> None:
    store = make(ttl=100, ttl_on_read=renewed)
    store.set("n", "k", 0)
    raw.expire(f"{prefix}:n", 5)
    READS[read](store)
    assert (raw.pttl(f"{prefix}:n") > 5000) is renewed


def test_without_ttl_nothing_expires_and_an_expiry_of_others_stays(
    store: RedisStore, raw: redis.Redis, prefix: str
) -> None:
    store.set("n", "k", 1)
    assert raw.ttl(f"{prefix}:n") == -1
    raw.expire(f"{prefix}:n", 50)
    store.set("n", "l", 1)
    assert raw.ttl(f"{prefix}:n") > 0


def test_a_namespace_expires_whole(make: Make) -> None:
    store = make(ttl=0.2)
    store.set_many([("n", f"k{i}", i) for i in range(100)])
    seen = set()

    def gone() -> bool:
        seen.add(len(store.keys("n")))
        return "n" not in store

    wait_until(gone)
    assert seen <= {0, 100}
    assert len(store) == 0


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("scripts", [True, False])
def test_an_expiry_that_is_refused_is_warned_of_once_and_does_not_lose_the_write(
    server: Server,
    make: Make,
    raw: redis.Redis,
    prefix: str,
    write: str,
    scripts: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if write == "update" and not scripts:
        return
    raw.hset(f"{prefix}:n", "old", b"\x01")
    commands = [each for each in [*STORE, *(SCRIPTS if scripts else ())] if each != "pexpire"]
    store = make(limited(server, raw, prefix, commands), ttl=100)
    with pytest.warns(RuntimeWarning, match=f"namespaces of prefix '{prefix}' do not expire"):
        WRITES[write](store)
    written = raw.hgetall(f"{prefix}:n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        WRITES[write](store)
        # In a while it is asked for again, in case that it is allowed meanwhile.
        later = monotonic() + 100
        monkeypatch.setattr("swarmstate.backends.redis.sending.monotonic", lambda: later)
        WRITES[write](store)
    assert raw.hgetall(f"{prefix}:n") == written
    assert written.keys() & {b"k", b"other"} or write == "restore"
    assert raw.ttl(f"{prefix}:n") == -1


def test_an_expiry_that_a_cluster_refuses_does_not_lose_the_write(prefix: str) -> None:
    with cluster() as nodes:
        commands = [each for each in [*STORE, *SCRIPTS, *CLUSTER] if each != "pexpire"]
        for node in nodes.nodes:
            with node.client() as client:
                url = limited(node, client, "*", commands, "node")
        url = url.replace("redis://", "redis+cluster://")
        for tagged in (prefix, f"{{{prefix}}}"):
            with RedisStore(url, prefix=tagged, ttl=100) as store:
                with pytest.warns(RuntimeWarning, match="do not expire"):
                    store.set_many([(f"n{number}", "k", number) for number in range(20)])
                with warnings.catch_warnings():
                    warnings.simplefilter("error")
                    store.restore(store.snapshot())
                assert len(store) == 20


def test_an_expiry_that_is_refused_does_not_fail_a_read(
    server: Server, make: Make, raw: redis.Redis, prefix: str
) -> None:
    make().set("n", "k", 1)
    commands = [each for each in STORE if each != "pexpire"]
    store = make(limited(server, raw, prefix, commands), ttl=100, ttl_on_read=True)
    with pytest.warns(RuntimeWarning, match="do not expire"):
        assert store.get("n", "k") == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make(ttl=100, ttl_on_read=True).get("n", "k")
