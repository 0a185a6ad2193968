"""Threads that expire do so as a whole, and nothing is rebuilt from half of one."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
import redis
from rights import user
from servers import Server
from threads import checkpoint, config, grow, ready

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


def test_what_an_expired_thread_left_goes_with_the_next_write_to_it(
    make: Callable[..., RedisStore], keys: Keys
) -> None:
    saver = SwarmStateSaver(make(), ttl=DAY / 1000)
    last = grow(saver, 3, writes=1)
    orphan = config(checkpoint_id="f")
    saver.put_writes(orphan, [("x", "early")], "task")
    old = {key for key in keys.all() if b":writes:" in key}
    assert len(old) == 4
    keys.raw.delete(keys.first())
    saver.put_writes(last, [("y", "late")], "task")
    there = {key for key in keys.all() if b":writes:" in key}
    assert there & old == there
    assert len(there) == 1
    saver.put(config(), checkpoint({}, {}, last["configurable"]["checkpoint_id"]), {}, {})
    saver.put(config(), checkpoint({}, {}, "f"), {}, {})
    newest, before = saver.list(config())
    assert newest.pending_writes == []
    assert before.pending_writes == [("task", "y", "late")]


@pytest.mark.parametrize(
    ("earlier", "last"),
    [
        (None, DAY),
        (DAY, None),
        (DAY, DAY // 10),
        (DAY // 10, DAY),
        (2 * DAY, DAY),
        (DAY, DAY + 1000),
    ],
)
@pytest.mark.parametrize("what", ["put", "put_writes", "copy_thread"])
def test_the_time_of_the_last_write_holds_for_the_whole_thread(
    make: Callable[..., RedisStore],
    keys: Keys,
    earlier: int | None,
    last: int | None,
    what: str,
) -> None:
    def saver(ttl: int | None) -> SwarmStateSaver:
        return SwarmStateSaver(make(), ttl=None if ttl is None else ttl / 1000)

    first = saver(earlier)
    where = grow(first, 3, writes=1)
    grow(first, 2, namespace="inner:1", writes=1)
    first.put_writes(config(checkpoint_id="f"), [("x", 1)], "task")
    second = saver(last)
    if what == "put":
        ready(second, where)()
    elif what == "put_writes":
        second.put_writes(where, [("x", 1)], "another task")
    else:
        grow(second, 1, thread="source")
        second.copy_thread("source", "thread")
        second.delete_thread("source")
    left = keys.left()
    assert len(left) > 10
    if last is None:
        assert set(left.values()) == {-1}
    else:
        assert all(last / 2 < each <= last for each in left.values())
        ends = keys.ends()
        assert min(ends.values()) == ends[keys.first()]
    assert len(list(second.list({"configurable": {"thread_id": "thread"}}))) >= 5


def test_a_thread_of_many_checkpoints_is_renewed_in_parts(
    make: Callable[..., RedisStore], keys: Keys
) -> None:
    saver = SwarmStateSaver(make(), ttl=DAY / 1000)
    last = grow(saver, 1200, writes=1)
    keys.age(1_000_000)
    saver.put_writes(last, [("x", 1)], "another task")
    left = keys.left()
    assert len(left) > 1200
    assert all(each > DAY - 600_000 for each in left.values())


def test_a_read_gives_no_end_to_a_thread_that_has_none(
    make: Callable[..., RedisStore], keys: Keys
) -> None:
    grow(SwarmStateSaver(make()), 3, writes=1)
    reader = SwarmStateSaver(make(), ttl=DAY / 1000, ttl_on_read=True)
    assert reader.get_tuple(config()) is not None
    assert len(list(reader.list(config()))) == 3
    assert set(keys.left().values()) == {-1}


def test_a_first_put_and_its_writes_at_the_same_moment_both_stay(
    make: Callable[..., RedisStore],
) -> None:
    saver = SwarmStateSaver(make(), ttl=DAY / 1000)
    with ThreadPoolExecutor(2) as pool:
        for number in range(60):
            thread = f"thread {number}"
            where = config(thread, "", "0001")
            barrier = Barrier(2)

            def put(thread: str = thread, barrier: Barrier = barrier) -> None:
                barrier.wait()
                saver.put(config(thread), checkpoint({}, {}, "0001"), {}, {})

            def write(where: Any = where, barrier: Barrier = barrier) -> None:
                barrier.wait()
                saver.put_writes(where, [("x", 1)], "task")

            for done in [pool.submit(put), pool.submit(write)]:
                done.result()
            found = saver.get_tuple(config(thread))
            assert found is not None
            assert found.pending_writes == [("task", "x", 1)]


@pytest.mark.parametrize("scripts", [True, False])
def test_where_expiry_is_refused_the_write_stands_and_a_warning_says_so_once(
    server: Server, make_redis: Callable[..., RedisStore], keys: Keys, scripts: bool
) -> None:
    refused = ["-expire", "-pexpire", "-persist", *(() if scripts else ("-eval", "-evalsha"))]
    url = user(server, keys.raw, "~*", "+@all", *refused)
    saver = SwarmStateSaver(make_redis(url), ttl=DAY / 1000)
    with pytest.warns(RuntimeWarning, match="(?i)does not expire.*pexpire") as warned:
        last = grow(saver, 3, writes=1)
    assert len(warned) == 1
    found = saver.get_tuple(config())
    assert found is not None
    assert found.config == last
    assert len(list(saver.list(config()))) == 3
    assert set(keys.left().values()) == {-1}
    # Nor can it make a thread stay that somebody else lets expire.
    keys.age(1_000_000)
    saver = SwarmStateSaver(make_redis(url))
    with pytest.warns(RuntimeWarning, match="(?i)may still expire.*persist"):
        saver.put_writes(last, [("x", 1)], "another task")
    saver.put_writes(last, [("x", 1)], "a third task")
    again = saver.get_tuple(last)
    assert again is not None
    assert len(again.pending_writes or ()) == 3


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
