"""While a thread's slot moves to another node of a cluster, no call sees or leaves a part of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import pytest
from moving import MovingSlot
from threads import checkpoint, config, grow

from swarmstate.backends.redis import RedisStore
from swarmstate.backends.redis.transport.topology import slot_of
from swarmstate.errors import StoreUnavailable
from swarmstate.integrations.langgraph import SwarmStateSaver

MakeRedis = Callable[..., RedisStore]
SMALL: dict[str, Any] = {"timeout": 0.2, "retries": 0}
ORDERS = {
    "writes first": lambda key: b":writes:" not in key,
    "hashes first": lambda key: b":writes:" in key,
    "what is derived last": lambda key: key.startswith(b"!"),
}


class Worker:
    """Does everything to a thread, and knows what must and what may be there afterwards."""

    def __init__(self, saver: SwarmStateSaver, thread: str) -> None:
        self.saver = saver
        self.thread = thread
        self.last: Any = grow(saver, 5, thread=thread, writes=2)
        # Writes that came before their checkpoint.
        saver.put_writes(config(thread, "", "f"), [("x", "early")], "task")
        found = saver.get_tuple(config(thread))
        assert found is not None
        self.values = found.checkpoint["channel_values"]
        self.listed = [one.config for one in saver.list(config(thread))]
        self.must = [write[:2] for write in found.pending_writes or ()]
        self.may = list(self.must)
        self.errors = 0
        self.answers = 0

    def attempt(self, call: Callable[[], Any]) -> tuple[Any, bool]:
        try:
            answer = call()
        except StoreUnavailable:
            self.errors += 1
            return None, False
        self.answers += 1
        return answer, True

    def check(self, found: Any) -> None:
        assert found is not None
        assert found.checkpoint["channel_values"] == self.values
        names = [write[:2] for write in found.pending_writes]
        assert all(name in names for name in self.must)
        assert all(name in self.may for name in names)

    def work(self, stage: str) -> None:
        saver, thread = self.saver, self.thread
        for where in (config(thread), self.last):
            found, answered = self.attempt(lambda where=where: saver.get_tuple(where))
            if answered:
                self.check(found)
        listed, answered = self.attempt(lambda: list(saver.list(config(thread))))
        if answered:
            assert [one.config for one in listed] == self.listed
            self.check(listed[0])
        history, answered = self.attempt(
            lambda: saver.get_delta_channel_history(config=config(thread), channels=["x"])
        )
        if answered:
            assert len(history["x"]["writes"]) == 8
        self.may.append((stage, "x"))
        _, answered = self.attempt(lambda: saver.put_writes(self.last, [("x", stage)], stage))
        if answered:
            self.must.append((stage, "x"))


@pytest.mark.parametrize("order", ORDERS)
def test_a_slot_that_moves_never_shows_a_part_and_loses_nothing(
    cluster_url: str, make_redis: MakeRedis, order: str
) -> None:
    thread = f"moving, {order}"
    patient = SwarmStateSaver(make_redis(cluster_url))
    worker = Worker(patient, thread)
    worker.saver = SwarmStateSaver(make_redis(cluster_url, **SMALL))
    slot = MovingSlot(urlsplit(cluster_url).port or 0, slot_of(b"{t:%b}" % thread.encode()))
    slot.begin()
    worker.work("begun")
    keys = sorted(slot.left(), key=ORDERS[order])
    for key in keys[: len(keys) // 2]:
        slot.move(key)
    worker.work("half")
    assert worker.errors
    for key in slot.left():
        slot.move(key)
    worker.work("all there")
    assert slot.left() == []
    slot.end()
    errors = worker.errors
    worker.saver = saver = patient
    worker.work("after")
    assert worker.errors == errors
    assert worker.must[-1] == ("after", "x")
    worker.check(saver.get_tuple(config(thread)))
    saver.put(worker.last, checkpoint({}, {}, "f"), {}, {})
    found = saver.get_tuple(config(thread))
    assert found is not None
    assert found.pending_writes == [("task", "x", "early")]
    saver.delete_thread(thread)
    assert thread not in saver.threads()


def test_a_call_waits_for_a_slot_that_has_moved_within_its_time(
    cluster_url: str, make_redis: MakeRedis
) -> None:
    thread = "moved meanwhile"
    saver = SwarmStateSaver(make_redis(cluster_url))
    last = grow(saver, 3, thread=thread, writes=1)
    slot = MovingSlot(urlsplit(cluster_url).port or 0, slot_of(b"{t:%b}" % thread.encode()))
    slot.begin()
    for key in slot.left():
        slot.move(key)
    slot.end()
    found = saver.get_tuple(config(thread))
    assert found is not None
    assert found.config == last
    saver.put_writes(last, [("x", 1)], "later")
    assert len(list(saver.list(config(thread)))) == 3


def test_what_a_thread_that_moves_has_left_is_deleted_or_nothing(
    cluster_url: str, make_redis: MakeRedis
) -> None:
    thread = "deleted on its way"
    store = make_redis(cluster_url)
    patient = SwarmStateSaver(store)
    grow(patient, 3, thread=thread, writes=1)
    saver = SwarmStateSaver(make_redis(cluster_url, **SMALL))
    slot = MovingSlot(urlsplit(cluster_url).port or 0, slot_of(b"{t:%b}" % thread.encode()))
    slot.begin()
    for key in slot.left()[::2]:
        slot.move(key)
    with suppress(StoreUnavailable):
        saver.prune([thread])
    with suppress(StoreUnavailable):
        saver.copy_thread(thread, "elsewhere")
    with suppress(StoreUnavailable):
        saver.delete_thread(thread)
    for key in slot.left():
        slot.move(key)
    slot.end()
    saver = patient
    listed = list(saver.list(config(thread)))
    assert [len(one.pending_writes or ()) for one in listed] == [1] * len(listed)
    copied = list(saver.list(config("elsewhere")))
    assert [len(one.pending_writes or ()) for one in copied] == [1] * len(copied)
    saver.delete_thread(thread)
    saver.delete_thread("elsewhere")
    assert store.namespaces() == []
