"""Threads that look for torn states while others write in batches."""

from __future__ import annotations

import gc
import itertools
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from swarmstate import Snapshot, Store

READS = 1_000_000
PAIRS = [("a", "x"), ("b", "y"), ("b", "z")]


class Yielding:
    """A cycle whose finalizer lets other threads run, in the middle of whatever triggered it."""

    alive = 0

    def __init__(self) -> None:
        self.me = self
        Yielding.alive += 1

    def __del__(self) -> None:
        Yielding.alive -= 1
        time.sleep(0)


def leave_garbage() -> None:
    """Leave a cycle, but few: a collection must not yield more often than garbage comes."""
    if Yielding.alive < 10:
        Yielding()


@contextmanager
def frequent_collections_that_yield() -> Iterator[None]:
    thresholds, interval = gc.get_threshold(), sys.getswitchinterval()
    gc.set_threshold(50, 5, 5)
    sys.setswitchinterval(1e-5)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        sys.setswitchinterval(interval)


def batch(n: int) -> list[tuple[str, str, object]]:
    """One number in three places, in containers."""
    return [("a", "x", [n, [n]]), ("b", "y", {"n": n}), ("b", "z", [[n] for _ in range(3)])]


def is_whole(found: list[object]) -> bool:
    x, y, z = found
    if x is None:
        return y is None and z is None
    n = x[0]  # type: ignore[index]
    return x == [n, [n]] and y == {"n": n} and z == [[n]] * 3


def run_beside(reader: Callable[[], int], *writers: Callable[[int], None]) -> int:
    """Run two readers beside the writers until both are done; return what the readers count."""
    done = threading.Event()
    failures: list[BaseException] = []
    torn: list[int] = []

    def write(step: Callable[[int], None]) -> None:
        try:
            for n in itertools.count():
                if done.is_set():
                    return
                step(n)
                if n % 16 == 0:
                    leave_garbage()
        except BaseException as error:
            failures.append(error)

    def read() -> None:
        try:
            torn.append(reader())
        except BaseException as error:
            failures.append(error)

    with frequent_collections_that_yield():
        readers = [threading.Thread(target=read) for _ in range(2)]
        others = [threading.Thread(target=write, args=(writer,)) for writer in writers]
        for thread in (*readers, *others):
            thread.start()
        for thread in readers:
            thread.join()
        done.set()
        for thread in others:
            thread.join()
    assert not failures
    return sum(torn)


@pytest.mark.parametrize("held", [False, True], ids=["nothing held", "snapshots held"])
def test_get_many_never_sees_half_of_a_batch(held: bool) -> None:
    store = Store(codec="ormsgpack", max_history=20 if held else 0)

    def read() -> int:
        torn = 0
        for n in range(READS // 4):
            torn += not is_whole(store.get_many(PAIRS))
            if n % 64 == 0:
                leave_garbage()
        return torn

    def write(n: int) -> None:
        store.set_many(batch(n))
        if held and n % 8 == 0:
            store.snapshot()

    assert run_beside(read, write) == 0


def test_snapshots_never_hold_half_of_a_batch_a_clear_or_a_restore() -> None:
    store = Store(codec="ormsgpack", max_history=10)
    store.set_many(batch(-1))
    first = store.snapshot()

    def whole(snapshot: Snapshot) -> bool:
        values = snapshot.values()
        return (
            is_whole([snapshot.get(*pair) for pair in PAIRS])
            and len(snapshot) == sum(map(len, values.values())) in (0, 3)
            and snapshot.size_bytes == sum(len(v) for e in values.values() for v in e.values())
        )

    def read() -> int:
        torn = 0
        for n in range(10_000):
            torn += not whole(store.snapshot())
            torn += not is_whole(store.get_many(PAIRS))
            torn += len(store.items("b")) not in (0, 2)
            if n % 16 == 0:
                leave_garbage()
        return torn

    def roll(n: int) -> None:
        if n % 3 == 0:
            store.clear()
        elif n % 3 == 1:
            store.restore(first)
        else:
            kept = store.history()
            if kept:
                store.restore(kept[0])

    assert run_beside(read, lambda n: store.set_many(batch(n)), roll) == 0
    assert whole(store.snapshot())
    store.restore(first)
    assert store.get_many(PAIRS) == [value for _, _, value in batch(-1)]


def test_batches_that_delete_are_seen_whole() -> None:
    store = Store(codec="ormsgpack")

    def read() -> int:
        torn = 0
        for n in range(100_000):
            torn += not is_whole(store.get_many(PAIRS))
            if n % 64 == 0:
                leave_garbage()
        return torn

    def write(n: int) -> None:
        store.set_many(batch(n))
        assert store.delete_many(PAIRS) in (0, 3)

    assert run_beside(read, write) == 0


def test_set_default_lets_one_thread_win() -> None:
    store = Store()
    wins: list[str] = []

    def compete() -> None:
        wins.extend(f"k{n}" for n in range(2000) if store.set_default("ns", f"k{n}", [n]))

    with frequent_collections_that_yield():
        threads = [threading.Thread(target=compete) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(wins) == sorted(f"k{n}" for n in range(2000))
