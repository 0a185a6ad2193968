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

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias, TypeVar

from swarmstate._checkpoints import (
    ELEMENTS,
    FORMAT,
    LIST,
    LOST,
    PARTS,
    assemble,
    decode_record,
    decode_write,
    encode_record,
    encode_writes,
    mark_of_segment,
    new_field,
    record_fields,
    segment_field,
    segment_of,
    segments_among,
)
from swarmstate.arguments import shown
from swarmstate.checkpoints.protocol import CheckpointName
from swarmstate.errors import ArgumentValueError, DecodeError

__all__ = [
    "ELEMENTS",
    "FORMAT",
    "LIST",
    "LOST",
    "PARTS",
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
    "no_record",
    "no_segment",
    "no_write",
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

T = TypeVar("T")

_LONGEST = 256
"""How many characters two texts may have together to be kept in a cache."""

THREADS = "langgraph:thread:"
"""What the name of every thread's first namespace starts with."""

_WRITES = "\0w"
_PARENT = "\0p"


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


field = new_field
"""The same, where a version comes again."""

Place: TypeAlias = str | tuple[str, int]
"""Where in a checkpoint a value belongs: a channel, or a channel and which segment of its list."""


def is_segment(key: str | bytes) -> bool:
    """Return whether a key among the values is that of a segment."""
    if isinstance(key, bytes):
        return key.lstrip(b"0123456789")[:1] == b"s"
    return key.lstrip("0123456789")[:1] == "s"


def no_segment(name: CheckpointName, channel: str, segment: str, value: Any) -> DecodeError:
    """Return the error for a segment that is missing, or is something else."""
    where = f"segment {shown(segment)} of channel {shown(channel)} of {place(name)}"
    if value is None:
        return DecodeError(f"{where} is missing: the store has lost it")
    return DecodeError(
        f"{where} does not hold elements, but {type(value).__name__} ({shown(value)})"
    )


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


def no_record(value: Any, name: CheckpointName) -> DecodeError:
    """Return the error that says what is wrong with a record."""
    where = place(name)
    if not isinstance(value, list) or not value:
        return DecodeError(f"{where} is a {type(value).__name__}, not a record")
    form = value[0]
    if type(form) is not int or form not in PARTS:
        return DecodeError(
            f"{where} has format {shown(form)}; this version of swarmstate reads 1 and {FORMAT}"
        )
    if len(value) != PARTS[form]:
        return DecodeError(f"{where} is a record of {len(value)} parts, not {PARTS[form]}")
    return DecodeError(
        f"{where} is a record whose parent, versions, channels or lists have the wrong type: "
        f"{shown(value[1:5] + value[9:])}"
    )


def no_write(key: str, value: Any, name: CheckpointName) -> DecodeError:
    """Return the error for a key and value that are not a pending write of this checkpoint."""
    if key == LOST:
        return lost_writes(name, some=True)
    return DecodeError(
        f"{shown(key)} of {place(name)} does not hold a pending write, "
        f"but {type(value).__name__} ({shown(value)})"
    )
