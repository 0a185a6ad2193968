"""Nothing is left behind of checkpoints that were removed, and nothing goes that is needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from langgraph.checkpoint.serde.types import INTERRUPT
from threads import checkpoint, config, grow

from swarmstate.backends.redis import RedisStore
from swarmstate.backends.redis.commands import Batch
from swarmstate.checkpoints import names
from swarmstate.integrations.langgraph import SwarmStateSaver
from swarmstate.protocols import StoreLike
from swarmstate.steps import Steps


def test_writes_that_come_after_their_checkpoint_was_removed_do_not_pile_up(
    make_store: Callable[..., StoreLike],
) -> None:
    store = make_store()
    saver = SwarmStateSaver(store, max_checkpoints_per_thread=2)
    made: list[Any] = []
    sizes = []
    for number in range(8):
        made.append(grow(saver, 1))
        saver.put_writes(made[-1], [("x", number)], "task")
        if number == 1:
            # The checkpoint of these is still to come: its id is greater than all there are.
            saver.put_writes(config(checkpoint_id="f"), [("x", "early")], "task")
        if number >= 2:
            saver.put_writes(made[-3], [("x", "late")], "task")
        sizes.append(len(store.namespaces()))
    assert sizes[3:] == [sizes[3]] * 5
    saver.put(made[-1], checkpoint({}, {}, "f"), {}, {})
    newest, before = saver.list(config())
    assert newest.pending_writes == [("task", "x", "early")]
    assert before.pending_writes == [("task", "x", 7)]
    saver.delete_thread("thread")
    assert len(store) == 0


def test_pruning_removes_values_and_writes_that_no_checkpoint_has(
    make_store: Callable[..., StoreLike],
) -> None:
    store = make_store()
    saver = SwarmStateSaver(store)
    last = grow(saver, 10, writes=1)
    before = saver.get_tuple(last)
    saver.prune(["thread"])
    assert list(saver.list(config())) == [before]
    here = names("thread", "")
    # What all checkpoints have in common, and what only the last one has.
    assert len(store.keys(here.values)) == 2
    writes = here.writes + last["configurable"]["checkpoint_id"]
    assert {*store.namespaces()} - {here.orphans} == {
        *(here.thread, here.checkpoints, here.values, writes)
    }


def test_a_thread_ends_with_the_last_run_that_made_checkpoints(
    make_store: Callable[..., StoreLike],
) -> None:
    store = make_store()
    saver = SwarmStateSaver(store)
    for run in ("one", "two"):
        for namespace in ("", "inner"):
            body = checkpoint({"x": run}, {"x": run}, run)
            stored = saver.put(config("thread", namespace), body, {"run_id": run}, {"x": run})  # type: ignore[typeddict-unknown-key]
            saver.put_writes(stored, [("x", 1)], "task")
    saver.delete_for_runs(["one", "never"])
    assert [one.checkpoint["id"] for one in saver.list(config("thread"))] == ["two"]
    saver.delete_for_runs(["two"])
    assert saver.threads() == []
    assert len(store) == 0


@pytest.mark.parametrize("after", [1, 2, 3])
def test_without_scripts_values_that_are_inherited_while_they_go_come_back(
    make_redis: Callable[..., RedisStore], no_scripts_url: str, after: int
) -> None:
    store = make_redis(no_scripts_url)
    saver = SwarmStateSaver(store)
    versions = {"x": "1"}
    first = saver.put(config(), checkpoint(versions, {"x": "shared"}, "0001"), {}, versions)
    saver.put(config(), checkpoint({}, {}, "0002"), {}, {})

    def one(batch: Batch) -> Steps[list[Any]]:
        return (yield batch)

    # Another worker continues from the checkpoint that goes, between two of the steps.
    steps = store.checkpoint_engine().plain.delete("thread", "", ["0001"])  # type: ignore[attr-defined]
    trips = 0
    try:
        batch = next(steps)
        while True:
            batch = steps.send(store.driver.run(one(batch)))
            trips += 1
            if trips == after:
                saver.put(first, checkpoint(versions, {"x": "shared"}, "0003"), {}, {})
    except StopIteration:
        pass
    if trips < after:
        saver.put(first, checkpoint(versions, {"x": "shared"}, "0003"), {}, {})
    found = [one.checkpoint["channel_values"] for one in saver.list(config())]
    assert found == [{"x": "shared"}, {}]


def test_without_scripts_a_put_is_whole_also_where_its_thread_was_deleted_meanwhile(
    make_redis: Callable[..., RedisStore], no_scripts_url: str
) -> None:
    store = make_redis(no_scripts_url)
    saver = SwarmStateSaver(store)
    versions = {"x": "1"}
    first = saver.put(config(), checkpoint(versions, {"x": "shared"}, "0001"), {}, versions)
    saver.delete_thread("thread")

    def one(batch: Batch) -> Steps[list[Any]]:
        return (yield batch)

    steps = saver._put(first, checkpoint(versions, {"x": "shared"}, "0002"), {}, {})
    found = None
    try:
        batch = next(steps)
        while True:
            replies = store.driver.run(one(batch))
            found = saver.get_tuple(config())
            assert found is None or found.checkpoint["channel_values"] == {"x": "shared"}
            batch = steps.send(replies)
    except StopIteration:
        pass
    assert found is not None


def test_a_pending_interrupt_keeps_its_checkpoint_until_the_run_goes_on_from_there(
    make_store: Callable[..., StoreLike],
) -> None:
    saver = SwarmStateSaver(make_store(), max_checkpoints_per_thread=2)
    first = grow(saver, 1)
    waiting = grow(saver, 1)
    saver.put_writes(waiting, [(INTERRUPT, "a question")], "task")
    saver.put(first, checkpoint({}, {}), {}, {})
    fork = grow(saver, 4)
    kept = [one.config for one in saver.list(config())]
    assert (kept[0], kept[-1], len(kept)) == (fork, waiting, 3)
    answered = saver.put(waiting, checkpoint({}, {}), {}, {})
    assert [one.config for one in saver.list(config())] == [answered, fork]


def test_nothing_remembers_that_writes_came_before_their_checkpoint(
    make_store: Callable[..., StoreLike],
) -> None:
    saver = SwarmStateSaver(make_store())
    last = grow(saver, 1)
    saver.put_writes(config(checkpoint_id="f"), [("x", 1)], "task")
    orphans = names("thread", "").orphans
    assert saver.store.keys(orphans) == ["f"]
    put = saver.put(last, checkpoint({}, {}, "f"), {}, {})
    assert orphans not in saver.store
    found = saver.get_tuple(put)
    assert found is not None
    assert found.pending_writes == [("task", "x", 1)]
