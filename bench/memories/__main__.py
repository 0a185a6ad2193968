"""`python bench/memories [words]`: our long-term memory against the others, in one run.

Only rows with all of the words in their names are measured.
"""

from __future__ import annotations

import importlib
import itertools
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from importlib.metadata import version
from typing import Any

import packages
from langgraph.store.base import PutOp
from langgraph.store.memory import InMemoryStore
from measuring import Run, in_turns, loop, ratio, shown
from servers import running

from swarmstate import Store
from swarmstate.backends.redis import RedisStore
from swarmstate.integrations.langgraph import SwarmStateStore

REPEATS = 11
BASELINE = "SqliteStore"
# Ahead of every persistent one on every row.
LIMIT = 1.0
OTHERS = ("langgraph-checkpoint-sqlite", "langgraph-checkpoint-hotkv")

VALUE = {"kind": "preference", "text": "Ana prefers figs to dates, and tea to coffee.", "n": 7}


def contestants(url: str, stack: ExitStack) -> dict[str, Any]:
    """Return the memories; all but the first two outlive the process."""

    def sqlite() -> Any:
        store = importlib.import_module("langgraph.store.sqlite").SqliteStore
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        made = stack.enter_context(store.from_conn_string(f"{folder}/db"))
        made.setup()
        made.conn.execute("PRAGMA synchronous=NORMAL")
        return made

    def hotkv() -> Any:
        store = importlib.import_module("langgraph.store.hotkv").HotKVStore
        return stack.enter_context(store.from_conn_string(url.replace("redis://", "hotkv://")))

    return {
        "InMemoryStore": InMemoryStore(),
        "ours (memory)": SwarmStateStore(Store()),
        BASELINE: sqlite(),
        "ours (Valkey)": SwarmStateStore(stack.enter_context(RedisStore(url, prefix="bench"))),
        "HotKVStore (Valkey)": hotkv(),
    }


def put(memory: Any) -> Run:
    numbers = itertools.count()
    return timed(lambda: memory.put(("users", "ana"), f"k{next(numbers) % 1000}", VALUE))


def get(memory: Any) -> Run:
    memory.put(("users", "get"), "k", VALUE)
    return timed(lambda: memory.get(("users", "get"), "k"))


def search(memory: Any) -> Run:
    memory.batch([PutOp(("search", "x"), f"k{n}", {**VALUE, "n": n}) for n in range(100)])
    assert len(memory.search(("search",), filter={"n": {"$gte": 90}})) == 10
    return timed(lambda: memory.search(("search",), filter={"n": {"$gte": 90}}))


def listing(memory: Any) -> Run:
    for first in range(0, 1000, 100):
        numbers = range(first, first + 100)
        memory.batch([PutOp(("list", f"u{n}"), "k", VALUE) for n in numbers])
    assert len(memory.list_namespaces(prefix=("list",), limit=1000)) == 1000
    return timed(lambda: memory.list_namespaces(prefix=("list",), limit=1000))


def timed(operation: Callable[[], Any]) -> Run:
    # On a server the time is that of the clock: most of it passes elsewhere.
    return loop(operation, time.perf_counter)


ROWS: dict[str, Callable[[Any], Run]] = {
    "put": put,
    "get": get,
    "search of 100 with a filter": search,
    "list_namespaces of 1,000": listing,
}


def main() -> int:
    good = True
    packages.install(*OTHERS)
    with ExitStack() as stack:
        server = stack.enter_context(running())
        names = ["swarmstate", "langgraph-checkpoint", *OTHERS]
        print(
            f"Python {platform.python_version()}, {', '.join(f'{n} {version(n)}' for n in names)}"
        )
        print(f"medians of {REPEATS} alternated repeats; ratios to {BASELINE}, middle half")
        memories = contestants(server.url, stack)
        print(f"{'':30} {BASELINE:>12} " + " ".join(f"{name:>20}" for name in memories))
        for row, build in ROWS.items():
            if not all(word in row for word in sys.argv[1:]):
                continue
            times = in_turns({name: build(memory) for name, memory in memories.items()}, REPEATS)
            ratios = {name: ratio(times[name], times[BASELINE]) for name in memories}
            cells = " ".join(f"{cell!s:>20}" for cell in ratios.values())
            ours = ratios["ours (Valkey)"].median
            short = ours > LIMIT or ours > ratios["HotKVStore (Valkey)"].median
            good &= not short
            print(f"{row:30} {shown(statistics.median(times[BASELINE])):>12} {cells}", end="")
            print("  SHORT" if short else "", flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
