"""Namespaces and threads that expire: absent at once, removed a part at a time."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from threads import checkpoint, config, grow

from swarmstate.backends.disk import AsyncDiskStore, DiskStore, rows
from swarmstate.errors import ArgumentValueError
from swarmstate.integrations.langgraph import SwarmStateSaver

Make = Callable[..., DiskStore]

DAY = 86_400


class Spaces:
    """When the spaces of a file expire, as another program sees and changes it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def execute(self, statement: str, *values: Any) -> list[Any]:
        connection = sqlite3.connect(self._path, isolation_level=None)
        found = connection.execute(statement, values).fetchall()
        connection.close()
        return found

    def left(self) -> dict[str, float | None]:
        """Name -> seconds left; None for those that stay."""
        now = rows.milliseconds_now()
        return {
            name: None if expires is None else (expires - now) / 1000
            for name, expires in self.execute("SELECT name, expires FROM space")
            if not name.startswith("\0")
        }

    def age(self, seconds: float, name: str = "%") -> None:
        """Let as much time pass for those that expire."""
        less = int(seconds * 1000)
        self.execute("UPDATE space SET expires=expires-? WHERE name LIKE ?", less, name)

    def entries(self) -> int:
        return int(self.execute("SELECT count(*) FROM entry")[0][0])


@pytest.fixture
def spaces(path: Path) -> Spaces:
    return Spaces(path)


def test_a_namespace_expires_as_a_whole_after_its_last_write(make: Make, spaces: Spaces) -> None:
    store = make(ttl=DAY)
    store.set_many([("a", "1", 1), ("a", "2", 2), ("b", "1", 3)])
    spaces.age(DAY - 60)
    store.set("a", "3", 3)
    spaces.age(120)
    assert store.items("a") == [("1", 1), ("2", 2), ("3", 3)]
    assert store.get("b", "1") is None
    assert store.items("b") == store.keys("b") == []
    assert store.max_key("b") is None
    assert not store.contains("b", "1")
    assert "b" not in store
    assert store.get_many([("a", "1"), ("b", "1")]) == [1, None]
    assert store.namespaces() == ["a"]
    assert len(store) == 3
    assert store.snapshot().keys == [("a", "1"), ("a", "2"), ("a", "3")]
    assert spaces.execute("SELECT DISTINCT namespace FROM entries") == [("a",)]


@pytest.mark.parametrize(
    "write",
    [
        lambda store: store.set("n", "k", 2),
        lambda store: store.set_many([("n", "k", 2)]),
        lambda store: store.set_default("n", "k", 2),
        lambda store: store.update("n", "k", lambda old: 2 if old is None else old),
    ],
)
def test_a_write_begins_an_expired_namespace_afresh(
    make: Make, spaces: Spaces, write: Callable[[DiskStore], Any]
) -> None:
    store = make(ttl=DAY)
    store.set_many([("n", "k", 1), ("n", "old", 1)])
    spaces.age(DAY + 1)
    assert store.delete("n", "k") is False
    assert store.delete_many([("n", "k"), ("n", "old")]) == 0
    assert store.delete_namespace("n") == 0
    write(store)
    assert store.items("n") == [("k", 2)]
    (left,) = spaces.left().values()
    assert left is not None
    assert DAY - 60 < left <= DAY


def test_each_write_restarts_the_time_and_a_read_only_if_asked_to(
    make: Make, spaces: Spaces
) -> None:
    make(ttl=DAY).set_many([("n", "k", 1), ("m", "k", 1)])
    spaces.age(1000)
    plain, renewing = make(ttl=DAY), make(ttl=DAY, ttl_on_read=True)
    for read in (
        lambda store: store.get("n", "k"),
        lambda store: store.contains("n", "k"),
        lambda store: store.items("n"),
        lambda store: store.get_many([("n", "k")]),
    ):
        spaces.age(1000)
        read(plain)
        left = spaces.left()["n"]
        assert left is not None
        assert left < DAY - 900
        read(renewing)
        left = spaces.left()["n"]
        assert left is not None
        assert left > DAY - 60
    left = spaces.left()["m"]
    assert left is not None
    assert left < DAY - 4900


def test_a_store_without_a_ttl_leaves_the_time_as_it_is(make: Make, spaces: Spaces) -> None:
    make().set("stays", "k", 1)
    make(ttl=DAY).set("goes", "k", 1)
    store = make()
    store.set_many([("stays", "k", 2), ("goes", "k", 2)])
    left = spaces.left()
    assert left["stays"] is None
    assert left["goes"] is not None


def test_what_has_expired_is_removed_by_writes_a_part_at_a_time(make: Make, spaces: Spaces) -> None:
    store = make(ttl=DAY)
    store.set_many((f"n{number % 3}", str(number), 1) for number in range(3000))
    spaces.age(DAY + 1)
    store.set("n0", "k", 1)
    assert len(store) == 1
    counts = [spaces.entries()]
    for number in range(20 * rows._SWEPT_ENTRIES):
        store.set("other", str(number % 5), 1)
        counts.append(spaces.entries())
        if len(spaces.left()) == 2 and counts[-1] == 6:
            break
    assert counts[-1] == 6
    assert max(a - b for a, b in pairwise(counts)) <= rows._SWEPT_ENTRIES
    assert len(spaces.execute("SELECT * FROM space")) == 2


def test_compacting_removes_all_that_has_expired(make: Make, spaces: Spaces) -> None:
    store = make(ttl=DAY)
    store.set_many(("n", str(number), 1) for number in range(2000))
    spaces.age(DAY + 1)
    store.compact()
    assert spaces.entries() == 0


def test_a_snapshot_follows_what_expires_and_a_restore_gives_it_a_whole_time(
    make: Make, spaces: Spaces
) -> None:
    store = make(ttl=DAY)
    store.set_many([("a", "k", 1), ("b", "k", 2)])
    first = store.snapshot()
    store.driver.database.write(
        lambda connection: connection.execute("UPDATE space SET expires=1 WHERE name='a'") and None
    )
    second = store.snapshot()
    assert second.diff(first) == {"added": [], "removed": [("a", "k")], "changed": []}
    spaces.age(DAY / 2)
    store.restore(first)
    assert store.get("a", "k") == 1
    left = spaces.left()
    assert all(each is not None and each > DAY - 60 for each in left.values())
    make().restore(first)
    assert set(spaces.left().values()) == {None}


async def test_a_short_time_passes_by_itself(path: Path) -> None:
    async with AsyncDiskStore(path, ttl=0.05) as store:
        await store.set("n", "k", 1)
        while await store.contains("n", "k"):  # noqa: ASYNC110 (it is time that has to pass)
            await asyncio.sleep(0)
        assert await store.count() == 0


# Threads ------------------------------------------------------------------------------------------


def test_every_space_of_a_thread_expires_with_the_rest(make: Make, spaces: Spaces) -> None:
    saver = SwarmStateSaver(make(), ttl=DAY)
    grow(saver, 5, writes=2)
    grow(saver, 2, namespace="inner:1", writes=1)
    saver.put_writes(config(checkpoint_id="f"), [("x", 1)], "task")
    left = spaces.left()
    assert len(left) >= 8
    assert all(each is not None and DAY - 60 < each <= DAY for each in left.values())
    assert len(set(spaces.execute("SELECT expires FROM space"))) == 1


def test_a_write_renews_the_whole_thread_once_half_of_the_time_is_over(
    make: Make, spaces: Spaces
) -> None:
    saver = SwarmStateSaver(make(), ttl=DAY)
    last = grow(saver, 3, writes=2)
    grow(saver, 2, namespace="inner:1", writes=1)
    spaces.age(DAY / 2 - 60)
    saver.put_writes(last, [("x", 1)], "another task")
    assert all(each is not None and each < DAY / 2 + 120 for each in spaces.left().values())
    spaces.age(120)
    saver.put_writes(last, [("x", 1)], "a third task")
    assert all(each is not None and each > DAY - 60 for each in spaces.left().values())


@pytest.mark.parametrize(
    ("earlier", "last"),
    [(None, DAY), (DAY, None), (DAY, DAY / 10), (DAY / 10, DAY), (2 * DAY, DAY)],
)
@pytest.mark.parametrize("what", ["put", "put_writes", "copy_thread"])
def test_the_time_of_the_last_write_holds_for_the_whole_thread(
    make: Make, spaces: Spaces, earlier: float | None, last: float | None, what: str
) -> None:
    first = SwarmStateSaver(make(), ttl=earlier)
    where = grow(first, 3, writes=1)
    grow(first, 2, namespace="inner:1", writes=1)
    first.put_writes(config(checkpoint_id="f"), [("x", 1)], "task")
    second = SwarmStateSaver(make(), ttl=last)
    if what == "put":
        grow(second, 1)
    elif what == "put_writes":
        second.put_writes(where, [("x", 1)], "another task")
    else:
        grow(second, 1, thread="source")
        second.copy_thread("source", "thread")
        second.delete_thread("source")
    left = set(spaces.left().values())
    if last is None:
        assert left == {None}
    else:
        assert all(each is not None and last / 2 < each <= last for each in left)


def test_an_expired_thread_is_absent_and_does_not_come_back(make: Make, spaces: Spaces) -> None:
    saver = SwarmStateSaver(make(), ttl=DAY)
    last = grow(saver, 5, writes=2)
    grow(saver, 2, namespace="inner:1", writes=1)
    spaces.age(DAY + 1)
    assert saver.get_tuple(config()) is None
    assert saver.get_tuple(last) is None
    assert list(saver.list(config())) == []
    assert list(saver.list(None)) == []
    saver.copy_thread("thread", "copy")
    assert saver.get_tuple(config("copy")) is None
    saver.put_writes(last, [("y", 1)], "task")
    assert saver.get_tuple(last) is None
    saver.put(config(), checkpoint({}, {}, last["configurable"]["checkpoint_id"]), {}, {})
    (found,) = saver.list(config())
    assert found.pending_writes == [("task", "y", 1)]
    assert list(saver.list(config(namespace="inner:1"))) == []


def test_a_thread_whose_first_space_is_gone_is_absent(make: Make, spaces: Spaces) -> None:
    saver = SwarmStateSaver(make(), ttl=DAY)
    last = grow(saver, 5, writes=2)
    spaces.age(DAY + 1, "langgraph:thread:%")
    assert saver.get_tuple(config()) is None
    grow(saver, 1)
    assert len(list(saver.list(config()))) == 1
    assert saver.get_tuple(last) is None


def test_a_read_renews_a_thread_only_if_asked_to_and_gives_no_end_to_one_that_has_none(
    make: Make, spaces: Spaces
) -> None:
    grow(SwarmStateSaver(make(), ttl=DAY), 3, writes=1)
    spaces.age(DAY - 1000)
    SwarmStateSaver(make(), ttl=DAY).get_tuple(config())
    assert all(each is not None and each <= 1000 for each in spaces.left().values())
    SwarmStateSaver(make(), ttl=DAY, ttl_on_read=True).get_tuple(config())
    assert all(each is not None and each > DAY - 60 for each in spaces.left().values())
    grow(SwarmStateSaver(make()), 1)
    assert set(spaces.left().values()) == {None}
    SwarmStateSaver(make(), ttl=DAY, ttl_on_read=True).get_tuple(config())
    assert set(spaces.left().values()) == {None}


def test_there_is_nothing_to_renew_on_reading_without_a_time(make: Make) -> None:
    with pytest.raises(ArgumentValueError, match="ttl_on_read"):
        SwarmStateSaver(make(), ttl_on_read=True)
    SwarmStateSaver(make(ttl=60), ttl_on_read=True)
