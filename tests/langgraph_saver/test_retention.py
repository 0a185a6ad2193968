"""Nothing is left behind of checkpoints that were removed, and nothing goes that is needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from threads import checkpoint, config, grow

from swarmstate.integrations.langgraph import SwarmStateSaver
from swarmstate.protocols import StoreLike


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
