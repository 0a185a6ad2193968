"""Which checkpoints go, and which must stay because something still needs them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from langgraph.checkpoint.serde.types import INTERRUPT

from swarmstate.checkpoints.protocol import (
    CheckpointEngine,
    CheckpointName,
    CheckpointRecord,
    StoredCheckpoint,
)
from swarmstate.integrations.langgraph.listing import PAGE
from swarmstate.integrations.langgraph.serialization import CheckpointReader
from swarmstate.steps import Steps, finish

__all__ = ["delete_for_runs", "prune"]


def prune(
    engine: CheckpointEngine,
    thread: str,
    keep: int,
    checkpoint_ns: str | None = None,
    *,
    interrupts: bool = True,
) -> Steps[None]:
    """Keep the newest ``keep`` checkpoints of one namespace of a thread, or of each of them.

    Older ones stay where a kept one rebuilds a ``DeltaChannel`` from their writes, and, unless
    ``interrupts`` is False, where a pending interrupt waits at the end of a branch.
    """
    listed = yield from finish(engine.list_ids(thread, checkpoint_ns, None, None))
    spaces: dict[str, list[CheckpointName]] = {}
    for name in listed:
        spaces.setdefault(name.checkpoint_ns, []).append(name)
    for space, newest_first in spaces.items():
        if len(newest_first) <= keep:
            continue
        found: dict[str, StoredCheckpoint] = {}
        for start in range(0, len(newest_first), PAGE):
            page = newest_first[start : start + PAGE]
            loaded = yield from finish(engine.load(page, channels=(), writes=interrupts))
            found.update((one.name.id, one) for one in loaded if one is not None)
        records = {checkpoint_id: one.record for checkpoint_id, one in found.items()}
        kept = [name.id for name in newest_first[:keep]]
        if interrupts:
            kept += _interrupted(found.values())
        needed = _with_delta_sources(records, kept)
        doomed = [checkpoint_id for checkpoint_id in found if checkpoint_id not in needed]
        if doomed:
            oldest = newest_first[keep - 1].id
            yield from finish(engine.delete(thread, space, doomed, orphans_before=oldest))


def _interrupted(found: Iterable[StoredCheckpoint]) -> list[str]:
    """Return the ends of branches at which an interrupt waits for an answer."""
    found = list(found)
    continued = {one.record.parent for one in found}
    return [
        one.name.id
        for one in found
        if one.name.id not in continued and any(write.channel == INTERRUPT for write in one.writes)
    ]


def _with_delta_sources(records: dict[str, CheckpointRecord], kept: Iterable[str]) -> set[str]:
    """Return the ids to keep: ``kept``, and every ancestor whose writes these are rebuilt from."""
    needed: set[str] = set()
    for checkpoint_id in kept:
        if checkpoint_id in records:
            needed.add(checkpoint_id)
            for channel in records[checkpoint_id].deltas:
                needed.update(_replayed(records, checkpoint_id, channel))
    return needed


def _replayed(
    records: dict[str, CheckpointRecord], checkpoint_id: str, channel: str
) -> Iterable[str]:
    """Return the ancestors whose writes to a channel make its value at checkpoint ``id``."""
    path: dict[str, None] = {}
    version = records[checkpoint_id].versions.get(channel)
    parent = records[checkpoint_id].parent
    while parent is not None and parent in records and parent not in path:
        path[parent] = None
        record = records[parent]
        if channel in record.stored:
            # The same version: nothing was written since, so the value itself is at hand.
            return () if record.versions[channel] == version else path
        parent = record.parent
    return path


def delete_for_runs(
    engine: CheckpointEngine,
    reader: CheckpointReader,
    run_ids: Sequence[str],
) -> Steps[None]:
    """Remove the checkpoints, of whatever thread, whose metadata names one of these runs."""
    runs = set(run_ids)
    if not runs:
        return
    threads = yield from finish(engine.threads())
    for thread in threads:
        names = yield from finish(engine.list_ids(thread, None, None, None))
        doomed: dict[str, list[str]] = {}
        for start in range(0, len(names), PAGE):
            page = names[start : start + PAGE]
            heads = yield from finish(engine.load(page, channels=(), writes=False))
            for head in heads:
                if head is not None and reader.metadata(head).get("run_id") in runs:
                    doomed.setdefault(head.name.checkpoint_ns, []).append(head.name.id)
        for space, ids in doomed.items():
            yield from finish(engine.delete(thread, space, ids))
