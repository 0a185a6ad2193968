"""Who refers to what in a checkpoint namespace, as far as is needed to remove its oldest part.

For each thing that checkpoints refer to (a value, a parent, a channel that is rebuilt from what
ancestors wrote) the greatest id that does so is noted. A limit keeps the greatest ids: so a thing
is still needed by one of these exactly if that id is one of them, and what the older ones leave
behind is known without reading the newer ones. To note a checkpoint takes as much as it has
channels, however many checkpoints there are.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from swarmstate.checkpoints.format import record_fields
from swarmstate.checkpoints.protocol import (
    Aged,
    CheckpointName,
    CheckpointRecord,
    StoredCheckpoint,
    Surplus,
)

__all__ = ["MANY", "References", "calls_below", "is_gate", "rebuilt_channels", "within"]


_ENTRY = 150
"""Bytes that an id or an entry of a dict takes, apart from its letters."""


MANY = 64
"""Where so many older checkpoints have to stay, an eighth more may come before they are looked at
again: so that a put does not cost what all of them cost."""


class References:
    """The ids of a checkpoint namespace, and the last one that refers to each thing.

    Attributes:
        ids: in ascending order.
        seen: checkpoint id -> its parent and the fields of its values.
        needed: checkpoint id -> the segments that its writes need, also where it is not there.
        values: field -> the greatest id whose record names it, or whose writes need it.
        parents: checkpoint id -> the greatest id that continues it.
        rebuilt: channel -> the greatest id that rebuilds it from what its ancestors wrote.
        fork: the greatest id that was there when one came that did not continue it, or was less;
            or "". Each one above it continues the one before it.
        calls: checkpoint id -> the namespaces of the subgraphs called from it.
        stay: how many older ones had to stay when that was last looked at.
        changes: how often something was noted.
    """

    def __init__(
        self,
        records: Mapping[str, CheckpointRecord] | None = None,
        needed: Mapping[str, Collection[str]] | None = None,
    ) -> None:
        self.ids: list[str] = []
        self.needed: dict[str, set[str]] = {}
        self.seen: dict[str, tuple[str | None, Sequence[str]]] = {}
        self.values: dict[str, str] = {}
        self.parents: dict[str, str] = {}
        self.rebuilt: dict[str, str] = {}
        self.fork = ""
        self.calls: dict[str, list[str]] = {}
        self.stay = 0
        self.changes = 0
        self._letters = 0
        for checkpoint_id in sorted(records or ()):
            self.add(checkpoint_id, (records or {})[checkpoint_id])
        for checkpoint_id, segments in (needed or {}).items():
            self.need(checkpoint_id, segments)

    @property
    def size(self) -> int:
        """How many bytes all this takes, roughly."""
        entries = 3 * len(self.ids) + len(self.values) + len(self.parents) + len(self.calls)
        return self._letters + entries * _ENTRY

    def add(
        self, checkpoint_id: str, record: CheckpointRecord, fields: Sequence[str] | None = None
    ) -> None:
        """Note a checkpoint that was not there before.

        Args:
            checkpoint_id: Its id.
            record: Its record.
            fields: The fields of its values, where they are known.
        """
        self.changes += 1
        ids = self.ids
        latest = ids[-1] if ids else None
        # Nearly always it is the greatest.
        greatest = latest is None or checkpoint_id > latest
        parent = record.parent
        if parent != latest or not greatest:
            self.fork = max(self.fork, checkpoint_id, latest or "")
        if greatest:
            ids.append(checkpoint_id)
        else:
            insort(ids, checkpoint_id)
        self._letters += len(checkpoint_id)
        if fields is None:
            fields = tuple(record_fields(record).values())
        self.seen[checkpoint_id] = (parent, fields)
        values = self.values
        for key in fields:
            last = values.get(key)
            if last is None:
                self._letters += len(key)
                values[key] = checkpoint_id
            elif checkpoint_id > last:  # writes of a greater one may need it already
                values[key] = checkpoint_id
        if parent is not None and (greatest or checkpoint_id > self.parents.get(parent, "")):
            self.parents[parent] = checkpoint_id
        for channel in rebuilt_channels(record) if record.deltas else ():
            self.rebuilt[channel] = max(checkpoint_id, self.rebuilt.get(channel, ""))

    def need(self, checkpoint_id: str, segments: Iterable[str]) -> None:
        """Note segments that writes of a checkpoint need, which may be yet to come."""
        self.changes += 1
        known = self.needed.setdefault(checkpoint_id, set())
        for key in segments:
            if key not in known:
                known.add(key)
                self._letters += len(key)
            self.values[key] = max(checkpoint_id, self.values.get(key, ""))

    def fields(self, checkpoint_id: str) -> Sequence[str]:
        """Return the fields of a checkpoint's values, and of what its writes need."""
        fields = self.seen[checkpoint_id][1]
        needed = self.needed.get(checkpoint_id)
        return [*fields, *needed] if needed else fields

    def call(self, caller: str, checkpoint_ns: str) -> None:
        """Note that a subgraph was called from a checkpoint."""
        known = self.calls.setdefault(caller, [])
        if checkpoint_ns not in known:
            known.append(checkpoint_ns)

    def remove(self, doomed: Iterable[tuple[str, Iterable[str]]]) -> None:
        """Forget checkpoints, each with the fields whose values went with it."""
        self.changes += 1
        for checkpoint_id, fields in doomed:
            at = bisect_left(self.ids, checkpoint_id)
            if self.ids[at : at + 1] == [checkpoint_id]:
                del self.ids[at]
                self._letters -= len(checkpoint_id)
            self.seen.pop(checkpoint_id, None)
            self.parents.pop(checkpoint_id, None)
            self.calls.pop(checkpoint_id, None)
            self._letters -= sum(map(len, self.needed.pop(checkpoint_id, ())))
            for key in fields:
                if self.values.pop(key, None) is not None:
                    self._letters -= len(key)

    def is_due(self, excess: int) -> bool:
        """Return whether so many older ones are to be looked at."""
        return excess > 0 and (self.stay < MANY or (excess - self.stay) * 8 >= self.stay)

    def is_past(self, checkpoint_id: str) -> bool:
        """Return whether nothing can need the least checkpoint, which is the only older one.

        A kept one continues it, so that no interrupt waits there; no channel is rebuilt from its
        writes; and no subgraph was called from it that would go with it.
        """
        continued = self.parents.get(checkpoint_id, "") > checkpoint_id
        return continued and not self.rebuilt and checkpoint_id not in self.calls

    def pop(self) -> tuple[str, list[str]]:
        """Forget the least checkpoint, from which no subgraph was called.

        Returns:
            Its id, and the fields whose values only it refers to.
        """
        self.changes += 1
        checkpoint_id = self.ids.pop(0)
        values = self.values
        fields = self.seen.pop(checkpoint_id)[1]
        if self.needed:
            needed = self.needed.pop(checkpoint_id, ())
            self._letters -= sum(map(len, needed))
            fields = [*fields, *needed]
        loose = [key for key in fields if values.get(key) == checkpoint_id]
        letters = len(checkpoint_id)
        for key in loose:
            values.pop(key, None)  # it may be named twice
            letters += len(key)
        self.parents.pop(checkpoint_id, None)
        self._letters -= letters
        return checkpoint_id, loose

    def surplus(
        self,
        name: CheckpointName,
        keep: int,
        read: Callable[[list[str]], Mapping[str, CheckpointRecord]],
        calls: list[StoredCheckpoint] | None = None,
    ) -> Surplus:
        """Return what there is beyond the greatest ``keep`` ids; its state are these references.

        Args:
            name: A checkpoint of the namespace.
            keep: How many are kept in any case.
            read: Returns id -> record for the ids that it is given.
            calls: See :class:`~swarmstate.checkpoints.protocol.Surplus`.
        """
        ids, values = self.ids, self.values
        at = max(0, len(ids) - keep)
        oldest, older = ids[at], ids[:at]
        rebuilt: Collection[str] = ()
        gates: list[str] = []
        records: Mapping[str, CheckpointRecord] = {}
        if self.rebuilt:
            rebuilt = {channel for channel, last in self.rebuilt.items() if last >= oldest}
            gates = ids[at : at + 1]
            records = read(older + gates)
            if self.fork > oldest or not is_gate(records[oldest], rebuilt):
                gates = ids[at:]
                records = {**records, **read(gates)}
        aged: list[Aged] = []
        for each in older:
            parent, fields = self.seen[each][0], self.fields(each)
            loose = [key for key in fields if values.get(key, "") < oldest]
            continued = self.parents.get(each, "") >= oldest
            calls_of = self.calls.get(each, ())
            aged.append(Aged(each, parent, fields, loose, continued, calls_of, records.get(each)))
        kept = {each: records[each] for each in gates}
        state = (self, self.changes)
        return Surplus(name.thread, name.checkpoint_ns, oldest, aged, rebuilt, kept, calls, state)


def is_gate(oldest: CheckpointRecord, rebuilt: Iterable[str]) -> bool:
    """Return whether the least checkpoint of a line tells what all of them need of lesser ones.

    Args:
        oldest: Its record.
        rebuilt: The channels that some of the line rebuild from what their ancestors wrote.
    """
    # A graph that has no such channel for a while neither stores nor counts it.
    versions, known = oldest.versions, {*oldest.deltas, *oldest.stored}
    return all(channel in known or channel not in versions for channel in rebuilt)


def rebuilt_channels(record: CheckpointRecord) -> list[str]:
    """Return the channels that a checkpoint rebuilds from what its ancestors wrote."""
    # LangGraph also counts steps for those that were never written: there is nothing to rebuild.
    return [channel for channel in record.deltas if channel in record.versions]


def calls_below(checkpoint_ns: str, spaces: Iterable[str]) -> list[str]:
    """Return those of a thread's namespaces that belong to one call of a subgraph from this one.

    LangGraph names the namespace of a call ``node:task``, after that of the caller and a ``|``; a
    further call by the same task has a number as one more part.
    """
    start = f"{checkpoint_ns}|" if checkpoint_ns else ""
    found = []
    for space in spaces:
        if space.startswith(start) and space != checkpoint_ns:
            first, *more = space[len(start) :].split("|")
            if ":" in first and all(part.isdecimal() for part in more):
                found.append(space)
    return found


def within(roots: Iterable[str], spaces: Iterable[str]) -> list[str]:
    """Return those of a thread's namespaces that are one of these or lie below one."""
    tops = tuple(roots)
    starts = tuple(f"{top}|" for top in tops)
    return [space for space in spaces if space in tops or space.startswith(starts)]
