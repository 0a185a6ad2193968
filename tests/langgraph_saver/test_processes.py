"""Processes that work on one thread at the same time, and connections that break in the middle."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from typing import Any

import pytest
import racing
import redis
from proxies import Proxy
from servers import Server, free_port
from threads import checkpoint, config, grow, ready

from swarmstate.backends.redis import RedisStore
from swarmstate.checkpoints import names
from swarmstate.errors import StoreUnavailable
from swarmstate.integrations.langgraph import SwarmStateSaver
from swarmstate.observability import InMemoryMetrics

spawn = multiprocessing.get_context("spawn")


@pytest.fixture(params=["scripts", "no scripts"])
def url(request: pytest.FixtureRequest, server: Server) -> str:
    if request.param == "scripts":
        return server.url
    return str(request.getfixturevalue("no_scripts_url"))


def race(url: str, prefix: str, *what: Callable[..., None]) -> None:
    barrier = spawn.Barrier(len(what))
    processes = [
        spawn.Process(target=one, args=(url, prefix, number, barrier))
        for number, one in enumerate(what)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * len(processes)


def test_puts_in_any_order_agree_on_the_latest(url: str, prefix: str) -> None:
    race(url, prefix, racing.put_in_any_order, racing.put_in_any_order)
    saver = racing.opened(url, prefix)
    found = [one.checkpoint["id"] for one in saver.list(config())]
    assert found == [f"{number:06}" for number in reversed(range(2 * racing.ROUNDS))]
    latest = saver.get_tuple(config())
    assert latest is not None
    assert latest.checkpoint["id"] == found[0]
    # Another process puts an older one: the latest does not move backwards.
    body = racing.checkpoint({}, {}, "000000x")
    racing.opened(url, prefix).put(config(), body, {}, {})
    again = saver.get_tuple(config())
    assert again is not None
    assert again.checkpoint["id"] == found[0]


def test_of_two_workers_with_one_task_exactly_one_wins_each_position(url: str, prefix: str) -> None:
    saver = racing.opened(url, prefix)
    where = saver.put(config(), racing.checkpoint({}, {}, "000001"), {}, {})
    race(url, prefix, racing.write_the_same_tasks, racing.write_the_same_tasks)
    found = saver.get_tuple(where)
    assert found is not None
    by_task: dict[str, list[Any]] = {}
    for task, _, value in found.pending_writes or ():
        by_task.setdefault(task, []).append(tuple(value))
    assert len(by_task) == racing.TASKS
    for writes in by_task.values():
        assert [number for _, number in writes] == list(range(racing.WRITES))
        # A call is carried out as a whole, so one worker won all of its positions.
        assert len({name for name, _ in writes}) == 1


@pytest.mark.parametrize("other", [racing.prune, racing.delete])
def test_what_is_put_beside_a_prune_or_a_delete_is_whole_or_gone(
    server: Server, prefix: str, raw: redis.Redis, other: Callable[..., None]
) -> None:
    grow(racing.opened(server.url, prefix), 5)
    race(server.url, prefix, racing.put_on, other, racing.put_on)
    saver = racing.opened(server.url, prefix)
    for found in saver.list(config()):
        assert found.checkpoint["channel_values"]["kept"] == "the same all along"
    saver.delete_thread("thread")
    assert raw.keys(f"*{prefix}:*") == [f"!{prefix}:\0store".encode()]


def test_a_put_cut_anywhere_leaves_the_thread_as_before_or_as_after(
    make_redis: Callable[..., RedisStore], server: Server, proxy: Proxy, url: str
) -> None:
    direct = SwarmStateSaver(make_redis(url))
    last = grow(direct, 2)
    through = url.replace(f":{server.port}", f":{proxy.port}")
    cut = SwarmStateSaver(make_redis(through, retries=0))
    ready(cut, last)()
    seen = {"before": 0, "after": 0}
    for harm in (proxy.cut_requests_after, proxy.cut_replies_after):
        for count in range(0, 2000, 5):
            before = list(direct.list(config()))
            attempt = ready(cut, last)
            harm(count)
            try:
                attempt()
            except StoreUnavailable:
                finished = False
            else:
                finished = True
            proxy.uncut()
            after = list(direct.list(config()))
            if finished:
                break
            new = [one for one in after if one not in before]
            assert len(new) <= 1
            for one in new:
                assert one.checkpoint["channel_values"]["step"] == -1
                assert one.checkpoint["channel_values"]["kept"] == "the same all along"
            latest = direct.get_tuple(config())
            assert latest is not None
            assert latest.checkpoint["id"] == after[0].checkpoint["id"]
            seen["after" if new else "before"] += 1
            if len(after) > 3:
                direct.prune(["thread"])
                last = grow(direct, 1)
        else:
            raise AssertionError("the request never came through")
    assert min(seen.values()) > 0


def test_a_copy_cut_anywhere_leaves_nothing_or_all_of_it(
    make_redis: Callable[..., RedisStore], server: Server, proxy: Proxy, url: str
) -> None:
    direct = SwarmStateSaver(make_redis(url))
    grow(direct, 5, writes=2)
    through = url.replace(f":{server.port}", f":{proxy.port}")
    cut = SwarmStateSaver(make_redis(through, retries=0))
    cut.copy_thread("thread", "whole")
    whole = len(list(direct.list(config("whole"))))
    seen = set()
    for count in range(0, 100_000, 101):
        cut.get_tuple(config())  # What is cut is the copy, not a connection that is being made.
        proxy.cut_requests_after(count)
        try:
            cut.copy_thread("thread", f"copy{count}")
        except StoreUnavailable:
            seen.add(len(list(direct.list(config(f"copy{count}")))))
        else:
            break
    else:
        raise AssertionError("the copy never came through")
    assert whole == 5
    assert count > 1000
    assert 0 in seen
    assert seen <= {0, whole}


@pytest.mark.parametrize("part", ["checkpoints", "values", "strays"])
def test_a_put_that_the_server_refuses_in_the_middle_leaves_the_thread_as_it_was(
    make_redis: Callable[..., RedisStore], raw: redis.Redis, prefix: str, part: str
) -> None:
    saver = SwarmStateSaver(make_redis())
    put = ready(saver, grow(saver, 2, writes=1))
    before = list(saver.list(config()))
    key = f"{prefix}:langgraph:{part}:{names('thread', '').tail}"
    was = raw.dump(key)
    raw.set(key, "somebody else's")
    with pytest.raises(StoreUnavailable, match="WRONGTYPE"):
        put()
    raw.delete(key)
    if was is not None:
        raw.restore(key, 0, was)
    assert list(saver.list(config())) == before
    assert saver.get_tuple(config()) == before[0]


@pytest.mark.parametrize("metrics", [None, InMemoryMetrics()])
def test_a_server_that_is_away_is_never_an_absent_thread(metrics: Any) -> None:
    url = f"redis://127.0.0.1:{free_port()}/0"
    with RedisStore(url, retries=0, timeout=0.5) as store:
        saver = SwarmStateSaver(store, metrics=metrics)
        body = checkpoint({}, {}, "0001")
        calls: dict[str, Callable[[], Any]] = {
            "get_tuple": lambda: saver.get_tuple(config()),
            "list": lambda: list(saver.list(config())),
            "put": lambda: saver.put(config(), body, {}, {}),
            "put_writes": lambda: saver.put_writes(config(checkpoint_id="0001"), [], "task"),
            "get_delta_channel_history": lambda: saver.get_delta_channel_history(
                config=config(), channels=["x"]
            ),
            "delete_thread": lambda: saver.delete_thread("thread"),
            "copy_thread": lambda: saver.copy_thread("thread", "copy"),
            "prune": lambda: saver.prune(["thread"]),
            "delete_for_runs": lambda: saver.delete_for_runs(["run"]),
            "threads": saver.threads,
        }
        for name, call in calls.items():
            with pytest.raises(StoreUnavailable, match=rf"^{name}\w*\(\) failed on 127.0.0.1"):
                call()


async def test_a_server_that_is_away_is_never_an_absent_thread_awaited() -> None:
    url = f"redis://127.0.0.1:{free_port()}/0"
    with RedisStore(url, retries=0, timeout=0.5) as store, pytest.raises(StoreUnavailable):
        await SwarmStateSaver(store).aget_tuple(config())
