"""Strands Agents: its storage of bytes under keys, in any store."""

# The library may not be installed.
# pyright: reportMissingImports=false

from __future__ import annotations

import builtins
import copy
import re
from typing import Any

try:
    from strands.storage import InMemoryStorage, Storage
    from strands.storage.storage import StorageSearchResult
    from strands.types.exceptions import StorageError
except ImportError as error:
    raise ImportError(
        "SwarmStateStorage needs the library strands-agents 1.62 or later: "
        "pip install 'strands-agents>=1.62'"
    ) from error

from swarmstate.arguments import shown
from swarmstate.errors import SwarmStateError
from swarmstate.integrations.calls import Calls

__all__ = ["SwarmStateStorage"]


class SwarmStateStorage(Storage):
    """Strands' storage in one namespace of a store: key -> bytes.

    Keys are paths, treated as the storages of the library do: slashes in a row count as one, those
    at the ends not at all; a backslash, a part ``..`` and an empty key are refused.

    Args:
        store: any store of ours, blocking or awaited, or another
            :class:`~swarmstate.protocols.StoreLike`; it is not closed by the storage.
        namespace: the namespace of the store. Listing costs O(its keys), so programs with many
            sessions may want several.
        search_strategy: one of the library's; it is told of every write, and answers
            :meth:`search`. Without it a search compares words.

    Every method raises the library's ``StorageError``, whose cause tells more: for a key that is
    refused, and for whatever the store raises.
    """

    def __init__(
        self, store: Any, *, namespace: str = "strands", search_strategy: Any | None = None
    ) -> None:
        self._call = Calls(store)
        self._strategy = search_strategy
        self._space = namespace
        self._prefix = ""
        self._namespaced: object = None

    async def write(self, key: str, data: bytes) -> None:
        """Store bytes, whatever was there before. One round trip."""
        name = self._key(key)
        await self._try("write", key, "set", name, bytes(data))
        if self._strategy is not None:
            try:
                await self._strategy.index(self, name[len(self._prefix) :], data)
            except Exception as error:  # of the strategy; the library's storages do the same
                raise StorageError(
                    f"wrote {shown(key)}, but could not index it: {error}"
                ) from error

    async def read(self, key: str) -> bytes | None:
        """Return what is stored, or None. One round trip."""
        found: bytes | None = await self._try("read", key, "get", self._key(key))
        return found

    async def delete(self, key: str) -> None:
        """Remove what is stored, if anything is. One round trip."""
        await self._try("delete", key, "delete", self._key(key))

    async def list(self, query: str = "") -> builtins.list[str]:
        """Return the keys that start with ``query``, sorted. One round trip; O(all keys)."""
        start = self._prefix + _path(query, "prefix").lstrip("/")
        found = await self._try("list", query, "keys", start)
        return sorted(key[len(self._prefix) :] for key in found)

    async def search(self, query: str) -> builtins.list[StorageSearchResult]:
        """Return what matches a query, best first.

        Without a strategy: O(all keys), and a round trip for each.
        """
        found: builtins.list[StorageSearchResult]
        if self._strategy is None:
            found = await super().search(query)
        else:
            found = await self._strategy.search(self, query)
        return found

    def namespace(self, prefix: str) -> SwarmStateStorage:
        """Return the part of the storage below a prefix, as a storage of its own."""
        scoped = copy.copy(self)
        if path := _path(prefix, "prefix").strip("/"):
            scoped._prefix = f"{self._prefix}{path}/"
        # By this the library knows that it need not add a prefix of its own.
        scoped._namespaced = _NAMESPACED
        return scoped

    def _key(self, key: str) -> str:
        path = _path(key, "key").strip("/")
        if not path:
            raise StorageError("a storage key must not be empty")
        return self._prefix + path

    async def _try(self, doing: str, key: str, method: str, *args: Any) -> Any:
        try:
            return await self._call(method, self._space, *args)
        except SwarmStateError as error:
            raise StorageError(f"cannot {doing} {shown(key)}: {error}") from error


_NAMESPACED = getattr(InMemoryStorage().namespace("x"), "_namespaced", None)


def _path(path: str, what: str) -> str:
    """Return a path with single slashes, or raise."""
    if "\\" in path:
        raise StorageError(f"a storage {what} must not hold a backslash, not {shown(path)}")
    path = re.sub("/+", "/", path)
    if ".." in path.strip("/").split("/"):
        raise StorageError(f"a storage {what} must not hold a part '..', not {shown(path)}")
    return path
