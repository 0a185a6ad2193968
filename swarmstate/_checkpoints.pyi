"""Types of the compiled module; ``ext/_checkpoints.pyx`` is the source."""

from collections.abc import Callable, Collection, Container, Iterable, Mapping
from typing import Any, TypeVar, final

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import ChannelVersions, Checkpoint, CheckpointMetadata

from swarmstate.checkpoints.protocol import (
    Blob,
    CheckpointName,
    CheckpointRecord,
    StoredCheckpoint,
    TaskWrite,
)

T = TypeVar("T")

FORMAT: int
"""The version of the format, first in every record that needs it; otherwise it is 1."""
PARTS: dict[int, int]
"""How many parts a record of each version has."""
LOST: str
"""The key that says in a hash of writes that others were lost with it."""
LIST: str
"""The type of a write whose value is the names of a list's segments."""
ELEMENTS: str
"""The type of a segment, which is some of a list's elements."""

def new_field(channel: str, version: str | int | float) -> str:
    """Return the key of a channel's value at one version; the type of the version counts.

    Subclasses count as what they are made of, as they do for the codecs: an enum member that is a
    text as well names the channel of that text.

    Raises:
        ArgumentTypeError: no channel or no version.
    """

def segment_field(channel: str, segment: str) -> str:
    """Return the key of a segment of a channel's list."""

def mark_of_segment(key: str) -> str:
    """Return the key, among pending writes, of what says that these need a segment."""

def segment_of(elements: bytes) -> str:
    """Return the name of a segment, made of what it holds."""

def split(packed: bytes, before: bytes | None = None) -> tuple[int, list[bytes], int] | None:
    """Return how a packed list is cut, or None where this is not exactly one with elements.

    Args:
        packed: The list.
        before: Another one.

    Returns:
        How many elements there are, the bytes of the head and of each segment, and how many of the
        first ones are those of the other list.
    """

def segments_among(keys: Iterable[str]) -> list[str]:
    """Return the keys of the segments that pending writes need, by the keys of these."""

def record_fields(
    record: CheckpointRecord, channels: Collection[str] | None = None
) -> dict[str | tuple[str, int], str]:
    """Return the key of every value that a checkpoint has or, of deltas, may have, by its place.

    This is all that a record refers to: segments are further values.

    Args:
        record: The checkpoint's record.
        channels: The only channels that count; None: all of them.
    """

def encode_record(record: CheckpointRecord) -> list[Any]:
    """Return a record as plain lists for a codec."""

def decode_record(value: Any, name: CheckpointName) -> CheckpointRecord:
    """Return a record from what the codec gave back.

    Raises:
        DecodeError: this is not a record, or one that a newer version wrote.
    """

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
            segments, the tag `LIST`, and how many elements it has and its segments.
    """

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
        DecodeError: this is not a pending write of this checkpoint, or a segment is missing.
    """

def assemble(
    name: CheckpointName,
    record: CheckpointRecord,
    fields: Mapping[Any, str],
    held: Mapping[str, Any],
    writes: Iterable[tuple[str, Any]],
    *,
    marked: bool = False,
) -> StoredCheckpoint:
    """Return a checkpoint from what was read of it.

    Args:
        name: Which checkpoint it is.
        record: Its record.
        fields: What `record_fields` returned: the keys of values by their place.
        held: Key -> value, for the keys that have one; a DecodeError where it could not be read.
            With writes also the segments that these need. In place of a segment may stand a
            memoryview of its bytes.
        writes: Key and value of each pending write.
        marked: Whether there must be pending writes.

    Raises:
        DecodeError: a value or a write is not what it should be, or the writes are missing.
    """

def name_of(config: RunnableConfig) -> CheckpointName:
    """Return which checkpoint a config names; the id "" stands for the latest one.

    Raises:
        ArgumentTypeError, ArgumentValueError: it names none that a store can hold.
    """

def text(what: str, value: object) -> str:
    """Return a value as a str that every store can hold, or raise.

    Args:
        what: What errors call it.
        value: The value.

    Raises:
        ArgumentTypeError, ArgumentValueError: it is not one.
    """

def config_of(name: CheckpointName) -> RunnableConfig:
    """Return the config that names a checkpoint."""

def checkpoint_metadata(
    excluded: Container[str], config: RunnableConfig, metadata: CheckpointMetadata
) -> dict[str, Any]:
    """Return the metadata that is stored, as LangGraph's ``get_checkpoint_metadata`` makes it.

    Args:
        excluded: The keys of the config that are left out.
        config: The config of the call; what it adds to the metadata are texts and numbers.
        metadata: The metadata of the call.
    """

def next_version(current: str | float | None, bits: int) -> str:
    """Return a version greater than ``current``, as LangGraph's checkpointers number them.

    Args:
        current: The version before, if any.
        bits: What tells it from that of another branch, below 2**56.
    """

def writes_of(
    config: RunnableConfig,
    writes: Iterable[tuple[str, Any]],
    task_id: str,
    task_path: str,
    special: Mapping[str, int],
    dumps: Callable[[Any], Blob],
    cache: ListCache | None = None,
) -> tuple[CheckpointName, dict[str, Any], ListWrites | None]:
    """Return what a call of ``put_writes`` stores.

    Args:
        config: Names the checkpoint.
        writes: (channel, value) pairs.
        task_id: The task.
        task_path: Where the task comes in the order of its step.
        special: The special channels -> their positions, below zero.
        dumps: The serializer.
        cache: What is known of lists; None where they stay whole.

    Returns:
        The checkpoint's name, what `encode_writes` returns, and the segments of lists; None if
        there are none.

    Raises:
        ArgumentTypeError, ArgumentValueError: the config names no checkpoint, or the others are not
            text.
    """

def tuple_of(
    found: StoredCheckpoint,
    loads: Callable[[Blob], Any],
    metadata: Any,
    kind: type[T],
    cache: ListCache | None = None,
) -> T:
    """Return a stored checkpoint as LangGraph knows it.

    Args:
        found: The checkpoint.
        loads: The serializer.
        metadata: Its metadata, if it has been loaded already.
        kind: LangGraph's ``CheckpointTuple``.
        cache: Where to note which lists are in segments.

    Raises:
        KeyError: the value of a channel is missing.
        Exception: whatever the serializer raises.
    """

LEAST_BYTES: int
ASKED_BYTES: int

@final
class ListCache:
    """The lists that a saver last wrote, bounded by size and by age.

    Two generations: what is used moves to the younger one, which becomes the older one when it is
    half of what is allowed, or some minutes old; then what was the older one goes. Each step is one
    call on a dict, so threads and forks need no lock.

    Args:
        most: How many bytes it may take, roughly; 0: nothing is kept.
    """

    def __init__(self, most: int) -> None: ...
    @property
    def most(self) -> int: ...
    @property
    def kept(self) -> list[int]:
        """How many bytes of each list are kept."""

@final
class Draft:
    """What a put stores of a checkpoint.

    Attributes:
        name: The checkpoint's.
        record: Its record; None as long as it is unsure.
        values: The values and segments to be sent, by field.
        is_unsure: Whether nothing is known of a list: then call `settle` with the parent's record.
    """

    @property
    def name(self) -> CheckpointName: ...
    @property
    def record(self) -> CheckpointRecord: ...
    @property
    def values(self) -> dict[str, Blob]: ...
    @property
    def is_unsure(self) -> bool: ...
    @property
    def inherited(self) -> list[str]:
        """The fields that should be there already."""
    def settle(self, parent: CheckpointRecord | None) -> None:
        """Decide with the record of the parent, if there is one, what is sent of which lists."""
    def send(self, missing: Iterable[str]) -> None:
        """Send what the store has lost, or never had."""
    def done(self) -> RunnableConfig:
        """Keep what was written for the next put, and return the checkpoint's config."""

def draft_of(
    config: RunnableConfig,
    checkpoint: Checkpoint,
    metadata: CheckpointMetadata,
    new_versions: ChannelVersions,
    dumps: Callable[[Any], Blob],
    metadata_of: Callable[[RunnableConfig, CheckpointMetadata], Mapping[str, Any]],
    cache: ListCache | None = None,
) -> Draft:
    """Return what a call of ``put`` stores.

    Args:
        config: Names the checkpoint that this one continues.
        checkpoint: The checkpoint.
        metadata: Its metadata.
        new_versions: Channel -> version, for the channels that have changed.
        dumps: The serializer.
        metadata_of: Returns the metadata that is stored, from the config and the metadata.
        cache: What is known of lists; None where they stay whole.
    """

@final
class ListWrites:
    """The segments of the lists that a task writes.

    Attributes:
        values: Those to be sent, by field.
    """

    @property
    def values(self) -> dict[str, Blob]: ...
    @property
    def inherited(self) -> tuple[str, ...]:
        """The fields of segments that should be there already."""
    def send(self, missing: Iterable[str]) -> None:
        """Send what the store does not have."""
