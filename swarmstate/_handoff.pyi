"""Types of the compiled part of the handoff graph; a test compares them with it."""

from collections.abc import Mapping
from typing import Any

MAX_LEVELS: int

class Condition: ...

def parse(text: str, /) -> Condition: ...
def first(
    edges: list[tuple[str, str | None, Condition | None]], state: Mapping[str, Any], /
) -> str | None: ...
def connect(
    graph: dict[str, list[tuple[str, str | None, Condition | None]]],
    entered: set[str],
    node: str,
    edge: tuple[str, str | None, Condition | None],
    acyclic: bool,
    /,
) -> list[str] | None: ...
