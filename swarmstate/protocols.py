"""What a codec, a snapshot and a store must offer.

This module knows nobody: backends, codecs and integrations meet here. The protocols are
structural, so a third party implements them without importing swarmstate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import import_module
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypedDict, runtime_checkable

if TYPE_CHECKING:
    from pyrsistent import PMap
    from typing_extensions import Self

__all__ = [
    "Codec",
    "Default",
    "Diff",
    "Expiring",
    "FastPath",
    "Pair",
    "Scratch",
    "SnapshotLike",
    "StoreLike",
]

Pair = tuple[str, str]
"""A (namespace, key) pair."""

Default = Callable[[Any], Any]
"""Turns a value that a codec does not know into one that it does, or raises."""


class Diff(TypedDict):
    """How to go from one snapshot to another; every list is sorted."""

    added: list[Pair]
    removed: list[Pair]
    changed: list[Pair]


class FastPath(NamedTuple):
    """C functions that do a codec's work in the common case without a Python frame.

    ``pack(value, *pack_args)`` returns exactly what ``encode(value)`` would, or raises; whatever it
    raises, the store then calls ``encode``, which alone decides what is accepted and what an error
    says. ``unpack(data, *unpack_args)`` is called only for bytes that this process encoded itself,
    so it may leave out the checks that untrusted input needs.
    """

    pack: Callable[..., bytes]
    pack_args: tuple[Any, ...]
    unpack: Callable[..., Any]
    unpack_args: tuple[Any, ...]


@runtime_checkable
class Codec(Protocol):
    """Turns values into bytes and back.

    Two codecs with the same ``wire`` read each other's bytes. Both directions raise errors of
    :mod:`swarmstate.errors` only, except that what a ``default`` hook raises passes unchanged.

    A codec may also have an attribute ``fast`` that is a :class:`FastPath`, which in-process stores
    call first.
    """

    @property
    def name(self) -> str:
        """The name under which the codec is registered."""
        ...

    @property
    def wire(self) -> str:
        """The wire format, ``"msgpack"`` for both built-in codecs."""
        ...

    def encode(self, value: object, *, default: Default | None = None) -> bytes:
        """Return ``value`` as bytes.

        Raises:
            EncodeError: ``value`` holds something outside the codec's domain.
        """
        ...

    def decode(self, data: bytes) -> Any:
        """Return the value that ``data`` encodes.

        Raises:
            DecodeError: ``data`` is not exactly one valid value.
        """
        ...


@runtime_checkable
class SnapshotLike(Protocol):
    """A store, frozen at one moment. Immutable and hashable by identity."""

    @property
    def id(self) -> int:
        """A number that grows with every snapshot taken in this process."""
        ...

    @property
    def timestamp(self) -> float:
        """When the snapshot was taken, in seconds since the Unix epoch."""
        ...

    @property
    def parent(self) -> int | None:
        """The id of the snapshot taken before this one from the same store, if any."""
        ...

    @property
    def wire(self) -> str:
        """The wire format of the values."""
        ...

    @property
    def size_bytes(self) -> int:
        """The size of all encoded values, in bytes."""
        ...

    @property
    def keys(self) -> list[Pair]:
        """Every (namespace, key) pair."""
        ...

    @property
    def state(self) -> PMap[str, PMap[str, bytes]]:
        """The content: namespace -> key -> encoded value, as persistent maps."""
        ...

    def get(self, namespace: str, key: str, default: Any = None) -> Any:
        """Return one decoded value, or ``default`` where there is none."""
        ...

    def diff(self, base: SnapshotLike) -> Diff:
        """Return how to go from ``base`` to this snapshot."""
        ...

    def __len__(self) -> int:
        """The number of keys in all namespaces."""
        ...


@runtime_checkable
class StoreLike(Protocol):
    """A key/value store: what :class:`swarmstate.Store` and every backend offer.

    Names of namespaces and keys are strings without lone surrogates. A namespace that starts with
    NUL is reserved and refused. Values are encoded on the way in and decoded on the way out, so
    callers never share mutable state with a store. A namespace without keys does not exist. Every
    call is atomic, batches included. After :meth:`close` every call raises
    :class:`~swarmstate.errors.StoreUnavailable`.
    """

    @property
    def codec(self) -> str:
        """The name of the codec."""
        ...

    @property
    def max_history(self) -> int | None:
        """How many snapshots :meth:`history` keeps: 0 none, n the last n, None all."""
        ...

    def set(self, namespace: str, key: str, value: Any) -> None:
        """Store one value."""
        ...

    def get(self, namespace: str, key: str, default: Any = None) -> Any:
        """Return one value, or ``default`` where there is none."""
        ...

    def set_many(self, items: Iterable[tuple[str, str, Any]]) -> None:
        """Store all the (namespace, key, value) triples at once, or none."""
        ...

    def get_many(self, pairs: Iterable[Pair]) -> list[Any]:
        """Return the values at one moment, in input order; a missing one is None."""
        ...

    def set_default(self, namespace: str, key: str, value: Any) -> bool:
        """Store ``value`` only if the key is absent; return whether it was stored."""
        ...

    def contains(self, namespace: str, key: str) -> bool:
        """Return whether the key exists."""
        ...

    def delete(self, namespace: str, key: str) -> bool:
        """Remove a key; return whether it existed."""
        ...

    def delete_many(self, pairs: Iterable[Pair]) -> int:
        """Remove all the keys at once; return how many existed."""
        ...

    def delete_namespace(self, namespace: str) -> int:
        """Remove a namespace with all its keys; return how many there were."""
        ...

    def update(
        self, namespace: str, key: str, fn: Callable[[Any], Any], default: Any = None
    ) -> Any:
        """Replace a value by ``fn(value)`` atomically; return the new value.

        ``fn`` is given ``default`` where there is no value. It may be called again when another
        writer was faster, so it should have no side effects.
        """
        ...

    def keys(self, namespace: str, prefix: str | None = None) -> list[str]:
        """Return the keys of a namespace, or those that start with ``prefix``."""
        ...

    def namespaces(self, prefix: str | None = None) -> list[str]:
        """Return the namespaces, or those that start with ``prefix``."""
        ...

    def items(self, namespace: str) -> list[tuple[str, Any]]:
        """Return the (key, value) pairs of a namespace at one moment."""
        ...

    def max_key(self, namespace: str) -> str | None:
        """Return the greatest key of a namespace (by code point), or None if it has none."""
        ...

    def clear(self) -> None:
        """Remove everything; history and held snapshots stay."""
        ...

    def snapshot(self) -> SnapshotLike:
        """Freeze the whole store."""
        ...

    def restore(self, snapshot: SnapshotLike) -> None:
        """Make the store what ``snapshot`` holds, all of it or nothing.

        The snapshot may come from any store of the same wire format.

        Raises:
            WireFormatError: the snapshot's values are of another wire format.
        """
        ...

    def history(self) -> list[SnapshotLike]:
        """Return the kept snapshots, oldest first."""
        ...

    def clear_history(self) -> None:
        """Let go of the kept snapshots."""
        ...

    def close(self) -> None:
        """Release what the store holds; calling it again does nothing."""
        ...

    def __len__(self) -> int:
        """The number of keys in all namespaces."""
        ...

    def __contains__(self, namespace: object) -> bool:
        """Whether the namespace has a key."""
        ...

    def __enter__(self) -> Self:
        """Return the store."""
        ...

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the store."""
        ...


@runtime_checkable
class Scratch(Protocol):
    """A store with a place for what need not last, such as a cache."""

    def scratch(self) -> StoreLike:
        """Return that place: always the same one, in a store of any process that has this content.

        No part of this store: not of ``snapshot``, ``restore``, ``clear``, ``len`` or any listing.
        Closing it does nothing; it is closed with this store.
        """
        ...


@runtime_checkable
class Expiring(Protocol):
    """A store whose namespaces can expire, one by one."""

    def expire(self, namespace: str, seconds: float) -> bool:
        """Let a namespace be gone, with all its keys, from some time on.

        Writes of a store that was made without a ttl do not put that off; calling this again does.

        Args:
            namespace: The namespace.
            seconds: From 0.001 to 10**10.

        Returns:
            Whether there is such a namespace.
        """
        ...


_MOVED = {
    "Steps": "swarmstate.steps",
    **dict.fromkeys(
        ("Blob", "CheckpointEngine", "CheckpointRecord", "StoredCheckpoint", "TaskWrite"),
        "swarmstate.checkpoints.protocol",
    ),
}


def __getattr__(name: str) -> Any:
    """Hand on the names that this module held in version 0.1.0."""
    if name in _MOVED:
        return getattr(import_module(_MOVED[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
