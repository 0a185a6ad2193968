"""Reads answer from the hashes where what is derived cannot be put right, and else put it right."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from rights import SAVER, SCRIPTS, STORE, user
from servers import Server, present, running, wait_until
from threads import config, grow

from swarmstate import loads
from swarmstate.backends.redis import RedisStore
from swarmstate.checkpoints import names
from swarmstate.errors import AccessDenied, StoreUnavailable
from swarmstate.integrations.langgraph import SwarmStateSaver

MakeRedis = Callable[..., RedisStore]
ALL: Any = {"configurable": {"thread_id": "thread"}}
TAIL = names("thread", "").tail
KINDS = [kind for kind in ("valkey", "redis-7.0", "redis-6.2") if present(kind)]


def everything(saver: SwarmStateSaver) -> list[Any]:
    """Return what every way of reading gives."""
    listed = list(saver.list(ALL))
    return [
        listed,
        list(saver.list(ALL, limit=3)),
        saver.get_tuple(config()),
        [saver.get_tuple(one.config) for one in listed],
        saver.get_delta_channel_history(config=config(), channels=["x"]),
    ]


def filled(saver: SwarmStateSaver) -> list[Any]:
    """Make a thread whose derived keys have to be put right, and return what there is to read."""
    grow(saver, 5, writes=2)
    grow(saver, 2, namespace="inner:1", writes=1)
    answers = everything(saver)
    store: Any = saver.store
    store.restore(store.snapshot())
    return answers


@pytest.fixture(params=KINDS)
def own_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server of the test's own."""
    with running(request.param) as started:
        yield started


@pytest.mark.parametrize("options", [{}, {"ttl": 60, "ttl_on_read": True}])
def test_a_replica_answers(own_server: Server, options: Any) -> None:
    with RedisStore(own_server.url) as store:
        answers = filled(SwarmStateSaver(store, ttl=options.get("ttl")))
        replica_options = ("--replicaof", "127.0.0.1", str(own_server.port))
        with running(own_server.kind, *replica_options) as replica, replica.client() as client:
            wait_until(lambda: client.info("replication").get("master_link_status") == "up")
            with RedisStore(replica.url, timeout=2, retries=0) as reading:
                saver = SwarmStateSaver(reading, **options)
                assert everything(saver) == answers
                with pytest.raises(StoreUnavailable, match="READONLY"):
                    saver.delete_thread("thread")
            # What the primary then puts right reaches the replica.
            assert everything(SwarmStateSaver(store)) == answers
            with own_server.client() as primary:
                assert primary.wait(1, 10_000) == 1
            with RedisStore(replica.url, timeout=2, retries=0) as reading:
                assert everything(SwarmStateSaver(reading)) == answers


def test_a_read_on_a_replica_that_should_renew_warns_once(server: Server) -> None:
    with running() as own, RedisStore(own.url) as store:
        grow(SwarmStateSaver(store, ttl=60), 2)
        with own.client() as client:
            for key in client.keys("*"):
                client.pexpire(key, 20_000)
        with running("valkey", "--replicaof", "127.0.0.1", str(own.port)) as replica:
            with replica.client() as client:
                wait_until(lambda: client.info("replication").get("master_link_status") == "up")
            with RedisStore(replica.url, timeout=2, retries=0) as reading:
                saver = SwarmStateSaver(reading, ttl=60, ttl_on_read=True)
                with pytest.warns(RuntimeWarning, match="not renewed by reads"):
                    assert saver.get_tuple(config()) is not None
                assert saver.get_tuple(config()) is not None


def test_a_full_server_answers_and_can_be_relieved(own_server: Server) -> None:
    with RedisStore(own_server.url) as store, own_server.client() as client:
        saver = SwarmStateSaver(store)
        answers = filled(saver)
        client.config_set("maxmemory", 1)
        assert everything(saver) == answers
        with pytest.raises(StoreUnavailable, match="OOM"):
            grow(saver, 1, thread="another")
        saver.prune(["thread"])
        assert [one.config for one in saver.list(config())] == [answers[2].config]
        saver.delete_thread("thread")
        assert [key for key in client.keys("*") if b"{t:thread}" in key] == []


def test_a_user_who_may_only_read_reads(
    server: Server, make_redis: MakeRedis, raw: redis.Redis
) -> None:
    answers = filled(SwarmStateSaver(make_redis()))
    url = user(server, raw, "~*", "-@all", "+@read", "+eval", "+evalsha", "+type")
    saver = SwarmStateSaver(make_redis(url))
    assert everything(saver) == answers
    with pytest.raises(AccessDenied):
        grow(saver, 1)


def test_a_user_who_may_not_see_what_is_derived_reads_and_is_told_the_pattern_when_it_writes(
    server: Server, make_redis: MakeRedis, raw: redis.Redis, prefix: str
) -> None:
    answers = filled(SwarmStateSaver(make_redis()))
    rights = [f"+{command}" for command in (*STORE, *SCRIPTS, *SAVER)]
    url = user(server, raw, f"~{prefix}:*", "-@all", *rights)
    saver = SwarmStateSaver(make_redis(url))
    assert everything(saver) == answers
    with pytest.raises(AccessDenied, match=f"~!{prefix}:\\*"):
        grow(saver, 1)
    url = user(server, raw, f"~{prefix}:*", f"~!{prefix}:*", "-@all", *rights)
    saver = SwarmStateSaver(make_redis(url), ttl=1000, max_checkpoints_per_thread=10)
    assert everything(saver) == answers
    grow(saver, 1)
    saver.prune(["thread"])
    saver.copy_thread("thread", "copy")
    saver.delete_thread("thread")
    saver.delete_thread("copy")
    assert saver.threads() == []


SPOILT: dict[str, Callable[[redis.Redis, str], Any]] = {
    "gone": lambda raw, key: raw.delete(key),
    "a string": lambda raw, key: raw.set(key, "somebody else's"),
    "a list": lambda raw, key: raw.rpush(key, "somebody", "else's"),
    "a set": lambda raw, key: raw.sadd(key, "somebody", "else's"),
}


@pytest.mark.parametrize("part", ["ids", "fields"])
@pytest.mark.parametrize("how", SPOILT)
@pytest.mark.parametrize("scripts", [True, False])
def test_what_is_derived_may_be_of_any_type_and_is_put_right(
    make_redis: MakeRedis,
    no_scripts_url: str,
    raw: redis.Redis,
    prefix: str,
    part: str,
    how: str,
    scripts: bool,
) -> None:
    saver = SwarmStateSaver(make_redis() if scripts else make_redis(no_scripts_url))
    last = grow(saver, 5, writes=2)
    answers = everything(saver)
    key = f"!{prefix}:\0{part}:{TAIL}"
    kind = raw.type(key)

    def spoil() -> None:
        raw.delete(key)
        SPOILT[how](raw, key)

    spoil()
    assert everything(saver) == answers
    if scripts:
        assert raw.type(key) == kind
    spoil()
    saver.put_writes(last, [("y", 1)], "another task")
    spoil()
    grow(saver, 1)
    spoil()
    assert len(list(saver.list(config()))) == 6
    spoil()
    saver.prune(["thread"])
    assert len(list(saver.list(config()))) == 1
    spoil()
    saver.delete_thread("thread")
    assert [left for left in raw.keys(f"*{prefix}:*") if b"{t:thread}" in left] == []


@pytest.mark.parametrize("garbage", [b"", b"\xc1", b"\x93", b"\x01", b"\x91\xa1x", b"\x80"])
def test_entries_that_are_garbage_are_put_right(
    make_redis: MakeRedis, raw: redis.Redis, prefix: str, garbage: bytes
) -> None:
    saver = SwarmStateSaver(make_redis())
    grow(saver, 5, writes=2)
    answers = everything(saver)
    key = f"!{prefix}:\0fields:{TAIL}"

    def known() -> dict[bytes, list[Any]]:
        return {each: sorted(loads(data)) for each, data in raw.hgetall(key).items()}

    good = known()
    for call in (lambda: everything(saver), lambda: saver.copy_thread("thread", "copy")):
        raw.hset(key, mapping=dict.fromkeys(good, garbage))
        call()
        assert everything(saver) == answers
    assert known() == good
    raw.hset(key, mapping=dict.fromkeys(good, garbage))
    saver.prune(["thread"])
    assert everything(saver)[2] == answers[2]


def test_a_saver_that_only_reads_keeps_the_marker_warm(
    make_redis: MakeRedis, raw: redis.Redis, prefix: str
) -> None:
    grow(SwarmStateSaver(make_redis()), 2)
    reader = SwarmStateSaver(make_redis())
    marker = f"!{prefix}:\0store"
    touched = raw.info("commandstats").get("cmdstat_touch", {"calls": 0})["calls"]
    assert reader.get_tuple(config()) is not None
    assert raw.exists(marker)
    assert raw.info("commandstats")["cmdstat_touch"]["calls"] > touched


def test_the_first_write_to_a_thread_takes_away_what_0_1_0_derived_of_it(
    make_redis: MakeRedis, raw: redis.Redis, prefix: str
) -> None:
    grow(SwarmStateSaver(make_redis()), 3, writes=1)
    moved = {
        f"!{prefix}:\0{part}:{TAIL}": f"{prefix}:\0{part}:{TAIL}" for part in ("ids", "fields")
    }
    for new, old in moved.items():
        raw.rename(new, old)
    raw.delete(f"!{prefix}:\0store")
    saver = SwarmStateSaver(make_redis())
    before = everything(saver)
    grow(saver, 1)
    assert not raw.exists(*moved.values())
    assert raw.exists(*moved) == 2
    assert list(saver.list(config()))[1:] == before[0]
