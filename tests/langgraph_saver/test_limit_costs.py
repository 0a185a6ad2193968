"""What a put costs does not depend on the limit; counted, not timed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import redis
from langgraph.checkpoint.serde.types import INTERRUPT
from proxies import Proxy
from servers import Server
from threads import checkpoint, config, grow, ready

from swarmstate import Store
from swarmstate.backends.redis import RedisStore
from swarmstate.errors import StoreUnavailable
from swarmstate.integrations.langgraph import SwarmStateSaver


class Counting(Store):
    """Counts what is asked of it, and what it gives back."""

    asked = 0
    given = 0

    def _counted(self, found: Any) -> Any:
        self.asked += 1
        self.given += len(found) if isinstance(found, list) else 1
        return found

    def get(self, *args: Any) -> Any:
        return self._counted(super().get(*args))

    def get_many(self, *args: Any) -> Any:
        return self._counted(super().get_many(*args))

    def contains(self, *args: Any) -> Any:
        return self._counted(super().contains(*args))

    def keys(self, *args: Any) -> Any:
        return self._counted(super().keys(*args))

    def items(self, *args: Any) -> Any:
        return self._counted(super().items(*args))

    def max_key(self, *args: Any) -> Any:
        return self._counted(super().max_key(*args))

    def delete_many(self, pairs: Any) -> Any:
        self.given += len(pairs)
        return super().delete_many(pairs)


def test_in_memory_a_put_at_a_limit_reads_no_more_for_a_greater_one() -> None:
    costs = []
    for limit in (20, 800):
        store = Counting()
        saver = SwarmStateSaver(store, max_checkpoints_per_thread=limit)
        last = grow(saver, limit + 10)
        for _ in range(200):
            put = ready(saver, last)
            store.asked = store.given = 0
            last = put()
            costs.append((limit, store.asked, store.given))
        assert sum(1 for _ in saver.list(config())) == limit
    small, large = ([cost[1:] for cost in costs if cost[0] == limit] for limit in (20, 800))
    # Apart from a comparison of all ids now and then, every put takes the same.
    usual = max(set(large), key=large.count)
    assert large.count(usual) > 195
    assert usual == max(set(small), key=small.count)
    assert sum(given for _, given in large) < 2 * sum(given for _, given in small)


def test_what_a_removal_that_failed_has_left_goes_with_the_next_put() -> None:
    class Failing(Store):
        fails = False

        def delete_many(self, pairs: Any) -> Any:
            if self.fails:
                raise StoreUnavailable("not now")
            return super().delete_many(pairs)

    store = Failing()
    saver = SwarmStateSaver(store, max_checkpoints_per_thread=40)
    grow(saver, 45)
    store.fails = True
    with pytest.raises(StoreUnavailable, match="not now"):
        grow(saver, 1)
    store.fails = False
    grow(saver, 1)
    assert sum(1 for _ in saver.list(config())) == 40


def test_a_put_at_a_limit_leaves_the_rest_to_the_next_where_others_write_all_the_time(
    make_redis: Callable[..., RedisStore],
) -> None:
    store = make_redis()
    saver = SwarmStateSaver(store, max_checkpoints_per_thread=3)
    grow(saver, 5)
    engine: Any = saver._engine
    release, surplus = engine.release, engine.surplus
    read = []
    engine.surplus = lambda *args: read.append(1) or surplus(*args)
    engine.release = lambda *args: False
    # The script does not remove the least by itself on a cluster.
    engine._retention.argument = partial(_without_a_number, engine._retention.argument)
    grow(saver, 1)
    assert len(read) == 5
    engine.release, engine.surplus = release, surplus
    grow(saver, 1)
    assert sum(1 for _ in saver.list(config())) == 3


def _without_a_number(argument: Callable[..., bytes], *args: Any, clustered: bool) -> bytes:
    return argument(*args, clustered=True)


@pytest.fixture
def counted(proxy: Proxy, raw: redis.Redis) -> Callable[[Callable[[], Any]], tuple[int, int]]:
    """Return how many round trips and how many bytes of replies a call takes."""

    def count(call: Callable[[], Any]) -> tuple[int, int]:
        before = raw.info("stats")["total_net_output_bytes"]
        idle = raw.info("stats")["total_net_output_bytes"] - before
        before = raw.info("stats")["total_net_output_bytes"]
        with proxy.counted():
            call()
        sent = raw.info("stats")["total_net_output_bytes"] - before - idle
        return proxy.trips, sent

    return count


def test_on_one_server_a_put_at_a_limit_takes_one_trip_as_below_it(
    proxy: Proxy,
    make_redis: Callable[..., RedisStore],
    counted: Callable[[Callable[[], Any]], tuple[int, int]],
) -> None:
    sizes = []
    for limit in (10, 300):
        saver = SwarmStateSaver(make_redis(proxy.url), max_checkpoints_per_thread=limit)
        thread = f"limit{limit}"
        last = grow(saver, limit - 2, thread=thread)
        put = ready(saver, last)
        trips, _ = counted(put)
        assert trips == 1
        last = grow(saver, 5, thread=thread)
        for _ in range(3):
            put = ready(saver, last)
            trips, size = counted(lambda put=put: put.__call__())
            last = saver.get_tuple(config(thread)).config  # type: ignore[union-attr]
            assert trips == 1
        sizes.append(size)
        assert sum(1 for _ in saver.list(config(thread))) == limit
    assert abs(sizes[0] - sizes[1]) < 200


def test_on_redis_an_open_question_costs_one_trip_more(
    proxy: Proxy,
    make_redis: Callable[..., RedisStore],
    counted: Callable[[Callable[[], Any]], tuple[int, int]],
) -> None:
    saver = SwarmStateSaver(make_redis(proxy.url), max_checkpoints_per_thread=5)
    first = grow(saver, 1)
    waiting = grow(saver, 1)
    saver.put_writes(waiting, [(INTERRUPT, "a question")], "task")
    saver.put(first, checkpoint({}, {}), {}, {})
    grow(saver, 8)
    put = ready(saver, grow(saver, 1))
    trips, _ = counted(put)
    assert trips == 3
    assert saver.get_tuple(waiting) is not None


def test_on_a_cluster_a_put_at_a_limit_takes_two_trips(cluster_url: str, prefix: str) -> None:
    with RedisStore(cluster_url, prefix=prefix) as store:
        saver = SwarmStateSaver(store, max_checkpoints_per_thread=5)
        put = ready(saver, grow(saver, 8))
        trips = []
        send = store.driver.run

        def run(steps: Any) -> Any:
            return send(seen(steps, trips))

        engine: Any = saver._engine
        engine.run = run
        put()
        assert len(trips) == 2
        assert sum(1 for _ in saver.list(config())) == 5


def seen(steps: Any, trips: list[Any]) -> Any:
    """Run steps, and keep what each of their round trips sends."""
    try:
        batch = next(steps)
        while True:
            trips.append(batch)
            batch = steps.send((yield batch))
    except StopIteration as stop:
        return stop.value


def test_without_scripts_a_put_at_a_limit_takes_three(
    server: Server,
    no_scripts_url: str,
    proxy: Proxy,
    make_redis: Callable[..., RedisStore],
    counted: Callable[[Callable[[], Any]], tuple[int, int]],
) -> None:
    url = no_scripts_url.replace(f":{server.port}", f":{proxy.port}")
    saver = SwarmStateSaver(make_redis(url), max_checkpoints_per_thread=5)
    put = ready(saver, grow(saver, 8))
    trips, _ = counted(put)
    assert trips <= 3
