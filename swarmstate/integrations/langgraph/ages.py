"""Threads by age: that of their greatest checkpoint id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from swarmstate.arguments import check_count, shown
from swarmstate.checkpoints.protocol import CheckpointEngine, CheckpointName
from swarmstate.errors import ArgumentTypeError
from swarmstate.integrations.langgraph.serialization import CheckpointReader
from swarmstate.steps import Steps, finish

__all__ = ["idle_threads", "newest_threads", "prune_idle", "time_of"]

_AT_ONCE = 100
# From the first day of the Gregorian calendar, where the times of UUIDs begin, to the Unix epoch.
_GREGORIAN = 0x01B21DD213814000


def newest_threads(
    engine: CheckpointEngine,
    reader: CheckpointReader,
    metadata: Mapping[str, Any] | None,
    limit: int | None,
) -> Steps[list[str]]:
    """Return threads, those with the greatest checkpoint id first; without any id last.

    Args:
        engine: Where the threads are.
        reader: Gives the metadata back.
        metadata: What the metadata of a thread's greatest checkpoint must hold.
        limit: How many at most.

    Raises:
        ArgumentTypeError, ArgumentValueError: arguments that mean nothing.
    """
    check_count("limit", limit, 0, optional=True)
    if metadata is not None and not isinstance(metadata, Mapping):
        raise ArgumentTypeError(
            f"metadata must be None or a dict, not {type(metadata).__name__} ({shown(metadata)})"
        )
    threads = yield from finish(engine.threads())
    newest: dict[str, CheckpointName] = {}
    for first in range(0, len(threads), _AT_ONCE):
        newest.update((yield from _greatest(engine, threads[first : first + _AT_ONCE])))
    ids = {thread: newest[thread].id if thread in newest else "" for thread in threads}
    ordered = sorted(ids, key=lambda thread: (ids[thread], thread), reverse=True)
    if not metadata:
        return ordered[:limit]
    found: list[str] = []
    named = [newest[thread] for thread in ordered if thread in newest]
    for first in range(0, len(named), _AT_ONCE):
        if limit is not None and len(found) >= limit:
            break
        some = named[first : first + _AT_ONCE]
        heads = yield from finish(engine.load(some, channels=(), writes=False))
        for head in heads:
            if head is not None:
                held = reader.metadata(head)
                if all(held.get(key) == value for key, value in metadata.items()):
                    found.append(head.name.thread)
    return found[:limit]


def prune_idle(
    engine: CheckpointEngine, reader: CheckpointReader, before: float
) -> Steps[list[str]]:
    """Remove the threads that were not written to since a time, and return their ids.

    In parts of 100 threads. What tells no time stays. A thread is looked at again right before it
    is removed.

    Args:
        engine: Where the threads are.
        reader: Gives the checkpoints back.
        before: The time, in seconds since the Unix epoch.
    """
    gone: list[str] = []
    for name in (yield from idle_threads(engine, reader, before)):
        again = yield from _greatest(engine, [name.thread])
        if again == {name.thread: name}:
            yield from finish(engine.delete_thread(name.thread))
            gone.append(name.thread)
    return gone


def idle_threads(
    engine: CheckpointEngine, reader: CheckpointReader, before: float
) -> Steps[list[CheckpointName]]:
    """Return the greatest checkpoint of each thread that was not written to since a time.

    In parts of 100 threads. What tells no time is left out.

    Args:
        engine: Where the threads are.
        reader: Gives the checkpoints back.
        before: The time, in seconds since the Unix epoch.
    """
    threads = yield from finish(engine.threads())
    idle: list[CheckpointName] = []
    for first in range(0, len(threads), _AT_ONCE):
        newest = yield from _greatest(engine, threads[first : first + _AT_ONCE])
        for name in newest.values():
            older = yield from _older(engine, reader, name, before)
            idle += [name] if older else []
    return idle


def _greatest(engine: CheckpointEngine, threads: Sequence[str]) -> Steps[dict[str, CheckpointName]]:
    """Return the greatest checkpoint of each of some threads that has any."""
    names = yield from finish(engine.list_ids(threads, None, None, None))
    found: dict[str, CheckpointName] = {}
    for name in names:
        if name.thread not in found or found[name.thread].id < name.id:
            found[name.thread] = name
    return found


def _older(
    engine: CheckpointEngine, reader: CheckpointReader, name: CheckpointName, before: float
) -> Steps[bool]:
    """Return whether a checkpoint is of before that time, by its id or else by its ``ts``."""
    made = time_of(name.id)
    if made is None:
        (head,) = yield from finish(engine.load([name], channels=(), writes=False))
        if head is None:
            return False
        try:
            ts = reader.load(head.record.body, name, "checkpoint").get("ts")
            made = datetime.fromisoformat(ts.replace("Z", "+00:00")).timestamp()
        except (AttributeError, ValueError, OverflowError):
            return False
    return made < before


def time_of(checkpoint_id: str) -> float | None:
    """Return when an id was made, if it is a UUID of version 6, whose bits begin with the time."""
    try:
        number = UUID(checkpoint_id)
    except ValueError:
        return None
    if number.version != 6:
        return None
    ticks = number.int >> 80 << 12 | number.int >> 64 & 0xFFF
    return (ticks - _GREGORIAN) / 10_000_000
