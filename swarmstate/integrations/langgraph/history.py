"""What the value of a ``DeltaChannel`` is rebuilt from."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from langgraph.checkpoint.base import DeltaChannelHistory, PendingWrite

from swarmstate.checkpoints.protocol import (
    CheckpointEngine,
    CheckpointName,
    SeveredCheckpoint,
    StoredCheckpoint,
)
from swarmstate.integrations.langgraph.listing import PAGE
from swarmstate.integrations.langgraph.serialization import (
    CheckpointDecodeError,
    CheckpointReader,
    missing,
)
from swarmstate.steps import Steps, finish

__all__ = ["delta_history"]


def delta_history(
    engine: CheckpointEngine,
    reader: CheckpointReader,
    name: CheckpointName,
    channels: Sequence[str],
) -> Steps[Mapping[str, DeltaChannelHistory]]:
    """Return the seed and the writes of each channel at a checkpoint, or at the latest one.

    The walk follows parents, not ids, and ends for each channel at the nearest ancestor that has
    a value of it; that ancestor's own writes came after the value and still count. It also ends
    where an ancestor was removed, or comes a second time.

    Raises:
        CheckpointDecodeError: what a channel is rebuilt from was lost: an ancestor or its value.
    """
    newest_first: dict[str, list[PendingWrite]] = {channel: [] for channel in channels}
    seeds: dict[str, Any] = {}
    open_channels = set(channels)
    walked: set[CheckpointName] = set()
    if open_channels:
        if not name.id:
            latest = yield from finish(engine.list_ids(name.thread, name.checkpoint_ns, None, 1))
            name = latest[0] if latest else name
        if name.id:
            target = yield from finish(engine.ancestors(name, PAGE + 1))
            chain = target[1:]
            if len(target) == 1:
                _check_unsevered(target[0], open_channels)
            while chain and open_channels:
                names: list[CheckpointName] = []
                for ancestor in chain:
                    if ancestor.name in walked:
                        break
                    walked.add(ancestor.name)
                    names.append(ancestor.name)
                loaded = yield from finish(
                    engine.load(names, channels=open_channels.copy(), writes=True)
                )
                for one in loaded:
                    if one is None or not open_channels:
                        break
                    for write in reversed(one.writes):
                        if write.channel in open_channels:
                            value = reader.load(write.value, one.name, write.channel)
                            newest_first[write.channel].append(
                                (write.task_id, write.channel, value)
                            )
                    for channel in open_channels.intersection(one.record.stored):
                        if channel not in one.values:
                            raise missing(one.name, channel)
                    for channel in open_channels & one.values.keys():
                        seeds[channel] = reader.load(one.values[channel], one.name, channel)
                        open_channels.discard(channel)
                _check_unsevered(chain[-1], open_channels)
                cursor = chain[-1].record.parent
                if cursor is None or len(names) < len(chain) or None in loaded:
                    break
                chain = yield from finish(engine.ancestors(name._replace(id=cursor), PAGE))
    result: dict[str, DeltaChannelHistory] = {}
    for channel in channels:
        entry: DeltaChannelHistory = {"writes": newest_first[channel][::-1]}
        if channel in seeds:
            entry["seed"] = seeds[channel]
        result[channel] = entry
    return result


def _check_unsevered(last: StoredCheckpoint, channels: Collection[str]) -> None:
    """Raise if these channels are rebuilt from what was lost before the last of a chain was put."""
    if isinstance(last, SeveredCheckpoint):
        for channel in last.record.deltas:
            if channel in channels:
                reason = f"the checkpoint {last.record.parent!r} before it is missing"
                raise CheckpointDecodeError(reason, last.name, channel, "missing")
