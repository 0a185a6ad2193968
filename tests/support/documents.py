"""The Markdown documents: which there are, their code blocks, headings and links."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = tuple(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/**/*.md")
    for path in sorted(ROOT.glob(pattern))
)
"""Every document, found rather than listed: a new page is tested like the others."""

_HEADING = re.compile(r"(#+) +(.+?) *#*")
_FENCE = re.compile(r"(`{3,})([^`]*)")
_LINK = re.compile(r"\]\(([^)\s]+)[^)]*\)|^\[[^\]]+\]:\s+(\S+)", re.MULTILINE)
_CODE = re.compile(r"(`+).*?\1", re.DOTALL)


class Block(NamedTuple):
    """A fenced block: where it is and what is in it."""

    document: str
    section: str
    line: int
    language: str
    source: str

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"


class Document(NamedTuple):
    """A document, taken apart."""

    blocks: list[Block]
    headings: list[str]
    prose: str
    """Every line that is not in a block."""


def parse(name: str, text: str | None = None) -> Document:
    """Take a document apart.

    Raises:
        ValueError: a block that Markdown shows as code but that no test would find: one that is not
            closed, is indented, or is fenced with tildes.
    """
    section, fence, start, language = "", "", 0, ""
    body: list[str] = []
    found = Document([], [], "")
    prose: list[str] = []
    lines = (ROOT / name).read_text() if text is None else text
    for number, line in enumerate(lines.splitlines(), start=1):
        if fence:
            if line.strip() == fence:
                source = "\n".join(body) + "\n"
                found.blocks.append(Block(name, section, start, language, source))
                fence = ""
            else:
                body.append(line)
        elif opened := _FENCE.fullmatch(line):
            fence, language = opened[1], opened[2].strip()
            start, body = number + 1, []
        elif line.lstrip().startswith(("```", "~~~")):
            raise ValueError(f"{name}:{number}: begin a block with ``` at the start of the line")
        elif line.startswith(("    ", "\t")) and not (prose and prose[-1].strip()):
            raise ValueError(f"{name}:{number}: an indented block is code; put it between ```")
        else:
            prose.append(line)
            if heading := _HEADING.fullmatch(line):
                found.headings.append(heading[2])
                if heading[1] == "##":
                    section = heading[2]
    if fence:
        raise ValueError(f"{name}:{start}: the block is not closed")
    return found._replace(prose="\n".join(prose))


def blocks(document: str, text: str | None = None) -> Iterator[Block]:
    """Yield the fenced blocks of a document in order, each with the line it starts on."""
    yield from parse(document, text).blocks


def sections(document: str, language: str) -> dict[str, list[Block]]:
    """Return the blocks of one language, by the ``##`` heading that they are under."""
    found: dict[str, list[Block]] = {}
    for block in blocks(document):
        if block.language == language:
            found.setdefault(block.section, []).append(block)
    return found


def anchors(document: str, text: str | None = None) -> set[str]:
    """Return what a link can put after ``#``: the names that GitHub gives the headings."""
    seen: Counter[str] = Counter()
    found = set()
    for heading in parse(document, text).headings:
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        name = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        found.add(f"{name}-{seen[name]}" if seen[name] else name)
        seen[name] += 1
    return found


def links(document: str, text: str | None = None) -> list[str]:
    """Return the targets of a document's links, in order."""
    prose = _CODE.sub("", parse(document, text).prose)
    return [match[1] or match[2] for match in _LINK.finditer(prose)]


def broken_links(document: str, text: str | None = None) -> list[str]:
    """Return the links within the repository that lead to no file or to no heading."""
    return [link for link in links(document, text) if not _leads_somewhere(link, document, text)]


def _leads_somewhere(link: str, document: str, text: str | None) -> bool:
    if re.match(r"\w+:", link):
        return True
    target, _, anchor = link.partition("#")
    if not target:
        return anchor in anchors(document, text)
    path = ((ROOT / document).parent / target).resolve()
    if not (path.exists() and path.is_relative_to(ROOT)):
        return False
    if not anchor:
        return True
    return path.suffix == ".md" and anchor in anchors(path.relative_to(ROOT).as_posix())
