"""Logs and commits in a file: several processes, and what other programs have put there."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import appending
import pytest
from preloaded import context

from swarmstate import ABSENT
from swarmstate.backends.disk import DiskStore
from swarmstate.errors import AccessDenied, DecodeError

Make = Callable[..., DiskStore]

PROCESSES = 8
ROUNDS = 15


def append(path: str, name: int, barrier: Any, out: Any) -> None:
    written = []
    with DiskStore(path) as store:
        barrier.wait()
        for step in range(ROUNDS):
            keys = store.append("log", [[name, step], [name, step]])
            assert int(keys[1]) == int(keys[0]) + 1
            written += [(key, [name, step]) for key in keys]
    out.put(written)


def pop(path: str, name: int, barrier: Any, out: Any) -> None:
    popped = []
    with DiskStore(path) as store:
        barrier.wait()
        while (entry := store.pop("log")) is not None:
            popped.append(entry)
    out.put(popped)


def commit(path: str, name: int, barrier: Any, out: Any) -> None:
    won = 0
    with DiskStore(path) as store:
        barrier.wait()
        for _ in range(ROUNDS):
            head = store.get("heads", "head", 0)
            items = [("heads", "head", head + 1), ("log", str(head), name)]
            expect = {("heads", "head"): head or ABSENT, ("log", str(head)): ABSENT}
            won += store.commit(items, expect=expect)
    out.put(won)


def together(work: Any, path: Path) -> list[Any]:
    """Return what processes made of a file that began at the same moment."""
    barrier, out = context.Barrier(PROCESSES), context.Queue()
    processes = [
        context.Process(target=work, args=(str(path), name, barrier, out))
        for name in range(PROCESSES)
    ]
    for process in processes:
        process.start()
    try:
        return [out.get(timeout=120) for _ in processes]
    finally:
        for process in processes:
            process.join(30)
            process.kill()


def test_processes_append_and_pop_each_entry_once(make: Make, path: Path) -> None:
    store = make()
    written = [entry for mine in together(append, path) for entry in mine]
    assert store.tail("log") == sorted(written)
    assert len({key for key, _ in written}) == 2 * PROCESSES * ROUNDS
    popped = [entry for mine in together(pop, path) for entry in mine]
    assert sorted(popped) == sorted(written)


def test_of_processes_that_commit_on_one_head_one_wins_each_time(make: Make, path: Path) -> None:
    store = make()
    won = sum(together(commit, path))
    assert store.get("heads", "head") == won >= ROUNDS
    assert sorted(store.keys("log")) == sorted(map(str, range(won)))


def test_a_process_killed_amid_writes_leaves_none_half_done_and_loses_none(
    path: Path, tmp_path: Path
) -> None:
    appending.kill_writers(f"sqlite:///{path}", {}, tmp_path / "told", times=5)


def test_a_key_that_goes_on_after_a_nul_is_not_of_a_log(store: DiskStore) -> None:
    store.set("log", "0000000000000005\0", "other")
    assert store.append("log", ["first"]) == ["0000000000000001"]
    assert store.tail("log") == [("0000000000000001", "first")]
    assert store.pop("log") == ("0000000000000001", "first")
    assert store.pop("log") is None
    assert store.keys("log") == ["0000000000000005\0"]


def test_what_is_not_bytes_is_told_and_stays(store: DiskStore, path: Path) -> None:
    (key,) = store.append("log", [1])
    with sqlite3.connect(path) as other:
        other.execute("UPDATE entry SET value='text'")
    other.close()
    for call in (store.tail, store.pop):
        with pytest.raises(DecodeError, match=key):
            call("log")
    assert not store.commit([("log", key, 2)], expect={("log", key): 1})
    assert store.keys("log") == [key]


def test_a_log_that_has_expired_begins_again(store: DiskStore, path: Path) -> None:
    store.append("log", ["old"])
    store.expire("log", 1000)
    with sqlite3.connect(path) as other:
        other.execute("UPDATE space SET expires=1")
    other.close()
    assert store.tail("log") == []
    assert store.pop("log") is None
    assert not store.commit([("log", "x", 1)], expect={("log", "0000000000000001"): "old"})
    assert store.commit([("head", "x", 1)], expect={("log", "0000000000000001"): ABSENT})
    assert store.append("log", ["new"]) == ["0000000000000001"]
    assert store.tail("log") == [("0000000000000001", "new")]


def test_logs_and_commits_restart_the_time_of_what_they_write(make: Make, path: Path) -> None:
    store = make(ttl=1000)
    store.set_many([("appended", "k", 1), ("committed", "k", 1), ("expected", "k", 1)])
    with sqlite3.connect(path) as other:
        other.execute("UPDATE space SET expires=expires-500000")
        store_before = dict(other.execute("SELECT name, expires FROM space").fetchall())
    store.append("appended", [1])
    store.commit([("committed", "l", 2)], expect={("expected", "k"): 1})
    after = dict(other.execute("SELECT name, expires FROM space").fetchall())
    other.close()
    renewed = {name for name, expires in after.items() if expires > store_before[name] + 400_000}
    assert renewed == {"appended", "committed"}


def test_a_full_log_costs_no_connection(store: DiskStore) -> None:
    store.set("log", "9" * 16, 1)
    writer = store.driver.database.writer
    with pytest.raises(ValueError, match="9999999999999999"):
        store.append("log", [1])
    assert store.driver.database.writer is writer is not None


def test_a_read_only_store_reads_logs_and_checks_but_writes_nothing(make: Make) -> None:
    make().append("log", [1])
    store = make(read_only=True)
    assert [value for _, value in store.tail("log")] == [1]
    assert store.commit(expect={("log", "0000000000000001"): 1})
    for call in (
        lambda: store.append("log", [2]),
        lambda: store.pop("log"),
        lambda: store.commit([("log", "x", 1)]),
        lambda: store.expire("log", 1),
        lambda: store.scratch().set("a", "b", 1),
    ):
        with pytest.raises(AccessDenied):
            call()


def test_a_hook_of_a_commit_may_use_the_store(make: Make) -> None:
    def hook(value: Any) -> Any:
        return [store.get("other", "k"), store.append("other", [1])]

    store = make(default=hook)
    store.set("other", "k", "kept")
    done = threading.Event()

    def work() -> None:
        assert store.commit([("a", "k", {1, 2})], expect={("other", "k"): "kept"})
        store.append("a", [{3}])
        done.set()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(60)
    assert done.is_set()
    assert store.get("a", "k") == ["kept", ["0000000000000001"]]
