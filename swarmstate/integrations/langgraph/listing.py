"""Checkpoints page by page, newest first."""

from __future__ import annotations

from typing import Any, TypeGuard

from langgraph.checkpoint.base import CheckpointTuple

from swarmstate.checkpoints.protocol import CheckpointEngine, CheckpointName, StoredCheckpoint
from swarmstate.integrations.langgraph.serialization import CheckpointReader
from swarmstate.steps import Outcome, Steps, finish

__all__ = ["PAGE", "PAGE_BYTES", "Listing"]

PAGE = 100
"""How many checkpoints are fetched at once."""

PAGE_BYTES = 8 << 20
"""About how many bytes are fetched at once beyond those of one checkpoint."""


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
        # Those that match and are not loaded yet, each with its metadata if that is known.
        self._matching: dict[CheckpointName, Any] = {}
        self.done = limit is not None and limit <= 0

    def list_page(self) -> Outcome[list[CheckpointTuple]]:
        """Return the next checkpoints; may be empty although more follow."""
        return self._page()

    def _page(self) -> Steps[list[CheckpointTuple]]:
        if self._found is None:
            self._found = yield from self._names()
            self._found.reverse()  # the next one is taken off the end
        if not self._matching:
            yield from self._match(self._found)
        tuples = yield from self._load()
        if self._left is not None:
            self._left -= len(tuples)
        self.done = not (self._found or self._matching) or self._left == 0
        return tuples

    def _names(self) -> Steps[list[CheckpointName]]:
        """Return the names of everything that may match, newest first."""
        if self._thread is None:
            threads = yield from finish(self._engine.threads())
        else:
            threads = [self._thread]
        limit = self._left if self._filter is None and self._id is None else None
        names = yield from finish(
            self._engine.list_ids(threads, self._checkpoint_ns, self._before, limit)
        )
        return [name for name in names if self._id is None or name.id == self._id]

    def _match(self, found: list[CheckpointName]) -> Steps[None]:
        """Move the next names to those that match."""
        wanted = PAGE if self._filter or self._left is None else min(PAGE, self._left)
        page = found[: -wanted - 1 : -1]
        del found[-wanted:]
        if not self._filter:
            self._matching = dict.fromkeys(page)
            return
        heads = yield from finish(self._engine.load(page, channels=(), writes=False))
        for head in heads:
            if head is not None and self._matches(metadata := self._reader.metadata(head)):
                self._matching[head.name] = metadata

    def _load(self) -> Steps[list[CheckpointTuple]]:
        """Return as many of those that match as come at once, without those that are gone."""
        names = list(self._matching)[: self._left]
        if not names:
            return []
        loaded = yield from finish(
            self._engine.load(names, channels=None, writes=True, most=PAGE_BYTES)
        )
        known = {name: self._matching.pop(name) for name in names[: len(loaded)]}
        return [self._reader.tuple(one, known[one.name]) for one in loaded if _exists(one)]

    def _matches(self, metadata: Any) -> bool:
        wanted = self._filter or {}
        return all(value == metadata.get(key) for key, value in wanted.items())


def _exists(found: StoredCheckpoint | None) -> TypeGuard[StoredCheckpoint]:
    return found is not None
