"""The code blocks of the Markdown documents."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = ("README.md", "CONTRIBUTING.md")

_HEADING = re.compile(r"## +(.+)")
_FENCE = re.compile(r"(`{3,})(\w*)")


class Block(NamedTuple):
    """A fenced block: where it stands and what is in it."""

    document: str
    section: str
    line: int
    language: str
    source: str

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"


def blocks(document: str, text: str | None = None) -> Iterator[Block]:
    """Yield the fenced blocks of a document in order, each with the line it starts on."""
    section, fence, start, language = "", "", 0, ""
    body: list[str] = []
    lines = (ROOT / document).read_text() if text is None else text
    for number, line in enumerate(lines.splitlines(), start=1):
        if fence:
            if line.strip() == fence:
                yield Block(document, section, start, language, "\n".join(body) + "\n")
                fence = ""
            else:
                body.append(line)
        elif opened := _FENCE.match(line):
            fence, language = opened.groups()
            start, body = number + 1, []
        elif heading := _HEADING.fullmatch(line):
            section = heading[1]
    if fence:
        raise ValueError(f"{document}:{start}: the block is not closed")


def sections(document: str, language: str) -> dict[str, list[Block]]:
    """Return the blocks of one language, by the ``##`` heading that they stand under."""
    found: dict[str, list[Block]] = {}
    for block in blocks(document):
        if block.language == language:
            found.setdefault(block.section, []).append(block)
    return found
