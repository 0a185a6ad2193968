"""How late an event loop gets while tasks write to a file, beside the same loop without a disk."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from swarmstate import AsyncStore
from swarmstate.backends.disk import AsyncDiskStore

TASKS, WRITES = 50, 20
VALUE = "x" * 20_000

Set = Callable[[str, str, str], Awaitable[None]]


async def lateness(put: Set) -> float:
    """Return by how much the latest beat of a heart came late, in seconds, while tasks wrote."""
    latest = 0.0
    done = False

    async def heart() -> None:
        nonlocal latest
        while not done:
            due = time.perf_counter() + 0.001
            await asyncio.sleep(0.001)
            latest = max(latest, time.perf_counter() - due)

    async def write(task: int) -> None:
        for number in range(WRITES):
            await put("n", f"{task}-{number}", VALUE)
            await asyncio.sleep(0)

    beating = asyncio.create_task(heart())
    await asyncio.gather(*(write(task) for task in range(TASKS)))
    done = True
    await beating
    return latest


async def heartbeat(folder: Path, repeats: int) -> int:
    """Print how late the loop gets; return how many figures are above their limit."""
    short = 0
    for synchronous in ("NORMAL", "FULL"):
        store = AsyncDiskStore(folder / f"heartbeat-{synchronous}.db", synchronous=synchronous)
        memory = AsyncStore()
        on_disk, without = [], []
        for _ in range(repeats):
            on_disk.append(await lateness(store.set))
            without.append(await lateness(memory.set))
        await store.close()
        ours, other = statistics.median(on_disk), statistics.median(without)
        limit = 1.5 * other + 0.010
        short += ours > limit
        print(
            f"latest beat beside {TASKS} tasks that write, {synchronous}: {ours * 1e3:.1f} ms; "
            f"without a disk {other * 1e3:.1f} ms; limit {limit * 1e3:.1f} ms"
            f"{'   SHORT' if ours > limit else ''}"
        )
    return short
