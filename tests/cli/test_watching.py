"""What changes is shown while it changes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest
from places import Where
from threads import grow

import swarmstate
from swarmstate.integrations.langgraph import SwarmStateSaver


def lines_until(stream: IO[str], end: str) -> list[str]:
    found = []
    for line in stream:
        found.append(line)
        if end in line:
            break
    return found


@pytest.mark.parametrize("start", [[], ["users", "langgraph:thread"]])
def test_keys_that_come_change_and_go_are_shown_live(place: Where, start: list[str]) -> None:
    place.store.set_many([("users", "ada", 1), ("users", "bob", 2)])
    command = ["watch", *start, "--interval", "0.01", "--values", "--json", *place.options]
    with subprocess.Popen(
        [sys.executable, "-m", "swarmstate", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(swarmstate.__file__).parent.parent,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            assert "watching" in lines_until(process.stderr, "watching")[-1]
            place.store.set_many([("users", "ada", "new"), ("users", "eve", 3)])
            found = [*lines_until(process.stdout, '"eve"')]
            place.store.delete("users", "bob")
            found += lines_until(process.stdout, '"bob"')
            grow(SwarmStateSaver(place.store), 1, thread="alpha")
            found += lines_until(process.stdout, "langgraph:thread:5:{t:alpha}")
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=30) == 0
        finally:
            process.kill()
    events = [json.loads(line) for line in found]
    told = [(e["change"], e["namespace"], e["key"], e.get("value")) for e in events]
    assert told[:3] == [
        ("changed", "users", "ada", "new"),
        ("added", "users", "eve", 3),
        ("removed", "users", "bob", None),
    ]
    assert told[-1] == ("added", "langgraph:thread:5:{t:alpha}", "", 1)


def test_without_a_change_it_says_nothing_and_stops_after_its_looks(place: Where) -> None:
    place.store.set("users", "ada", 1)
    result = place.run("watch", "--looks", "3", "--interval", "0")
    assert result.exit_code == 0
    assert result.stdout == ""
    assert "watching 1 keys" in result.stderr
