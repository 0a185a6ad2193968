"""Calls that are interrupted, or whose store is closed, at any line of theirs."""

from __future__ import annotations

import gc
import sqlite3
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from threads import checkpoint, config

from swarmstate.backends.disk import DiskStore
from swarmstate.errors import StoreUnavailable
from swarmstate.integrations.langgraph import SwarmStateSaver

Make = Callable[..., DiskStore]


def at_line(number: int, act: Callable[[], None], work: Callable[[], Any]) -> tuple[bool, Any]:
    """Do something at a line of the disk store, counted over all its modules.

    Returns:
        Whether that line was reached, and what the work returned or raised.
    """
    lines = 0

    def enter(frame: FrameType, event: str, argument: Any) -> Any:
        return line if "backends/disk" in frame.f_code.co_filename else None

    def line(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal lines
        if event == "line":
            lines += 1
            if lines == number:
                act()
        return line

    before = sys.gettrace()
    gc.disable()  # Finalizers of stores of other tests have lines of the disk store, too.
    sys.settrace(enter)
    try:
        outcome = work()
    except (KeyboardInterrupt, StoreUnavailable) as raised:
        # Without the frames, which would keep a connection alive.
        outcome = type(raised)
    finally:
        sys.settrace(before)
        gc.enable()
    return lines >= number, outcome


def interrupt() -> None:
    raise KeyboardInterrupt


def is_free(path: Path) -> bool:
    """Whether nobody holds the lock on writing."""
    other = sqlite3.connect(path, isolation_level=None, timeout=0)
    try:
        other.execute("BEGIN IMMEDIATE")
        other.execute("ROLLBACK")
    except sqlite3.OperationalError:
        return False
    finally:
        other.close()
    return True


CALLS: dict[str, Callable[[DiskStore, int], Any]] = {
    "set": lambda store, n: store.set("n", "k", n),
    "get": lambda store, n: store.get("n", "k"),
    "get_many": lambda store, n: store.get_many([("n", "k"), ("m", "k")]),
    "set_many": lambda store, n: store.set_many([("n", "k", n), ("new", "k", n)]),
    "update": lambda store, n: store.update("n", "k", lambda old: n),
    "delete": lambda store, n: store.delete("n", "other"),
    "snapshot": lambda store, n: store.snapshot(),
    "clear": lambda store, n: store.clear(),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("fresh", [False, True])
def test_an_interrupt_at_any_line_leaves_a_store_that_works(
    make: Make, path: Path, call: str, fresh: bool
) -> None:
    store = make(timeout=0.5)
    number = 0
    reached = True
    while reached:
        number += 1
        store.set_many([("n", "k", "old"), ("n", "other", 1)])
        store.delete_namespace("new")
        if fresh:  # the connections have to be made
            store.driver.database.before_fork()
            store.driver.database.after_fork_in_parent()
        reached, outcome = at_line(number, interrupt, partial(CALLS[call], store, number))
        assert outcome is KeyboardInterrupt or not reached
        assert is_free(path), f"line {number}"
        # All of it or nothing.
        if call == "set_many":
            assert store.get_many([("n", "k"), ("new", "k")]) in ([number] * 2, ["old", None])
        store.set("m", "k", number)
        assert store.get("m", "k") == number
        assert len(store.driver.database._waiting) == 0
        assert store.snapshot().get("m", "k") == number


@pytest.mark.parametrize("call", CALLS)
def test_closing_at_any_line_ends_a_call_with_its_result_or_an_error(
    make: Make, path: Path, call: str
) -> None:
    number = 0
    reached = True
    while reached:
        number += 1
        store = make()
        store.set_many([("n", "k", "old"), ("n", "other", 1)])
        reached, outcome = at_line(number, store.close, partial(CALLS[call], store, number))
        assert reached or outcome is not StoreUnavailable
        if not reached:
            store.close()
        with pytest.raises(StoreUnavailable, match="closed"):
            store.get("n", "k")
        assert is_free(path)
        assert [file.name for file in path.parent.iterdir()] == ["state.db"]


def test_an_interrupted_put_is_stored_whole_or_not_at_all(make: Make, path: Path) -> None:
    saver = SwarmStateSaver(make(), max_checkpoints_per_thread=3)
    number = 0
    reached = True
    while reached:
        number += 1
        name = f"{number:05}"
        body = checkpoint({"x": name, "y": name}, {"x": name, "y": name}, name)
        fresh = {"x": name, "y": name}
        reached, outcome = at_line(
            number, interrupt, lambda b=body, f=fresh: saver.put(config(), b, {}, f)
        )
        found = list(saver.list(config()))
        assert len(found) <= 4
        for each in found:
            values = each.checkpoint["channel_values"]
            assert values == dict.fromkeys("xy", each.checkpoint["id"])
        assert is_free(path)
    assert outcome is not KeyboardInterrupt
