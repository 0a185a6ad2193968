"""A store written to the Rust package's ``StoreLike`` of 14 methods, with what it lacks added.

That protocol is the one of `swarmstate` 0.11.0 on the package index; a program that comes from
there may bring a store of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from threading import RLock
from typing import Any, cast

from swarmstate.errors import ArgumentTypeError
from swarmstate.protocols import Pair, StoreLike

__all__ = ["completed"]

_NEEDED = ("set", "get", "set_many", "get_many", "contains", "delete", "keys", "namespaces")
_ADDED = ("max_key", "items", "delete_many", "set_default")


def completed(store: StoreLike, lock: RLock) -> StoreLike:
    """Return a store itself, or one that adds the methods it lacks, built from those it has.

    What is added is atomic among threads that hold the lock, not among processes.

    Raises:
        ArgumentTypeError: it lacks methods that cannot be built from others.
    """
    missing = [name for name in _NEEDED if not callable(getattr(store, name, None))]
    if missing:
        raise ArgumentTypeError(
            f"store must have the methods of a StoreLike: {type(store).__name__} has no "
            f"{', '.join(missing)}"
        )
    lacking = [name for name in _ADDED if not callable(getattr(store, name, None))]
    if not lacking:
        return store
    return cast("StoreLike", _Completed(store, lock, lacking))


class _Completed:
    def __init__(self, store: StoreLike, lock: RLock, lacking: list[str]) -> None:
        self._store = store
        self._lock = lock
        for name in _NEEDED + _ADDED:
            if name not in lacking:
                setattr(self, name, getattr(store, name))

    def __contains__(self, namespace: str) -> bool:
        return bool(self._store.keys(namespace))

    def max_key(self, namespace: str) -> str | None:
        return max(self._store.keys(namespace), default=None)

    def items(self, namespace: str) -> list[tuple[str, Any]]:
        with self._lock:
            found = self._store.keys(namespace)
            values = self._store.get_many([(namespace, key) for key in found])
        return list(zip(found, values, strict=True))

    def delete_many(self, pairs: Iterable[Pair]) -> int:
        with self._lock:
            return sum(self._store.delete(*pair) for pair in pairs)

    def set_default(self, namespace: str, key: str, value: Any) -> bool:
        with self._lock:
            if self._store.contains(namespace, key):
                return False
            self._store.set(namespace, key, value)
            return True
