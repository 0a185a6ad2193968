"""Scratch and expiry in a file: in reserved spaces of it, the same for every process."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from threads import config, grow

from swarmstate.backends.disk import AsyncDiskStore, DiskStore
from swarmstate.errors import ArgumentValueError, StoreUnavailable
from swarmstate.integrations.langgraph import SwarmStateSaver

Make = Callable[..., DiskStore]

NAMES = ["", "a", "scratch:", "scratch;", "a\0b", "\uffff", "langgraph:writes:1:{t:a}0:b"]


def query(path: Path, statement: str, *values: Any) -> list[Any]:
    connection = sqlite3.connect(path, isolation_level=None)
    found = connection.execute(statement, values).fetchall()
    connection.close()
    return found


def test_scratch_is_one_place_for_all_who_open_the_file(make: Make, path: Path) -> None:
    one, other = make(), make()
    one.scratch().set("ns", "key", 1)
    assert other.scratch().get("ns", "key") == 1
    one.close()
    assert make().scratch().items("ns") == [("key", 1)]

    async def awaited() -> Any:
        async with AsyncDiskStore(path) as store:
            async with store.scratch() as scratch:
                await scratch.set("ns", "other", 2)
            await scratch.close()
            assert await store.count() == 0
            return await store.scratch().items("ns")

    assert asyncio.run(awaited()) == [("key", 1), ("other", 2)]


def test_names_of_both_places_never_meet(store: DiskStore, path: Path) -> None:
    scratch = store.scratch()
    store.set_many([(name, "k", "own") for name in NAMES])
    scratch.set_many([(name, "k", "scratch") for name in NAMES])
    assert sorted(store.namespaces()) == sorted(scratch.namespaces()) == sorted(NAMES)
    assert scratch.namespaces("scratch:") == ["scratch:"]
    assert len(store) == len(scratch) == len(NAMES)
    assert {value for name in NAMES for _, value in store.items(name)} == {"own"}
    assert {value for name in NAMES for _, value in scratch.items(name)} == {"scratch"}
    assert len(query(path, "SELECT * FROM entries")) == len(NAMES)
    frozen = scratch.snapshot()
    store.clear()
    assert len(store) == 0
    assert sorted(scratch.snapshot().keys) == sorted((name, "k") for name in NAMES)
    store.restore(frozen)
    scratch.clear()
    assert len(scratch) == 0
    assert sorted(store.snapshot().keys) == sorted((name, "k") for name in NAMES)


def test_what_happens_in_scratch_is_no_change_between_snapshots(store: DiskStore) -> None:
    store.set("a", "1", 1)
    before = store.snapshot()
    scratch = store.scratch()
    scratch.set("a", "1", 2)
    scratch.append("log", [1, 2])
    scratch.restore(before)
    assert scratch.items("a") == [("1", 1)]
    assert "log" not in scratch
    scratch.delete_namespace("a")
    after = store.snapshot()
    assert after.diff(before) == {"added": [], "removed": [], "changed": []}
    assert store.get("a", "1") == 1


def test_clearing_takes_what_is_left_of_neither_place(store: DiskStore) -> None:
    scratch = store.scratch()
    scratch.set("a", "1", 1)
    scratch.clear()
    store.set("a", "1", 1)
    scratch.clear()
    assert store.get("a", "1") == 1


def test_scratch_uses_the_connections_of_its_store(store: DiskStore) -> None:
    scratch = store.scratch()
    assert scratch is store.scratch() is scratch.scratch()
    assert scratch.driver is store.driver
    with scratch:
        scratch.set("a", "1", 1)
    assert scratch.get("a", "1") == 1
    store.close()
    for call in (lambda: scratch.get("a", "1"), scratch.history, scratch.snapshot):
        with pytest.raises(StoreUnavailable, match="closed"):
            call()


def test_a_time_is_kept_in_the_file(make: Make, path: Path) -> None:
    store = make()
    store.set_many([("kept", "1", 1), ("gone", "1", 1)])
    assert store.expire("gone", 1000)
    query(path, "UPDATE space SET expires=expires-2000000")
    other = make()
    assert other.namespaces() == ["kept"]
    assert query(path, "SELECT DISTINCT namespace FROM entries") == [("kept",)]
    assert not other.expire("gone", 1000)
    other.set("gone", "2", 2)
    assert query(path, "SELECT expires FROM space WHERE name='gone'") == [(None,)]


def test_what_expires_is_a_change_between_snapshots(store: DiskStore) -> None:
    store.set_many([("kept", "1", 1), ("gone", "1", 1)])
    before = store.snapshot()
    store.expire("gone", 1000)
    assert store.snapshot().diff(before)["removed"] == []
    # On the connection that snapshots are taken on: no other process has written.
    writer = store.driver.database.writer
    assert writer is not None
    writer.execute("UPDATE space SET expires=1 WHERE name='gone'")
    assert store.snapshot().diff(before)["removed"] == [("gone", "1")]


def test_writes_of_a_store_with_a_ttl_put_the_end_off(make: Make, path: Path) -> None:
    store = make(ttl=10_000)
    store.set("a", "1", 1)
    store.expire("a", 10)
    (near,) = query(path, "SELECT expires FROM space")[0]
    store.set("a", "2", 2)
    (far,) = query(path, "SELECT expires FROM space")[0]
    assert far > near + 9_000_000


def test_pending_writes_of_one_checkpoint_have_no_time_of_their_own(make: Make) -> None:
    store = make()
    saver = SwarmStateSaver(store)
    where = grow(saver, 1)
    saver.put_writes(where, [("x", 1)], "task")
    (name,) = store.namespaces("langgraph:writes:")
    with pytest.raises(ArgumentValueError, match="ttl"):
        store.expire(name, 10)
    store.scratch().set(name, "k", 1)
    assert store.scratch().expire(name, 10)


def test_a_checkpointer_over_scratch_keeps_its_threads_there(store: DiskStore, path: Path) -> None:
    saver = SwarmStateSaver(store.scratch())
    grow(saver, 2)
    assert saver.get_tuple(config()) is not None
    assert len(store) == 0
    assert SwarmStateSaver(store).get_tuple(config()) is None
    with pytest.raises(ArgumentValueError, match="ttl"):
        SwarmStateSaver(store.scratch(), ttl=10)
    awaited: Any = AsyncDiskStore(path)
    with pytest.raises(ArgumentValueError, match="block"):
        SwarmStateSaver(awaited.scratch())
    asyncio.run(awaited.close())
