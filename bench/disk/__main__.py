"""`python bench/disk [words]`: DiskStore against others that keep state in a file, in one run.

Only rows with all of the words in their names are measured, such as `savers put` or `stores get`.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import platform
import sqlite3
import statistics
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import heartbeat
import packages
import processes
import savers
import stores
from measuring import Row, in_turns, ratio, shown, table
from workloads import Subject

REPEATS = 11


def wanted(row: str) -> bool:
    """Return whether all words of the command line are in the name of a row."""
    return all(word in row for word in sys.argv[1:])


def main() -> int:
    short = 0
    names = ("swarmstate", "langgraph", "langgraph-checkpoint-sqlite")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
    print(f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {versions}")
    print(f"medians of {REPEATS} alternated repeats; ratios to the first column, middle half")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-disk-")))
        makers = savers.makers(folder, stack)
        rows = [row for row in savers.WORKLOADS if wanted(f"savers {row.name}")]
        if rows:
            savers.install()
            print(f"{savers.LMDB} {importlib.metadata.version(savers.LMDB)}")
            subjects = {name: Subject(make()) for name, make in makers.items()}
            print(f"\n{'savers':50} {'limit':>5} " + " ".join(f"{name:>18}" for name in makers))
        for row in rows:
            able = {name: one for name, one in subjects.items() if savers.can(name, row.name)}
            times = in_turns({name: row.build(one) for name, one in able.items()}, REPEATS)
            baseline, *others = times
            ratios = {name: ratio(times[name], times[baseline]) for name in others}
            missed = row.limit is not None and ratios["ours"].median > row.limit
            short += missed
            limit = "" if row.limit is None else f"{row.limit:g}"
            cells = [shown(statistics.median(times[baseline])), *map(str, ratios.values())]
            columns = " ".join(f"{cell:>18}" for cell in cells)
            print(f"{row.name:50} {limit:>5} {columns}{'  SHORT' if missed else ''}", flush=True)
        awaited = []
        for synchronous, most in (("NORMAL", 0.5), ("FULL", 0.3)):
            name = f"50 concurrent ainvoke, {synchronous}"
            if wanted(f"savers {name}"):
                runs = {
                    which: savers.concurrently(folder, synchronous, which == "ours")
                    for which in ("ours", "other")
                }
                times = in_turns(runs, 5)
                awaited.append(Row(name, times["ours"], times["other"], most=most))
        if awaited:
            print()
            short += table(awaited, other="AsyncSqlite", limit="limit")
        if wanted("savers bytes stored by one long thread"):
            baseline, ours = (
                savers.stored(makers[name], folder) for name in ("sqlite WAL/NORMAL", "ours")
            )
            print(f"\nbytes stored by one thread of 200 turns, limit 0.1: {ours / baseline:.2f}")
            short += ours / baseline > 0.1
        if wanted("heartbeat"):
            print()
            short += asyncio.run(heartbeat.heartbeat(folder, REPEATS))
        if wanted("processes"):
            print()
            short += processes.contention(folder)
        if any(wanted(f"stores {name}") for name, _, _ in stores.MEASURES):
            print()
            peer = packages.rust("backends.disk").DiskStore
            short += table(stores.rows(folder, peer, wanted, REPEATS), other="Rust", limit="limit")
    return 1 if short else 0


if __name__ == "__main__":
    raise SystemExit(main())
