"""Logs and commits on Redis: what is derived, what breaks, who may not, and what they cost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import appending
import pytest
import redis
from moving import MovingSlot
from preloaded import context
from proxies import Proxy
from rights import STORE, limited
from servers import Server

from swarmstate import ABSENT
from swarmstate.backends.redis import AsyncRedisStore, RedisStore
from swarmstate.backends.redis.transport.topology import slot_of
from swarmstate.errors import AccessDenied, ArgumentValueError, StoreUnavailable

Make = Callable[..., RedisStore]

MANY = 1500


@pytest.fixture(params=["scripts", "no scripts"])
def url(request: pytest.FixtureRequest, server: Server) -> str:
    if request.param == "scripts":
        return server.url
    return str(request.getfixturevalue("no_scripts_url"))


@pytest.fixture(params=["scripts", "no scripts", "cluster"])
def place(request: pytest.FixtureRequest, server: Server) -> str:
    if request.param == "scripts":
        return server.url
    return str(request.getfixturevalue(f"{request.param.replace(' ', '_')}_url"))


def proxied(proxy: Proxy, url: str) -> str:
    return f"{url.rpartition(':')[0]}:{proxy.port}/0"


def race(url: str, prefix: str, what: Callable[..., None], processes: int) -> list[Any]:
    barrier, out = context.Barrier(processes), context.Queue()
    started = [
        context.Process(target=what, args=(url, prefix, number, barrier, out))
        for number in range(processes)
    ]
    for process in started:
        process.start()
    results = [out.get(timeout=120) for _ in started]
    for process in started:
        process.join()
    assert [process.exitcode for process in started] == [0] * processes
    return results


def test_eight_processes_lose_no_append(place: str, prefix: str, make: Make) -> None:
    written = [entry for mine in race(place, prefix, appending.append, 8) for entry in mine]
    assert len({key for key, _ in written}) == len(written) == 8 * appending.ROUNDS
    assert make(place).tail("log") == sorted(written)


def test_of_eight_processes_one_wins_each_commit(place: str, prefix: str, make: Make) -> None:
    won = race(place, prefix, appending.commit, 8)
    assert sum(won) == make(place).get("{x}", "head")
    assert make(place).items("log{x}") != []
    assert len(make(place).keys("log{x}")) == sum(won)


def test_a_process_killed_amid_writes_leaves_none_half_done_and_loses_none(
    place: str, prefix: str, tmp_path: Path
) -> None:
    appending.kill_writers(place, {"prefix": prefix}, tmp_path / "told", times=5)


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_while_a_slot_moves_a_commit_is_made_whole_or_not_at_all(
    cluster_url: str, prefix: str, scripts: bool
) -> None:
    slot = MovingSlot(urlsplit(cluster_url).port or 0, slot_of(b"x"))
    url = cluster_url
    if not scripts:
        for node in slot.nodes:
            node.execute_command(
                *("ACL", "SETUSER", "plain", "on", ">secret", "~*", "+@all", "-@scripting")
            )
        url = cluster_url.replace("//", "//plain:secret@")
    outcomes = {True: 0, False: 0}
    with RedisStore(url, prefix=prefix, timeout=0.3, retries=0) as store:

        def commit() -> None:
            try:
                head = store.get("{x}", "head", 0)
                items = [("{x}", "head", head + 1), ("log{x}", str(head), "entry")]
                expect = {("{x}", "head"): head or ABSENT}
                assert store.commit(items, expect=expect)
                outcomes[True] += 1
            except StoreUnavailable:
                outcomes[False] += 1

        for _ in range(3):
            commit()
        slot.begin()
        commit()
        while left := slot.left():
            slot.move(left[0])
            commit()
        commit()
        slot.end()
        for _ in range(30):
            commit()
        head = store.get("{x}", "head")
        assert sorted(map(int, store.keys("log{x}"))) == list(range(head))
    assert outcomes[True] <= head <= sum(outcomes.values())
    assert outcomes[True] > 3


def counter(raw: redis.Redis, prefix: str) -> bytes | None:
    found = list(raw.scan_iter(f"!{prefix}:\\\0log:*".replace("\\", "")))
    return found[0] if found else None


def test_a_counter_is_kept_apart_only_for_a_long_log_and_expires(
    store: RedisStore, raw: redis.Redis, prefix: str
) -> None:
    store.append("log", range(1000))
    assert counter(raw, prefix) is None
    store.append("log", range(MANY))
    key = counter(raw, prefix)
    assert key is not None
    assert raw.hgetall(key) == {b"last": b"0000000000002500", b"fields": b"2500"}
    assert raw.pttl(key) > 0
    assert sorted(raw.keys(f"{prefix}:*")) == [f"{prefix}:log".encode()]
    store.clear()
    assert raw.keys(f"*{prefix}:*") == [f"!{prefix}:\0store".encode()]


@pytest.mark.parametrize("damage", ["gone", "string", "set", "garbage", "ahead", "behind"])
def test_a_counter_that_is_missing_or_wrong_is_made_again(
    store: RedisStore, raw: redis.Redis, prefix: str, damage: str
) -> None:
    keys = store.append("log", range(MANY))
    store.append("log", ["last"])
    key = counter(raw, prefix)
    assert key is not None
    if damage in ("gone", "string", "set"):
        raw.delete(key)
    if damage == "string":
        raw.set(key, "x")
    elif damage == "set":
        raw.sadd(key, "x")
    elif damage == "garbage":
        raw.hset(key, mapping={"last": "ä", "fields": MANY + 1})
    elif damage == "ahead":
        raw.hset(key, "last", "0000000000009999")
    elif damage == "behind":
        raw.hset(key, "last", keys[7])
    assert store.tail("log", 2) == [(keys[-1], MANY - 1), (f"{MANY + 1:016d}", "last")]
    assert store.append("log", ["next"]) == [f"{MANY + 2:016d}"]
    store.append("log", ["more"])
    assert raw.hget(counter(raw, prefix) or b"", "last") == f"{MANY + 3:016d}".encode()
    assert store.pop("log") == (f"{MANY + 3:016d}", "more")


def test_the_counter_lies_in_the_slot_of_its_log(cluster_url: str, prefix: str) -> None:
    with RedisStore(cluster_url, prefix=prefix) as store:
        for name in ("log", "{tag}log", "a}b{c"):
            for _ in range(2):
                store.append(name, range(MANY))
            assert store.tail(name, 1) == [(f"{2 * MANY:016d}", MANY - 1)]
            assert store.pop(name) == (f"{2 * MANY:016d}", MANY - 1)


def test_a_commit_over_several_slots_of_a_cluster_is_refused_by_name(
    cluster_url: str, prefix: str
) -> None:
    with RedisStore(cluster_url, prefix=prefix) as store:
        for arguments in (
            {"items": [("a", "k", 1), ("b", "k", 1)]},
            {"items": [("a", "k", 1)], "delete": [("b", "k")]},
            {"items": [("a", "k", 1)], "expect": {("b", "k"): ABSENT}},
        ):
            with pytest.raises(ArgumentValueError, match=r"one slot.*'a'"):
                store.commit(**arguments)  # type: ignore[arg-type]
        assert len(store) == 0
        assert store.commit([("a{t}", "k", 1), ("b{t}", "k", 1)], expect={("c{t}", "k"): ABSENT})


@pytest.mark.parametrize("kind", ["set", "lpush", "sadd"])
def test_what_another_program_keeps_at_the_key_is_left_alone(
    url: str, make: Make, raw: redis.Redis, prefix: str, kind: str
) -> None:
    store = make(url)
    getattr(raw, kind)(f"{prefix}:foreign", "x")
    assert store.tail("foreign") == store.tail("foreign", 2) == []
    assert store.pop("foreign") is None
    assert store.commit([("own", "k", 1)], [("foreign", "k")], expect={("foreign", "k"): ABSENT})
    for write in (
        lambda: store.append("foreign", [1]),
        lambda: store.commit([("own", "k", 2), ("foreign", "k", 2)], [("own", "x")]),
    ):
        with pytest.raises(ArgumentValueError, match="another program keeps a"):
            write()
    assert store.get("own", "k") == 1
    assert raw.type(f"{prefix}:foreign") not in (b"hash", b"none")


def test_reading_a_log_keeps_the_marker_warm(
    store: RedisStore, raw: redis.Redis, prefix: str
) -> None:
    store.append("log", [1])
    raw.delete(f"!{prefix}:\0store")
    # As if the last time had been long ago.
    store.steps.marker.due_to_reads = 0.0
    assert store.tail("log", 1) == [(f"{1:016d}", 1)]
    assert raw.exists(f"!{prefix}:\0store")


def test_a_log_and_what_is_committed_get_the_stores_time(
    url: str, make: Make, raw: redis.Redis, prefix: str
) -> None:
    store = make(url, ttl=100, ttl_on_read=True)
    store.append("log", [1])
    store.commit([("ns", "k", 1)])
    for name in ("log", "ns"):
        assert 0 < raw.ttl(f"{prefix}:{name}") <= 100
    raw.persist(f"{prefix}:log")
    assert store.tail("log", 1) == [(f"{1:016d}", 1)]
    assert 0 < raw.ttl(f"{prefix}:log") <= 100


def test_where_scripts_are_refused_they_take_two_round_trips(
    proxy: Proxy, no_scripts_url: str, make: Make
) -> None:
    store = make(proxied(proxy, no_scripts_url))
    store.append("log", [1])
    store.commit([("ns", "k", 1)])
    for expected, call in (
        (2, lambda: store.append("log", [1, 2])),
        (1, lambda: store.tail("log", 2)),
        (2, lambda: store.pop("log")),
        (2, lambda: store.commit([("ns", "k", 1)], [("m", "k")], expect={("ns", "k"): 1})),
        (2, lambda: store.commit([("ns", "k", 1)], expect={("ns", "k"): 2})),
        (1, lambda: store.commit(expect={("ns", "k"): 2})),
    ):
        with proxy.counted():
            call()
        assert proxy.trips == expected


WRITES: dict[str, Callable[[Any], Any]] = {
    "append": lambda store: store.append("log", ["new"]),
    "pop": lambda store: store.pop("log"),
    "commit": lambda store: store.commit([("ns", "k", 2)], expect={("ns", "k"): 1}),
}


@pytest.mark.parametrize("name", WRITES)
@pytest.mark.parametrize("way", ["blocking", "awaited"])
@pytest.mark.parametrize("end", ["replies", "requests"])
def test_a_connection_that_breaks_anywhere_is_told_as_unknown_or_carried_out_once(
    proxy: Proxy, url: str, make: Make, prefix: str, name: str, way: str, end: str
) -> None:
    plain = make(url)
    told = 0
    for cut in range(0, 400, 23):
        plain.clear()
        plain.append("log", ["old"])
        plain.set("ns", "k", 1)
        proxy.uncut()
        failure = asyncio.run(_broken(proxy, proxied(proxy, url), prefix, name, way, end, cut))
        proxy.uncut()
        values = [value for _, value in plain.tail("log")]
        value = plain.get("ns", "k")
        changed = {"append": values == ["old", "new"], "pop": values == [], "commit": value == 2}
        assert changed[name] or (values == ["old"] and value == 1)
        unknown = "may or may not have been carried out" in failure
        assert unknown or changed[name] is not bool(failure)
        told += unknown
    assert told > 0


async def _broken(
    proxy: Proxy, url: str, prefix: str, name: str, way: str, end: str, cut: int
) -> str:
    """Make a call over a connection that breaks; return what its error says, "" for none."""
    store: Any = (RedisStore if way == "blocking" else AsyncRedisStore)(
        url, prefix=prefix, retries=1
    )
    cuts = {"replies": proxy.cut_replies_after, "requests": proxy.cut_requests_after}
    try:
        if way == "blocking":
            store.get("n", "k")
            cuts[end](cut)
            WRITES[name](store)
        else:
            await store.get("n", "k")
            cuts[end](cut)
            await WRITES[name](store)
    except StoreUnavailable as error:
        return str(error)
    finally:
        closed = store.close()
        if closed is not None:
            await closed
    return ""


def test_a_user_who_may_neither_run_scripts_nor_watch_is_told_so(
    server: Server, make: Make, raw: redis.Redis, prefix: str
) -> None:
    store = make(limited(server, raw, prefix, STORE))
    store.set("log", f"{1:016d}", 1)
    for call in (
        lambda: store.append("log", [2]),
        lambda: store.pop("log"),
        lambda: store.commit([("n", "k", 1)]),
    ):
        with pytest.raises(AccessDenied, match="WATCH"):
            call()
    assert store.tail("log", 5) == [(f"{1:016d}", 1)]
    assert store.commit(expect={("log", f"{1:016d}"): 1})
    assert len(store) == 1


async def test_watched_transactions_of_many_tasks_share_no_connection(
    no_scripts_url: str, prefix: str
) -> None:
    async with AsyncRedisStore(no_scripts_url, prefix=prefix) as store:

        async def add(number: int) -> None:
            for step in range(5):
                await store.append(f"log{number % 3}", [[number, step]])
                await store.set("other", str(number), step)

        await asyncio.gather(*(add(number) for number in range(12)))
        found = [value for name in range(3) for _, value in await store.tail(f"log{name}")]
        assert sorted(found) == [[number, step] for number in range(12) for step in range(5)]


async def test_of_awaited_calls_that_meet_one_wins_and_the_others_go_on(
    url: str, prefix: str
) -> None:
    # Stores of their own, so connections of their own: what one watches the others change.
    stores = [AsyncRedisStore(url, prefix=prefix) for _ in range(4)]

    async def commit(store: AsyncRedisStore, name: int, step: int) -> bool:
        items = [("{x}", "head", step + 1), ("log{x}", str(step), name)]
        return await store.commit(items, expect={("{x}", "head"): step or ABSENT})

    try:
        for step in range(20):
            won = await asyncio.gather(*(commit(store, n, step) for n, store in enumerate(stores)))
            assert won.count(True) == 1
            assert await stores[0].get("log{x}", str(step)) == won.index(True)
            await asyncio.gather(*(store.append("appended", [step]) for store in stores))
        assert [value for _, value in await stores[0].tail("appended")] == sorted(
            [*range(20)] * len(stores)
        )
    finally:
        for store in stores:
            store.driver.close()
