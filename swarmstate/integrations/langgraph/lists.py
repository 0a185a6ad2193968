"""Long lists, of which only what is new is stored and sent.

A conversation grows by appending, and is the largest part of nearly every thread. So a list is cut
into segments, whose names are made of what they hold: who appends names the old ones, and sends
the last. :mod:`swarmstate.checkpoints.format` describes how that is stored.

Messages can be changed in place, so what is new is found by comparing bytes. A cache holds what was
last written of each list, which saves hashing all of it, and which segments that was, which saves
asking the store. It is never relied on: the engine tells which segments are missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Any

from langgraph.checkpoint.base import ChannelVersions

from swarmstate._messages import split, unchanged
from swarmstate.checkpoints.format import (
    ELEMENTS,
    LIST,
    field,
    new_field,
    segment_field,
    segment_of,
)
from swarmstate.checkpoints.protocol import Blob, CheckpointName, CheckpointRecord
from swarmstate.integrations.langgraph.serde import Dumps

__all__ = ["LEAST_BYTES", "ListCache", "Values", "Writes"]

LEAST_BYTES = 4096
"""Lists of fewer bytes stay whole: to name segments costs more than to send some messages."""

_ASKED_BYTES = 16_384
"""A write's list of more bytes, of which nothing is known, is asked for before it is sent."""

_SECONDS = 300.0
_ENTRY = 400
_NAME = 160
_MOST_WRITTEN = 64

_Key = tuple[str, ...]
_Cut = tuple[int, int, tuple[int, ...]]
"""How many elements, how long the head is, and where the segments end."""


class _List:
    """A channel's list as it was last written or read.

    Attributes:
        version: the channel's version; None for the lists that tasks wrote.
        parts: how many elements, and the segments, as a record names them; None: it is whole.
        fields: the keys of the segments in the store, in the same order.
        packed: its bytes, if it was written here.
        head: how long the head of these is.
        ends: where the segments end in them.
    """

    __slots__ = ("ends", "fields", "head", "packed", "parts", "version")

    def __init__(self, version: Any, parts: list[Any] | None) -> None:
        self.version = version
        self.parts = parts
        self.fields: list[str] = []
        self.packed = b""
        self.head = 0
        self.ends: tuple[int, ...] = ()

    @property
    def segments(self) -> list[Any]:
        """The names of the segments; none if it is whole."""
        return self.parts[1:] if self.parts else []

    def elements(self, at: int) -> bytes:
        """Return the bytes of one segment."""
        return self.packed[self.ends[at - 1] if at else self.head : self.ends[at]]

    def blob(self, field: str) -> Blob:
        """Return a segment as an engine stores it."""
        return ELEMENTS, self.elements(self.fields.index(field))


def _cut(blob: Blob) -> _Cut | None:
    """Return how to cut a list, if it is long enough."""
    tag, data = blob
    return split(data) if len(data) >= LEAST_BYTES and tag == "msgpack" else None


def _segmented(
    channel: str, version: Any, packed: bytes, cut: _Cut, known: _List | None
) -> tuple[_List, int]:
    """Return a list in segments, and how many of the first ones are those of a known one."""
    one = _List(version, None)
    count, one.head, one.ends = cut
    one.packed = packed
    same = 0
    if known is not None and known.packed:
        same = unchanged(packed, one.ends, one.head, known.packed, known.ends, known.head)
    prefix = segment_field(channel, "")
    names = [segment_of(one.elements(at)) for at in range(same, len(one.ends))]
    if same and known is not None and known.parts is not None:
        one.parts = [count, *known.parts[1 : same + 1], *names]
        one.fields = known.fields[:same]
    else:
        one.parts = [count, *names]
    one.fields += [prefix + name for name in names]
    return one, same


class ListCache:
    """The lists that a saver last wrote, bounded by size and by age.

    Two generations: what is used moves to the younger one, which becomes the older one when it is
    half of what is allowed, or some minutes old; then what was the older one goes. Each step is one
    call on a dict, so threads and forks need no lock.

    Args:
        most: How many bytes it may take, roughly; 0: nothing is kept.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._young: dict[_Key, _List] = {}
        self._old: dict[_Key, _List] = {}
        self._size = 0
        self._since = monotonic()

    def __reduce__(self) -> tuple[type[ListCache], tuple[int]]:
        # A copy of a saver may be one for another store.
        return ListCache, (self.most,)

    def get(self, key: _Key) -> _List | None:
        """Return what is known of a list."""
        return self._young.get(key) or self._old.get(key)

    def note(self, key: _Key, one: _List) -> None:
        """Keep what is known of a list from now on."""
        before = self._young.get(key)
        if before is not None and before.parts is one.parts is None:
            before.version = one.version
            return
        size = _ENTRY + len(one.packed)
        if one.parts is not None:
            size += _NAME * len(one.parts)
        if before is not None:
            self._size -= _ENTRY + len(before.packed) + _NAME * len(before.parts or ())
        else:
            size += len(key[0]) + len(key[1])
        if (self._size + size) * 2 > self.most or monotonic() - self._since > _SECONDS:
            self._old, self._young = self._young, {}
            self._size, self._since = 0, monotonic()
            self._old.pop(key, None)
            if size * 2 > self.most:
                return
        self._young[key] = one
        self._size += size


class Values:
    """What a put stores of a checkpoint's values.

    Attributes:
        new: the values and segments to be sent, by field.
        inherited: the fields that should be there already, each with its channel.
        lists: the lists in segments, as the record names them.
        is_unsure: whether nothing is known of a list: then :meth:`learn` from the parent first.

    Args:
        cache: What is known of lists; None where they stay whole.
        name: The checkpoint.
        dumps: The serializer.
        values: The values of its channels.
        versions: The versions of all channels.
        new_versions: Those that are new.
    """

    __slots__ = (
        "_cache",
        "_dumps",
        "_name",
        "_uncut",
        "_unknown",
        "_values",
        "_versions",
        "_written",
        "inherited",
        "is_unsure",
        "lists",
        "new",
    )

    def __init__(
        self,
        cache: ListCache | None,
        name: CheckpointName,
        dumps: Dumps,
        values: Mapping[str, Any],
        versions: ChannelVersions,
        new_versions: ChannelVersions,
    ) -> None:
        self._cache = cache
        self._name = name
        self._dumps = dumps
        self._values = values
        self._versions = versions
        self.new: dict[str, Blob] = {}
        self.inherited: dict[str, str] = {}
        self.lists: dict[str, list[Any]] = {}
        self.is_unsure = False
        self._uncut: dict[str, tuple[bytes, _Cut, _List | None]] = {}
        self._written: dict[str, _List] = {}
        self._unknown: list[str] = []
        for channel, version in new_versions.items():
            if channel in values:
                value = values[channel]
                blob = dumps(value)
                if type(value) is list and cache is not None:
                    cut = _cut(blob)
                    if cut is not None:
                        known = cache.get((name[0], name[1], channel))
                        self._uncut[channel] = blob[1], cut, known
                        if known is None:
                            self.is_unsure = True
                        continue
                    self._written[channel] = _List(version, None)
                self.new[new_field(channel, version)] = blob
        for channel, version in versions.items():
            if channel in values and new_versions.get(channel) != version:
                if type(values[channel]) is not list or cache is None:
                    self.inherited[field(channel, version)] = channel
                    continue
                known = cache.get((name[0], name[1], channel))
                if known is None or known.version != version:
                    self.is_unsure = True
                    self._unknown.append(channel)
                else:
                    self._inherit(channel, known.parts)

    def _inherit(self, channel: str, parts: list[Any] | None) -> None:
        if parts is None:
            self.inherited[field(channel, self._versions[channel])] = channel
        else:
            self.lists[channel] = parts
            prefix = segment_field(channel, "")
            for segment in parts[1:]:
                self.inherited[prefix + segment] = channel

    def learn(self, record: CheckpointRecord | None) -> None:
        """Take what the parent's record says of the lists, if there is a parent."""
        lists = {} if record is None else record.lists
        versions = {} if record is None else record.versions
        for channel in self._unknown:
            version = self._versions[channel]
            parts = lists.get(channel) if versions.get(channel) == version else None
            self._inherit(channel, parts)
            self._written[channel] = _List(version, parts)
        for channel, (packed, cut, known) in self._uncut.items():
            if known is None and channel in lists:
                known = _List(versions.get(channel), lists[channel])
                self._uncut[channel] = packed, cut, known

    def cut(self) -> None:
        """Decide which segments of the lists that are new are sent."""
        if self._cache is None:
            return
        for channel, (packed, cut, known) in self._uncut.items():
            one, same = _segmented(channel, self._versions[channel], packed, cut, known)
            there = [] if known is None else known.segments
            written = self._cache.get((self._name[0], self._name[1], channel, ""))
            if written is not None:
                there = there + written.segments
            inherited, segments = self.inherited, one.segments
            for at, key in enumerate(one.fields):
                if at < same or segments[at] in there:
                    inherited[key] = channel
                elif key not in self.new:
                    self.new[key] = ELEMENTS, one.elements(at)
            self.lists[channel] = [cut[0], *segments]
            self._written[channel] = one

    def send(self, missing: Sequence[str]) -> None:
        """Send what the store has lost, or never had."""
        again: set[str] = set()
        for key in missing:
            channel = self.inherited[key]
            one = self._written.get(channel)
            if one is not None and one.packed:
                self.new[key] = one.blob(key)
            else:
                again.add(channel)
        for channel in again:
            blob = self._dumps(self._values[channel])
            lost = self.lists.pop(channel, None)
            cut = None if lost is None else _cut(blob)
            for segment in () if lost is None else lost[1:]:
                self.inherited.pop(segment_field(channel, segment), None)
            version = self._versions[channel]
            if cut is None:
                key = field(channel, version)
                self.new[key] = blob
                self.inherited[key] = channel
                self._written[channel] = _List(version, None)
                continue
            # All of it: it may have been changed in place since it was stored.
            one, _ = _segmented(channel, version, blob[1], cut, None)
            self._written[channel] = one
            self.lists[channel] = [cut[0], *one.segments]
            for key in one.fields:
                self.new[key] = one.blob(key)
                self.inherited[key] = channel

    def note(self) -> None:
        """Keep what was written for the next put."""
        if self._cache is not None:
            for channel, one in self._written.items():
                self._cache.note((self._name[0], self._name[1], channel), one)


class Writes:
    """What is stored of a task's writes.

    Attributes:
        new: the segments to be sent, by field.
        inherited: the fields of segments that should be there already.

    Args:
        cache: What is known of lists; None where they stay whole.
        name: The checkpoint.
        dumps: The serializer.
    """

    def __init__(self, cache: ListCache | None, name: CheckpointName, dumps: Dumps) -> None:
        self._cache = cache
        self._name = name
        self._dumps = dumps
        self.new: dict[str, Blob] = {}
        self.inherited: dict[str, _List] = {}

    def dumps(self, channel: str, value: Any) -> tuple[str, bytes | list[Any]]:
        """Return what stands in the write of a value."""
        blob = self._dumps(value)
        cut = _cut(blob) if type(value) is list and self._cache is not None else None
        if cut is None or self._cache is None:
            return blob
        key = (self._name[0], self._name[1], channel)
        known, written = self._cache.get(key), self._cache.get((*key, ""))
        one, _ = _segmented(channel, None, blob[1], cut, known)
        segments = one.segments
        earlier = [] if written is None else written.segments
        there = earlier if known is None else earlier + known.segments
        is_unknown = known is written is None and len(blob[1]) > _ASKED_BYTES
        for at, name in enumerate(one.fields):
            if is_unknown or segments[at] in there:
                self.inherited[name] = one
            elif name not in self.new:
                self.new[name] = ELEMENTS, one.elements(at)
        latest = list(dict.fromkeys(segments + earlier))[:_MOST_WRITTEN]
        self._cache.note((*key, ""), _List(None, [0, *latest]))
        return LIST, [cut[0], *segments]

    def send(self, missing: Sequence[str]) -> None:
        """Send what the store does not have."""
        for key in missing:
            self.new[key] = self.inherited[key].blob(key)


def learn(cache: ListCache, name: CheckpointName, record: CheckpointRecord, values: Any) -> None:
    """Note which lists of a checkpoint that was read are in segments, and which."""
    for channel, value in values.items():
        if type(value) is list:
            key = (name[0], name[1], channel)
            known = cache.get(key)
            version = record.versions[channel]
            if known is None or known.version != version:
                cache.note(key, _List(version, record.lists.get(channel)))
