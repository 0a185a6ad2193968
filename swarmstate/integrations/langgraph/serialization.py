"""From values to what an engine stores and back, with errors that say where a value lies."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Any, Literal

from langgraph.checkpoint.base import CheckpointTuple
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.event_hooks import SerdeEvent, register_serde_event_listener
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from swarmstate._checkpoints import ListCache, tuple_of
from swarmstate.arguments import shown
from swarmstate.checkpoints.format import place
from swarmstate.checkpoints.protocol import Blob, CheckpointName, StoredCheckpoint
from swarmstate.errors import DecodeError
from swarmstate.integrations.langgraph.config import config_of
from swarmstate.integrations.langgraph.replaced import replaced
from swarmstate.integrations.langgraph.serde import fast

__all__ = [
    "CheckpointDecodeError",
    "CheckpointReader",
    "OnBlocked",
    "missing",
    "watch_blocked_types",
]

OnBlocked = Literal["warn", "error"]

_LONGEST_REASON = 300

_BLOCKED = ("msgpack_blocked", "msgpack_method_blocked")


class CheckpointDecodeError(DecodeError):
    """A stored value that cannot be given back.

    Attributes:
        thread: The thread id.
        checkpoint_ns: The checkpoint namespace.
        checkpoint: The checkpoint id.
        channel: The channel, or ``"metadata"``, or ``"checkpoint"`` for its body.
        type: The type tag of the stored bytes, or the name of the blocked type.
    """

    def __init__(self, reason: str, name: CheckpointName, channel: str, type: str) -> None:
        where = f"{shown(channel)} of {place(name)} (type {shown(type)})"
        super().__init__(f"cannot read {where}: {_shortened(reason)}")
        self.thread, self.checkpoint_ns, self.checkpoint = name
        self.channel = channel
        self.type = type

    @property
    def namespace(self) -> str:
        """The checkpoint namespace, as this attribute was called in version 0.1.0."""
        return self.checkpoint_ns


def _shortened(reason: str) -> str:
    """Return what a serializer says of a value, unless it says all of it."""
    return reason if len(reason) <= _LONGEST_REASON else f"{reason[: _LONGEST_REASON - 3]}..."


def missing(name: CheckpointName, channel: str) -> CheckpointDecodeError:
    """Return the error for a channel whose value the store has lost."""
    return CheckpointDecodeError("the store holds no value for it", name, channel, "missing")


class _Blocked(threading.local):
    """The types that the serializer refused in the load that this thread is doing."""

    names: list[str] | None = None


_blocked = _Blocked()
_watching = threading.Lock()
_unregister: list[Any] = []


def _note(event: SerdeEvent) -> None:
    if _blocked.names is not None and event["kind"] in _BLOCKED:
        parts = [event["module"], event["name"], event.get("method", "")]
        _blocked.names.append(".".join(filter(None, parts)))


def watch_blocked_types() -> None:
    """Start to notice the types that serializers refuse; once per process is enough."""
    with _watching:
        if not _unregister:
            _unregister.append(register_serde_event_listener(_note))


class CheckpointReader:
    """Gives stored values back.

    Args:
        serde: The serializer that wrote them.
        strict: Whether it is an error where the serializer gives back something else: for a type
            that it is not allowed to load, and, if it is LangGraph's own, for whatever it cannot
            rebuild.

    Attributes:
        serde: The serializer.
        dumps: The fastest that does what its ``dumps_typed`` does.
        splits: Whether lists that it wrote are stored in segments.
    """

    def __init__(self, serde: SerializerProtocol, strict: bool) -> None:
        self.serde = serde
        self.dumps, self._loads = fast(serde)
        self.splits = type(serde) is JsonPlusSerializer
        self._strict = strict
        # What another serializer replaces cannot be seen.
        self._looks = strict and self.splits

    def tuple(
        self, found: StoredCheckpoint, metadata: Any = None, lists: ListCache | None = None
    ) -> CheckpointTuple:
        """Return a stored checkpoint as LangGraph knows it.

        Args:
            found: The checkpoint.
            metadata: Its metadata, if it has been loaded already.
            lists: Where to note which of its lists are in segments.

        Raises:
            CheckpointDecodeError: a value is missing or cannot be read.
        """
        if not self._strict:
            # The common case pays for no bookkeeping; what fails is loaded again to be located.
            with suppress(Exception):  # any serializer may be plugged in, and it may raise anything
                return tuple_of(found, self._loads, metadata, CheckpointTuple, lists)
        name, record, blobs, writes = found
        for channel in record.stored:
            if channel not in blobs:
                raise missing(name, channel)
        body = self.load(record.body, name, "checkpoint")
        metadata = self.load(record.metadata, name, "metadata")
        values = {channel: self.load(blob, name, channel) for channel, blob in blobs.items()}
        pending = [(w[0], w[2], self.load(w[3], name, w[2])) for w in writes]
        body["channel_values"] = values
        body["channel_versions"] = record.versions
        return CheckpointTuple(
            config_of(name),
            body,
            metadata,
            None if record.parent is None else config_of(name._replace(id=record.parent)),
            pending,
        )

    def metadata(self, found: StoredCheckpoint) -> Any:
        """Return only the metadata of a stored checkpoint."""
        return self.load(found.record.metadata, found.name, "metadata")

    def load(self, blob: Blob, name: CheckpointName, channel: str) -> Any:
        """Return one value.

        Raises:
            CheckpointDecodeError: the serializer raised, or, if strict, replaced an object.
        """
        refused = _blocked.names = [] if self._strict else None
        try:
            value = self._loads(blob)
        except Exception as error:  # any serializer may be plugged in, and it may raise anything
            reason = f"{type(error).__name__}: {error}"
            raise CheckpointDecodeError(reason, name, channel, str(blob[0])) from error
        finally:
            _blocked.names = None
        if refused:
            reason = f"the serializer is not allowed to load {', '.join(refused)}"
            raise CheckpointDecodeError(reason, name, channel, refused[0])
        if self._looks:
            self._check_rebuilt(blob, name, channel)
        return value

    def _check_rebuilt(self, blob: Blob, name: CheckpointName, channel: str) -> None:
        """Raise if the serializer gave back something else for an object within a value."""
        try:
            lost = replaced(self.serde, blob)
        except Exception as error:  # what is damaged within may make any class raise anything
            reason = f"an object within it is damaged: {type(error).__name__}: {error}"
            raise CheckpointDecodeError(reason, name, channel, str(blob[0])) from error
        if lost is not None:
            reason = f"the serializer cannot rebuild {lost} and would give back something else"
            raise CheckpointDecodeError(reason, name, channel, lost)
