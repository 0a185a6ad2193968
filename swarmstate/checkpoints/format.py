r"""How a LangGraph thread lies in a store: the names of its namespaces and what they hold.

This is a public format, the same for every store, so that a snapshot of one store carries its
threads into any other. In each name ``tag`` is ``{t:<thread id>}``, which puts all keys of a thread
into one Redis Cluster slot. Lengths, in bytes of UTF-8, come before the text that they measure, so
that no thread id or checkpoint namespace, whatever it contains, can name what belongs to another:

========================================================= ==================== ==================
namespace                                                 key                  value
========================================================= ==================== ==================
``langgraph:thread:<len(thread)>:tag``                    checkpoint namespace 1
``langgraph:checkpoints:<len(thread)>:tag:<ns>``          checkpoint id        its record
the same                                                  ``\0w``, then an id  1
the same                                                  ``\0p``, then an id  1
``langgraph:values:<len(thread)>:tag:<ns>``               channel and version  type tag, bytes
the same                                                  channel and segment  ``elements``, bytes
``langgraph:strays:<len(thread)>:tag:<ns>``               checkpoint id        1
``langgraph:writes:<len(thread)>:tag:<len(ns)>:<ns><id>`` index and task id    a pending write
the same                                                  ``\0s``, then a key  1
========================================================= ==================== ==================

A value is stored once per channel and version. Its key is the length of the channel's name, a
colon, the name, a colon and the version. A version that begins with 32 digits, the first of them
zero, and a point, as LangGraph's do, loses its leading zeros, and its key has ``z`` for the first
colon; for an int it has ``i`` and for a float ``f``. A record names all versions of its checkpoint,
and lists the channels that have a value.

A long list is stored in **segments**: rows of its elements, each row the plain concatenation of
their msgpack. The key of a segment has ``s`` for the first colon, and in place of the version the
first 20 letters of the base64 of its SHA-256. So it is stored once, however many checkpoints and
writes name it. A record of format 2 has a tenth part: channel -> [how many elements the list has,
the segments in order]. Such a channel has no value of its own. A write of such a list has the type
tag ``list``, and the same array in place of its bytes. ``\0s`` and the key of a segment stand among
the writes for each that these name, so that what is still needed is known without decoding them.

A thread exists while its first namespace does, and a checkpoint namespace while it is listed there.
The orphans are checkpoint ids that have pending writes but, so far, no checkpoint: LangGraph may
store the two in either order.

A server may lose any one of these namespaces: it evicts, keys expire, another program removes one.
So that a checkpoint is then never taken for one without pending writes, ``\0w<id>`` stands among
the records from its first write on. If it is there and the writes are not, they were lost. Who adds
writes after that adds ``\0lost`` -> 1 to them. In the same way ``\0p<id>`` says that the parent was
gone when a checkpoint was put whose ``DeltaChannel`` is rebuilt from it. Threads of version 0.1.0
lack these entries. No checkpoint id starts with NUL and a letter from p to w.
"""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from typing import Any, NamedTuple, TypeAlias, TypeVar

from swarmstate.arguments import shown
from swarmstate.checkpoints.protocol import (
    NO_LISTS,
    Blob,
    CheckpointName,
    CheckpointRecord,
    StoredCheckpoint,
    TaskWrite,
)
from swarmstate.errors import ArgumentTypeError, ArgumentValueError, DecodeError

__all__ = [
    "ELEMENTS",
    "FORMAT",
    "LIST",
    "LOST",
    "THREADS",
    "Place",
    "ThreadNames",
    "assemble",
    "check_id",
    "decode_record",
    "decode_write",
    "encode_record",
    "encode_writes",
    "field",
    "id_of",
    "is_id",
    "is_segment",
    "lost_writes",
    "mark_of_parent",
    "mark_of_segment",
    "mark_of_writes",
    "names",
    "new_field",
    "place",
    "record_fields",
    "remembered",
    "segment_field",
    "segment_of",
    "segments_among",
    "thread_namespace",
    "thread_of",
    "unreadable",
]

FORMAT = 2
"""The version of the format, first in every record that needs it; otherwise it is 1."""

_PARTS = {1: 9, 2: 10}

LIST = "list"
"""The type tag of a write whose value is a list in segments."""

ELEMENTS = "elements"
"""The type tag of a segment."""

T = TypeVar("T")

_LONGEST = 256
"""How many characters two texts may have together to be kept in a cache."""

THREADS = "langgraph:thread:"
"""What the name of every thread's first namespace starts with."""

_WRITES = "\0w"
_PARENT = "\0p"

_SEGMENT = "\0s"

LOST = "\0lost"
"""The key, among pending writes, of what says that earlier ones are gone."""


class ThreadNames(NamedTuple):
    """The namespaces of a store that hold one checkpoint namespace of one thread."""

    thread: str
    checkpoints: str
    values: str
    orphans: str
    writes: str
    """To be followed by a checkpoint id."""
    tail: str
    """What the middle three end with."""


def _length(text: str) -> int:
    # A lone surrogate is counted as it is; the store refuses the name that holds it.
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def thread_namespace(thread: str) -> str:
    """Return the namespace that lists a thread's checkpoint namespaces."""
    return f"{THREADS}{_length(thread)}:{{t:{thread}}}"


def thread_of(namespace: str) -> str | None:
    """Return the thread whose first namespace this is, or None if it is not one."""
    length, colon, tagged = namespace[len(THREADS) :].partition(":")
    if not (namespace.startswith(THREADS) and colon and length.isdecimal()):
        return None
    thread = tagged[3:-1]
    return thread if thread_namespace(thread) == namespace else None


def remembered(make: Callable[[str, str], T], maxsize: int) -> Callable[[str, Any], T]:
    """Return a function of two texts with a cache of its last results.

    Long texts are not kept: a cache bounded by number alone grows with the length of what users
    choose as ids, also with that of ids which nothing is stored under.

    Args:
        make: The function.
        maxsize: How many results are kept.
    """
    kept = lru_cache(maxsize)(make)

    def find(one: str, other: Any) -> T:
        if type(one) is type(other) is str and len(one) + len(other) <= _LONGEST:
            return kept(one, other)
        return make(one, other)

    return find


def _names(thread: str, checkpoint_ns: str) -> ThreadNames:
    start = f"{_length(thread)}:{{t:{thread}}}"
    tail = f"{start}:{checkpoint_ns}"
    return ThreadNames(
        thread_namespace(thread),
        f"langgraph:checkpoints:{tail}",
        f"langgraph:values:{tail}",
        f"langgraph:strays:{tail}",
        f"langgraph:writes:{start}:{_length(checkpoint_ns)}:{checkpoint_ns}",
        tail,
    )


names = remembered(_names, 4096)
"""Return where one checkpoint namespace of a thread is kept."""


def mark_of_writes(checkpoint_id: str) -> str:
    """Return the key, among the records, of what says that a checkpoint has pending writes."""
    return _WRITES + checkpoint_id


def mark_of_parent(checkpoint_id: str) -> str:
    """Return the key, among the records, of what says that the parent was gone already."""
    return _PARENT + checkpoint_id


def is_id(key: str) -> bool:
    """Return whether a key among the records is that of a record, and no mark."""
    return not _PARENT <= key[:2] <= _WRITES


def id_of(key: str) -> str:
    """Return the checkpoint id that a key among the records names: itself, or the marked one."""
    return key if is_id(key) else key[2:]


def check_id(checkpoint_id: str) -> None:
    """Raise for an id that no checkpoint can have.

    Raises:
        ArgumentValueError: it would be taken for a mark.
    """
    if not is_id(checkpoint_id):
        raise ArgumentValueError(
            "the id of a checkpoint must not start with NUL and a letter from p to w, "
            f"not {shown(checkpoint_id)}"
        )


def new_field(channel: str, version: str | int | float) -> str:
    """Return the key of a channel's value at one version; the type of the version counts.

    Subclasses count as what they are made of, as they do for the codecs: an enum member that is a
    text as well names the channel of that text.

    Raises:
        ArgumentTypeError: no channel or no version.
    """
    if type(channel) is not str:
        if not isinstance(channel, str):
            raise ArgumentTypeError(
                f"a channel must be a str, not {type(channel).__name__} ({shown(channel)})"
            )
        channel = str.__str__(channel)
    length = len(channel) if channel.isascii() else _length(channel)
    if isinstance(version, str):
        if version[32:33] == "." and version[0] == "0" and version[:32].isdigit():
            # LangGraph's numbers are padded to 32 digits, which would be most of all keys.
            return f"{length}z{channel}:{version.lstrip('0')}"
        return f"{length}:{channel}:{str.__str__(version)}"
    if isinstance(version, int) and not isinstance(version, bool):
        return f"{length}i{channel}:{int.__repr__(version)}"
    if isinstance(version, float):
        return f"{length}f{channel}:{float.__repr__(version)}"
    raise ArgumentTypeError(
        f"the version of channel {shown(channel)} must be a str, an int or a float, "
        f"not {type(version).__name__} ({shown(version)})"
    )


field = remembered(new_field, 8192)
"""The same for versions that come again; a new one would only fill the cache."""


def segment_of(elements: bytes) -> str:
    """Return the name of a segment, made of what it holds."""
    # 120 bits, of which base64 needs no padding.
    return b2a_base64(sha256(elements).digest()[:15], newline=False).decode()


def segment_field(channel: str, segment: str) -> str:
    """Return the key of a segment of a channel's list."""
    return f"{_length(channel)}s{channel}:{segment}"


def is_segment(key: str | bytes) -> bool:
    """Return whether a key among the values is that of a segment."""
    if isinstance(key, bytes):
        return key.lstrip(b"0123456789")[:1] == b"s"
    return key.lstrip("0123456789")[:1] == "s"


def mark_of_segment(key: str) -> str:
    """Return the key, among pending writes, of what says that these need a segment."""
    return _SEGMENT + key


def segments_among(keys: Iterable[str]) -> list[str]:
    """Return the keys of the segments that pending writes need, by the keys of these."""
    return [key[2:] for key in keys if key.startswith(_SEGMENT)]


Place: TypeAlias = str | tuple[str, int]
"""Where in a checkpoint a value belongs: a channel, or a channel and which segment of its list."""


def record_fields(
    record: CheckpointRecord, channels: Collection[str] | None = None
) -> dict[Place, str]:
    """Return the key of every value that a checkpoint has or, of deltas, may have, by its place.

    This is all that a record refers to: segments are further values.

    Args:
        record: The checkpoint's record.
        channels: The only channels that count; None: all of them.
    """
    versions, lists = record.versions, record.lists
    named = record.stored + record.deltas
    if channels is not None:
        named = [name for name in named if name in channels]
    if not lists:
        return {name: field(name, versions[name]) for name in named if name in versions}
    fields: dict[Place, str] = {
        name: field(name, versions[name])
        for name in named
        if name in versions and name not in lists
    }
    for name, (_, *segments) in lists.items():
        if channels is None or name in channels:
            prefix = segment_field(name, "")
            for at, segment in enumerate(segments):
                fields[name, at] = prefix + segment
    return fields


def assemble(
    name: CheckpointName,
    record: CheckpointRecord,
    fields: Mapping[Place, str],
    held: Mapping[str, Any],
    writes: Iterable[tuple[str, Any]],
    *,
    marked: bool = False,
) -> StoredCheckpoint:
    """Return a checkpoint from what was read of it.

    Args:
        name: Which checkpoint it is.
        record: Its record.
        fields: The keys of the values that were asked for, by their place.
        held: Key -> value, for the keys that have one; a DecodeError where it could not be read.
            With writes also the segments that these need.
        writes: Key and value of each pending write.
        marked: Whether there must be pending writes.

    Raises:
        DecodeError: a value or a write is not what it should be, or the writes are missing.
    """
    values: dict[str, Blob] = {}
    lists = record.lists
    whole: Mapping[Any, str] = fields
    if lists:
        whole = {channel: key for channel, key in fields.items() if type(channel) is str}
    for channel, key in whole.items():
        value = held.get(key)
        if value is not None:
            try:
                kind, data = value
            except (TypeError, ValueError):
                cause = value if isinstance(value, DecodeError) else None
                raise unreadable(name, channel, value) from cause
            values[channel] = (kind, data)
    if lists:
        for channel, parts in lists.items():
            if (channel, 0) in fields:
                values[channel] = _joined(name, channel, parts, held)
    tasks = [
        decode_write(key, value, name, held)
        for key, value in writes
        if not key.startswith(_SEGMENT)
    ]
    if len(tasks) > 1:
        tasks.sort(key=lambda write: write.order)
    elif marked and not tasks:
        raise lost_writes(name)
    return StoredCheckpoint(name, record, values, tasks)


def _joined(
    name: CheckpointName, channel: str, parts: Sequence[Any], held: Mapping[str, Any]
) -> Blob:
    """Return a list from its segments, as the serializer wrote it."""
    prefix = segment_field(channel, "")
    rows: list[bytes] = [_head_of_list(parts[0])]
    for segment in parts[1:]:
        value = held.get(prefix + segment)
        try:
            tag, data = value  # type: ignore[misc]
        except (TypeError, ValueError):
            tag = data = None
        if tag != ELEMENTS or type(data) is not bytes:
            cause = value if isinstance(value, DecodeError) else None
            raise _no_segment(name, channel, segment, value) from cause
        rows.append(data)
    return "msgpack", b"".join(rows)


def _no_segment(name: CheckpointName, channel: str, segment: str, value: Any) -> DecodeError:
    """Return the error for a segment that is missing, or is something else."""
    where = f"segment {shown(segment)} of channel {shown(channel)} of {place(name)}"
    if value is None:
        return DecodeError(f"{where} is missing: the store has lost it")
    return DecodeError(
        f"{where} does not hold elements, but {type(value).__name__} ({shown(value)})"
    )


def _head_of_list(count: int) -> bytes:
    """Return what a list of so many elements begins with in msgpack."""
    if count < 16:
        return bytes((0x90 | count,))
    if count < 1 << 16:
        return b"\xdc" + count.to_bytes(2, "big")
    return b"\xdd" + count.to_bytes(4, "big")


def unreadable(name: CheckpointName, channel: str, value: Any) -> DecodeError:
    """Return the error for a channel whose stored value is not a pair of a type tag and bytes."""
    return DecodeError(
        f"channel {shown(channel)} of {place(name)} "
        f"does not hold a type tag and bytes, but {type(value).__name__} ({shown(value)})"
    )


def lost_writes(name: CheckpointName, *, some: bool = False) -> DecodeError:
    """Return the error for a checkpoint whose pending writes, or some of them, are gone."""
    what = "some of the pending writes" if some else "the pending writes"
    return DecodeError(f"{what} of {place(name)} are missing: the store has lost their key")


def place(name: CheckpointName) -> str:
    """Return how errors name a checkpoint."""
    checkpoint_id, space, thread = (shown(part, 120) for part in (name[2], name[1], name[0]))
    return f"checkpoint {checkpoint_id} in namespace {space} of thread {thread}"


def encode_record(record: CheckpointRecord) -> list[Any]:
    """Return a record as plain lists for a codec."""
    parent, versions, stored, deltas, body, metadata, lists = record
    if not lists:
        return [1, parent, versions, stored, deltas, *body, *metadata]
    return [FORMAT, parent, versions, stored, deltas, *body, *metadata, lists]


def decode_record(value: Any, name: CheckpointName) -> CheckpointRecord:
    """Return a record from what the codec gave back.

    Raises:
        DecodeError: this is not a record, or one that a newer version wrote.
    """
    given = value
    try:
        lists = NO_LISTS
        if len(value) == _PARTS[FORMAT]:
            *value, lists = value
        form, parent, versions, stored, deltas, kind, body, metadata_kind, metadata = value
        if (
            form == (1 if lists is NO_LISTS else FORMAT)
            and (parent is None or type(parent) is str)
            and type(versions) is dict
            and type(stored) is type(deltas) is list
            and _names_and_versions(versions, stored, deltas)
            and (lists is NO_LISTS or _are_lists(lists))
        ):
            return CheckpointRecord(
                parent, versions, stored, deltas, (kind, body), (metadata_kind, metadata), lists
            )
    except (TypeError, ValueError):
        pass
    raise _no_record(given, place(name))


_VERSIONS = frozenset((str, int, float))


def _names_and_versions(versions: dict[Any, Any], stored: list[Any], deltas: list[Any]) -> bool:
    """Return whether all names are text and all versions are such; raise TypeError otherwise."""
    try:
        "".join((*versions, *versions.values(), *stored, *deltas))  # fails unless all are text
    except TypeError:
        "".join((*versions, *stored, *deltas))
        return _VERSIONS.issuperset(map(type, versions.values()))
    return True


def _are_lists(lists: Any) -> bool:
    if type(lists) is not dict:
        return False
    for channel, parts in lists.items():
        if type(channel) is not str or not _is_list_in_segments(parts):
            return False
    return True


def _is_list_in_segments(parts: Any) -> bool:
    """Return whether this is how many elements a list has, and its segments."""
    if type(parts) is not list or len(parts) < 2:
        return False
    count, *segments = parts
    try:
        "".join(segments)  # fails unless all are text
    except TypeError:
        return False
    return type(count) is int and 0 <= count < 1 << 32


def _no_record(value: Any, where: str) -> DecodeError:
    """Return the error that says what is wrong with a record."""
    if not isinstance(value, list) or not value:
        return DecodeError(f"{where} is a {type(value).__name__}, not a record")
    form = value[0]
    if type(form) is not int or form not in _PARTS:
        return DecodeError(
            f"{where} has format {shown(form)}; this version of swarmstate reads 1 and {FORMAT}"
        )
    if len(value) != _PARTS[form]:
        return DecodeError(f"{where} is a record of {len(value)} parts, not {_PARTS[form]}")
    return DecodeError(
        f"{where} is a record whose parent, versions, channels or lists have the wrong type: "
        f"{shown(value[1:5] + value[9:])}"
    )


def encode_writes(
    writes: Iterable[tuple[str, Any]],
    task_id: str,
    task_path: str,
    special: Mapping[str, int],
    dumps: Callable[[str, Any], tuple[str, bytes | list[Any]]],
) -> dict[str, Any]:
    """Return key -> value for a task's pending writes, in their checkpoint's namespace of writes.

    Args:
        writes: (channel, value) pairs; each is at its position, or at that of a special channel,
            for which the last one counts.
        task_id: The task.
        task_path: Where the task comes in the order of its step.
        special: The special channels -> their positions, below zero.
        dumps: Returns of a channel and a value what the serializer makes of it; or, of a list in
            segments, the tag :data:`LIST`, how many elements it has and its segments.
    """
    found: dict[str, Any] = {}
    for position, (channel, value) in enumerate(writes):
        tag, data = dumps(channel, value)
        found[f"{special.get(channel, position)}:{task_id}"] = [channel, tag, data, task_path]
        if type(data) is list:
            for segment in data[1:]:
                found[mark_of_segment(segment_field(channel, segment))] = 1
    return found


def decode_write(
    key: str, value: Any, name: CheckpointName, held: Mapping[str, Any] | None = None
) -> TaskWrite:
    """Return a pending write from its key and value.

    Args:
        key: Its key.
        value: What is stored there.
        name: The checkpoint.
        held: The segments that the writes of the checkpoint need, by key.

    Raises:
        DecodeError: this is not a pending write of this checkpoint.
    """
    if key == LOST:
        raise lost_writes(name, some=True)
    index, _, task_id = key.partition(":")
    try:
        channel, kind, data, task_path = value
        position = int(index)
        good = type(channel) is type(task_path) is str
    except (TypeError, ValueError):
        good = False
    if good and type(data) is list:
        good = kind == LIST and _is_list_in_segments(data)
        if good:
            kind, data = _joined(name, channel, data, held or {})
    if good:
        return TaskWrite(task_id, position, channel, (kind, data), task_path)
    raise DecodeError(
        f"{shown(key)} of {place(name)} does not hold a pending write, "
        f"but {type(value).__name__} ({shown(value)})"
    )
