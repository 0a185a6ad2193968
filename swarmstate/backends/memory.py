"""The in-memory store, awaited: for programs that await whatever store they are given."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from swarmstate._core import Snapshot, Store
from swarmstate.backends.opened import Awaited
from swarmstate.protocols import Default, Pair, SnapshotLike
from swarmstate.steps import InlineDriver, Steps

if TYPE_CHECKING:
    from typing_extensions import Self

    from swarmstate.checkpoints.protocol import CheckpointEngine
    from swarmstate.items.protocol import ItemEngine

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


class AsyncStore(Awaited):
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

    def checkpoint_engine(
        self, *, ttl: float | None = None, ttl_on_read: bool = False
    ) -> CheckpointEngine:
        """Return how a checkpointer does its operations here: as in the :class:`Store`."""
        return self._store.checkpoint_engine(ttl=ttl, ttl_on_read=ttl_on_read)

    def item_engine(self) -> ItemEngine:
        """Return how LangGraph's long-term memory keeps its items here."""
        from swarmstate.items.generic import engine_of

        return engine_of(self._store)

    def scratch(self) -> Self:
        """Return the store's place for what need not last, such as a cache.

        It is a store of the same kind, and no part of this one: not of ``snapshot``, ``restore``,
        ``clear``, ``count`` or any listing. It is closed with this one.
        """
        made = object.__new__(type(self))
        place = self._store.scratch()
        vars(made).update(vars(self), _store=place, steps=_InlineSteps(place))
        return made

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

    async def commit(
        self,
        items: Iterable[tuple[str, str, Any]] = (),
        delete: Iterable[Pair] = (),
        *,
        expect: Mapping[Pair, Any] | None = None,
    ) -> bool:
        """Store and remove keys if others hold what is expected: everything or nothing."""
        return self._store.commit(items, delete, expect=expect)

    async def append(self, namespace: str, values: Iterable[Any]) -> list[str]:
        """Add values to the end of a log, all or none; return their keys."""
        return self._store.append(namespace, values)

    async def tail(
        self, namespace: str, limit: int | None = None, *, before: str | None = None
    ) -> list[tuple[str, Any]]:
        """Return the last (key, value) pairs of a log, oldest first."""
        return self._store.tail(namespace, limit, before=before)

    async def pop(self, namespace: str) -> tuple[str, Any] | None:
        """Remove the last entry of a log; return its (key, value), or None if there is none."""
        return self._store.pop(namespace)

    async def expire(self, namespace: str, seconds: float) -> bool:
        """Let a namespace be gone, with all its keys, from some time on."""
        return self._store.expire(namespace, seconds)

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
        self._close()

    def _check_open(self) -> None:
        self._store.__enter__()

    def _close(self) -> None:
        self._store.close()

    def __repr__(self) -> str:
        return f"<AsyncStore codec={self.codec!r}>"
