"""How much a page of a listing fetches: bounded by bytes, not by the number of its checkpoints."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import redis
from proxies import Proxy
from rights import user
from servers import Server
from threads import checkpoint, config, grow

from swarmstate.backends.redis import RedisStore
from swarmstate.integrations.langgraph import SwarmStateSaver
from swarmstate.integrations.langgraph.listing import PAGE_BYTES

SIZE = 1_000_000
COUNT = 30


@pytest.fixture(params=["server", "no_scripts_url", "cluster_url"])
def saver(request: pytest.FixtureRequest, make_redis: Callable[..., RedisStore]) -> SwarmStateSaver:
    place = request.getfixturevalue(request.param)
    return SwarmStateSaver(make_redis(place.url if isinstance(place, Server) else place))


def large(saver: SwarmStateSaver, *, thread: str = "thread", count: int = COUNT) -> list[str]:
    """Put checkpoints whose values and writes are a megabyte; return the ids, newest first."""
    where = config(thread)
    ids: list[str] = []
    for number in range(count):
        versions = {"image": str(number)}
        value = bytes([number]) * SIZE
        where = saver.put(
            where, checkpoint(versions, {"image": value}), {"number": number}, dict(versions)
        )
        saver.put_writes(where, [("image", value)], f"task{number}")
        ids.append(where["configurable"]["checkpoint_id"])
    return ids[::-1]


def test_the_newest_of_a_large_thread_cost_about_a_page_in_bytes(
    server: Server, no_scripts_url: str, make_redis: Callable[..., RedisStore]
) -> None:
    for url in (server.url, no_scripts_url):
        saver = SwarmStateSaver(make_redis(url, prefix=f"large{len(url)}"))
        ids = large(saver)
        with server.client() as raw:
            raw.config_resetstat()
            newest = next(iter(saver.list(config())))
            sent = raw.info("stats")["total_net_output_bytes"]
        assert newest.config["configurable"]["checkpoint_id"] == ids[0]
        assert sent < PAGE_BYTES + 3 * SIZE


def test_pages_by_bytes_give_every_checkpoint_once_and_whole(saver: SwarmStateSaver) -> None:
    ids = large(saver)
    found = list(saver.list(config()))
    assert [one.config["configurable"]["checkpoint_id"] for one in found] == ids
    for one, number in zip(found, reversed(range(COUNT)), strict=True):
        assert one.checkpoint["channel_values"]["image"] == bytes([number]) * SIZE
        assert one.pending_writes == [(f"task{number}", "image", bytes([number]) * SIZE)]
    few = list(saver.list(config(), limit=COUNT - 1))
    assert [one.config for one in few] == [one.config for one in found[:-1]]
    some = list(saver.list(config(), filter={"number": 3}))
    assert [one.metadata["number"] for one in some] == [3]


def test_several_large_threads_are_listed_newest_first_in_pages(saver: SwarmStateSaver) -> None:
    for thread in ("a", "b", "c"):
        large(saver, thread=thread, count=6)
    found = list(saver.list(None))
    ids = [one.config["configurable"]["checkpoint_id"] for one in found]
    assert ids == sorted(ids, reverse=True)
    assert len(ids) == 18
    assert all(len(one.checkpoint["channel_values"]["image"]) == SIZE for one in found)
    newest = list(itertools.islice(saver.list(None, limit=7), 7))
    assert [one.config for one in newest] == [one.config for one in found[:7]]


def test_what_checkpoints_have_in_common_counts_once(
    server: Server, no_scripts_url: str, proxy: Proxy, make_redis: Callable[..., RedisStore]
) -> None:
    """Ten that share three megabytes come in one page, so in as many trips as ten small ones."""
    for url in (server.url, no_scripts_url):
        saver = SwarmStateSaver(
            make_redis(url.replace(f":{server.port}", f":{proxy.port}"), prefix=f"same{len(url)}")
        )
        grow(saver, 12, thread="small")
        where = config()
        versions = {"image": "1"}
        new = dict(versions)
        for _ in range(12):
            where = saver.put(where, checkpoint(versions, {"image": b"x" * 3 * SIZE}), {}, new)
            new = {}
        trips = []
        for thread in ("small", "thread"):
            list(saver.list(config(thread), limit=10))
            with proxy.counted():
                assert len(list(saver.list(config(thread), limit=10))) == 10
            trips.append(proxy.trips)
        assert trips[0] == trips[1]


def test_a_user_who_may_not_ask_for_sizes_lists_all_the_same(
    server: Server, make_redis: Callable[..., RedisStore]
) -> None:
    with server.client() as raw:
        sizeless = user(server, raw, "~*", "+@all", "-hstrlen")
        neither = user(server, raw, "~*", "+@all", "-hstrlen", "-@scripting")
    for prefix, url in (("sizeless", sizeless), ("neither", neither)):
        saver = SwarmStateSaver(make_redis(url, prefix=prefix))
        grow(saver, 5)
        assert [one.metadata["step"] for one in saver.list(config())] == [4, 3, 2, 1, 0]


@pytest.fixture
def many(make_redis: Callable[..., RedisStore]) -> int:
    """200 threads of two checkpoints each."""
    saver = SwarmStateSaver(make_redis())
    for number in range(200):
        grow(saver, 1, thread=f"t{number}")
    for number in range(200):
        grow(saver, 1, thread=f"t{number}")
    return 200


@pytest.mark.parametrize("scripting", [True, False])
def test_listing_all_threads_takes_as_many_trips_for_two_hundred_as_for_two(
    server: Server,
    no_scripts_url: str,
    proxy: Proxy,
    make_redis: Callable[..., RedisStore],
    many: int,
    scripting: bool,
) -> None:
    url = server.url if scripting else no_scripts_url
    saver = SwarmStateSaver(make_redis(url.replace(f":{server.port}", f":{proxy.port}")))
    list(saver.list(None, limit=10))
    with proxy.counted() as commands:
        found = list(saver.list(None, limit=10))
    assert [one.config["configurable"]["thread_id"] for one in found] == [
        f"t{number}" for number in range(199, 189, -1)
    ]
    assert proxy.trips - commands["SCAN"] <= 6


def test_deleting_runs_takes_no_trip_per_thread(
    server: Server, proxy: Proxy, make_redis: Callable[..., RedisStore], raw: redis.Redis
) -> None:
    url = server.url.replace(f":{server.port}", f":{proxy.port}")
    saver = SwarmStateSaver(make_redis(url))
    for number in range(100):
        run = "this" if number == 50 else "another"
        saver.put(config(f"t{number}"), checkpoint({}, {}), {"run_id": run}, {})
    with proxy.counted() as commands:
        saver.delete_for_runs(["this"])
    assert proxy.trips - commands["SCAN"] < 15
    left = {one.config["configurable"]["thread_id"] for one in saver.list(None)}
    assert left == {f"t{number}" for number in range(100)} - {"t50"}
