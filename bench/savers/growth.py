"""`python bench/savers/growth.py [words]`: what a call costs as a thread, and its store, grow.

Each row is one call on one store. Its columns are the times in threads of 10, 1,000 and 10,000
checkpoints, and in stores of 10 and 10,000 threads; a ratio is to the first column, measured in
turns. None should exceed 1.3.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from measuring import in_turns, ratio, shown
from servers import running
from workloads import OPERATIONS, Run, Subject, Thread

from swarmstate import Store
from swarmstate.backends.disk import DiskStore
from swarmstate.backends.redis import RedisStore
from swarmstate.integrations.langgraph import SwarmStateSaver

MOST = 1.3
SIZE = 10  # messages in the state
LENGTHS = (10, 1_000, 10_000)
THREADS = (10, 10_000)
REPEATS = 15

Clock = Callable[[], float]


def by_length(subject: Subject, name: str) -> dict[str, Run]:
    """Return what does a call in threads of each length."""
    operation, rounds = OPERATIONS[name]
    runs = {}
    for length in LENGTHS:
        thread = subject.thread(SIZE, length)
        runs[f"{length:,} long"] = lambda thread=thread: operation(thread, rounds)
    return runs


def by_threads(subjects: dict[int, Subject], name: str) -> dict[str, Run]:
    """Return what does a call in stores of few and of many threads."""
    operation, rounds = OPERATIONS[name]
    runs = {}
    for count, subject in subjects.items():
        thread = subject.thread(SIZE, 20)
        runs[f"{count:,} threads"] = lambda thread=thread: operation(thread, rounds)
    return runs


def filled(saver: SwarmStateSaver, count: int, clock: Clock) -> Subject:
    for number in range(count - 1):
        Thread(saver, 1, f"other {number}")
    return Subject(saver, clock)


def show(name: str, runs: dict[str, Run]) -> bool:
    times = in_turns(runs, REPEATS)
    first, *others = times
    ratios = {other: ratio(times[other], times[first]) for other in others}
    good = all(each.median <= MOST for each in ratios.values())
    cells = [f"{first} {shown(statistics.median(times[first]))}"]
    cells += [f"{other} {each}" for other, each in ratios.items()]
    print(f"{name:24}", *(f"{cell:>30}" for cell in cells), "" if good else "  SHORT", flush=True)
    return good


def main() -> int:
    good = True
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(running())
        makers: dict[str, Callable[[str], SwarmStateSaver]] = {
            "memory": lambda name: SwarmStateSaver(Store()),
            "disk": lambda name: SwarmStateSaver(
                stack.enter_context(DiskStore(folder / f"{name}.db"))
            ),
            "redis": lambda name: SwarmStateSaver(
                stack.enter_context(RedisStore(server.url, prefix=name))
            ),
        }
        for kind, make in makers.items():
            rows = [name for name in OPERATIONS if all(w in f"{kind} {name}" for w in sys.argv[1:])]
            if not rows:
                continue
            clock = time.thread_time if kind == "memory" else time.perf_counter
            subject = Subject(make("lengths"), clock)
            many = {count: filled(make(f"threads{count}"), count, clock) for count in THREADS}
            for name in rows:
                good &= show(f"{kind} {name}", by_length(subject, name))
                good &= show(f"{kind} {name}", by_threads(many, name))
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
