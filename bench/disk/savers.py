"""The savers that keep threads in a file: ours, and what its users would use otherwise."""

from __future__ import annotations

import asyncio
import importlib
import itertools
import sqlite3
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import packages
import workloads
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from measuring import Run
from workloads import Subject, Thread, Workload, graph, invokes, on_thread

from swarmstate.backends.disk import DiskStore
from swarmstate.integrations.langgraph import SwarmStateSaver

LMDB = "langgraph-checkpoint-lmdb"
_numbers = itertools.count()

Saver = Callable[[], Any]

LIMITS: workloads.Limits = {
    ("put", 10): 1.0,
    ("put", 100): 0.7,
    ("put, messages unchanged", 10): 0.8,
    ("put, messages unchanged", 100): 0.25,
    ("put_writes, 1 write", 10): 1.0,
    ("put_writes, 10 writes", 10): 0.9,
    ("get_tuple", 10): 0.6,
    ("get_tuple", 100): 0.35,
    ("list(10)", 10, 1000): 0.7,
}


def install() -> None:
    """Put the saver over LMDB, which is no dependency of the project, on the path."""
    packages.install("--no-deps", f"{LMDB}==0.3.1", "lmdb")


def can(saver: str, row: str) -> bool:
    """Return whether a saver has what a row measures: LMDB's deletes nothing."""
    return saver != "LMDB" or "delete" not in row


def makers(folder: Path, stack: ExitStack) -> dict[str, Saver]:
    """Return a maker for each saver; the first is the baseline."""

    def sqlite(journal: str, synchronous: str) -> Any:
        path = folder / f"{next(_numbers)}.db"
        connection = sqlite3.connect(path, check_same_thread=False)
        stack.callback(connection.close)
        saver = SqliteSaver(connection)
        saver.setup()
        connection.execute(f"PRAGMA journal_mode={journal}")
        connection.execute(f"PRAGMA synchronous={synchronous}")
        return saver

    def ours(synchronous: str) -> Any:
        store = DiskStore(
            folder / f"{next(_numbers)}.db", codec="ormsgpack", synchronous=synchronous
        )
        stack.callback(store.close)
        return SwarmStateSaver(store)

    def lmdb() -> Any:
        environment = importlib.import_module("lmdb").open(
            # As large as it may ever get: by default 10 MB.
            *(str(folder / f"{next(_numbers)}.mdb"), 1 << 34),
            subdir=False,
            max_dbs=2,
        )
        stack.callback(environment.close)
        return importlib.import_module("langgraph_checkpoint_lmdb").LMDBSaver(environment)

    return {
        "sqlite WAL/NORMAL": lambda: sqlite("WAL", "NORMAL"),
        "ours": lambda: ours("NORMAL"),
        "sqlite as it comes": lambda: sqlite("WAL", "FULL"),
        "ours, FULL": lambda: ours("FULL"),
        # Waits for the disk with each commit, like the two before.
        "LMDB": lmdb,
    }


def deletion(count: int) -> Callable[[Subject], Run]:
    """Delete a thread of so many checkpoints."""

    def build(subject: Subject) -> Run:
        def run() -> float:
            name = f"deleted{next(_numbers)}"
            thread = Thread(subject.saver, 10, name)
            for _ in range(count - 1):
                thread.put(["step"])
            start = time.perf_counter()
            subject.saver.delete_thread(name)
            return time.perf_counter() - start

        return run

    return build


WORKLOADS = [
    on_thread(name, size, length, LIMITS)
    for length, size, name in itertools.product((10, 1000), (10, 100), workloads.OPERATIONS)
]
WORKLOADS += [
    Workload("delete_thread of 1,000 checkpoints", deletion(1000), 0.35),
    Workload("50 invokes of 5 nodes", invokes(), 0.9),
]


def concurrently(folder: Path, synchronous: str, ours: bool, count: int = 50) -> Run:
    """Run graphs at the same time over an awaited saver, each run in a file of its own."""

    async def all_of_them(saver: Any) -> float:
        app = graph(saver)
        start = time.perf_counter()
        await asyncio.gather(
            *(
                app.ainvoke(
                    {"messages": [HumanMessage("hello")]},
                    {"configurable": {"thread_id": f"run{number}"}},
                    durability="sync",
                )
                for number in range(count)
            )
        )
        return time.perf_counter() - start

    async def measured() -> float:
        path = folder / f"{next(_numbers)}.db"
        if ours:
            with DiskStore(path, codec="ormsgpack", synchronous=synchronous) as store:
                return await all_of_them(SwarmStateSaver(store))
        async with AsyncSqliteSaver.from_conn_string(str(path)) as saver:
            await saver.setup()
            await saver.conn.execute(f"PRAGMA synchronous={synchronous}")
            return await all_of_them(saver)

    return lambda: asyncio.run(measured())


def stored(maker: Saver, folder: Path, turns: int = 200) -> int:
    """Return the bytes of the file that one thread of so many turns leaves."""
    before = set(folder.iterdir())
    saver = maker()
    app = graph(saver)
    config: Any = {"configurable": {"thread_id": "thread"}}
    for number in range(turns):
        app.invoke({"messages": [HumanMessage(f"message {number}"), AIMessage("yes")]}, config)
    return sum(file.stat().st_size for file in set(folder.iterdir()) - before)
