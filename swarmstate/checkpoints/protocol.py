"""What an engine offers: the checkpoints of LangGraph threads, kept a store's own way.

Unstable until version 1.0: operations may gain arguments, and an engine of yours may have to follow
them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar, runtime_checkable

from swarmstate.steps import Outcome, Steps

__all__ = [
    "NO_LISTS",
    "NO_VALUES",
    "Aged",
    "Blob",
    "CheckpointEngine",
    "CheckpointName",
    "CheckpointRecord",
    "OffersCheckpoints",
    "SeveredCheckpoint",
    "StoredCheckpoint",
    "Surplus",
    "TaskWrite",
]

T = TypeVar("T")

Blob: TypeAlias = tuple[str, bytes]
"""A value as a checkpoint serializer wrote it: its type tag and its bytes."""


NO_VALUES: Mapping[str, Blob] = MappingProxyType({})
"""What a call stores that brings no values."""

NO_LISTS: Mapping[str, list[Any]] = MappingProxyType({})
"""The lists of a record that has none in segments."""


class CheckpointName(NamedTuple):
    """Which checkpoint is meant."""

    thread: str
    checkpoint_ns: str
    """The checkpoint namespace: "" for a graph, a path for its subgraphs."""
    id: str
    """The checkpoint's id; where an operation says so, "" means the greatest of its namespace."""


class CheckpointRecord(NamedTuple):
    """One checkpoint without the values of its channels."""

    parent: str | None
    """The id of the checkpoint that this one continues, if any."""
    versions: dict[str, str | int | float]
    """Channel -> version."""
    stored: list[str]
    """The channels that certainly have a value; one of these that is missing was lost."""
    deltas: list[str]
    """The channels whose value is rebuilt from the writes of earlier checkpoints."""
    body: Blob
    """Everything else in the checkpoint."""
    metadata: Blob
    lists: Mapping[str, list[Any]] = NO_LISTS
    """Channel -> how many elements its value has, which is a list, and the segments of that."""


class TaskWrite(NamedTuple):
    """One pending write of a task."""

    task_id: str
    idx: int
    """Its position among the task's writes, below zero for the special channels."""
    channel: str
    value: Blob
    task_path: str

    @property
    def order(self) -> tuple[str, str, int]:
        """Where live execution would apply this write among those of its super-step."""
        return (self.task_path, self.task_id, self.idx)


class StoredCheckpoint(NamedTuple):
    """A checkpoint as an engine returns it."""

    name: CheckpointName
    record: CheckpointRecord
    values: dict[str, Blob]
    """Channel -> value, for the channels that have one; empty if only the record was asked for."""
    writes: list[TaskWrite]
    """In the order that live execution would apply them; empty if only the record was asked for."""


class SeveredCheckpoint(StoredCheckpoint):
    """A checkpoint with channels that are rebuilt from a parent which was gone when it was put."""

    __slots__ = ()


class Aged(NamedTuple):
    """A checkpoint that is older than those which are kept in any case."""

    id: str
    parent: str | None
    fields: Sequence[str]
    """The fields of its values."""
    loose: Sequence[str]
    """Those of them that none of the checkpoints which are kept in any case refers to."""
    continued: bool
    """Whether one of those has it as its parent."""
    calls: Sequence[str]
    """The checkpoint namespaces of subgraphs that were called from it, as far as known."""
    record: CheckpointRecord | None
    """Its record; None only where the namespace has no channel that is rebuilt from writes."""


class Surplus(NamedTuple):
    """What a checkpoint namespace holds beyond its newest checkpoints, which are kept anyway."""

    thread: str
    checkpoint_ns: str
    oldest: str
    """The least id of those that are kept in any case."""
    older: list[Aged]
    """The others, least id first."""
    rebuilt: Collection[str]
    """The channels that some of the kept ones rebuild from what their ancestors wrote."""
    gates: Mapping[str, CheckpointRecord] | None
    """Those of the kept ones that tell what all of them need of the others: the least one alone,
    where each of them continues the one before it, else all; None: they have to be asked for. Only
    of interest where there are channels to rebuild."""
    calls: list[StoredCheckpoint] | None
    """The newest checkpoint of each namespace right below that belongs to one call of a subgraph;
    None: all that have to do with the older ones are named by these."""
    state: Any
    """The engine's own: from this it knows whether something has changed since."""


class CheckpointEngine(Protocol):
    """How a store keeps the checkpoints of LangGraph threads.

    A store offers one through a method ``checkpoint_engine()`` (see :class:`OffersCheckpoints`);
    where there is none, a saver builds the same operations from calls of
    :class:`~swarmstate.protocols.StoreLike`. An operation returns steps, which :meth:`run` and
    :meth:`arun` drive, or its result at once where nothing has to be waited for: the saver's own
    logic is written around both with ``yield from finish(...)``.

    A *field* names a channel's value at one version, or a segment of a list. What a record refers
    to is told by :func:`~swarmstate.checkpoints.format.record_fields`, what writes refer to by
    :func:`~swarmstate.checkpoints.format.segments_among` their keys: no field that one of these
    names may go, and one that none of them names goes with the last that did. Unstable until
    version 1.0.
    """

    def put(
        self,
        name: CheckpointName,
        record: CheckpointRecord,
        values: Mapping[str, Blob],
        inherited: Sequence[str],
        *,
        keep: int | None = None,
        caller: CheckpointName | None = None,
    ) -> Outcome[tuple[Surplus | None, list[str]]]:
        """Store a checkpoint, its new ``values`` by field and its place in the order, or nothing.

        Args:
            name: Which checkpoint it is.
            record: The checkpoint without its values.
            values: The values that are new.
            inherited: The fields of its other values.
            keep: How many checkpoints the namespace is to keep; None: all.
            caller: The checkpoint from which the subgraph was called whose namespace this is, if it
                belongs to one call.

        Returns:
            What the namespace holds beyond the ``keep`` newest, if anything, and those of the
            ``inherited`` fields that hold no value. If there are any, nothing was stored: call
            again with their values. What it costs does not depend on ``keep``.
        """
        ...

    def put_writes(
        self,
        name: CheckpointName,
        writes: Mapping[str, Any],
        values: Mapping[str, Blob] = NO_VALUES,
        inherited: Sequence[str] = (),
    ) -> Outcome[list[str]]:
        """Store pending writes of a task by key, as :mod:`swarmstate.checkpoints` lays them out.

        One that is there already is kept, unless its key starts with a minus sign: then it is
        replaced.

        Args:
            name: Which checkpoint they belong to.
            writes: The writes.
            values: The segments that are new, by field; they are there before the writes are.
            inherited: The fields of the other segments that the writes need.

        Returns:
            Those of the ``inherited`` fields that hold no value. If there are any, nothing was
            stored: call again with their values.
        """
        ...

    def get(self, name: CheckpointName) -> Outcome[StoredCheckpoint | None]:
        """Return a whole checkpoint; with the id "", the one with the greatest id."""
        ...

    def list_ids(
        self,
        threads: Sequence[str],
        checkpoint_ns: str | None,
        before: str | None,
        limit: int | None,
    ) -> Outcome[list[CheckpointName]]:
        """Return the names of checkpoints of some threads, greatest id first.

        Args:
            threads: The threads.
            checkpoint_ns: The only checkpoint namespace that counts; None: all of them.
            before: Only lesser ids count.
            limit: How many at most.
        """
        ...

    def load(
        self,
        names: Sequence[CheckpointName],
        *,
        channels: Collection[str] | None,
        writes: bool,
        most: int | None = None,
    ) -> Outcome[list[StoredCheckpoint | None]]:
        """Return checkpoints, of one thread or of several; None where one is gone.

        Args:
            names: Which ones.
            channels: Only the values of these are wanted; None: of all.
            writes: Whether pending writes are wanted.
            most: About how many bytes may be fetched beyond those of the first one, or as many
                again as that has: then the answer may be shorter than ``names``. What several have
                in common counts once; but where nothing is fetched, all that each has does.
        """
        ...

    def ancestors(self, name: CheckpointName, limit: int) -> Outcome[list[StoredCheckpoint]]:
        """Return the record of a checkpoint, of its parent, and so on; at most ``limit`` of them.

        A shorter answer ends where no parent is named or where the parent is gone. If it was gone
        already when the last one was put, and channels of that are rebuilt from earlier writes, the
        last is a :class:`SeveredCheckpoint`: the store had lost the thread in between.
        """
        ...

    def delete(
        self,
        thread: str,
        checkpoint_ns: str,
        ids: Sequence[str],
        *,
        orphans_before: str | None = None,
    ) -> Outcome[None]:
        """Remove checkpoints with their writes, and values that no other one refers to.

        With ``orphans_before`` also the writes of lesser ids that have no checkpoint: these came
        when theirs had been removed already.
        """
        ...

    def surplus(self, thread: str, checkpoint_ns: str, keep: int) -> Outcome[Surplus | None]:
        """Return what a namespace holds beyond its newest checkpoints; None if it has none at all.

        Reads all of the namespace, if the engine has to.
        """
        ...

    def inspect(
        self, surplus: Surplus, ids: Sequence[str], *, gates: bool
    ) -> Outcome[tuple[dict[str, list[str]], Mapping[str, CheckpointRecord]]]:
        """Return more about a surplus: id -> keys of pending writes, and, if asked for, its gates.

        One round trip.
        """
        ...

    def release(
        self,
        surplus: Surplus,
        doomed: Sequence[tuple[str, Sequence[str]]],
        spaces: Sequence[str],
        calls: Mapping[str, Sequence[str]] | None = None,
    ) -> Outcome[bool]:
        """Remove a part of a surplus, with the writes of lesser ids that have no checkpoint.

        Args:
            surplus: What was found.
            doomed: The ids of checkpoints that go, least first, each with the fields whose values
                go with it.
            spaces: Checkpoint namespaces that go with all they hold, as do those below them.
            calls: Checkpoint id -> the namespaces of the subgraphs called from it, of those that
                stay, for an engine that notes such things and had to read all of the namespace.

        Returns:
            Whether it is done. False: something has changed since the surplus was read, so that not
            everything went; it has to be read again.
        """
        ...

    def spaces(self, thread: str) -> Outcome[list[str]]:
        """Return the checkpoint namespaces of a thread."""
        ...

    def delete_thread(self, thread: str) -> Outcome[None]:
        """Remove everything of a thread."""
        ...

    def copy_thread(self, source: str, target: str) -> Outcome[None]:
        """Add everything of one thread to another; all of it appears at once."""
        ...

    def threads(self) -> Outcome[list[str]]:
        """Return the ids of all threads; may enumerate the store."""
        ...

    def run(self, steps: Steps[T]) -> T:
        """Run an operation to its end and return its result."""
        ...

    async def arun(self, steps: Steps[T]) -> T:
        """Run an operation without blocking the event loop for longer than local work takes."""
        ...


@runtime_checkable
class OffersCheckpoints(Protocol):
    """A store with a checkpoint engine of its own."""

    def checkpoint_engine(
        self, *, ttl: float | None = None, ttl_on_read: bool = False
    ) -> CheckpointEngine:
        """Return how a checkpointer does its operations here.

        Args:
            ttl: Seconds after which a thread that is not written to expires as a whole, from 0.001
                to 10**10; None: as the store's own.
            ttl_on_read: Whether reading a thread renews it too.

        Raises:
            ArgumentTypeError, ArgumentValueError: these are not accepted, or threads cannot expire
                here.
        """
        ...
