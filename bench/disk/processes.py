"""Processes whose threads all write one file: how long the slowest call takes."""

from __future__ import annotations

import multiprocessing
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from swarmstate.backends.disk import DiskStore
from swarmstate.errors import StoreUnavailable

PROCESSES, THREADS, WRITES = 4, 8, 50


def _write(path: str, name: int, found: Any) -> None:
    waits: list[float] = []
    failed = 0

    def work(thread: int) -> None:
        nonlocal failed
        for number in range(WRITES):
            start = time.perf_counter()
            try:
                store.set(f"process{name}", f"{thread}-{number}", "x" * 500)
            except StoreUnavailable:
                failed += 1
            waits.append(time.perf_counter() - start)

    with DiskStore(path) as store, ThreadPoolExecutor(THREADS) as pool:
        for future in [pool.submit(work, thread) for thread in range(THREADS)]:
            future.result()
    found.put((failed, sorted(waits)))


def contention(folder: Path) -> int:
    """Print the median and the worst wait; return how many calls were not served in time."""
    context = multiprocessing.get_context("fork")
    found = context.Queue()
    path = str(folder / "contended.db")
    DiskStore(path).close()
    processes = [
        context.Process(target=_write, args=(path, name, found)) for name in range(PROCESSES)
    ]
    for process in processes:
        process.start()
    results = [found.get() for _ in processes]
    for process in processes:
        process.join()
    waits = sorted(wait for _, some in results for wait in some)
    failed = sum(failed for failed, _ in results)
    print(
        f"{PROCESSES} processes of {THREADS} threads, {len(waits)} writes: median "
        f"{waits[len(waits) // 2] * 1e3:.1f} ms, worst {waits[-1] * 1e3:.0f} ms; "
        f"{failed} found the file locked for longer than 5 s{'   SHORT' if failed else ''}"
    )
    return failed
