"""Which checkpoints a listing yields, and how many."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from threads import checkpoint, config

from swarmstate.integrations.langgraph import SwarmStateSaver
from swarmstate.protocols import StoreLike


@pytest.fixture
def saver(make_store: Callable[..., StoreLike]) -> SwarmStateSaver:
    """Three threads of two namespaces, whose checkpoints were made in turns."""
    made = SwarmStateSaver(make_store())
    for number in range(5):
        for thread in ("a", "b", "c"):
            for namespace in ("", "inner"):
                body = checkpoint({}, {}, f"{number}")
                made.put(config(thread, namespace), body, {"step": number % 2}, {})
    return made


@pytest.mark.parametrize("limit", [1, 2, 5, 7])
def test_a_limit_holds_for_all_threads_together(saver: SwarmStateSaver, limit: int) -> None:
    for wanted, most in ((None, 30), ({"step": 1}, 12), ({"step": 7}, 0)):
        found = [one.checkpoint["id"] for one in saver.list(None, filter=wanted, limit=limit)]
        whole = [one.checkpoint["id"] for one in saver.list(None, filter=wanted)]
        assert len(whole) == most
        assert found == whole[:limit] == sorted(whole, reverse=True)[:limit]


def test_a_config_with_an_id_lists_that_checkpoint_alone(saver: SwarmStateSaver) -> None:
    (found,) = saver.list(config("b", "inner", "3"))
    assert found.config == config("b", "inner", "3")
    anywhere: Any = {"configurable": {"thread_id": "b", "checkpoint_id": "3"}}
    assert [one.config for one in saver.list(anywhere)] == [
        config("b", namespace, "3") for namespace in ("inner", "")
    ]


def test_pruning_keeps_the_latest_of_each_namespace(saver: SwarmStateSaver) -> None:
    saver.prune(["a", "b"])
    for thread, left in (("a", 1), ("b", 1), ("c", 5)):
        for namespace in ("", "inner"):
            found = [one.checkpoint["id"] for one in saver.list(config(thread, namespace))]
            assert found == ["4", "3", "2", "1", "0"][:left]
