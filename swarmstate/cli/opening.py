"""From what the options say to a store: one that only reads, or one that may write."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import GeneratorType
from typing import Any, TypeVar, cast

from swarmstate import codecs, open_store
from swarmstate.checkpoints.generic import engine_of
from swarmstate.checkpoints.protocol import CheckpointEngine
from swarmstate.errors import ArgumentValueError
from swarmstate.protocols import Default, StoreLike
from swarmstate.steps import Outcome

__all__ = ["Place", "check_not_memory", "engine", "settled", "written_as"]

T = TypeVar("T")


class _Stored:
    """A codec that gives bytes as they are stored, so that what cannot be decoded is read too."""

    def __init__(self, wire: str) -> None:
        self.name = f"stored as {wire}"
        self.wire = wire

    def encode(self, value: object, *, default: Default | None = None) -> bytes:
        return cast("bytes", value)

    def decode(self, data: bytes) -> Any:
        return data


@dataclass(frozen=True)
class Place:
    """Where a store is.

    Attributes:
        url: As :func:`swarmstate.open_store` takes it.
        prefix: What all keys start with, on a server; None: as the store's own.
        codec: The name of the codec of the values.
        timeout: Seconds to wait for a reply or a lock; None: as the store's own.
    """

    url: str
    prefix: str | None = None
    codec: str = "msgpack"
    timeout: float | None = None

    @property
    def shown(self) -> str:
        """The URL without what may be a secret."""
        from swarmstate.backends.redis.transport.urls import hidden

        return self.url if self.is_file else hidden(self.url)

    @property
    def is_file(self) -> bool:
        """Whether it is in a file."""
        return self.url.lower().startswith("sqlite:")

    @property
    def is_memory(self) -> bool:
        """Whether it is a new store in memory, which has nothing and goes with the command."""
        return self.url.lower().startswith("memory:")

    def as_stored(self) -> Place:
        """Return the same place, whose values are read and written as they are stored."""
        wire = codecs.get(self.codec).wire
        codec = _Stored(wire)
        codecs.register(codec.name, codec, replace=True)
        return replace(self, codec=codec.name)

    @contextmanager
    def reading(self) -> Iterator[StoreLike]:
        """Open it so that nothing at all is written: no key is made, and no file."""
        options = self._options()
        if self.is_file:
            options["read_only"] = True
        store: Any = open_store(self.url, **options)
        if not self.is_file and not self.is_memory:
            from swarmstate.backends.redis.reading import only_reading

            store = only_reading(store)
        with store:
            yield store

    @contextmanager
    def writing(self, *, make: bool = False) -> Iterator[StoreLike]:
        """Open it to write.

        Args:
            make: Whether a file that is not there is made.
        """
        if self.is_file and not make:
            # Raises where there is no file, or another program's.
            with self.reading():
                pass
        with open_store(self.url, **self._options()) as store:
            yield store

    def _options(self) -> dict[str, Any]:
        options = {"prefix": self.prefix, "codec": self.codec, "timeout": self.timeout}
        return {name: value for name, value in options.items() if value is not None}


def engine(store: StoreLike) -> CheckpointEngine:
    """Return what keeps the threads of a store."""
    return engine_of(store, None, False)


def settled(held: CheckpointEngine, outcome: Outcome[T]) -> T:
    """Return the result of an operation of an engine."""
    return held.run(outcome) if isinstance(outcome, GeneratorType) else cast("T", outcome)


def written_as(data: bytes, source: str, target: str) -> bytes:
    """Return a stored value as another codec stores it; the same bytes where they share a wire.

    Raises:
        DecodeError: it cannot be decoded, which it must be to be encoded another way.
    """
    if codecs.get(source).wire == codecs.get(target).wire:
        return data
    return codecs.dumps(codecs.loads(data, source), target)


def check_not_memory(place: Place) -> None:
    """Raise where a command would look into a new store in memory, which is always empty.

    Raises:
        ArgumentValueError: it would.
    """
    if place.is_memory:
        raise ArgumentValueError(
            "memory:// is a new, empty store here: what another process keeps in its memory "
            "cannot be seen from outside; there, snapshot() and a store in a file help"
        )
