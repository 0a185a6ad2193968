"""Checkpoints page by page, newest first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeGuard

from langgraph.checkpoint.base import CheckpointTuple

from swarmstate.integrations.langgraph.serialization import CheckpointReader
from swarmstate.protocols import CheckpointEngine, Steps, StoredCheckpoint

__all__ = ["PAGE", "Listing"]

PAGE = 100
"""How many checkpoints are fetched at once."""


class Listing:
    """One listing in progress.

    Args:
        engine: Where the checkpoints are.
        reader: Makes a reader for a thread.
        thread: The thread, or None for all of them.
        namespace: The checkpoint namespace, or None for all of them.
        checkpoint_id: The only checkpoint id that counts, if any.
        before: Only lesser ids count, if given.
        filter: Metadata that must be equal, if any.
        limit: How many to yield at most.

    Attributes:
        done: Whether there is no further page.
    """

    def __init__(
        self,
        engine: CheckpointEngine,
        reader: Callable[[str], CheckpointReader],
        thread: str | None,
        namespace: str | None,
        checkpoint_id: str | None,
        before: str | None,
        filter: dict[str, Any] | None,
        limit: int | None,
    ) -> None:
        self._engine = engine
        self._reader = reader
        self._thread = thread
        self._namespace = namespace
        self._id = checkpoint_id
        self._before = before
        self._filter = filter
        self._left = limit
        self._found: list[tuple[str, str, str]] | None = None
        self.done = limit is not None and limit <= 0

    def list_page(self) -> Steps[list[CheckpointTuple]]:
        """Return the next checkpoints; may be empty although more follow."""
        if self._found is None:
            self._found = yield from self._scan()
            self._found.reverse()  # the next one is taken off the end
        page: list[tuple[str, str, str]] = []
        wanted = PAGE if self._filter or self._left is None else min(PAGE, self._left)
        while self._found and len(page) < wanted:
            page.append(self._found.pop())
        tuples: list[CheckpointTuple] = []
        start = 0
        while start < len(page):
            end = start
            while end < len(page) and page[end][1] == page[start][1]:
                end += 1
            tuples += yield from self._load(page[start:end])
            start = end
        if self._left is not None:
            del tuples[self._left :]
            self._left -= len(tuples)
        self.done = not self._found or self._left == 0
        return tuples

    def _scan(self) -> Steps[list[tuple[str, str, str]]]:
        """Return (id, thread, namespace) of everything that may match, newest first."""
        narrow = self._filter is not None or self._id is not None or self._thread is None
        if self._thread is None:
            threads = yield from self._engine.threads()
        else:
            threads = [self._thread]
        found: list[tuple[str, str, str]] = []
        for thread in threads:
            pairs = yield from self._engine.scan(
                thread, self._namespace, self._before, None if narrow else self._left
            )
            found += [
                (checkpoint_id, thread, namespace)
                for namespace, checkpoint_id in pairs
                if self._id is None or checkpoint_id == self._id
            ]
        if self._thread is None:
            found.sort(reverse=True)
        return found

    def _load(self, page: list[tuple[str, str, str]]) -> Steps[list[CheckpointTuple]]:
        """Return those of a page, all of one thread, that are still there and match."""
        thread = page[0][1]
        reader = self._reader(thread)
        pairs = [(namespace, checkpoint_id) for checkpoint_id, _, namespace in page]
        known: dict[tuple[str, str], Any] = {}
        if self._filter:
            heads = yield from self._engine.load(thread, pairs, channels=(), writes=False)
            for head in heads:
                if head is not None and self._matches(metadata := reader.metadata(head)):
                    known[head.namespace, head.id] = metadata
            pairs = list(known)[: self._left]
            if not pairs:
                return []
        whole = yield from self._engine.load(thread, pairs, channels=None, writes=True)
        return [
            reader.tuple(one, known.get((one.namespace, one.id))) for one in whole if _exists(one)
        ]

    def _matches(self, metadata: Any) -> bool:
        wanted = self._filter or {}
        return all(value == metadata.get(key) for key, value in wanted.items())


def _exists(found: StoredCheckpoint | None) -> TypeGuard[StoredCheckpoint]:
    return found is not None
