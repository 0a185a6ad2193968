"""Threads that expire do so as a whole, and nothing is rebuilt from half of one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import redis
from servers import Server
from threads import config, grow, ready

from swarmstate import Store
from swarmstate.backends.redis import RedisStore
from swarmstate.checkpoints.generic import GenericEngine
from swarmstate.checkpoints.protocol import CheckpointEngine
from swarmstate.errors import ArgumentValueError, InvalidArgumentError
from swarmstate.integrations.langgraph import SwarmStateSaver

DAY = 86_400_000


@pytest.fixture(params=["scripts", "no scripts"])
def make(
    request: pytest.FixtureRequest, server: Server, make_redis: Callable[..., RedisStore]
) -> Callable[..., RedisStore]:
    if request.param == "scripts":
        return make_redis
    url = request.getfixturevalue("no_scripts_url")
    return lambda **options: make_redis(url, **options)


class Keys:
    """The keys of the store's threads, as the server has them."""

    def __init__(self, raw: redis.Redis, prefix: str) -> None:
        self.raw = raw
        self.prefix = prefix

    def all(self) -> list[Any]:
        keys = self.raw.keys(f"*{self.prefix}:*")
        return sorted(key for key in keys if not key.endswith(b"\0store"))

    def first(self) -> Any:
        (found,) = (key for key in self.all() if b"langgraph:thread:" in key)
        return found

    def left(self) -> dict[Any, int]:
        return {key: self.raw.pttl(key) for key in self.all()}

    def ends(self) -> dict[Any, int]:
        """When each expires: moments can be compared, times left are read one after another."""
        return {key: self.raw.pexpiretime(key) for key in self.all()}

    def age(self, milliseconds: int) -> None:
        for key in self.all():
            self.raw.pexpire(key, milliseconds)


@pytest.fixture
def keys(raw: redis.Redis, prefix: str) -> Keys:
    return Keys(raw, prefix)


def test_every_key_of_a_thread_has_an_end_and_the_first_never_outlives_another(
    make: Callable[..., RedisStore], keys: Keys
) -> None:
    saver = SwarmStateSaver(make(), ttl=DAY / 1000)
    grow(saver, 5, writes=2)
    grow(saver, 2, namespace="inner:1", writes=1)
    left = keys.left()
    assert len(left) > 10
    assert all(DAY / 2 < each <= DAY for each in left.values())
    ends = keys.ends()
    assert min(ends.values()) == ends[keys.first()]


def test_a_write_renews_the_whole_thread_once_half_of_the_time_is_over(
    make: Callable[..., RedisStore], keys: Keys
) -> None:
    saver = SwarmStateSaver(make(), ttl=DAY / 1000)
    last = grow(saver, 5, writes=2)
    grow(saver, 2, namespace="inner:1", writes=1)
    keys.age(DAY // 2 + 60_000)
    ready(saver, last)()
    assert keys.left()[keys.first()] <= DAY // 2 + 60_000
    keys.age(DAY // 2 - 60_000)
    saver.put_writes(last, [("x", 1)], "another task")
    assert all(each > DAY - 60_000 for each in keys.left().values())


def test_what_is_rebuilt_ends_with_the_rest(
    make_redis: Callable[..., RedisStore], keys: Keys
) -> None:
    saver = SwarmStateSaver(make_redis(), ttl=DAY / 1000)
    grow(saver, 3, writes=1)
    there = keys.left().keys()
    derived = [key for key in there if b"\0" in key]
    keys.raw.delete(*derived)
    saver.get_tuple(config())
    assert len(derived) == 2
    assert keys.left().keys() == there
    assert all(each > DAY - 60_000 for each in keys.left().values())


def test_a_read_renews_it_only_if_asked_to(make: Callable[..., RedisStore], keys: Keys) -> None:
    grow(SwarmStateSaver(make(), ttl=DAY / 1000), 3, writes=1)
    keys.age(1_000_000)
    SwarmStateSaver(make(), ttl=DAY / 1000).get_tuple(config())
    assert all(each <= 1_000_000 for each in keys.left().values())
    SwarmStateSaver(make(), ttl=DAY / 1000, ttl_on_read=True).get_tuple(config())
    assert all(each > DAY - 60_000 for each in keys.left().values())


def test_the_savers_time_overrides_the_stores(
    make_redis: Callable[..., RedisStore], keys: Keys
) -> None:
    grow(SwarmStateSaver(make_redis(ttl=1000)), 1)
    assert all(0 < each <= 1_000_000 for each in keys.left().values())
    saver = SwarmStateSaver(make_redis(ttl=1000), ttl=DAY / 1000)
    saver.copy_thread("thread", "copy")
    copies = {key: left for key, left in keys.left().items() if b"{t:copy}" in key}
    assert copies
    assert all(each > 1_000_000 for each in copies.values())


def test_without_its_first_key_a_thread_is_absent_and_does_not_come_back(
    make: Callable[..., RedisStore], keys: Keys
) -> None:
    saver = SwarmStateSaver(make(), ttl=DAY / 1000)
    last = grow(saver, 5, writes=2)
    keys.raw.delete(keys.first())
    assert len(keys.all()) > 5
    assert saver.get_tuple(config()) is None
    assert saver.get_tuple(last) is None
    assert list(saver.list(config())) == []
    assert saver.get_delta_channel_history(config=config(), channels=["x"])["x"]["writes"] == []
    saver.copy_thread("thread", "copy")
    assert saver.get_tuple(config("copy")) is None
    # Nor does a copy into it bring back what is left of it.
    grow(saver, 1, thread="other")
    saver.copy_thread("other", "thread")
    assert len(list(saver.list(config()))) == 1
    assert saver.get_tuple(last) is None
    keys.raw.delete(*(key for key in keys.all() if b"langgraph:thread:6:{t:thread}" in key))
    # The thread starts anew: of the old one only what was put again is there.
    saver.put_writes(last, [("y", 1)], "task")
    assert saver.get_tuple(last) is None
    grow(saver, 1)
    (found,) = saver.list(config())
    assert found.checkpoint["channel_values"] == {"kept": "the same all along", "step": 0}


@pytest.mark.parametrize(
    "ttl", [0, -1, True, "60", 0.0001, 1e300, float("nan"), float("inf"), -float("inf")]
)
@pytest.mark.parametrize("kind", ["memory", "redis"])
def test_what_is_not_a_time_within_the_bounds_of_the_store_is_refused(
    make_redis: Callable[..., RedisStore], kind: str, ttl: Any
) -> None:
    store = Store() if kind == "memory" else make_redis()
    with pytest.raises(InvalidArgumentError, match="ttl must be"):
        SwarmStateSaver(store, ttl=ttl)


def test_the_least_and_the_greatest_time_are_accepted(
    make: Callable[..., RedisStore], keys: Keys
) -> None:
    grow(SwarmStateSaver(make(), ttl=10**10), 1)
    assert all(left > 9 * 10**12 for left in keys.left().values())
    SwarmStateSaver(make(), ttl=0.001).get_tuple(config())


class Plain:
    """A store of another author, with an engine that knows nothing of time."""

    def __init__(self) -> None:
        self.inner = Store()

    def checkpoint_engine(self) -> CheckpointEngine:
        return GenericEngine(self.inner)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def set_many(self, items: Any) -> None:
        self.inner.set_many(items)


@pytest.mark.parametrize("make_plain", [Store, Plain])
@pytest.mark.parametrize("options", [{"ttl": 60}, {"ttl_on_read": True}])
def test_a_store_whose_threads_cannot_expire_says_so(
    make_plain: Callable[[], Any], options: dict[str, Any]
) -> None:
    with pytest.raises(ArgumentValueError, match=f"{next(iter(options))}.*cannot"):
        SwarmStateSaver(make_plain(), **options)
    assert SwarmStateSaver(make_plain()).get_tuple(config()) is None


def test_there_is_nothing_to_renew_on_reading_without_a_time(
    make_redis: Callable[..., RedisStore],
) -> None:
    with pytest.raises(ArgumentValueError, match="ttl_on_read"):
        SwarmStateSaver(make_redis(), ttl_on_read=True)
    SwarmStateSaver(make_redis(ttl=60), ttl_on_read=True)
