"""The in-memory store, awaited."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from swarmstate import AsyncStore
from swarmstate.errors import ArgumentTypeError, StoreUnavailable
from swarmstate.steps import Driven


async def test_no_other_task_runs_while_a_call_is_awaited() -> None:
    store, seen = AsyncStore(), []

    async def other() -> None:
        seen.append("another task")

    task = asyncio.create_task(other())
    await store.set("n", "k", 1)
    assert await store.update("n", "k", lambda value: value + 1) == 2
    assert await store.count() == 1
    assert await store.has_namespace("n")
    assert seen == []
    await task


async def test_what_cannot_be_awaited_is_told_what_can() -> None:
    store: Any = AsyncStore()
    with pytest.raises(ArgumentTypeError, match=r"await store\.count"):
        len(store)
    with pytest.raises(ArgumentTypeError, match="has_namespace"):
        assert "n" in store
    with pytest.raises(ArgumentTypeError, match="async with"), store:
        pass
    assert store


async def test_it_closes_at_the_end_of_async_with() -> None:
    async with AsyncStore() as store:
        await store.set("n", "k", 1)
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.get("n", "k")


async def test_its_steps_and_driver_do_the_same() -> None:
    store = AsyncStore()
    driven: Driven = store
    driven.driver.run(driven.steps.set("n", "k", 1))
    assert await driven.driver.arun(driven.steps.get("n", "k")) == 1
    assert await driven.driver.arun(driven.steps.count()) == 1
    assert await driven.driver.arun(driven.steps.has_namespace("m")) is False


async def test_a_saver_takes_it() -> None:
    from swarmstate.integrations.langgraph import SwarmStateSaver

    store: Any = AsyncStore()
    saver = SwarmStateSaver(store)
    where = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}
    checkpoint: Any = {
        "v": 4,
        "id": "1",
        "ts": "",
        "channel_values": {"x": 1},
        "channel_versions": {"x": "1"},
        "versions_seen": {},
        "updated_channels": None,
    }
    await saver.aput(where, checkpoint, {}, {"x": "1"})  # type: ignore[arg-type]
    found = await saver.aget_tuple(where)  # type: ignore[arg-type]
    assert found is not None
    assert found.checkpoint["channel_values"] == {"x": 1}
    assert await store.count() > 0
