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
from swarmstate.integrations.langgraph.listing import PAGE, PAGE_BYTES
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
    walk = _Walk(reader, channels)
    walked: set[CheckpointName] = set()
    if walk.open:
        if not name.id:
            latest = yield from finish(engine.list_ids([name.thread], name.checkpoint_ns, None, 1))
            name = latest[0] if latest else name
        if name.id:
            target = yield from finish(engine.ancestors(name, PAGE + 1))
            chain = target[1:]
            if len(target) == 1:
                _check_unsevered(target[0], walk.open)
            while chain and walk.open:
                names: list[CheckpointName] = []
                for ancestor in chain:
                    if ancestor.name in walked:
                        break
                    walked.add(ancestor.name)
                    names.append(ancestor.name)
                ended = len(names) < len(chain)
                while names and walk.open:
                    loaded = yield from finish(
                        engine.load(names, channels={*walk.open}, writes=True, most=PAGE_BYTES)
                    )
                    del names[: len(loaded)]
                    for one in loaded:
                        if one is None:
                            ended = True
                            names.clear()
                            break
                        walk.pass_by(one)
                _check_unsevered(chain[-1], walk.open)
                cursor = chain[-1].record.parent
                if cursor is None or ended:
                    break
                chain = yield from finish(engine.ancestors(name._replace(id=cursor), PAGE))
    return walk.found()


class _Walk:
    """What was found on the way from a checkpoint to its ancestors.

    Attributes:
        open: The channels whose value was not met yet.
    """

    def __init__(self, reader: CheckpointReader, channels: Sequence[str]) -> None:
        self._reader = reader
        self._newest_first: dict[str, list[PendingWrite]] = {channel: [] for channel in channels}
        self._seeds: dict[str, Any] = {}
        self.open = set(channels)

    def pass_by(self, one: StoredCheckpoint) -> None:
        """Take what a checkpoint has of the channels that are open."""
        for write in reversed(one.writes):
            if write.channel in self.open:
                value = self._reader.load(write.value, one.name, write.channel)
                self._newest_first[write.channel].append((write.task_id, write.channel, value))
        for channel in self.open.intersection(one.record.stored):
            if channel not in one.values:
                raise missing(one.name, channel)
        for channel in self.open & one.values.keys():
            self._seeds[channel] = self._reader.load(one.values[channel], one.name, channel)
            self.open.discard(channel)

    def found(self) -> Mapping[str, DeltaChannelHistory]:
        """Return it as LangGraph wants it: the seed, if one was met, and the writes in order."""
        result: dict[str, DeltaChannelHistory] = {}
        for channel, writes in self._newest_first.items():
            entry: DeltaChannelHistory = {"writes": writes[::-1]}
            if channel in self._seeds:
                entry["seed"] = self._seeds[channel]
            result[channel] = entry
        return result


def _check_unsevered(last: StoredCheckpoint, channels: Collection[str]) -> None:
    """Raise if these channels are rebuilt from what was lost before the last of a chain was put."""
    if isinstance(last, SeveredCheckpoint):
        for channel in last.record.deltas:
            if channel in channels:
                reason = f"the checkpoint {last.record.parent!r} before it is missing"
                raise CheckpointDecodeError(reason, last.name, channel, "missing")
