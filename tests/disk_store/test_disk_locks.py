"""Others who use the file at the same time: threads, processes, forked children."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from forking import child

from swarmstate.backends.disk import AsyncDiskStore, DiskStore
from swarmstate.errors import StoreUnavailable

Make = Callable[..., DiskStore]

# Newer versions of Python warn about what is tested here.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

CHILDREN = 30


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@contextmanager
def locked(path: Path) -> Iterator[sqlite3.Connection]:
    """Hold the lock on writing, as another program would."""
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield other
    finally:
        if other.in_transaction:
            other.execute("ROLLBACK")
        other.close()


# Locks --------------------------------------------------------------------------------------------


def test_a_lock_that_is_not_released_is_an_error_after_the_timeout(make: Make, path: Path) -> None:
    store = make(timeout=0.2)
    store.set("n", "k", 1)
    with locked(path):
        started = monotonic()
        for call in (
            lambda: store.set("n", "k", 2),
            lambda: store.update("n", "k", lambda old: 2),
            store.snapshot,
            store.compact,
        ):
            with pytest.raises(StoreUnavailable, match=r"locked .* more than 0\.2 seconds"):
                call()
        assert monotonic() - started >= 0.8
        assert store.get("n", "k") == 1
    store.set("n", "k", 2)
    assert store.get("n", "k") == 2


def test_a_lock_that_is_released_in_time_is_waited_for(make: Make, path: Path) -> None:
    store = make(timeout=30)
    with locked(path) as other, ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(store.set, "n", str(number), number) for number in range(4)]
        while len(store.driver.database._waiting) < 3:
            pass
        other.execute("ROLLBACK")
        for call in calls:
            call.result()
    assert len(store) == 4


async def test_tasks_that_wait_for_a_lock_leave_the_loop_free(path: Path) -> None:
    async with AsyncDiskStore(path, timeout=0.2) as store:
        await store.set("n", "k", 1)
        with locked(path):
            turns = 0
            write = asyncio.gather(
                *(store.set("n", str(number), 2) for number in range(5)), return_exceptions=True
            )
            while not write.done():
                turns += 1
                await asyncio.sleep(0)
            outcomes = await write
        assert [type(outcome) for outcome in outcomes] == [StoreUnavailable] * 5
        assert turns > 10
        await store.set("n", "k", 2)
        assert await store.count() == 1


def test_a_write_begins_with_the_lock_and_so_sees_what_it_changes(make: Make) -> None:
    one, other = make(), make()
    with ThreadPoolExecutor(8) as pool:
        for store in (one, other) * 4:
            pool.submit(
                lambda store=store: [
                    store.update("n", "count", lambda n: n + 1, default=0) for _ in range(50)
                ]
            )
    assert one.get("n", "count") == 400


# Processes ----------------------------------------------------------------------------------------


def write_much(path: str, name: int, failures: Any) -> None:
    def work(number: int) -> None:
        for step in range(25):
            store.set(f"p{name}", f"{number}-{step}", "x" * 300)
            store.update("shared", "count", lambda n: n + 1, default=0)
            store.set_many([(f"b{name}-{number}-{step}", str(k), k) for k in range(5)])
            assert store.get(f"p{name}", f"{number}-{step}") == "x" * 300

    try:
        with DiskStore(path, timeout=30) as store, ThreadPoolExecutor(8) as pool:
            for future in [pool.submit(work, number) for number in range(8)]:
                future.result()
    except BaseException as error:
        failures.put(f"{type(error).__name__}: {error}")
        raise


def test_four_processes_of_eight_threads_write_one_file(path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    failures = context.Queue()
    processes = [
        context.Process(target=write_much, args=(str(path), name, failures)) for name in range(4)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    failed = [failures.get() for process in processes if process.exitcode]
    assert failed == []
    with DiskStore(path) as store:
        assert store.get("shared", "count") == 4 * 8 * 25
        assert len(store) == 4 * 8 * 25 * 6 + 1
    assert intact(path)


def intact(path: Path) -> bool:
    connection = sqlite3.connect(path)
    answer = connection.execute("PRAGMA integrity_check").fetchone()[0]
    connection.close()
    return bool(answer == "ok")


def test_many_processes_make_one_file_at_the_same_time(path: Path) -> None:
    code = """if True:
        import sys
        from swarmstate.backends.disk import DiskStore
        sys.stdin.readline()
        with DiskStore(sys.argv[1], timeout=30) as store:
            store.set("n", sys.argv[2], 1)
    """
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(path), str(number)], stdin=subprocess.PIPE
        )
        for number in range(6)
    ]
    for process in started:
        assert process.stdin is not None
        process.stdin.write(b"\n")
        process.stdin.close()
    assert [process.wait() for process in started] == [0] * 6
    with DiskStore(path) as store:
        assert len(store) == 6


# Threads ------------------------------------------------------------------------------------------


def test_descriptors_do_not_grow_with_threads(store: DiskStore) -> None:
    store.set("n", "k", 1)
    store.get("n", "k")
    before = descriptors()
    for number in range(200):
        thread = threading.Thread(
            target=lambda n=number: store.set("n", str(n), store.get("n", "k"))
        )
        thread.start()
        thread.join()
    assert descriptors() <= before + 2


def test_after_many_threads_at_once_only_a_few_connections_stay(store: DiskStore) -> None:
    barrier = threading.Barrier(40)

    def work(number: int) -> None:
        barrier.wait()
        for _ in range(5):
            store.set("n", str(number), number)
            assert store.get("n", str(number)) == number

    with ThreadPoolExecutor(40) as pool:
        for future in [pool.submit(work, number) for number in range(40)]:
            future.result()
    assert len(store.driver.database._idle) <= 4
    assert len(store) == 40


def test_200_graph_runs_in_fresh_threads_leave_no_descriptors(store: DiskStore) -> None:
    from langgraph.graph import START, MessagesState, StateGraph

    from swarmstate.integrations.langgraph import SwarmStateSaver

    builder = StateGraph(MessagesState)
    builder.add_node("answer", lambda state: {"messages": ["hello"]})
    builder.add_edge(START, "answer")
    app = builder.compile(checkpointer=SwarmStateSaver(store))

    def run(number: int) -> None:
        app.invoke({"messages": ["hi"]}, {"configurable": {"thread_id": str(number)}})  # type: ignore[arg-type]

    run(-1)
    before = descriptors()
    for number in range(200):
        thread = threading.Thread(target=run, args=(number,))
        thread.start()
        thread.join()
    assert descriptors() <= before + 2


def test_a_batch_is_never_seen_in_part(store: DiskStore) -> None:
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            store.set_many([("a", "k", number), ("b", "k", number), ("c", "k", number)])

    store.set_many([("a", "k", 0), ("b", "k", 0), ("c", "k", 0)])
    threads = [threading.Thread(target=write) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(300):
        assert len(set(store.get_many([("a", "k"), ("b", "k"), ("c", "k")]))) == 1
        snapshot = store.snapshot()
        assert len({snapshot.get(namespace, "k") for namespace in "abc"}) == 1
    stop.set()
    for thread in threads:
        thread.join()


def test_what_a_job_wrote_before_it_failed_is_not_committed_with_the_others(
    make: Make, path: Path
) -> None:
    store = make(timeout=30)
    database = store.driver.database

    def refuse(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO entry SELECT id, '', 'bad', x'01' FROM space")
        raise ZeroDivisionError

    store.set("n", "first", 0)
    with locked(path) as other, ThreadPoolExecutor(8) as pool:
        good = [pool.submit(store.set, "n", str(number), number) for number in range(3)]
        bad = pool.submit(database.write, refuse)
        while len(database._waiting) < 3:
            pass
        other.execute("ROLLBACK")
        for call in good:
            call.result()
        with pytest.raises(ZeroDivisionError):
            bad.result()
    assert store.keys("n") == ["0", "1", "2", "first"]


def test_one_job_s_fault_is_its_own(make: Make, path: Path) -> None:
    """A value that SQLite cannot hold shares its transaction with others for a moment."""
    store = make(timeout=30)
    database = store.driver.database

    def fail(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO entry VALUES(1, '', 'bad', 1)")
        connection.execute("INSERT INTO no_table VALUES(1)")

    def refuse(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO entry VALUES(1, '', 'worse', 1)")
        raise ZeroDivisionError

    with locked(path) as other, ThreadPoolExecutor(8) as pool:
        good = [pool.submit(store.set, "n", str(number), number) for number in range(5)]
        bad = pool.submit(database.write, fail)
        worse = pool.submit(database.write, refuse)
        while len(database._waiting) < 6:
            pass
        other.execute("ROLLBACK")
        for call in good:
            call.result()
        with pytest.raises(StoreUnavailable, match="no such table"):
            bad.result()
        with pytest.raises(ZeroDivisionError):
            worse.result()
    assert store.items("n") == [(str(number), number) for number in range(5)]
    assert len(store) == 5


def test_a_write_in_a_signal_handler_is_refused_in_the_middle_of_a_write(store: DiskStore) -> None:
    store.set("n", "k", 1)
    seen: list[Any] = []

    def in_between(connection: sqlite3.Connection) -> None:
        # As a handler would that runs now.
        seen.append(store.get("n", "k"))
        with pytest.raises(StoreUnavailable, match="within a write of the same thread"):
            store.set("n", "k", 2)

    store.driver.database.write(in_between)
    assert seen == [1]
    store.set("n", "k", 3)
    assert store.get("n", "k") == 3


# Forks --------------------------------------------------------------------------------------------


def test_children_that_are_forked_under_writing_threads_all_work(
    store: DiskStore, path: Path
) -> None:
    stop = threading.Event()

    def write(name: int) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            store.set(f"thread{name}", str(number % 50), number)
            store.snapshot()

    threads = [threading.Thread(target=write, args=(name,)) for name in range(3)]
    for thread in threads:
        thread.start()

    def work() -> None:
        for number in range(5):
            store.set("child", f"{os.getpid()}-{number}", number)
        assert store.get("child", f"{os.getpid()}-3") == 3
        store.snapshot()

    statuses = [child(work) for _ in range(CHILDREN)]
    stop.set()
    for thread in threads:
        thread.join()
    assert statuses == [0] * CHILDREN
    assert len(store.keys("child")) == 5 * CHILDREN
    assert intact(path)


def test_no_connection_is_open_while_a_process_forks(store: DiskStore) -> None:
    store.set("n", "k", 1)
    store.get("n", "k")

    def work() -> None:
        for number in os.listdir("/proc/self/fd"):
            with suppress(FileNotFoundError):  # the one that lists them
                assert not os.readlink(f"/proc/self/fd/{number}").startswith(store.path)

    assert child(work) == 0
    assert store.get("n", "k") == 1


def test_a_child_that_ends_as_usual_harms_nothing(path: Path) -> None:
    code = """if True:
        import os, sys
        from swarmstate.backends.disk import DiskStore
        store = DiskStore(sys.argv[1])
        for number in range(50): store.set("before", str(number), number)
        pid = os.fork()
        if pid == 0:
            store.set("child", "k", 1)
            sys.exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        for number in range(50): store.set("after", str(number), number)
        print(len(store))
    """
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(path)],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert ran.stdout.strip() == "101", ran.stderr
    assert intact(path)


async def test_a_child_of_a_process_that_awaits_works_too(path: Path) -> None:
    async with AsyncDiskStore(path) as store:
        await store.set("n", "k", 1)

        def work() -> None:
            async def use() -> None:
                await store.set("n", "child", await store.get("n", "k"))

            asyncio.set_event_loop(None)
            loop = asyncio.new_event_loop()
            # The parent's loop runs in this thread, as the child has it.
            asyncio._set_running_loop(None)
            loop.run_until_complete(use())

        assert child(work) == 0
        assert await store.get("n", "child") == 1


# Awaited ------------------------------------------------------------------------------------------


async def test_tasks_share_commits(path: Path) -> None:
    async with AsyncDiskStore(path) as store:
        await store.set("n", "k", 0)
        database = store.driver.database
        before = database._commits
        await asyncio.gather(*(store.set("n", str(number), number) for number in range(200)))
        assert database._commits - before < 100
        assert await store.count() == 201


async def test_a_cancelled_task_harms_no_other(path: Path) -> None:
    async with AsyncDiskStore(path) as store:
        tasks = [asyncio.create_task(store.set("n", str(n), n)) for n in range(100)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes[::2]} <= {asyncio.CancelledError, type(None)}
        assert outcomes[1::2] == [None] * 50
        assert {str(n) for n in range(1, 100, 2)} <= set(await store.keys("n"))


def test_loops_in_several_threads_share_a_store(path: Path) -> None:
    store = AsyncDiskStore(path)

    async def use(name: int) -> None:
        await asyncio.gather(*(store.set(f"n{name}", str(k), k) for k in range(50)))
        assert len(await store.keys(f"n{name}")) == 50

    with ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(asyncio.run, use(name)) for name in range(4)]:
            future.result()
    asyncio.run(store.close())


class ClosingFirst:
    """An inbox to which nothing comes before the store is closed, and its thread has ended."""

    def __init__(self, store: AsyncDiskStore, inbox: Any) -> None:
        self._store = store
        self._inbox = inbox

    def put(self, parcel: Any) -> None:
        if parcel is not None:
            closing = threading.Thread(target=self._store.driver.close)
            closing.start()
            closing.join()
        self._inbox.put(parcel)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inbox, name)


async def test_a_call_that_closing_has_overtaken_is_refused(path: Path) -> None:
    store = AsyncDiskStore(path)
    await store.set("n", "k", 1)
    (courier,) = store.driver._couriers.values()
    courier.inbox = ClosingFirst(store, courier.inbox)  # type: ignore[assignment]
    with pytest.raises(StoreUnavailable, match="closed"):
        await asyncio.wait_for(store.get("n", "k"), 60)


async def test_what_was_asked_for_before_closing_is_done(path: Path) -> None:
    store = AsyncDiskStore(path)
    calls = [asyncio.create_task(store.set("n", str(n), n)) for n in range(50)]
    await asyncio.sleep(0)
    await store.close()
    await asyncio.gather(*calls)
    with pytest.raises(StoreUnavailable, match="the store is closed"):
        await store.get("n", "1")
    with DiskStore(path) as again:
        assert len(again) == 50


def test_a_store_that_nobody_closed_leaves_nothing_behind(path: Path) -> None:
    import gc

    before = descriptors()
    store = DiskStore(path)
    store.set("n", "k", 1)

    async def use() -> None:
        awaited = AsyncDiskStore(path)
        await awaited.set("n", "k", 2)

    asyncio.run(use())
    del store
    gc.collect()
    for thread in threading.enumerate():
        if thread.name == "swarmstate-disk":
            thread.join(10)
            assert not thread.is_alive()
    assert descriptors() <= before
    assert [file.name for file in path.parent.iterdir()] == ["state.db"]


async def test_the_loop_turns_while_the_disk_is_waited_for(path: Path) -> None:
    """The write stands still for as long as another program has the lock; the loop does not."""
    turns = 0
    async with AsyncDiskStore(path, timeout=30) as store:
        await store.set("n", "k", 1)
        with locked(path) as other:
            writes = [asyncio.create_task(store.set("n", str(k), b"x" * 20_000)) for k in range(50)]
            while turns < 200:
                turns += 1
                await asyncio.sleep(0)
            assert not any(write.done() for write in writes)
            other.execute("ROLLBACK")
        await asyncio.gather(*writes)
        assert await store.count() == 51


async def test_a_long_read_keeps_no_other_task_waiting(path: Path) -> None:
    """A snapshot of everything is read apart from the thread that serves short calls."""
    async with AsyncDiskStore(path) as store:
        await store.set_many(("n", str(number), "x" * 200) for number in range(20_000))
        snapshot = asyncio.create_task(store.snapshot())
        calls = 0
        while not snapshot.done():
            await store.get("n", "1")
            calls += 1
        assert calls > 1
        assert len(await snapshot) == 20_000
