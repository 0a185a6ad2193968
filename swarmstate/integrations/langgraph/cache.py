"""LangGraph's cache of node results in the scratch place of any store.

Of each cache namespace, ``name`` being its labels with their lengths (see
:mod:`swarmstate.items.format`), there are two namespaces in the scratch store:
``langgraph:cache:{c:<name>}`` holds key -> when it expires, type tag, bytes, and
``langgraph:cache-expiry:{c:<name>}`` key -> when it expires. Times are microseconds since the Unix
epoch, or nil.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from time import time
from typing import Any, Literal, TypeVar, cast

from langgraph.cache.base import BaseCache, FullKey, Namespace, ValueT
from langgraph.checkpoint.serde.base import SerializerProtocol

from swarmstate.arguments import check_key, check_number, shown
from swarmstate.errors import (
    ArgumentTypeError,
    ArgumentValueError,
    DecodeError,
    StoreUnavailable,
)
from swarmstate.integrations.langgraph.owning import Owner
from swarmstate.integrations.langgraph.serde import fast
from swarmstate.items.expiry import Due
from swarmstate.items.format import name_of
from swarmstate.items.protocol import Place
from swarmstate.protocols import Scratch, StoreLike
from swarmstate.steps import Steps, calls_of, finish, named

__all__ = ["SwarmStateCache"]

T = TypeVar("T")

_VALUES = "langgraph:cache:"
_EXPIRY = "langgraph:cache-expiry:"
_REMOVED_BY_WRITES = 100
_MOST_NAMES = 10_000


class SwarmStateCache(Owner, BaseCache[ValueT]):
    """Keeps the results of cached nodes in a store; sync and async in one class.

    What is cached lies in the store's ``scratch()``: it never travels in a snapshot, and the
    store's ``clear`` leaves it alone. An entry that cannot be read, because another program wrote
    it or a class of a value is gone, is a miss.

    Args:
        store: A store with a ``scratch()``, as all of ours have: in memory, in a file or on a
            server, blocking or awaited. It is not closed,
            unless it was opened by :meth:`from_conn_string`.
        serde: Turns values into bytes and back; LangGraph's ``JsonPlusSerializer`` if omitted.
        on_unavailable: What ``get`` and ``set`` do while the store cannot be reached: ``"miss"``
            finds and keeps nothing, with one warning for each time that it went away; ``"raise"``
            raises :class:`~swarmstate.errors.StoreUnavailable`, as ``clear`` always does.

    Raises:
        ArgumentTypeError, ArgumentValueError: an argument that is not accepted.

    Example:
        >>> from swarmstate import Store
        >>> from swarmstate.integrations.langgraph import SwarmStateCache
        >>> cache = SwarmStateCache(Store())
        >>> cache.set({(("a", "node"), "key"): ("result", 60)})
        >>> cache.get([(("a", "node"), "key"), (("a", "node"), "other")])
        {(('a', 'node'), 'key'): 'result'}
    """

    def __init__(
        self,
        store: StoreLike,
        *,
        serde: SerializerProtocol | None = None,
        on_unavailable: Literal["miss", "raise"] = "miss",
    ) -> None:
        super().__init__(serde=serde)
        scratch = getattr(store, "scratch", None)
        if isinstance(store, type) or not callable(scratch):
            raise ArgumentTypeError(
                "store must have a method scratch(), where what need not last is kept, and a "
                f"{type(store).__name__} ({shown(store)}) has none"
            )
        if on_unavailable not in ("miss", "raise"):
            raise ArgumentValueError(
                f"on_unavailable must be 'miss' or 'raise', not {shown(on_unavailable)}"
            )
        self._attach(store)
        self._forgiving = on_unavailable == "miss"
        self._warned = False

    def _attach(self, store: StoreLike) -> None:
        self.store = store
        self._calls, self._driver = calls_of(cast("Scratch", store).scratch())
        self._due = Due()
        # The names whose expiries were looked at for what other processes have written.
        self._looked: set[str] = set()

    # One operation each: the method, the awaited method, and the steps that both drive.

    def get(self, keys: Sequence[FullKey]) -> dict[FullKey, ValueT]:
        """Return the cached values that have not expired. One round trip over Redis."""
        return self._driver.run(self._forgiven("get", self._get(keys), {}))

    async def aget(self, keys: Sequence[FullKey]) -> dict[FullKey, ValueT]:
        """Await :meth:`get`."""
        return await self._driver.arun(self._forgiven("get", self._get(keys), {}))

    def _get(self, keys: Sequence[FullKey]) -> Steps[dict[FullKey, ValueT]]:
        places = [_place(key) for key in keys]
        if not places:
            return {}
        pairs = [(_values_of(name), key) for name, key in places]
        try:
            entries = yield from finish(self._calls.get_many(pairs))
        except DecodeError:
            entries = yield from self._each(pairs)
        now = _now()
        _, loads = fast(self.serde)
        found: dict[FullKey, ValueT] = {}
        for (namespace, key), entry in zip(keys, entries, strict=True):
            if not isinstance(entry, list) or len(entry) != 3:
                continue
            expires, kind, data = entry
            if expires is None or (isinstance(expires, int) and expires > now):
                try:
                    found[tuple(namespace), key] = loads((kind, data))
                except Exception:  # noqa: BLE001, S112 (whatever it is, the value is made again)
                    continue
        return found

    def _each(self, pairs: Sequence[tuple[str, str]]) -> Steps[list[Any]]:
        """Return what can be read, one by one."""
        entries = []
        for namespace, key in pairs:
            try:
                entries.append((yield from finish(self._calls.get(namespace, key))))
            except DecodeError:  # noqa: PERF203 (of each by itself)
                entries.append(None)
        return entries

    def set(self, pairs: Mapping[FullKey, tuple[ValueT, int | None]]) -> None:
        """Cache values, each for its number of seconds, or without end if that is None.

        Also removes some of what has expired. One round trip over Redis, and one more for each
        namespace at first; two more where something has expired.
        """
        self._driver.run(self._forgiven("set", self._set(pairs), None))

    async def aset(self, pairs: Mapping[FullKey, tuple[ValueT, int | None]]) -> None:
        """Await :meth:`set`."""
        await self._driver.arun(self._forgiven("set", self._set(pairs), None))

    def _set(self, pairs: Mapping[FullKey, tuple[ValueT, int | None]]) -> Steps[None]:
        now = _now()
        dumps, _ = fast(self.serde)
        stored: list[tuple[str, str, Any]] = []
        noted: list[tuple[Place, int]] = []
        for full, (value, ttl) in pairs.items():
            place = _place(full)
            expires = None
            if ttl is not None:
                check_number("ttl", ttl, float("-inf"))
                expires = now + int(ttl * 1_000_000)
                noted.append((place, expires))
            stored.append((_values_of(place.name), place.key, [expires, *dumps(value)]))
            stored.append((_expiry_of(place.name), place.key, expires))
        if not stored:
            return
        yield from finish(self._calls.set_many(stored))
        for place, expires in noted:
            self._due.note(place, expires)
        yield from self._tidy(dict.fromkeys(_place(full).name for full in pairs), now)

    def _tidy(self, names: Collection[str], now: int) -> Steps[None]:
        for name in names:
            if name in self._looked:
                continue
            if len(self._looked) >= _MOST_NAMES:
                self._looked.clear()
            self._looked.add(name)
            for key, expires in (yield from finish(self._calls.items(_expiry_of(name)))):
                if isinstance(expires, int):
                    self._due.note(Place(name, key), expires)
        places = self._due.take(now, _REMOVED_BY_WRITES)
        if not places:
            return
        times = yield from finish(
            self._calls.get_many([(_expiry_of(name), key) for name, key in places])
        )
        gone: list[tuple[str, str]] = []
        for place, expires in zip(places, times, strict=True):
            if not isinstance(expires, int):
                continue
            if expires > now:
                self._due.note(place, expires)
            else:
                gone.append((_values_of(place.name), place.key))
                gone.append((_expiry_of(place.name), place.key))
        if gone:
            # Whoever sets one of them at this moment may find it missing: that is a miss.
            yield from finish(self._calls.delete_many(gone))

    def clear(self, namespaces: Sequence[Namespace] | None = None) -> None:
        """Remove everything that is cached, or what is cached in exactly these namespaces.

        Two round trips over Redis for each namespace; all of them are found by an enumeration.

        Raises:
            StoreUnavailable: the store cannot be reached, whatever ``on_unavailable`` is.
        """
        self._driver.run(named("clear", self._clear(namespaces)))

    async def aclear(self, namespaces: Sequence[Namespace] | None = None) -> None:
        """Await :meth:`clear`."""
        await self._driver.arun(named("clear", self._clear(namespaces)))

    def _clear(self, namespaces: Sequence[Namespace] | None) -> Steps[None]:
        if namespaces is None:
            found: list[str] = []
            for start in (_VALUES, _EXPIRY):
                found += yield from finish(self._calls.namespaces(start))
        else:
            names = [name_of(namespace) for namespace in namespaces]
            found = [*map(_values_of, names), *map(_expiry_of, names)]
        for space in found:
            yield from finish(self._calls.delete_namespace(space))

    def _forgiven(self, name: str, steps: Steps[T], instead: T) -> Steps[T]:
        """Return steps that warn once where the store cannot be reached, if that is a miss."""
        return named(name, self._forgiving_steps(steps, instead))

    def _forgiving_steps(self, steps: Steps[T], instead: T) -> Steps[T]:
        try:
            result = yield from steps
        except StoreUnavailable as error:
            if not self._forgiving:
                raise
            if not self._warned:
                self._warned = True
                warnings.warn(
                    f"the cache finds and keeps nothing, because the store cannot be reached: "
                    f"{error}",
                    RuntimeWarning,
                    stacklevel=2,
                )
            return instead
        self._warned = False
        return result


def _place(key: Any) -> Place:
    if not isinstance(key, tuple | list) or len(key) != 2:
        raise ArgumentTypeError(
            f"the key of a cache must be (namespace, key), not {type(key).__name__} ({shown(key)})"
        )
    return Place(name_of(key[0]), check_key(key[1]))


def _values_of(name: str) -> str:
    return f"{_VALUES}{{c:{name}}}"


def _expiry_of(name: str) -> str:
    return f"{_EXPIRY}{{c:{name}}}"


def _now() -> int:
    return int(time() * 1_000_000)
