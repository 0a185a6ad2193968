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
from typing import Any, NamedTuple

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
_NAME = 80

_Key = tuple[str, ...]
_Cut = tuple[int, int, tuple[int, ...]]
"""How many elements, how long the head is, and where the segments end."""


class _Known(NamedTuple):
    """What is known of a channel's list as it was last written or read.

    Attributes:
        version: the channel's version; None for the lists that a task's writes had.
        parts: how many elements, and the segments, as a record names them; None: it is whole.
        packed: its bytes, if it was written here.
        head: how long the head of these is.
        ends: where the segments end in them.
    """

    version: Any
    parts: list[Any] | None
    packed: bytes = b""
    head: int = 0
    ends: tuple[int, ...] = ()


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
        self._young: dict[_Key, _Known] = {}
        self._old: dict[_Key, _Known] = {}
        self._size = 0
        self._since = monotonic()

    def __reduce__(self) -> tuple[type[ListCache], tuple[int]]:
        # A copy of a saver may be one for another store.
        return ListCache, (self.most,)

    def get(self, key: _Key) -> _Known | None:
        """Return what is known of a list."""
        return self._young.get(key) or self._old.get(key)

    def note(self, key: _Key, known: _Known) -> None:
        """Keep what is known of a list from now on."""
        size = _ENTRY + len(known.packed) + _NAME * len(known.parts or ()) + sum(map(len, key))
        if size * 2 > self.most:
            self._young.pop(key, None)
            self._old.pop(key, None)
            return
        before = self._young.get(key)
        if before is not None:
            self._size -= _ENTRY + len(before.packed) + _NAME * len(before.parts or ())
        if (self._size + size) * 2 > self.most or monotonic() - self._since > _SECONDS:
            self._old, self._young = self._young, {}
            self._size, self._since = 0, monotonic()
        self._young[key] = known
        self._size += size


class _List:
    """A list cut into segments.

    Attributes:
        parts: how many elements, and the names of the segments.
        fields: the names of the segments in the store, in the same order.
        packed, head, ends: the bytes, the length of their head, and where the segments end.
    """

    __slots__ = ("ends", "fields", "head", "packed", "parts")

    def __init__(
        self,
        channel: str,
        packed: bytes,
        cut: _Cut,
        known: _Known | None = None,
    ) -> None:
        count, self.head, self.ends = cut
        self.packed = packed
        same = 0
        self.parts: list[Any] = [count]
        if known is not None and known.parts and known.packed:
            same = unchanged(packed, self.ends, self.head, known.packed, known.ends, known.head)
            self.parts += known.parts[1 : same + 1]
        self.parts += [segment_of(self.elements(at)) for at in range(same, len(self.ends))]
        self.fields = [segment_field(channel, segment) for segment in self.parts[1:]]

    def elements(self, at: int) -> bytes:
        """Return the bytes of one segment."""
        return self.packed[self.ends[at - 1] if at else self.head : self.ends[at]]

    def known(self, version: Any) -> _Known:
        return _Known(version, self.parts, self.packed, self.head, self.ends)

    def blob(self, field: str) -> Blob:
        """Return a segment as an engine stores it."""
        return ELEMENTS, self.elements(self.fields.index(field))


def _cut(blob: Blob) -> _Cut | None:
    """Return how to cut a value, if it is a list that is long enough."""
    tag, data = blob
    return split(data) if len(data) >= LEAST_BYTES and tag == "msgpack" else None


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
        self._known: dict[str, _Known | None] = {}
        self._uncut: dict[str, tuple[Blob, _Cut]] = {}
        self._written: dict[str, _List | None] = {}
        self._unknown: list[str] = []
        for channel, version in new_versions.items():
            if channel not in values:
                continue
            blob = dumps(values[channel])
            if cache is not None and type(values[channel]) is list:
                cut = _cut(blob)
                if cut is not None:
                    self._uncut[channel] = blob, cut
                    known = self._known[channel] = cache.get((*name[:2], channel))
                    self.is_unsure = self.is_unsure or known is None
                    continue
                self._written[channel] = None
            self.new[new_field(channel, version)] = blob
        for channel, version in versions.items():
            if channel in values and new_versions.get(channel) != version:
                if cache is not None and type(values[channel]) is list:
                    self._inherit_list(cache, channel, version)
                else:
                    self.inherited[field(channel, version)] = channel

    def _inherit_list(self, cache: ListCache, channel: str, version: Any) -> None:
        known = cache.get((*self._name[:2], channel))
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
            for segment in parts[1:]:
                self.inherited[segment_field(channel, segment)] = channel

    def learn(self, record: CheckpointRecord | None) -> None:
        """Take what the parent's record says of the lists, if there is a parent."""
        lists = {} if record is None else record.lists
        versions = {} if record is None else record.versions
        for channel in self._unknown:
            parts = lists.get(channel) if versions.get(channel) == self._versions[channel] else None
            self._inherit(channel, parts)
            self._note(channel, _Known(self._versions[channel], parts))
        self._unknown.clear()
        for channel in self._uncut:
            if self._known[channel] is None and channel in lists:
                self._known[channel] = _Known(versions.get(channel), lists[channel])

    def cut(self) -> None:
        """Decide which segments of the lists that are new are sent."""
        for channel, (blob, cut) in self._uncut.items():
            known = self._known[channel]
            there: set[str] = set()
            one = _List(channel, blob[1], cut, known)
            if known is not None and known.parts:
                there.update(known.parts[1:])
            if not there.issuperset(one.parts[1:]) and self._cache is not None:
                written = self._cache.get((*self._name[:2], channel, ""))
                if written is not None and written.parts:
                    there.update(written.parts)
            for at, key in enumerate(one.fields):
                if one.parts[at + 1] in there:
                    self.inherited[key] = channel
                elif key not in self.new:
                    self.new[key] = ELEMENTS, one.elements(at)
            self.lists[channel] = one.parts
            self._written[channel] = one

    def send(self, missing: Sequence[str]) -> None:
        """Send what the store has lost, or never had."""
        again: set[str] = set()
        for key in missing:
            channel = self.inherited[key]
            one = self._written.get(channel)
            if one is not None:
                self.new[key] = one.blob(key)
            else:
                again.add(channel)
        for channel in again:
            blob = self._dumps(self._values[channel])
            lost = self.lists.pop(channel, None)
            cut = None if lost is None else _cut(blob)
            for segment in () if lost is None else lost[1:]:
                self.inherited.pop(segment_field(channel, segment), None)
            if cut is None:
                key = field(channel, self._versions[channel])
                self.new[key] = blob
                self.inherited[key] = channel
                self._written[channel] = None
                continue
            # All of it: it may have been changed in place since it was stored.
            one = self._written[channel] = _List(channel, blob[1], cut)
            self.lists[channel] = one.parts
            for key in one.fields:
                self.new[key] = one.blob(key)
                self.inherited[key] = channel

    def note(self) -> None:
        """Keep what was written for the next put."""
        for channel, one in self._written.items():
            version = self._versions.get(channel)
            self._note(channel, _Known(version, None) if one is None else one.known(version))

    def _note(self, channel: str, known: _Known) -> None:
        if self._cache is not None:
            self._cache.note((*self._name[:2], channel), known)


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
        key = (*self._name[:2], channel)
        known, written = self._cache.get(key), self._cache.get((*key, ""))
        one = _List(channel, blob[1], cut, known)
        there = {each for one in (known, written) if one and one.parts for each in one.parts[1:]}
        is_unknown = known is written is None and len(blob[1]) > _ASKED_BYTES
        for at, name in enumerate(one.fields):
            if is_unknown or one.parts[at + 1] in there:
                self.inherited[name] = one
            elif name not in self.new:
                self.new[name] = ELEMENTS, one.elements(at)
        earlier = written.parts[1:] if written and written.parts else []
        latest = dict.fromkeys([*one.parts[1:], *earlier])
        self._cache.note((*key, ""), _Known(None, [0, *list(latest)[:64]]))
        return LIST, one.parts

    def send(self, missing: Sequence[str]) -> None:
        """Send what the store does not have."""
        for key in missing:
            self.new[key] = self.inherited[key].blob(key)


def learn(cache: ListCache, name: CheckpointName, record: CheckpointRecord, values: Any) -> None:
    """Note which lists of a checkpoint that was read are in segments, and which."""
    for channel, value in values.items():
        if type(value) is list:
            key = (*name[:2], channel)
            known = cache.get(key)
            version = record.versions[channel]
            if known is None or known.version != version:
                cache.note(key, _Known(version, record.lists.get(channel)))
