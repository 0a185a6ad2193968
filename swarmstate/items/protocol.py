"""What an engine offers: the items of LangGraph's long-term memory, kept a store's own way.

Unstable until version 1.0: operations may gain arguments, and an engine of yours may have to follow
them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

from swarmstate.items.format import Row
from swarmstate.steps import Outcome, Steps

__all__ = ["Change", "ItemEngine", "OffersItems", "Place", "Seen", "Vectors", "Wanted"]

T = TypeVar("T")


class Place(NamedTuple):
    """Where an item is."""

    name: str
    """The name of its LangGraph namespace, see :mod:`swarmstate.items.format`."""
    key: str


class Change(NamedTuple):
    """What a write does to one item."""

    place: Place
    row: Row | None
    """What to store; None removes the item."""
    vectors: Sequence[bytes] = ()


class Vectors(NamedTuple):
    """The vectors of one LangGraph namespace."""

    version: int | None
    by_key: dict[str, list[bytes]]


class Seen(NamedTuple):
    """What one look at the store has found, in the order that it was asked for."""

    items: list[list[tuple[str, Row]]]
    vectors: list[Vectors]
    versions: list[int | None]
    rows: list[Row | None]


class Wanted(NamedTuple):
    """Which items a search without a query wants: of those that it keeps, the newest."""

    keep: Callable[[Mapping[str, Any]], bool] | None
    """Tells by an item's value whether it is wanted; None: every one is."""
    columns: Mapping[str, Callable[[Sequence[Any]], Iterable[bool]]] | None
    """Field -> what tells the same of that field of many values, None where it is missing: those
    are wanted that each field wants. None: that cannot be told by single fields."""
    most: int
    """How many, at most."""


class ItemEngine(Protocol):
    """How a store keeps items.

    A store offers one through a method ``item_engine()`` (see :class:`OffersItems`); where there is
    none, the same operations are built from calls of :class:`~swarmstate.protocols.StoreLike`. An
    operation returns steps, which :meth:`run` and :meth:`arun` drive, or its result at once. The
    time ``now`` is in microseconds since the Unix epoch; what has expired by then is absent.
    """

    def names(self, prefixes: Sequence[str]) -> Outcome[list[list[str]]]:
        """Return, for each prefix, the names that start with it; some may have no items."""
        ...

    def fetch(
        self, places: Sequence[Place], renew: Sequence[bool], now: int
    ) -> Outcome[list[Row | None]]:
        """Return items, None for those that are absent, and renew those that expire."""
        ...

    def look(
        self,
        now: int,
        *,
        items: Sequence[str] = (),
        vectors: Sequence[str] = (),
        versions: Sequence[str] = (),
        rows: Sequence[Place] = (),
    ) -> Outcome[Seen]:
        """Return much at once.

        Args:
            now: The time.
            items: Of which LangGraph namespaces all items, and their keys, are wanted.
            vectors: Of which all vectors.
            versions: Of which only the version of the vectors.
            rows: Which single items.
        """
        ...

    def newest(
        self, prefix: str, wanted: Wanted, now: int, names: Sequence[str] | None = None
    ) -> Outcome[list[tuple[Place, Row]]]:
        """Return those items that are wanted of the LangGraph namespaces whose names start so.

        Args:
            prefix: What the names start with.
            wanted: Which items.
            now: The time.
            names: These names, where they are known already.

        Returns:
            The items, newest first.
        """
        ...

    def renew(self, places: Sequence[Place], now: int) -> Outcome[None]:
        """Give items that expire, and have not, all of their time again."""
        ...

    def write(self, changes: Sequence[Change], now: int) -> Outcome[None]:
        """Store and remove items with their vectors; no place comes twice.

        What overwrites a live item keeps its ``created``. A bounded number of expired items goes
        too.
        """
        ...

    def sweep(self, now: int) -> Outcome[int]:
        """Remove all expired items; return how many there were."""
        ...

    def run(self, steps: Steps[T]) -> T:
        """Run an operation to its end and return its result."""
        ...

    async def arun(self, steps: Steps[T]) -> T:
        """Run an operation without blocking the event loop for longer than local work takes."""
        ...


@runtime_checkable
class OffersItems(Protocol):
    """A store with an item engine of its own."""

    def item_engine(self) -> ItemEngine:
        """Return how items are kept here."""
        ...
