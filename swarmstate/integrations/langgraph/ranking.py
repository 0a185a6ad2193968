"""Which items a search with a query returns, in which order: the most alike."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from swarmstate.integrations.langgraph.matching import Matcher
from swarmstate.items.format import Row
from swarmstate.items.protocol import ItemEngine, Place, Seen
from swarmstate.steps import Steps, finish

if TYPE_CHECKING:
    from swarmstate.integrations.langgraph.vectors import Index, Matrix

__all__ = ["Found", "ranked"]

Found: TypeAlias = tuple[float | None, Place, Row]
"""An item, with its score if it has one."""

Keep: TypeAlias = Matcher | None

_NAMES_AT_ONCE = 500


def ranked(
    engine: ItemEngine,
    index: Index,
    names: Sequence[str],
    query: Any,
    keep: Keep,
    now: int,
    last: int,
) -> Steps[list[Found]]:
    """Return the items that are most alike, then those without vectors, at most ``last``.

    One round trip where what is kept of the vectors is right and the best of them all exist: the
    items are asked for together with the versions that tell. Else one more for what has changed, or
    two where all items are needed, because of a filter or of items without vectors.
    """
    if keep is None:
        found = yield from _guessed(engine, index, names, query, now, last)
        if found is not None:
            return found
    return (yield from _examined(engine, index, names, query, keep, now, last))


def _guessed(
    engine: ItemEngine, index: Index, names: Sequence[str], query: Any, now: int, last: int
) -> Steps[list[Found] | None]:
    """Return the answer by way of the vectors alone; None where all items are needed."""
    known = index.known(names)
    missing = [name for name in names if name not in known]
    best: list[tuple[float, Place]] = []
    for name, matrix in known.items():
        best = _best(index, name, matrix, query, last, best)
    held = list(known)
    places = [] if missing else [place for _, place in best]
    seen = yield from finish(engine.look(now, versions=held, rows=places))
    versions = dict(zip(held, seen.versions, strict=True))
    outdated = [name for name in held if versions[name] != known[name].version]
    if missing or outdated:
        best = []
        for name, matrix in known.items():
            if name not in outdated:
                best = _best(index, name, matrix, query, last, best)
        for first in range(0, len(missing + outdated), _NAMES_AT_ONCE):
            some = (missing + outdated)[first : first + _NAMES_AT_ONCE]
            loaded = yield from finish(engine.look(now, vectors=some))
            for name, vectors in zip(some, loaded.vectors, strict=True):
                best = _best(index, name, index.matrix(name, vectors), query, last, best)
        places = [place for _, place in best]
        seen = yield from finish(engine.look(now, rows=places))
    if len(best) < last:
        return None
    found: list[Found] = []
    for (score, place), row in zip(best, seen.rows, strict=True):
        if row is None or not row.indexed:
            # It has expired, or gone since.
            return None
        found.append((score, place, row))
    return found


def _best(
    index: Index,
    name: str,
    matrix: Matrix,
    query: Any,
    last: int,
    others: list[tuple[float, Place]],
) -> list[tuple[float, Place]]:
    """Return the best of a matrix and of others."""
    these = [(score, Place(name, key)) for score, key in index.best(name, matrix, query, last)]
    return sorted([*others, *these], key=lambda each: (-each[0], each[1]))[:last]


def _examined(
    engine: ItemEngine,
    index: Index,
    names: Sequence[str],
    query: Any,
    keep: Keep,
    now: int,
    last: int,
) -> Steps[list[Found]]:
    """Return the answer by way of all items."""
    known = index.known(names)
    held = list(known)
    seen = yield from finish(engine.look(now, items=names, versions=held))
    rows = _kept(names, seen, keep)
    needed = {place.name for place, row in rows if row.indexed}
    versions = dict(zip(held, seen.versions, strict=True))
    scores: dict[Place, float] = {}
    asked: list[str] = []
    for name in needed:
        matrix = known.get(name)
        if matrix is None or matrix.version != versions[name]:
            asked.append(name)
        else:
            _score(index, name, matrix, query, scores)
    for first in range(0, len(asked), _NAMES_AT_ONCE):
        some = asked[first : first + _NAMES_AT_ONCE]
        loaded = yield from finish(engine.look(now, vectors=some))
        for name, vectors in zip(some, loaded.vectors, strict=True):
            _score(index, name, index.matrix(name, vectors), query, scores)
    scored: list[Found] = []
    others: list[Found] = []
    for place, row in rows:
        score = scores.get(place) if row.indexed else None
        (others if score is None else scored).append((score, place, row))
    scored.sort(key=lambda each: (-(each[0] or 0.0), each[1]))
    others.sort(key=lambda each: (each[2].updated, each[1]), reverse=True)
    return [*scored, *others][:last]


def _score(index: Index, name: str, matrix: Matrix, query: Any, scores: dict[Place, float]) -> None:
    for key, score in zip(matrix.keys, index.scores(name, matrix, query), strict=True):
        scores[Place(name, key)] = float(score)


def _kept(names: Iterable[str], seen: Seen, keep: Keep) -> list[tuple[Place, Row]]:
    """Return the items that are wanted, with their places."""
    return [
        (Place(name, key), row)
        for name, entries in zip(names, seen.items, strict=True)
        for key, row in entries
        if keep is None or keep(row.value)
    ]
