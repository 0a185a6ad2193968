"""DiskStore against the store of the Rust package that keeps its values in SQLite too.

Reads wait for nothing, so their time is that of the processor.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from measuring import Row, Run, in_turns, loop
from memory_store import BATCH, SMALL

from swarmstate.backends.disk import DiskStore

_numbers = itertools.count()
KEYS = 100_000

Make = Callable[[], Any]


def set_one(store: Any) -> Run:
    return loop("set('ns', 'key', value)", time.perf_counter, set=store.set, value=SMALL)


def get_one(store: Any) -> Run:
    store.set("ns", "key", SMALL)
    return loop("get('ns', 'key')", get=store.get)


def set_many(store: Any) -> Run:
    return loop("set_many(batch)", time.perf_counter, set_many=store.set_many, batch=BATCH)


def get_many(store: Any) -> Run:
    store.set_many(BATCH)
    pairs = [item[:2] for item in BATCH]
    return loop("get_many(pairs)", get_many=store.get_many, pairs=pairs)


def filled(store: Any) -> Any:
    store.set_many([("big", f"key{number}", number) for number in range(KEYS)])
    return store


def change(store: Any) -> None:
    for number in range(10):
        store.set("big", f"key{number}", time.perf_counter())


def snapshot(store: Any) -> Run:
    held = [filled(store).snapshot()]

    def run() -> float:
        change(store)
        start = time.perf_counter()
        held[:] = [store.snapshot(), held[0]]
        return time.perf_counter() - start

    return run


def diff(store: Any) -> Run:
    base = filled(store).snapshot()
    change(store)
    target = store.snapshot()

    def run() -> float:
        start = time.perf_counter()
        target.diff(base)
        return time.perf_counter() - start

    return run


def restore(store: Any) -> Run:
    held = filled(store).snapshot()

    def run() -> float:
        change(store)
        start = time.perf_counter()
        store.restore(held)
        return time.perf_counter() - start

    return run


MEASURES: list[tuple[str, Callable[[Any], Run], float]] = [
    ("set", set_one, 0.7),
    ("get", get_one, 1.1),
    ("set_many of 50", set_many, 1.0),
    ("get_many of 50", get_many, 1.0),
    ("snapshot after 10 changes at 100,000 keys", snapshot, 0.1),
    ("diff of 10 changes at 100,000 keys", diff, 0.05),
    ("restore of 10 changes at 100,000 keys", restore, 0.1),
]


def rows(folder: Path, peer: Any, wanted: Callable[[str], bool], repeats: int) -> Any:
    """Yield a row for each measure."""
    for name, build, limit in MEASURES:
        if not wanted(f"stores {name}"):
            continue
        ours = DiskStore(folder / f"store{next(_numbers)}.db", codec="ormsgpack")
        theirs = peer(str(folder / f"theirs{next(_numbers)}.db"))
        few = min(repeats, 5) if "100,000" in name else repeats
        times = in_turns({"ours": build(ours), "peer": build(theirs)}, few)
        yield Row(name, times["ours"], times["peer"], most=limit)
        ours.close()
