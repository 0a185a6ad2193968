"""The in-memory store, awaited: for programs that await whatever store they are given."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

from swarmstate._core import Snapshot, Store
from swarmstate.errors import ArgumentTypeError
from swarmstate.protocols import Default, Pair, SnapshotLike
from swarmstate.steps import InlineDriver, Steps

if TYPE_CHECKING:
    from typing_extensions import Self

    from swarmstate.checkpoints.protocol import CheckpointEngine

__all__ = ["AsyncStore"]


class _InlineSteps:
    """The methods of a store as steps that never wait."""

    _NAMES = {"count": "__len__", "has_namespace": "__contains__"}  # noqa: RUF012 (never changed)

    def __init__(self, store: Store) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Callable[..., Steps[Any]]:
        method = getattr(self._store, self._NAMES.get(name, name))

        def step(*args: Any, **options: Any) -> Steps[Any]:
            return method(*args, **options)
            yield

        return step


class AsyncStore:
    """The methods of :class:`swarmstate.Store`, awaited; the arguments are the same.

    Nothing waits for anything, so an awaited call is done when it returns, and no other task runs
    in between. ``len(store)`` is ``await store.count()`` here and ``namespace in store`` is
    ``await store.has_namespace(namespace)``, as with every awaited store.

    Args:
        codec: the name of the codec.
        max_history: how many snapshots :meth:`history` keeps: 0 none, n the last n, None all.
        default: encodes what the codec does not know.

    Raises:
        InvalidArgumentError: an argument that is none of these.
        UnknownCodecError: there is no such codec.
    """

    def __init__(
        self,
        codec: str = "msgpack",
        max_history: int | None = 0,
        *,
        default: Default | None = None,
    ) -> None:
        self._store = Store("memory", codec, max_history, default=default)
        self.steps = _InlineSteps(self._store)
        self.driver = InlineDriver()

    @property
    def codec(self) -> str:
        """The name of the codec."""
        return self._store.codec

    @property
    def max_history(self) -> int | None:
        """How many snapshots :meth:`history` keeps: 0 none, n the last n, None all."""
        return self._store.max_history

    def checkpoint_engine(self) -> CheckpointEngine:
        """Return how a checkpointer does its operations here."""
        from swarmstate.checkpoints.generic import GenericEngine

        return GenericEngine(self._store)

    async def set(self, namespace: str, key: str, value: Any) -> None:
        """Store one value."""
        self._store.set(namespace, key, value)

    async def get(self, namespace: str, key: str, default: Any = None) -> Any:
        """Return one value, or ``default`` where there is none."""
        return self._store.get(namespace, key, default)

    async def set_many(self, items: Iterable[tuple[str, str, Any]]) -> None:
        """Store all the (namespace, key, value) triples at once, or none."""
        self._store.set_many(items)

    async def get_many(self, pairs: Iterable[Pair]) -> list[Any]:
        """Return the values at one moment, in input order; a missing one is None."""
        return self._store.get_many(pairs)

    async def set_default(self, namespace: str, key: str, value: Any) -> bool:
        """Store ``value`` only if the key is absent; return whether it was stored."""
        return self._store.set_default(namespace, key, value)

    async def contains(self, namespace: str, key: str) -> bool:
        """Return whether the key exists."""
        return self._store.contains(namespace, key)

    async def delete(self, namespace: str, key: str) -> bool:
        """Remove a key; return whether it existed."""
        return self._store.delete(namespace, key)

    async def delete_many(self, pairs: Iterable[Pair]) -> int:
        """Remove all the keys at once; return how many existed."""
        return self._store.delete_many(pairs)

    async def delete_namespace(self, namespace: str) -> int:
        """Remove a namespace with all its keys; return how many there were."""
        return self._store.delete_namespace(namespace)

    async def update(
        self, namespace: str, key: str, fn: Callable[[Any], Any], default: Any = None
    ) -> Any:
        """Replace a value by ``fn(value)`` atomically; return the new value."""
        return self._store.update(namespace, key, fn, default)

    async def keys(self, namespace: str, prefix: str | None = None) -> list[str]:
        """Return the keys of a namespace, or those that start with ``prefix``."""
        return self._store.keys(namespace, prefix)

    async def namespaces(self, prefix: str | None = None) -> list[str]:
        """Return the namespaces, or those that start with ``prefix``."""
        return self._store.namespaces(prefix)

    async def items(self, namespace: str) -> list[tuple[str, Any]]:
        """Return the (key, value) pairs of a namespace at one moment."""
        return self._store.items(namespace)

    async def max_key(self, namespace: str) -> str | None:
        """Return the greatest key of a namespace by code point, or None if it has none."""
        return self._store.max_key(namespace)

    async def has_namespace(self, namespace: object) -> bool:
        """Return whether the namespace has a key."""
        return namespace in self._store

    async def count(self) -> int:
        """Return the number of keys in all namespaces."""
        return len(self._store)

    async def clear(self) -> None:
        """Remove everything; history and held snapshots stay."""
        self._store.clear()

    async def snapshot(self) -> Snapshot:
        """Freeze the whole store. O(1)."""
        return self._store.snapshot()

    async def restore(self, snapshot: SnapshotLike) -> None:
        """Make the store what ``snapshot`` holds, all of it or nothing."""
        self._store.restore(snapshot)

    def history(self) -> list[SnapshotLike]:
        """Return the kept snapshots, oldest first."""
        return self._store.history()

    def clear_history(self) -> None:
        """Let go of the kept snapshots."""
        self._store.clear_history()

    async def close(self) -> None:
        """Release what the store holds; calling it again does nothing."""
        self._store.close()

    async def __aenter__(self) -> Self:
        """Return the store, which must be open."""
        self._store.__enter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the store."""
        self._store.close()

    def __bool__(self) -> bool:
        """Return True, also for an empty store."""
        return True

    def __enter__(self) -> NoReturn:
        """Raise: an awaited store needs ``async with``."""
        raise ArgumentTypeError("an AsyncStore is awaited: use `async with`")

    def __exit__(self, *exc: object) -> None:
        """Do nothing: never reached."""

    def __len__(self) -> NoReturn:
        """Raise: counting is awaited."""
        raise ArgumentTypeError("len() cannot be awaited: use `await store.count()`")

    def __contains__(self, namespace: object) -> NoReturn:
        """Raise: looking is awaited."""
        raise ArgumentTypeError("`in` cannot be awaited: use `await store.has_namespace(...)`")

    def __repr__(self) -> str:
        return f"<AsyncStore codec={self.codec!r}>"
