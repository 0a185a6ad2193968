"""What differs between two values, by path."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

__all__ = ["changes"]


def changes(old: Any, new: Any, path: str = "") -> Iterator[dict[str, Any]]:
    """Yield how to go from one value to another, both made to be shown.

    Lists are compared from their start and, if they do not differ in length, element by element;
    so what a list was extended by shows as added elements.

    Yields:
        ``{"path", "change", "before", "after"}``, where ``change`` is ``"added"``, ``"removed"`` or
        ``"changed"`` and the first or second value is left out where there is none.
    """
    if type(old) is type(new) is dict:
        for key in (*old, *(key for key in new if key not in old)):
            inside = f"{path}.{key}" if path else key
            if key not in new:
                yield {"path": inside, "change": "removed", "before": old[key]}
            elif key not in old:
                yield {"path": inside, "change": "added", "after": new[key]}
            else:
                yield from changes(old[key], new[key], inside)
    elif type(old) is type(new) is list:
        both = min(len(old), len(new))
        for at in range(both):
            yield from changes(old[at], new[at], f"{path}[{at}]")
        for at in range(both, len(old)):
            yield {"path": f"{path}[{at}]", "change": "removed", "before": old[at]}
        for at in range(both, len(new)):
            yield {"path": f"{path}[{at}]", "change": "added", "after": new[at]}
    elif type(old) is not type(new) or old != new:
        yield {"path": path, "change": "changed", "before": old, "after": new}
