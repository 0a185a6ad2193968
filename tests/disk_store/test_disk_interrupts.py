"""Calls that are interrupted, or whose store is closed, at any line of theirs."""

from __future__ import annotations

import gc
import sqlite3
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from interrupting import at_line, interrupt
from threads import checkpoint, config

from swarmstate import codecs
from swarmstate.backends.disk import DiskStore
from swarmstate.errors import StoreUnavailable
from swarmstate.integrations.langgraph import SwarmStateSaver

Make = Callable[..., DiskStore]

# A connection that is interrupted before anything holds it is closed by the interpreter, which says
# so from Python 3.13 on.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture(autouse=True)
def _swept() -> Iterator[None]:
    """Let it be closed while the warning is ignored."""
    yield
    gc.collect()


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
        reached, outcome = at_line("disk", number, interrupt, partial(CALLS[call], store, number))
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
        reached, outcome = at_line("disk", number, store.close, partial(CALLS[call], store, number))
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
            "disk", number, interrupt, lambda b=body, f=fresh: saver.put(config(), b, {}, f)
        )
        found = list(saver.list(config()))
        assert len(found) <= 4
        for each in found:
            values = each.checkpoint["channel_values"]
            assert values == dict.fromkeys("xy", each.checkpoint["id"])
        assert is_free(path)
    assert outcome is not KeyboardInterrupt


def test_an_interrupt_makes_nobody_else_s_job_happen_twice(make: Make) -> None:
    """The thread that commits for all is interrupted; the others are told what became of theirs."""
    store = make()
    database = store.driver.database
    number, expected = 0, 0
    reached = True
    while reached:
        number += 1
        jobs = [database.job(count_up, 0) for _ in range(3)]
        database._waiting.extend(jobs)
        reached, _ = at_line("disk", number, interrupt, partial(store.set, "n", "k", number))
        # Those that were not done then are done by their own threads.
        database.write_all(jobs)
        assert [job.error for job in jobs] == [None] * 3
        expected += 3
        assert store.get("n", "count") == expected, f"line {number}"


def count_up(connection: sqlite3.Connection) -> None:
    """Not the same when done twice."""
    found = connection.execute("SELECT value FROM entry WHERE key='count'").fetchone()
    value = codecs.dumps(1 if found is None else codecs.loads(found[0]) + 1)
    connection.execute("INSERT OR IGNORE INTO space(name) VALUES('n')")
    (space,) = connection.execute("SELECT id FROM space WHERE name='n'").fetchone()
    connection.execute("INSERT OR REPLACE INTO entry VALUES(?, '', 'count', ?)", (space, value))
