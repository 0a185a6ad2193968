"""Checkpoints page by page, newest first."""

from __future__ import annotations

from typing import Any, TypeGuard

from langgraph.checkpoint.base import CheckpointTuple

from swarmstate.checkpoints.protocol import CheckpointEngine, CheckpointName, StoredCheckpoint
from swarmstate.integrations.langgraph.serialization import CheckpointReader
from swarmstate.steps import Outcome, Steps, finish

__all__ = ["PAGE", "Listing"]

PAGE = 100
"""How many checkpoints are fetched at once."""


class Listing:
    """One listing in progress.

    Args:
        engine: Where the checkpoints are.
        reader: Gives the stored values back.
        thread: The thread, or None for all of them.
        checkpoint_ns: The checkpoint namespace, or None for all of them.
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
        reader: CheckpointReader,
        *,
        thread: str | None,
        checkpoint_ns: str | None,
        checkpoint_id: str | None,
        before: str | None,
        filter: dict[str, Any] | None,
        limit: int | None,
    ) -> None:
        self._engine = engine
        self._reader = reader
        self._thread = thread
        self._checkpoint_ns = checkpoint_ns
        self._id = checkpoint_id
        self._before = before
        self._filter = filter
        self._left = limit
        self._found: list[CheckpointName] | None = None
        self.done = limit is not None and limit <= 0

    def list_page(self) -> Outcome[list[CheckpointTuple]]:
        """Return the next checkpoints; may be empty although more follow."""
        return self._page()

    def _page(self) -> Steps[list[CheckpointTuple]]:
        if self._found is None:
            self._found = yield from self._names()
            self._found.reverse()  # the next one is taken off the end
        wanted = PAGE if self._filter or self._left is None else min(PAGE, self._left)
        page = self._found[: -wanted - 1 : -1]
        del self._found[-wanted:]
        tuples = yield from self._load(page)
        if self._left is not None:
            del tuples[self._left :]
            self._left -= len(tuples)
        self.done = not self._found or self._left == 0
        return tuples

    def _names(self) -> Steps[list[CheckpointName]]:
        """Return the names of everything that may match, newest first."""
        narrow = self._filter is not None or self._id is not None or self._thread is None
        if self._thread is None:
            threads = yield from finish(self._engine.threads())
        else:
            threads = [self._thread]
        found: list[CheckpointName] = []
        for thread in threads:
            limit = None if narrow else self._left
            names = yield from finish(
                self._engine.list_ids(thread, self._checkpoint_ns, self._before, limit)
            )
            found += [name for name in names if self._id is None or name.id == self._id]
        if self._thread is None:
            found.sort(key=lambda name: (name.id, name.thread, name.checkpoint_ns), reverse=True)
        return found

    def _load(self, page: list[CheckpointName]) -> Steps[list[CheckpointTuple]]:
        """Return those of a page that are still there and match."""
        known: dict[CheckpointName, Any] = {}
        if self._filter:
            heads = yield from finish(self._engine.load(page, channels=(), writes=False))
            for head in heads:
                if head is not None and self._matches(metadata := self._reader.metadata(head)):
                    known[head.name] = metadata
            page = list(known)[: self._left]
        if not page:
            return []
        whole = yield from finish(self._engine.load(page, channels=None, writes=True))
        return [self._reader.tuple(one, known.get(one.name)) for one in whole if _exists(one)]

    def _matches(self, metadata: Any) -> bool:
        wanted = self._filter or {}
        return all(value == metadata.get(key) for key, value in wanted.items())


def _exists(found: StoredCheckpoint | None) -> TypeGuard[StoredCheckpoint]:
    return found is not None
