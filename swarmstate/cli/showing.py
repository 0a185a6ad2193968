"""What commands print: tables and texts for people, JSON for programs.

Nothing is cut, in a narrow terminal neither: cells are folded there, and in a pipe every row is
one line. What a terminal would obey or could not show is escaped.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

__all__ = ["Display", "ago", "bytes_of", "plural", "printable"]

_UNBOUNDED = 1 << 20
_UNITS = ("B", "KB", "MB", "GB", "TB")


def printable(text: object) -> str:
    """Return a text with every character escaped that is not shown as itself."""
    plain = str(text)
    if plain.isprintable():
        return plain
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape", "surrogatepass").decode()
        for each in plain
    )


def bytes_of(size: float) -> str:
    """Return a number of bytes for people."""
    unit = 0
    while size >= 1000 and unit < len(_UNITS) - 1:
        size /= 1000
        unit += 1
    return f"{size:.0f} B" if unit == 0 else f"{size:.1f} {_UNITS[unit]}"


def ago(seconds: float) -> str:
    """Return a length of time for people."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def plural(count: int, noun: str) -> str:
    """Return a number with a noun, as in "1 thread" and "1,200 threads"."""
    ending = "" if count == 1 else "es" if noun.endswith(("s", "sh", "x")) else "s"
    return f"{count:,} {noun}{ending}"


class Display:
    """Where a command's answer goes.

    Args:
        as_json: Whether it is for a program.
    """

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json

    def json(self, data: Any) -> None:
        """Print one JSON text, of ASCII alone."""
        click.echo(json.dumps(data, indent=2))

    def json_line(self, data: Any) -> None:
        """Print one JSON text on one line, at once."""
        click.echo(json.dumps(data))
        sys.stdout.flush()

    def line(self, text: str = "") -> None:
        """Print a text on one line."""
        click.echo(printable(text))

    def note(self, text: str) -> None:
        """Tell a person something besides the answer."""
        click.echo(printable(text), err=True)

    def value(self, value: Any, most: int | None) -> None:
        """Print a value for people, as indented JSON.

        Args:
            value: The value.
            most: How many characters; None: all of them.
        """
        text = json.dumps(value, indent=2, ensure_ascii=False)
        if most is not None and len(text) > most:
            left = len(text) - most
            text = f"{text[:most]}\n... and {left:,} characters more: --full shows them"
        for each in text.split("\n"):
            self.line(f"  {each}")

    def table(
        self, columns: Sequence[str], rows: Iterable[Sequence[object]], empty: str = "nothing"
    ) -> None:
        """Print a table; columns whose name begins with ``#`` hold numbers.

        Args:
            columns: Their names.
            rows: Their cells.
            empty: What to say where there are no rows.
        """
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for name in columns:
            justify: Any = "right" if name.startswith("#") else "left"
            table.add_column(Text(name.lstrip("#")), justify=justify, overflow="fold")
        count = 0
        for row in rows:
            table.add_row(*(Text(printable("" if cell is None else cell)) for cell in row))
            count += 1
        if not count:
            self.note(empty)
            return
        console = Console(
            width=None if sys.stdout.isatty() else _UNBOUNDED, highlight=False, markup=False
        )
        with console.capture() as captured:
            console.print(table)
        for each in captured.get().splitlines():
            click.echo(each.rstrip())
