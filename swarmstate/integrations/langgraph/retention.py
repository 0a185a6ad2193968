"""Which checkpoints go, and which must stay because something still needs them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, TypeVar

from langgraph.checkpoint.base import WRITES_IDX_MAP
from langgraph.checkpoint.serde.types import INTERRUPT

from swarmstate.arguments import shown
from swarmstate.checkpoints.protocol import (
    CheckpointEngine,
    CheckpointName,
    CheckpointRecord,
    Surplus,
)
from swarmstate.checkpoints.references import rebuilt_channels, within
from swarmstate.errors import ArgumentTypeError, StoreUnavailable
from swarmstate.integrations.langgraph.listing import PAGE
from swarmstate.integrations.langgraph.serialization import CheckpointReader
from swarmstate.steps import Steps, finish

__all__ = ["caller_of", "delete_for_runs", "prune", "thin"]

T = TypeVar("T")

_TRIES = 100
_FEW_TRIES = 5
"""How often a put looks again that others have overtaken; the next one removes what it leaves."""
_NOTHING: AbstractSet[str] = frozenset()
_INTERRUPTED = f"{WRITES_IDX_MAP[INTERRUPT]}:"
"""What the key of a pending write starts with that is an interrupt."""


def prune(
    engine: CheckpointEngine, reader: CheckpointReader, thread: str, keep: int
) -> Steps[None]:
    """Keep the newest ``keep`` checkpoints of each namespace of a thread, and what these need.

    A namespace that belongs to one call of a subgraph goes with the checkpoint that called it.
    """
    spaces = yield from finish(engine.spaces(thread))
    gone: list[str] = []
    # A caller comes before those it called, which may go with it.
    for space in sorted(spaces, key=lambda space: space.count("|")):
        if not within(gone, [space]):
            surplus = yield from finish(engine.surplus(thread, space, keep))
            went = yield from thin(engine, reader, surplus, keep, interrupts=False)
            if went is None:
                raise StoreUnavailable(
                    f"thread {shown(thread)} was written to faster than it could be pruned"
                )
            gone += went


def thin(
    engine: CheckpointEngine,
    reader: CheckpointReader,
    surplus: Surplus | None,
    keep: int,
    *,
    interrupts: bool = True,
) -> Steps[list[str] | None]:
    """Remove what a namespace holds beyond its newest checkpoints, unless it is still needed.

    Older ones stay where a kept one rebuilds a ``DeltaChannel`` from their writes, and, if
    ``interrupts`` count, where a pending interrupt waits at the end of a branch. Two round trips at
    most, where the surplus is known and nothing else changes the namespace at the same time.

    Returns:
        The namespaces that went as a whole; None if others changed it too often for anything to go,
        which whoever puts the next checkpoint then removes too.
    """
    for _ in range(_FEW_TRIES if interrupts else _TRIES):
        if surplus is None:
            return []
        ends = _ends(surplus) if interrupts else []
        waiting: list[str] = []
        gates = surplus.gates
        if ends or gates is None:
            ask = gates is None
            keys, gates = yield from finish(engine.inspect(surplus, ends, gates=ask))
            waiting = [each for each in ends if any(k.startswith(_INTERRUPTED) for k in keys[each])]
        staying = _staying(surplus, waiting, gates) if waiting or surplus.rebuilt else _NOTHING
        spaces = [space for one in surplus.older if one.id not in staying for space in one.calls]
        calls: dict[str, list[str]] | None = None
        if surplus.calls is not None:
            calls = {}
            for head in surplus.calls:
                caller = caller_of(head.name, reader.metadata(head))
                # A caller that is not there, but would be kept if it were, is still to come.
                if caller is None:
                    continue
                if caller.id >= surplus.oldest or caller.id in staying:
                    calls.setdefault(caller.id, []).append(head.name.checkpoint_ns)
                else:
                    spaces.append(head.name.checkpoint_ns)
        doomed = _with_values(surplus, staying)
        if (yield from finish(engine.release(surplus, doomed, spaces, calls))):
            return spaces
        surplus = yield from finish(engine.surplus(surplus.thread, surplus.checkpoint_ns, keep))
    return None


def caller_of(name: CheckpointName, metadata: Mapping[str, Any]) -> CheckpointName | None:
    """Return the checkpoint from which a subgraph was called, if its namespace is of one call."""
    checkpoint_ns = name.checkpoint_ns
    if ":" not in checkpoint_ns:
        return None
    # LangGraph notes the checkpoint that each graph above was at, by namespace.
    parents = metadata.get("parents")
    if not isinstance(parents, dict):
        return None
    above = [ns for ns in parents if ns == "" or checkpoint_ns.startswith(f"{ns}|")]
    nearest = max(above, key=len, default=None)
    return None if nearest is None else CheckpointName(name.thread, nearest, parents[nearest])


def _ends(surplus: Surplus) -> list[str]:
    """Return the older checkpoints that no other one continues."""
    open_ends = [one.id for one in surplus.older if not one.continued]
    if not open_ends:
        return []
    continued = {one.parent for one in surplus.older}
    return [each for each in open_ends if each not in continued]


def _staying(
    surplus: Surplus, waiting: Sequence[str], gates: Mapping[str, CheckpointRecord]
) -> AbstractSet[str]:
    """Return the ids of a surplus that are still needed: ``waiting``, and what is rebuilt from."""
    older = {one.id: one.record for one in surplus.older if one.record is not None}
    known = {**gates, **older}
    # (checkpoint, the channels that are rebuilt from it and what came before)
    left: list[tuple[CheckpointRecord, AbstractSet[str]]] = [
        (known[each], set(rebuilt_channels(known[each])))
        for each in (*gates, *waiting)
        if each in known
    ]
    staying = set(waiting)
    looked: dict[str, AbstractSet[str]] = {}
    while left:
        record, wanted = left.pop()
        parent = record.parent
        source = None if parent is None else known.get(parent)
        if parent is None or source is None:
            continue
        channels = {c for c in wanted if not _at_hand(record, source, c)}
        channels -= looked.get(parent, _NOTHING)
        if channels:
            looked[parent] = looked.get(parent, _NOTHING) | channels
            if parent in older:
                staying.add(parent)
            # One that has no version of the channel comes before all that was written to it.
            wanted = channels.difference(source.stored).intersection(source.versions)
            left.append((source, wanted))
    return staying


def _at_hand(record: CheckpointRecord, source: CheckpointRecord, channel: str) -> bool:
    """Return whether a checkpoint has the value of a channel that its parent has stored.

    The same version: nothing was written since, so the value itself is found.
    """
    return (
        channel in record.deltas
        and channel in source.stored
        and source.versions.get(channel) == record.versions.get(channel)
    )


def _with_values(surplus: Surplus, staying: AbstractSet[str]) -> list[tuple[str, list[str]]]:
    """Return the ids that go, least first, each with the values that nothing refers to after it."""
    needed: set[str] = set()
    last: dict[str, str] = {}
    doomed: dict[str, list[str]] = {}
    for one in surplus.older:
        if one.id in staying:
            needed.update(one.fields)
        else:
            doomed[one.id] = []
            last.update(dict.fromkeys(one.loose, one.id))
    for key, checkpoint_id in last.items():
        if key not in needed:
            doomed[checkpoint_id].append(key)
    return list(doomed.items())


def delete_for_runs(
    engine: CheckpointEngine,
    reader: CheckpointReader,
    run_ids: Sequence[str],
) -> Steps[None]:
    """Remove the checkpoints, of whatever thread, whose metadata names one of these runs."""
    if isinstance(run_ids, (str, bytes, Mapping)):
        raise ArgumentTypeError(
            f"run_ids must be a sequence of run ids, not {type(run_ids).__name__} "
            f"({shown(run_ids)})"
        )
    runs = {str(run) for run in run_ids}
    if not runs:
        return
    threads = yield from finish(engine.threads())
    for some in _in_pages(threads):
        names = yield from finish(engine.list_ids(some, None, None, None))
        doomed: dict[tuple[str, str], list[str]] = {}
        for page in _in_pages(names):
            heads = yield from finish(engine.load(page, channels=(), writes=False))
            for head in heads:
                if head is not None and _run_of(reader.metadata(head)) in runs:
                    doomed.setdefault(head.name[:2], []).append(head.name.id)
        for (thread, space), ids in doomed.items():
            yield from finish(engine.delete(thread, space, ids))


def _in_pages(items: Sequence[T]) -> Iterator[Sequence[T]]:
    return (items[start : start + PAGE] for start in range(0, len(items), PAGE))


def _run_of(metadata: Mapping[str, Any]) -> str | None:
    run = metadata.get("run_id")
    return None if run is None else str(run)
