"""Lists in segments when others write at a bad moment, and lists unlike any of LangGraph's."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import redis
from segments import held_and_needed
from servers import Server
from threads import checkpoint, config

from swarmstate import Store
from swarmstate.backends.redis import RedisStore
from swarmstate.integrations.langgraph import SwarmStateSaver
from swarmstate.protocols import StoreLike
from swarmstate.steps import Steps


def long(name: str, elements: int = 20) -> list[str]:
    return [f"{name} {number} {'x' * 400}" for number in range(elements)]


def put(saver: SwarmStateSaver, checkpoint_id: str, after: str | None = None, **values: Any) -> Any:
    versions = dict.fromkeys(values, checkpoint_id)
    body = checkpoint(versions, values, checkpoint_id)
    return saver.put(config(checkpoint_id=after), body, {}, versions)


def with_act_at(steps: Steps[Any], trip: int, act: Callable[[], Any]) -> Steps[Any]:
    """Run steps, and do something right before one of their round trips."""
    try:
        batch = next(steps)
        while True:
            trip -= 1
            if not trip:
                act()
            batch = steps.send((yield batch))
    except StopIteration as stop:
        return stop.value


@pytest.mark.parametrize("url", ["scripts", "no scripts"])
def test_a_list_that_is_written_while_its_thread_is_copied_is_copied_or_not_there(
    server: Server, make_redis: Callable[..., RedisStore], request: pytest.FixtureRequest, url: str
) -> None:
    where = server.url if url == "scripts" else request.getfixturevalue("no_scripts_url")
    for trip in range(1, 6):
        saver = SwarmStateSaver(make_redis(where, prefix=f"copied-{url}-{trip}"))
        last = put(saver, "1", n=1)
        engine: Any = saver._engine

        def write(saver: SwarmStateSaver = saver, last: Any = last) -> None:
            saver.put_writes(last, [("docs", long("w"))], "task")

        engine.run(with_act_at(engine.copy_thread("thread", "copy"), trip, write))
        found = saver.get_tuple(config("copy"))
        assert found is not None
        assert found.pending_writes in ([], [("task", "docs", long("w"))])


def test_more_segments_than_a_script_unpacks_at_once_go_with_their_checkpoint(
    make_redis: Callable[..., RedisStore],
) -> None:
    store = make_redis()
    saver = SwarmStateSaver(store, max_checkpoints_per_thread=2)
    last = put(saver, "1", n=1)
    lists = [("docs", [f"{k}-{n}-{'y' * 280}" for n in range(15)]) for k in range(1500)]
    saver.put_writes(last, lists, "task")
    for number in range(2, 6):
        put(saver, str(number), str(number - 1), n=number)
    assert [one.checkpoint["id"] for one in saver.list(config())] == ["5", "4"]
    assert len(store) < 20


@pytest.mark.parametrize("kind", ["scripts", "no scripts"])
@pytest.mark.parametrize("left", ["values", "all but the first key"])
def test_what_outlived_its_thread_neither_expires_under_one_that_stays_nor_comes_back(
    kind: str,
    left: str,
    server: Server,
    make_redis: Callable[..., RedisStore],
    raw: redis.Redis,
    request: pytest.FixtureRequest,
) -> None:
    where = server.url if kind == "scripts" else request.getfixturevalue("no_scripts_url")
    store = make_redis(where)
    mortal = SwarmStateSaver(store, ttl=60)
    mortal.put_writes(put(mortal, "1", m=long("a")), [("m", 1)], "task")
    keys = list(raw.scan_iter(match=f"*{store.prefix}:*{{t:thread}}*"))
    engine: Any = mortal._engine
    first = engine._keys.of("thread", "")[0]
    over = [first] if left != "values" else [key for key in keys if b"values" not in key]
    raw.unlink(*over)
    remain = [key for key in keys if key not in over]
    assert remain
    assert all(raw.pttl(key) > 0 for key in remain)
    saver = SwarmStateSaver(store)
    put(saver, "3", m=long("c"))
    assert {raw.pttl(key) for key in keys if raw.exists(key)} == {-1}
    found = list(saver.list(config()))
    assert [one.checkpoint["id"] for one in found] == ["3"]
    assert found[0].checkpoint["channel_values"] == {"m": long("c")}
    assert found[0].pending_writes == []


@pytest.mark.parametrize("value", [str, long], ids=["short", "long"])
def test_what_a_new_checkpoint_inherits_stays_when_its_parent_is_deleted_at_that_moment(
    make_redis: Callable[..., RedisStore], value: Callable[[str], Any]
) -> None:
    for trip in range(1, 7):
        saver = SwarmStateSaver(
            make_redis(prefix=f"inherited-{value.__name__}-{trip}"), max_checkpoints_per_thread=2
        )
        saver.put_writes(put(saver, "1", m=value("a")), [("n", 1)], "task")
        parent = put(saver, "2", "1", m=value("b"))
        saver.put_writes(parent, [("n", 1)], "task")

        def put_on(saver: SwarmStateSaver = saver, parent: Any = parent) -> None:
            body = checkpoint({"m": "2", "k": "3"}, {"m": value("b"), "k": 1}, "3")
            last = saver.put(parent, body, {}, {"k": "3"})
            saver.put_writes(last, [("n", 1)], "task")

        engine: Any = saver._engine
        engine.run(with_act_at(engine.delete("thread", "", ["2"]), trip, put_on))
        found = {one.checkpoint["id"]: one.checkpoint for one in saver.list(config())}
        assert "2" not in found
        if "3" in found:
            assert found["3"]["channel_values"] == {"m": value("b"), "k": 1}


@pytest.mark.parametrize("kind", ["a deletion", "a limit"])
def test_a_checkpoint_that_is_replaced_while_others_go_keeps_what_it_now_refers_to(
    make_redis: Callable[..., RedisStore], kind: str
) -> None:
    for trip in range(1, 7):
        saver = SwarmStateSaver(make_redis(prefix=f"replaced-{kind[2:5]}-{trip}"))
        gone = put(saver, "1", m=long("a"))
        put(saver, "2", n=2)
        engine: Any = saver._engine

        def replace(saver: SwarmStateSaver = saver, gone: Any = gone) -> None:
            saver.put(gone, checkpoint({"m": "1"}, {"m": long("a")}, "2"), {}, {})

        if kind == "a limit":
            surplus = engine.run(engine.surplus("thread", "", 1))
            doomed = [(one.id, list(one.loose)) for one in surplus.older]
            replace()
            assert engine.run(engine.release(surplus, doomed, [], None)) is False
        else:
            engine.run(with_act_at(engine.delete("thread", "", ["1"]), trip, replace))
        found = {one.checkpoint["id"]: one.checkpoint for one in saver.list(config())}
        assert found["2"]["channel_values"] in ({"n": 2}, {"m": long("a")})


def test_a_write_is_never_seen_without_what_says_which_segments_it_needs() -> None:
    class Watched(Store):
        look: Callable[[], Any] | None = None

        def set_default(self, namespace: str, key: str, value: Any) -> bool:
            done = super().set_default(namespace, key, value)
            if self.look is not None:
                self.look()
            return done

    store = Watched()
    saver = SwarmStateSaver(store)
    last = put(saver, "1", n=1)
    seen = []

    def look() -> None:
        found = saver.get_tuple(last)
        assert found is not None
        seen.append(found.pending_writes)

    store.look = look
    saver.put_writes(last, [("docs", long("w"))], "task")
    assert seen[-1] == [("task", "docs", long("w"))]
    assert all(each in ([], seen[-1]) for each in seen)


@pytest.mark.parametrize("value", [["short"], long("long")], ids=["short", "long"])
def test_a_list_of_another_version_than_its_checkpoints_is_kept_as_any_value(
    make_store: Callable[..., StoreLike], value: list[str]
) -> None:
    saver = SwarmStateSaver(make_store())
    saver.put(config(), checkpoint({"m": "2"}, {"m": value}, "1"), {}, {"m": "1"})
    saver.put(config("other"), checkpoint({}, {"m": value}, "1"), {}, {"m": "1"})
    for thread, values in (("thread", {"m": value}), ("other", {})):
        found = saver.get_tuple(config(thread))
        assert found is not None
        assert found.checkpoint["channel_values"] == values


def test_a_serializer_may_call_its_type_as_segments_are_called(
    make_store: Callable[..., StoreLike],
) -> None:
    class Serializer:
        def dumps_typed(self, value: Any) -> tuple[str, bytes]:
            return "elements", pickle.dumps(value)

        def loads_typed(self, data: tuple[str, bytes]) -> Any:
            return pickle.loads(data[1])

    saver = SwarmStateSaver(make_store(), serde=Serializer())
    put(saver, "1", m=[1, 2])
    found = saver.get_tuple(config())
    assert found is not None
    assert found.checkpoint["channel_values"] == {"m": [1, 2]}


@pytest.mark.parametrize("kind", ["scripts", "no scripts"])
def test_what_is_written_to_a_checkpoint_while_it_is_removed_leaves_nothing(
    server: Server, make_redis: Callable[..., RedisStore], request: pytest.FixtureRequest, kind: str
) -> None:
    where = server.url if kind == "scripts" else request.getfixturevalue("no_scripts_url")
    for trip in range(1, 9):
        store = make_redis(where, prefix=f"removed-{kind}-{trip}")
        saver = SwarmStateSaver(store)
        first = put(saver, "1", n=1)
        put(saver, "2", "1", n=2)
        engine: Any = saver._engine

        def write(saver: SwarmStateSaver = saver, first: Any = first) -> None:
            saver.put_writes(first, [("docs", long("w"))], "task")

        engine.run(with_act_at(engine.delete("thread", "", ["1"]), trip, write))
        held, needed = held_and_needed(store)
        assert held == needed, trip


def test_a_removal_ends_though_writes_come_all_the_time(
    make_redis: Callable[..., RedisStore],
) -> None:
    store = make_redis()
    saver = SwarmStateSaver(store)
    put(saver, "1", docs=long("a"))
    last = put(saver, "2", "1", n=2)
    engine: Any = saver._engine
    numbers = itertools.count()

    def write() -> None:
        saver.put_writes(last, [("docs", long(f"w{next(numbers)}"))], f"task{next(numbers)}")

    def overtaken(steps: Steps[Any]) -> Steps[Any]:
        try:
            batch = next(steps)
            while True:
                write()
                batch = steps.send((yield batch))
        except StopIteration as stop:
            return stop.value

    engine.run(overtaken(engine.delete("thread", "", ["1"])))
    held, needed = held_and_needed(store)
    assert held == needed
    found = saver.get_tuple(config())
    assert found is not None
    assert found.pending_writes is not None
    assert len(found.pending_writes) == next(numbers) // 2
