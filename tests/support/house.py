"""The map of the house: `make map` prints what each file says of itself in its first line."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

__all__ = ["ROOT", "imported", "rooms", "says"]

ROOT = Path(__file__).parents[2]


def rooms() -> list[Path]:
    """Return every source file of the package and of its extensions."""
    found = [*ROOT.glob("swarmstate/**/*.py"), *ROOT.glob("ext/*.p[yx]*")]
    return sorted(path for path in found if path.suffix in {".py", ".pyx", ".pxi", ".pxd"})


def says(path: Path) -> str:
    """Return the first line of what a file says of itself."""
    text = path.read_text()
    if path.suffix == ".py":
        return (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]
    for line in text.splitlines():
        if line.startswith('"""'):
            return line.strip('"')
        if line.startswith("# ") and not line.startswith(("# cython:", "# distutils:")):
            return line.removeprefix("# ")
    return ""


def imported(path: Path) -> Iterator[str]:
    """Yield the modules of ours that a Python file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


if __name__ == "__main__":
    folder = None
    for room in rooms():
        if room.parent != folder:
            folder = room.parent
            print(f"\n{folder.relative_to(ROOT)}/")
        print(f"  {room.name:24} {says(room)}")
