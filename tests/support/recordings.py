"""Terminal recordings in documents: ``console`` blocks of commands with what they print.

A page first has a Python block that makes the file that its commands look into. Run as a program,
this writes what the commands print now into the page::

    PYTHONPATH=.:tests/support:examples python tests/support/recordings.py docs/command.md
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from documents import ROOT, blocks
from places import run

from swarmstate.backends.disk import DiskStore
from swarmstate.integrations.langgraph import SwarmStateSaver

_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-6[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
_PROMPT = "$ "


class Recording(NamedTuple):
    """A command and what it printed."""

    line: str
    printed: str


def recordings(source: str) -> list[Recording]:
    """Return the commands of a block in their order."""
    assert source.startswith(_PROMPT), source
    found: list[Recording] = []
    for part in f"\n{source}".split(f"\n{_PROMPT}")[1:]:
        line, _, printed = part.partition("\n")
        found.append(Recording(line, printed.rstrip("\n")))
    return found


def recorded(document: str) -> list[str]:
    """Return the blocks of a page that hold commands with what they print."""
    return [block.source for block in blocks(document) if block.language == "console"]


@contextlib.contextmanager
def prepared(document: str, file: str) -> Iterator[dict[str, str]]:
    """Run the page's Python block in a folder of its own, and go there.

    Yields:
        Checkpoint id in the page -> id of the same checkpoint now. Ids begin with a time.
    """
    source = next(block.source for block in blocks(document) if block.language == "python")
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            exec(compile(source, document, "exec", dont_inherit=True), {})
            with DiskStore(file) as store:
                found = SwarmStateSaver(store).list(None)
                now = sorted({each.checkpoint["id"] for each in found})
            page = sorted(set(_ID.findall((ROOT / document).read_text())))
            yield dict(zip(page, now, strict=True)) if len(page) == len(now) else {}
        finally:
            os.chdir(before)


def printed_by(line: str) -> str:
    """Return what a command prints, on both of its streams."""
    name, *arguments = shlex.split(line)
    assert name == "swarmstate", line
    return run(*arguments).output.rstrip("\n")


def renamed(text: str, ids: dict[str, str]) -> str:
    """Return a text with other ids."""
    return _ID.sub(lambda match: ids.get(match[0], match[0]), text)


def write(document: str, file: str) -> None:
    """Write what the commands of a page print now into the page."""
    text = (ROOT / document).read_text()
    with prepared(document, file) as ids:
        for source in recorded(document):
            lines = [renamed(line, ids) for line, _ in recordings(source)]
            parts = [f"{_PROMPT}{line}\n{printed_by(line)}".rstrip("\n") for line in lines]
            text = text.replace(
                f"```console\n{source}```", "```console\n" + "\n".join(parts) + "\n```"
            )
    Path(ROOT / document).write_text(text)


if __name__ == "__main__":
    write(sys.argv[1], "agents.db")
