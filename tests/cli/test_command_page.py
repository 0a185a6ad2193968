"""The terminal recordings of docs/command.md are what the commands print."""

from __future__ import annotations

import re

import pytest
from documents import ROOT
from places import run
from recordings import prepared, printed_by, recorded, recordings, renamed

PAGE = "docs/command.md"
# What is another one each time, longest first.
UNSTABLE = {
    r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|\b[0-9a-f]{32}\b": "<id>",
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\S*": "<time>",
    r"\b\d+ (s|min) ago": "<age>",
    r" {2,}": " ",
    r"─+": "─",
}


def stable(text: str) -> str:
    """Return of what a command printed what it prints every time."""
    for pattern, stands in UNSTABLE.items():
        text = re.sub(pattern, stands, text)
    return text.strip()


def test_the_commands_of_the_page_print_what_it_shows() -> None:
    with prepared(PAGE, "agents.db") as ids:
        assert ids
        for source in recorded(PAGE):
            for line, printed in recordings(source):
                assert printed, line
                assert stable(printed_by(renamed(line, ids))) == stable(printed), line


def test_what_is_compared_is_not_all_taken_for_unstable() -> None:
    text = "thread-1   3 checkpoints  1f1e98b2-6a28-6477-8001-882c52a73033   0 s ago"
    assert stable(text) == "thread-1 3 checkpoints <id> <age>"
    assert stable("1 thread; 2.8 KB in all") == "1 thread; 2.8 KB in all"


def test_the_page_tells_of_every_command() -> None:
    text = (ROOT / PAGE).read_text()
    listed = run("--help").output.partition("Commands:")[2]
    for name in re.findall(r"^  ([a-z]+) ", listed, re.MULTILINE):
        assert re.search(rf"`{name}\b|swarmstate {name}\b", text), name


def test_a_block_without_a_prompt_is_no_recording() -> None:
    with pytest.raises(AssertionError):
        recordings("swarmstate threads\n")
