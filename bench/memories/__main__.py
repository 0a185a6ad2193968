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
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import numpy as np
import packages
from langgraph.store.base import PutOp
from langgraph.store.memory import InMemoryStore
from measuring import Run, in_turns, loop, ratio, shown
from servers import running

from swarmstate import Store
from swarmstate.backends.redis import RedisStore
from swarmstate.integrations.langgraph import SwarmStateStore

REPEATS = 11
VECTORS, DIMENSIONS = 10_000, 1536
WARM_LIMIT = 1.5  # times what the scoring alone takes
BASELINE = "SqliteStore"
# Each of our stores, and the peer that keeps its items in the same kind of place.
RIVALS = {"ours (file)": BASELINE, "ours (Valkey)": "HotKVStore (Valkey)"}
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

    def file() -> Any:
        store = importlib.import_module("swarmstate.backends.disk").DiskStore
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        return SwarmStateStore(stack.enter_context(store(f"{folder}/db")))

    return {
        "InMemoryStore": InMemoryStore(),
        "ours (memory)": SwarmStateStore(Store()),
        BASELINE: sqlite(),
        **({"ours (file)": file()} if find_spec("swarmstate.backends.disk") else {}),
        "HotKVStore (Valkey)": hotkv(),
        "ours (Valkey)": SwarmStateStore(stack.enter_context(RedisStore(url, prefix="bench"))),
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


def vectors_are_warm(url: str, stack: ExitStack) -> bool:
    """Print what a search costs besides the scoring, once the vectors were read; say if short."""
    random = np.random.default_rng(1)
    matrix = random.standard_normal((VECTORS, DIMENSIONS), dtype=np.float32)
    query = random.standard_normal(DIMENSIONS, dtype=np.float32)
    rows = {f"text {number}": row for number, row in enumerate(matrix)} | {"query": query}

    def embed(texts: list[str]) -> list[list[float]]:
        return [rows[text].tolist() for text in texts]

    lengths = np.linalg.norm(matrix, axis=1)

    def score() -> Any:
        scores = (matrix @ query) / (lengths * np.linalg.norm(query))
        return np.argsort(-scores)[:10]

    best = [f"text {number}" for number in score()]
    disk = importlib.import_module("swarmstate.backends.disk")
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    stores = {
        "ours (memory)": Store(),
        "ours (file)": stack.enter_context(disk.DiskStore(f"{folder}/db")),
        "ours (Valkey)": stack.enter_context(RedisStore(url, prefix="vectors")),
    }
    runs = {"scoring": timed(score)}
    for name, store in stores.items():
        index: Any = {"dims": DIMENSIONS, "embed": embed, "fields": ["text"]}
        memory = SwarmStateStore(store, index=index)
        for first in range(0, VECTORS, 500):
            texts = [f"text {number}" for number in range(first, first + 500)]
            memory.batch([PutOp(("vectors",), text, {"text": text}) for text in texts])
        assert [item.key for item in memory.search(("vectors",), query="query")] == best
        runs[name] = timed(partial(memory.search, ("vectors",), query="query"))
    times = in_turns(runs, REPEATS)
    scoring = times.pop("scoring")
    ratios = {name: ratio(each, scoring) for name, each in times.items()}
    row = f"{VECTORS:,} vectors of {DIMENSIONS:,}, warm"
    cells = ", ".join(f"{name} {each!s}" for name, each in ratios.items())
    print(f"{row}: scoring by numpy {shown(statistics.median(scoring))}; relative to it: {cells}")
    return all(each.median <= WARM_LIMIT for each in ratios.values())


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
            short = [
                name
                for name, rival in RIVALS.items()
                if name in times and ratio(times[name], times[rival]).median > 1
            ]
            good &= not short
            print(f"{row:30} {shown(statistics.median(times[BASELINE])):>12} {cells}", end="")
            print(f"  SHORT: {', '.join(short)}" if short else "", flush=True)
        if all(word in "vectors" for word in sys.argv[1:]):
            good &= vectors_are_warm(server.url, stack)
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
