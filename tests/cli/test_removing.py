"""What is removed, and that it is asked for."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from places import Where, run
from threads import checkpoint, config, grow

from swarmstate.backends.disk import DiskStore
from swarmstate.integrations.langgraph import SwarmStateSaver
from swarmstate.snapshots import contents


def content(place: Where) -> Any:
    return contents(place.store.snapshot())


@pytest.mark.parametrize("answer", ["", "n\n", "nonsense\n"])
@pytest.mark.parametrize("command", [["delete", "alpha"], ["prune", "--keep", "1"]])
def test_without_a_yes_nothing_is_removed(place: Where, command: list[str], answer: str) -> None:
    grow(SwarmStateSaver(place.store), 3, thread="alpha")
    before = content(place)
    result = place.run(*command, answer=answer)
    assert result.exit_code == 1
    assert "Aborted!" in result.stderr
    assert content(place) == before


def test_deleted_threads_are_gone_and_no_other_is(place: Where) -> None:
    saver = SwarmStateSaver(place.store)
    for thread in ("alpha", "beta", "gamma"):
        grow(saver, 2, thread=thread)
    kept = list(saver.list(config("gamma")))
    result = place.run("delete", "alpha", "beta", answer="y\n")
    assert result.exit_code == 0
    assert "Remove 2 threads with 4 checkpoints?" in result.stderr
    assert saver.threads() == ["gamma"]
    assert list(saver.list(config("gamma"))) == kept
    assert place.json("delete", "gamma", "--yes") == {"deleted": ["gamma"], "checkpoints": 2}
    assert content(place) == {}


def test_where_one_thread_is_not_there_none_is_removed(place: Where) -> None:
    saver = SwarmStateSaver(place.store)
    grow(saver, 1, thread="alpha")
    result = place.run("delete", "alpha", "lost", "--yes")
    assert result.exit_code == 1
    assert "there is no thread 'lost'; nothing was removed" in result.stderr
    assert saver.threads() == ["alpha"]


def test_pruning_keeps_the_newest_of_each_namespace(place: Where) -> None:
    saver = SwarmStateSaver(place.store)
    grow(saver, 5, thread="alpha")
    grow(saver, 1, thread="beta")
    grow(saver, 4, thread="gamma")
    newest = [one.config for one in saver.list(config("alpha"), limit=2)]
    done = place.json("prune", "alpha", "beta", "--keep", "2", "--yes")
    assert done == {"deleted": [], "checkpoints": 3}
    assert [one.config for one in saver.list(config("alpha"))] == newest
    assert len(list(saver.list(config("beta")))) == 1
    assert len(list(saver.list(config("gamma")))) == 4
    assert place.json("prune", "--keep", "2", "--yes")["checkpoints"] == 2
    assert place.json("prune", "--keep", "2") == {"deleted": [], "checkpoints": 0}


def _id_of(seconds: float) -> str:
    """Return a checkpoint id that was made at a time: a UUID of version 6."""
    ticks = int(seconds * 10_000_000) + 0x01B21DD213814000
    high = (ticks >> 12) << 16 | 6 << 12 | ticks & 0xFFF
    return str(UUID(int=high << 64 | 0x8 << 60))


def test_idle_threads_are_removed_by_their_age(place: Where) -> None:
    saver = SwarmStateSaver(place.store)
    old = _id_of(time.time() - 40 * 86400)
    saver.put(config("old"), checkpoint({"a": "1"}, {"a": 1}, old), {}, {"a": "1"})
    undated: Any = {**checkpoint({"a": "1"}, {"a": 1}, "not a UUID"), "ts": "no time"}
    saver.put(config("undated"), undated, {}, {"a": "1"})
    grow(saver, 3, thread="new")
    assert place.json("prune", "--idle", "30d", "--dry-run") == {
        "idle_threads": ["old"],
        "old_checkpoints_at_most": 0,
    }
    assert set(saver.threads()) == {"old", "undated", "new"}
    done = place.json("prune", "--idle", "30d", "--keep", "1", "--yes")
    assert done == {"deleted": ["old"], "checkpoints": 2}
    assert set(saver.threads()) == {"undated", "new"}
    assert len(list(saver.list(config("new")))) == 1


@pytest.mark.parametrize(
    ("length", "seconds"), [("90", 90), ("90s", 90), ("45m", 2700), ("12h", 43200), ("2d", 172800)]
)
def test_lengths_of_time(tmp_path: Path, length: str, seconds: int) -> None:
    path = f"{tmp_path}/a.db"
    with DiskStore(path) as store:
        saver = SwarmStateSaver(store)
        for thread, age in (("older", seconds + 60), ("newer", seconds - 60)):
            made = _id_of(time.time() - age)
            saver.put(config(thread), checkpoint({}, {}, made), {}, {})
    result = run("prune", "--idle", length, "--dry-run", "--url", f"sqlite:///{path}")
    assert result.stdout.splitlines()[0] == "older"
    assert "newer" not in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prune"], "give --keep, --idle or both"),
        (["prune", "--keep", "0"], "0 is not in the range"),
        (["prune", "--idle", "a month"], "'a month' is not a length of time such as 30d"),
        (["prune", "--idle", "-3d"], "is not a length of time"),
        (["prune", "x", "--idle", "3d"], "--idle looks at all threads: name none"),
        (["delete"], "Missing argument 'THREAD...'"),
    ],
)
def test_wrong_usage_ends_with_2(place: Where, arguments: list[str], message: str) -> None:
    result = place.run(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
