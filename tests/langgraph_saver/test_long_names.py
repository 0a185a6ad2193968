"""Names of any length: nothing keeps them once a call is over, and no error shows them whole."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Iterator

import pytest
from threads import checkpoint, config

from swarmstate.integrations.langgraph import SwarmStateSaver
from swarmstate.protocols import StoreLike

LENGTH = 100_000
COUNT = 6


@pytest.fixture
def traced() -> Iterator[Callable[[], int]]:
    """How many bytes of Python's are in use."""

    def used() -> int:
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    yield used
    tracemalloc.stop()


def names(kind: str) -> list[str]:
    return [f"{kind}{number}".ljust(LENGTH, "x") for number in range(COUNT)]


def test_ids_of_absent_threads_are_not_kept(
    make_store: Callable[..., StoreLike], traced: Callable[[], int]
) -> None:
    saver = SwarmStateSaver(make_store())
    saver.get_tuple(config("short"))
    before = traced()
    for name in names("thread"):
        assert saver.get_tuple(config(name)) is None
        assert saver.get_tuple(config("thread", name)) is None
        assert saver.get_tuple(config("thread", "", name)) is None
        assert list(saver.list(config(name))) == []
        saver.delete_thread(name)
    assert traced() - before < 3 * LENGTH


def test_long_names_of_threads_and_channels_work_and_are_not_kept(
    make_store: Callable[..., StoreLike], traced: Callable[[], int]
) -> None:
    saver = SwarmStateSaver(make_store())
    before = 0
    for name in names("long"):
        body = checkpoint({name: name}, {name: 1}, "1")
        stored = saver.put(config(name, "inner"), body, {}, {name: name})
        saver.put_writes(stored, [(name, 2)], "task")
        (found,) = saver.list(stored)
        assert found.checkpoint["channel_values"] == {name: 1}
        assert found.pending_writes == [("task", name, 2)]
        del found
        saver.delete_thread(name)
        before = before or traced()
    # What the first one left is what any would: connections, scripts, and the like.
    assert traced() - before < 3 * LENGTH
