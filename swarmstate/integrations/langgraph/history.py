"""What the value of a ``DeltaChannel`` is rebuilt from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langgraph.checkpoint.base import DeltaChannelHistory, PendingWrite

from swarmstate.integrations.langgraph.listing import PAGE
from swarmstate.integrations.langgraph.serialization import CheckpointReader
from swarmstate.protocols import CheckpointEngine, Pair, Steps

__all__ = ["delta_history"]


def delta_history(
    engine: CheckpointEngine,
    reader: CheckpointReader,
    namespace: str,
    checkpoint_id: str | None,
    channels: Sequence[str],
) -> Steps[Mapping[str, DeltaChannelHistory]]:
    """Return the seed and the writes of each channel at a checkpoint, or at the latest one.

    The walk follows parents, not ids, and ends for each channel at the nearest ancestor that has
    a value of it; that ancestor's own writes came after the value and still count. It also ends
    where an ancestor is gone, or comes a second time.
    """
    thread = reader.thread
    newest_first: dict[str, list[PendingWrite]] = {channel: [] for channel in channels}
    seeds: dict[str, Any] = {}
    open_channels = set(channels)
    walked: set[str] = set()
    if open_channels:
        if checkpoint_id is None:
            latest = yield from engine.scan(thread, namespace, None, 1)
            checkpoint_id = latest[0][1] if latest else None
        if checkpoint_id is not None:
            target = yield from engine.ancestors(thread, namespace, checkpoint_id, PAGE + 1)
            chain = target[1:]
            while chain and open_channels:
                pairs: list[Pair] = []
                for ancestor in chain:
                    if ancestor.id in walked:
                        break
                    walked.add(ancestor.id)
                    pairs.append((namespace, ancestor.id))
                loaded = yield from engine.load(
                    thread, pairs, channels=open_channels.copy(), writes=True
                )
                for one in loaded:
                    if one is None or not open_channels:
                        break
                    for write in reversed(one.writes):
                        if write.channel in open_channels:
                            value = reader.load(write.value, namespace, one.id, write.channel)
                            newest_first[write.channel].append(
                                (write.task_id, write.channel, value)
                            )
                    for channel in open_channels & one.values.keys():
                        seeds[channel] = reader.load(
                            one.values[channel], namespace, one.id, channel
                        )
                        open_channels.discard(channel)
                cursor = chain[-1].record.parent
                if cursor is None or len(pairs) < len(chain) or None in loaded:
                    break
                chain = yield from engine.ancestors(thread, namespace, cursor, PAGE)
    result: dict[str, DeltaChannelHistory] = {}
    for channel in channels:
        entry: DeltaChannelHistory = {"writes": newest_first[channel][::-1]}
        if channel in seeds:
            entry["seed"] = seeds[channel]
        result[channel] = entry
    return result
