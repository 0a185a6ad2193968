"""A store of somebody else's, which only blocks, is enough; others are refused by name."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from swarmstate import Store
from swarmstate.errors import ArgumentTypeError
from swarmstate.integrations.langgraph import SwarmStateStore


class Foreign:
    """Forwards the calls of a store, and notes in which threads they came."""

    def __init__(self) -> None:
        self._store = Store()
        self.threads: set[int] = set()

    def set_many(self, items: Any) -> None:
        self.threads.add(threading.get_ident())
        self._store.set_many(items)

    def __getattr__(self, name: str) -> Any:
        if name in ("item_engine", "steps", "driver", "checkpoint_engine", "commit"):
            raise AttributeError(name)
        return getattr(self._store, name)


def test_a_store_that_only_blocks_never_blocks_the_loop() -> None:
    store: Any = Foreign()
    memory = SwarmStateStore(store)

    async def work() -> Any:
        await memory.aput(("a",), "k", {"n": 1}, ttl=5)
        return await memory.aget(("a",), "k")

    assert asyncio.run(work()).value == {"n": 1}
    assert threading.get_ident() not in store.threads
    memory.put(("a",), "l", {"n": 2})
    assert threading.get_ident() in store.threads
    assert [item.key for item in memory.search(("a",))] == ["l", "k"]


def test_a_store_that_can_only_be_awaited_is_refused() -> None:
    class Awaited:
        async def set_many(self, items: Any) -> None:
            raise NotImplementedError

    store: Any = Awaited()
    with pytest.raises(ArgumentTypeError, match="Awaited"):
        SwarmStateStore(store)
