"""What processes do to one thread at the same time; run by spawned processes."""

from __future__ import annotations

import random
from typing import Any

from threads import checkpoint, config, grow

from swarmstate.backends.redis import RedisStore
from swarmstate.integrations.langgraph import SwarmStateSaver

ROUNDS = 60
TASKS = 40
WRITES = 12


def opened(url: str, prefix: str, **options: Any) -> SwarmStateSaver:
    return SwarmStateSaver(RedisStore(url, prefix=prefix), **options)


def put_in_any_order(url: str, prefix: str, name: int, barrier: Any) -> None:
    saver = opened(url, prefix)
    numbers = [2 * number + name for number in range(ROUNDS)]
    random.Random(name).shuffle(numbers)
    barrier.wait()
    for number in numbers:
        body = checkpoint({"x": f"{number}.{name}"}, {"x": number}, f"{number:06}")
        saver.put(config(), body, {"step": number}, {"x": f"{number}.{name}"})
        latest = saver.get_tuple(config())
        assert latest is not None
        assert latest.checkpoint["id"] >= f"{number:06}"


def write_the_same_tasks(url: str, prefix: str, name: int, barrier: Any) -> None:
    saver = opened(url, prefix)
    where = config(checkpoint_id="000001")
    seen: dict[str, Any] = {}
    barrier.wait()
    for task in range(TASKS):
        saver.put_writes(where, [("x", (name, n)) for n in range(WRITES)], f"task{task}")
        found = saver.get_tuple(where)
        assert found is not None
        # What was there once stays as it is, whoever writes it again.
        for task_id, _, value in found.pending_writes or ():
            assert seen.setdefault(f"{task_id}:{value[1]}", value) == value


def put_on(url: str, prefix: str, name: int, barrier: Any) -> None:
    """Continue the thread; every checkpoint inherits one value."""
    saver = opened(url, prefix)
    barrier.wait()
    for _ in range(ROUNDS):
        grow(saver, 1)
        found = saver.get_tuple(config())
        assert found is None or {"kept", "step"} <= found.checkpoint["channel_values"].keys()


def prune(url: str, prefix: str, name: int, barrier: Any) -> None:
    saver = opened(url, prefix)
    barrier.wait()
    for _ in range(ROUNDS):
        saver.prune(["thread"])
        for found in saver.list(config()):
            assert {"kept", "step"} <= found.checkpoint["channel_values"].keys()


def delete(url: str, prefix: str, name: int, barrier: Any) -> None:
    saver = opened(url, prefix)
    barrier.wait()
    for _ in range(ROUNDS):
        saver.delete_thread("thread")
        for found in saver.list(config()):
            assert {"kept", "step"} <= found.checkpoint["channel_values"].keys()
