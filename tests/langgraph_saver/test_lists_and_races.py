"""Lists in segments when others write at a bad moment, and lists unlike any of LangGraph's."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest
import redis
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


def test_values_that_outlived_their_thread_do_not_expire_under_one_that_stays(
    make_redis: Callable[..., RedisStore], raw: redis.Redis
) -> None:
    store = make_redis()
    put(SwarmStateSaver(store, ttl=60), "1", m=long("a"))
    (first,) = [key for key in raw.scan_iter(match=f"{store.prefix}:*") if b"values" in key]
    assert raw.pttl(first) > 0
    raw.unlink(*[key for key in raw.scan_iter(match=f"*{store.prefix}:*") if key != first])
    put(SwarmStateSaver(store), "3", m=long("c"))
    assert raw.pttl(first) == -1


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
