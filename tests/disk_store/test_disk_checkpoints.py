"""Threads in a file: where they lie, and several processes and stores that share one."""

from __future__ import annotations

import multiprocessing
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from threads import checkpoint, config, grow

from swarmstate import Store
from swarmstate.backends.disk import DiskStore
from swarmstate.checkpoints.protocol import CheckpointName
from swarmstate.integrations.langgraph import SwarmStateSaver
from swarmstate.steps import finish

Make = Callable[..., DiskStore]


def spaces(path: Path) -> int:
    connection = sqlite3.connect(path)
    (count,) = connection.execute("SELECT count(*) FROM space").fetchone()
    connection.close()
    return int(count)


def test_a_thread_has_a_handful_of_spaces_however_long_it_is(make: Make, path: Path) -> None:
    saver = SwarmStateSaver(make())
    grow(saver, 5, writes=2)
    few = spaces(path)
    grow(saver, 50, writes=2)
    assert spaces(path) == few <= 5


def test_put_writes_of_nothing_writes_nothing(make: Make, path: Path) -> None:
    store = make()
    saver = SwarmStateSaver(store)
    last = grow(saver, 1)
    before = len(store)
    saver.put_writes(last, [], "task")
    saver.put_writes(config(checkpoint_id="unknown"), [], "task")
    assert len(store) == before
    found = saver.get_tuple(last)
    assert found is not None
    assert found.pending_writes == []


def test_nothing_is_left_of_a_thread_that_was_deleted(make: Make, path: Path) -> None:
    store = make()
    saver = SwarmStateSaver(store)
    grow(saver, 20, writes=2)
    grow(saver, 3, namespace="inner:1", writes=1)
    saver.put_writes(config(checkpoint_id="f"), [("x", 1)], "task")
    saver.delete_thread("thread")
    assert len(store) == 0
    assert spaces(path) == 0


def test_a_thread_is_the_same_for_the_engine_over_any_store(make: Make) -> None:
    """What lies in the file is the public layout: its snapshot is a thread in memory."""
    saver = SwarmStateSaver(make())
    grow(saver, 5, writes=2)
    grow(saver, 2, namespace="inner:1", writes=1)
    saver.put_writes(config(checkpoint_id="f"), [("x", 1)], "task")
    local = Store()
    local.restore(saver.store.snapshot())
    assert list(SwarmStateSaver(local).list(None)) == list(saver.list(None))
    again = make()
    again.clear()
    again.restore(local.snapshot())
    assert list(SwarmStateSaver(local).list(None)) == list(SwarmStateSaver(again).list(None))


def test_a_limit_counts_what_other_stores_put(make: Make) -> None:
    """Two stores are to each other as two processes: neither sees what the other remembers."""
    one = SwarmStateSaver(make(), max_checkpoints_per_thread=5)
    other = SwarmStateSaver(make(), max_checkpoints_per_thread=5)
    for _ in range(10):
        grow(one, 1, writes=1)
        grow(other, 2, writes=1)
        found = list(one.list(config()))
        assert len(found) <= 5
        for each in found:
            assert {"kept", "step"} <= each.checkpoint["channel_values"].keys()


def test_what_another_store_forked_from_an_old_checkpoint_keeps_its_values(make: Make) -> None:
    """A lesser id that comes late is older than all others, and refers to what they do."""
    one = SwarmStateSaver(make(), max_checkpoints_per_thread=4)
    other = SwarmStateSaver(make())
    for number in range(10, 13):
        body = checkpoint({"x": "1"}, {"x": "value"}, f"{number:04}")
        one.put(config(), body, {}, {"x": "1"} if number == 10 else {})
    late = checkpoint({"x": "1"}, {"x": "value"}, "0011-late")
    other.put(config(checkpoint_id="0010"), late, {}, {})
    for number in range(13, 30):
        one.put(config(), checkpoint({"y": f"{number}"}, {"y": 1}, f"{number:04}"), {}, {})
        for found in one.list(config()):
            if "x" in found.checkpoint["channel_versions"]:
                assert found.checkpoint["channel_values"]["x"] == "value"


def prune_and_put(path: str, name: int, failures: Any) -> None:
    try:
        with DiskStore(path, timeout=30) as store:
            saver = SwarmStateSaver(store, max_checkpoints_per_thread=4)
            for _ in range(60):
                grow(saver, 1, writes=1)
                for found in saver.list(config()):
                    assert {"kept", "step"} <= found.checkpoint["channel_values"].keys()
                if name == 0:
                    saver.prune(["thread"])
    except BaseException as error:
        failures.put(f"{type(error).__name__}: {error}")
        raise


def test_processes_that_put_and_prune_one_thread_never_see_a_part_of_a_checkpoint(
    path: Path,
) -> None:
    DiskStore(path).close()
    context = multiprocessing.get_context("spawn")
    failures = context.Queue()
    processes = [
        context.Process(target=prune_and_put, args=(str(path), name, failures)) for name in range(3)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [failures.get() for process in processes if process.exitcode] == []


def test_a_put_that_could_not_be_committed_is_not_counted(make: Make, path: Path) -> None:
    store = make(timeout=0.1)
    saver = SwarmStateSaver(store, max_checkpoints_per_thread=3)
    grow(saver, 5)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(ConnectionError, match="locked"):
        grow(saver, 1)
    other.execute("ROLLBACK")
    other.close()
    grow(saver, 5)
    assert len(list(saver.list(config()))) == 3


def test_marks_are_no_checkpoints(make: Make) -> None:
    store = make()
    saver = SwarmStateSaver(store)
    grow(saver, 3, writes=1)
    engine = store.checkpoint_engine()
    ids = engine.run(finish(engine.list_ids(["thread"], "", None, None)))
    assert len(ids) == 3
    mark = CheckpointName("thread", "", f"\0w{ids[0].id}")
    assert engine.run(finish(engine.load([mark], channels=None, writes=True))) == [None]
    assert engine.run(finish(engine.list_ids(["thread"], None, None, 2))) == ids[:2]
