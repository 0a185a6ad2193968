"""Snapshots of a file: what they cost, and what others write in between."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from servers import Server

from swarmstate import Store, dumps
from swarmstate.backends.disk import AsyncDiskStore, DiskStore, tracking
from swarmstate.backends.redis import RedisStore
from swarmstate.errors import ArgumentTypeError, ArgumentValueError, StoreUnavailable

Make = Callable[..., DiskStore]


class Reads:
    """Counts how often the whole file was read to take a snapshot, or to restore one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.whole = 0
        for name in ("_everything", "_differences"):
            monkeypatch.setattr(tracking, name, self.counted(getattr(tracking, name)))

    def counted(self, read: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*arguments: Any) -> Any:
            self.whole += 1
            return read(*arguments)

        return counting


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    return Reads(monkeypatch)


def content(store: Any) -> dict[str, dict[str, Any]]:
    return {namespace: dict(store.items(namespace)) for namespace in store.namespaces()}


def test_only_the_first_snapshot_reads_all_and_restoring_is_a_difference(
    store: DiskStore, reads: Reads
) -> None:
    store.set_many((f"n{number % 10}", str(number), number) for number in range(1000))
    states, snapshots = [content(store)], [store.snapshot()]
    for step in range(5):
        store.set("n1", f"new{step}", step)
        store.delete("n2", str(2 + 10 * step))
        if step == 3:
            store.delete_namespace("n3")
        states.append(content(store))
        snapshots.append(store.snapshot())
    assert reads.whole == 1
    for index in (0, 5, 2, 2, 4, 1):
        store.restore(snapshots[index])
        assert content(store) == states[index]
    assert store.snapshot().diff(snapshots[1]) == {"added": [], "removed": [], "changed": []}
    assert reads.whole == 1


def test_a_restore_writes_only_what_differs(store: DiskStore) -> None:
    store.set_many(("n", str(number), number) for number in range(1000))
    snapshot = store.snapshot()
    store.set_many([("n", "1", "changed"), ("m", "k", "added")])
    database = store.driver.database

    def changes() -> int:
        return database.alone(lambda connection: connection.total_changes)

    before = changes()
    store.restore(snapshot)
    assert changes() - before < 20


def test_what_another_process_wrote_is_seen(make: Make, path: Path, reads: Reads) -> None:
    store = make()
    store.set("n", "k", 1)
    first = store.snapshot()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("UPDATE entry SET value=? WHERE key='k'", (dumps("theirs"),))
    other.close()
    store.set("n", "ours", 2)
    second = store.snapshot()
    assert second.get("n", "k") == "theirs"
    assert second.get("n", "ours") == 2
    assert second.diff(first) == {"added": [("n", "ours")], "removed": [], "changed": [("n", "k")]}
    assert reads.whole == 2
    store.restore(first)
    assert content(store) == {"n": {"k": 1}}
    another = make()
    another.set("n", "k", "another")
    assert store.snapshot().get("n", "k") == "another"
    store.restore(second)
    assert content(another) == {"n": {"k": "theirs", "ours": 2}}


def test_a_write_that_failed_is_in_no_snapshot(store: DiskStore) -> None:
    store.set("n", "k", 1)
    store.snapshot()

    def fail(connection: sqlite3.Connection) -> None:
        connection.execute("UPDATE entry SET value=x'05'")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store.driver.database.write(fail)
    assert store.snapshot().get("n", "k") == 1


def test_a_namespace_that_goes_and_comes_back_is_followed(store: DiskStore, reads: Reads) -> None:
    store.set("a", "k", 1)
    store.snapshot()
    store.delete("a", "k")
    # The space of the new one may have the id of the old.
    store.set("b", "k", 2)
    assert store.snapshot().state == {"b": {"k": dumps(2)}}
    store.clear()
    assert len(store.snapshot()) == 0
    store.set("a", "k", 3)
    assert store.snapshot().state == {"a": {"k": dumps(3)}}
    assert reads.whole == 1


def test_what_nobody_holds_is_let_go(store: DiskStore, reads: Reads) -> None:
    store.set("n", "k", 1)
    snapshot = store.snapshot()
    database = store.driver.database
    database.alone(lambda connection: database._rest(database))
    store.snapshot()
    assert reads.whole == 1
    del snapshot
    database.alone(lambda connection: database._rest(database))
    assert (
        store.driver.database.alone(
            lambda connection: connection.execute("SELECT name FROM sqlite_temp_master").fetchall()
        )
        == []
    )
    store.set("n", "k", 2)
    assert store.snapshot().get("n", "k") == 2
    assert reads.whole == 2


async def test_an_awaited_store_takes_and_restores_them_too(path: Path) -> None:
    async with AsyncDiskStore(path, max_history=2) as store:
        await store.set("n", "k", 1)
        snapshot = await store.snapshot()
        await store.set("n", "k", 2)
        await store.restore(snapshot)
        assert await store.get("n", "k") == 1
        assert store.history() == [snapshot]
        store.clear_history()


def test_a_restore_that_is_refused_changes_nothing(make: Make, path: Path) -> None:
    store = make(timeout=0.1)
    store.set("n", "k", 1)
    snapshot = store.snapshot()
    store.set("n", "k", 2)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="locked"):
        store.restore(snapshot)
    other.execute("ROLLBACK")
    other.close()
    assert content(store) == {"n": {"k": 2}}
    assert store.snapshot().get("n", "k") == 2
    store.restore(snapshot)
    assert content(store) == {"n": {"k": 1}}


# Copies of the file -------------------------------------------------------------------------------


def test_a_backup_is_a_store_of_one_moment_while_writers_write(
    store: DiskStore, tmp_path: Path
) -> None:
    import threading

    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            store.set_many([("a", "k", number), ("b", "k", number)])

    store.set_many(("n", str(number), b"x" * 1000) for number in range(2000))
    writer = threading.Thread(target=write)
    writer.start()
    target = tmp_path / "copy.db"
    for _ in range(5):
        store.backup(target)
        with DiskStore(target, read_only=True) as copy:
            assert copy.get("a", "k") == copy.get("b", "k")
            assert len(copy.keys("n")) == 2000
        for left in (tmp_path / "copy.db-wal", tmp_path / "copy.db-shm"):
            left.unlink(missing_ok=True)
    stop.set()
    writer.join()
    assert {file.name for file in tmp_path.iterdir()} <= {
        *("state.db", "state.db-wal", "state.db-shm", "copy.db")
    }
    assert target.stat().st_mode & 0o777 == 0o600


def test_a_backup_replaces_an_older_one_and_nothing_else(store: DiskStore, tmp_path: Path) -> None:
    store.set("n", "k", 1)
    target = tmp_path / "copy.db"
    store.backup(target)
    store.set("n", "k", 2)
    store.backup(str(target))
    with DiskStore(target) as copy:
        assert copy.get("n", "k") == 2
        with pytest.raises(ArgumentValueError, match="in use"):
            store.backup(target)
    with pytest.raises(ArgumentValueError, match="the store's own file"):
        store.backup(store.path)
    letter = tmp_path / "letter"
    letter.write_text("dear friend")
    with pytest.raises(ArgumentValueError, match="another program"):
        store.backup(letter)
    assert letter.read_text() == "dear friend"
    with pytest.raises(ArgumentValueError, match="folder"):
        store.backup(tmp_path)
    with pytest.raises(ArgumentTypeError, match="path must be"):
        store.backup(5)  # type: ignore[arg-type]
    with pytest.raises(StoreUnavailable, match="cannot be made"):
        store.backup(tmp_path / "missing" / "copy.db")


def test_a_backup_takes_the_place_of_an_older_one_at_one_moment(
    store: DiskStore, tmp_path: Path
) -> None:
    store.set("n", "k", 1)
    target = tmp_path / "copy.db"
    store.backup(target)
    before = target.read_bytes()
    with target.open("rb") as older:
        store.set("n", "k", 2)
        store.backup(target)
        # Whoever still reads the old copy reads all of it.
        assert older.read() == before
    assert target.read_bytes() != before


async def test_an_awaited_store_makes_backups_and_compacts(path: Path) -> None:
    async with AsyncDiskStore(path) as store:
        await store.set("n", "k", 1)
        await store.backup(path.with_name("copy.db"))
        assert await store.compact() >= 0
    with DiskStore(path.with_name("copy.db")) as copy:
        assert copy.get("n", "k") == 1


def test_compacting_gives_room_back_and_says_how_much(store: DiskStore, path: Path) -> None:
    store.set_many(("n", str(number), b"x" * 5000) for number in range(500))
    store.set("m", "k", 1)
    snapshot = store.snapshot()
    store.delete_namespace("n")
    before = sum(file.stat().st_size for file in path.parent.glob("state.db*"))
    freed = store.compact()
    after = sum(file.stat().st_size for file in path.parent.glob("state.db*"))
    assert freed > 2_000_000
    assert before - after == freed
    assert content(store) == {"m": {"k": 1}}
    store.set("m", "k", 2)
    assert store.snapshot().diff(snapshot)["changed"] == [("m", "k")]


def test_a_file_grows_no_further_when_as_much_goes_as_comes(store: DiskStore, path: Path) -> None:
    sizes = []
    for number in range(2000):
        store.set("n", str(number), b"x" * 3000)
        store.delete("n", str(number - 50))
        if number % 500 == 499:
            with store.driver.database._lock:
                store.driver.database.checkpoint()
            sizes.append(path.stat().st_size)
    assert sizes[-1] <= sizes[0]


def test_a_snapshot_of_a_file_goes_into_memory_and_back(store: DiskStore) -> None:
    store.set_many([("n", "k", [1, 2]), ("m", "é", None)])
    local = Store()
    local.restore(store.snapshot())
    assert content(local) == content(store)
    local.set("n", "k", "changed")
    store.restore(local.snapshot())
    assert store.get("n", "k") == "changed"


def test_a_snapshot_of_a_file_goes_onto_a_server_and_back(store: DiskStore, server: Server) -> None:
    store.set_many([("n", "k", [1, 2]), ("m", "é", None), ("n", "bytes", b"x")])
    before = content(store)
    with RedisStore(server.url, prefix="disk-snapshots") as remote:
        remote.set("gone", "k", 1)
        remote.restore(store.snapshot())
        assert content(remote) == before
        store.clear()
        store.set("gone", "k", 1)
        store.restore(remote.snapshot())
        assert content(store) == before
        remote.clear()
