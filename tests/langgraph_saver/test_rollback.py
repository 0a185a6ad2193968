"""Snapshots of the store roll every thread back at once, and carry threads between stores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from threads import config, grow

from swarmstate import Store
from swarmstate.backends.redis import RedisStore
from swarmstate.integrations.langgraph import SwarmStateSaver
from swarmstate.protocols import StoreLike


def everything(saver: SwarmStateSaver) -> list[Any]:
    return list(saver.list(None))


def test_restoring_rolls_all_threads_back_latest_included(
    make_store: Callable[..., StoreLike],
) -> None:
    saver = SwarmStateSaver(make_store())
    for thread in ("one", "two"):
        grow(saver, 4, thread=thread, writes=2)
    grow(saver, 2, thread="one", namespace="inner:1", writes=1)
    before = everything(saver)
    latest = saver.get_tuple(config("one"))
    taken = saver.store.snapshot()

    grow(saver, 3, thread="one")
    saver.prune(["two"])
    grow(saver, 1, thread="three")
    saver.store.restore(taken)
    assert everything(saver) == before
    assert saver.get_tuple(config("one")) == latest
    assert saver.get_tuple(config("three")) is None

    # Deleted and run again to the same number of checkpoints: nothing derived may survive.
    saver.delete_thread("one")
    grow(saver, 4, thread="one", writes=2)
    grow(saver, 2, thread="one", namespace="inner:1", writes=1)
    assert everything(saver) != before
    saver.store.restore(taken)
    assert saver.get_tuple(config("one")) == latest
    assert everything(saver) == before
    history = saver.get_delta_channel_history(config=config("one"), channels=["x"])
    assert len(history["x"]["writes"]) == 6
    grow(saver, 1, thread="one")
    assert len(everything(saver)) == len(before) + 1


@pytest.mark.parametrize("codec", ["msgpack", "ormsgpack"])
def test_a_snapshot_carries_threads_into_any_other_store(
    make_redis: Callable[..., RedisStore], codec: str
) -> None:
    memory = SwarmStateSaver(Store(codec=codec))
    grow(memory, 5, writes=2)
    grow(memory, 2, namespace="inner:1", writes=1)
    before = everything(memory)
    server = SwarmStateSaver(make_redis(prefix=f"carried-{codec}"))
    server.store.restore(memory.store.snapshot())
    assert everything(server) == before
    assert server.get_tuple(config()) == memory.get_tuple(config())
    grow(server, 1)
    server.prune(["thread"])
    after = everything(server)
    memory.store.restore(server.store.snapshot())
    assert everything(memory) == after


def test_what_the_scripts_know_is_rebuilt_when_it_is_missing_or_does_not_fit(
    make_redis: Callable[..., RedisStore], raw: Any, prefix: str
) -> None:
    saver = SwarmStateSaver(make_redis())
    grow(saver, 5, writes=1)
    before = everything(saver)
    derived = [key for key in raw.keys(f"!{prefix}:*") if key.startswith(f"!{prefix}:\0".encode())]
    derived = [key for key in derived if not key.endswith(b"\0store")]
    assert len(derived) == 2
    raw.delete(*derived)
    assert everything(saver) == before
    for key in derived:
        if raw.type(key) == b"zset":
            raw.zadd(key, {"zzz": 0})
            raw.zrem(key, before[0].checkpoint["id"])
    assert saver.get_tuple(config()) == before[0]
    assert everything(saver) == before
