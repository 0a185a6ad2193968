"""`python bench/savers [words]`: our saver against the others, on one server, in one run.

Only rows with all of the words in their names are measured: `redis put 1,000` is one such line.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import contestants
from footprints import FOOTPRINTS, Footprint
from measuring import in_turns, ratio, shown
from servers import running
from workloads import CONCURRENT, FOREIGN, MEMORY, REDIS, Subject, Workload

REPEATS = 11
TO_HOTKV = 0.7
"""The largest accepted ratio to HotKV's saver, whose Python frames are few, of every row."""


def compare(workload: Workload, subjects: dict[str, Subject]) -> bool:
    """Measure all savers in turns, print ratios to the first; return whether ours is within."""
    runs = {name: workload.build(subject) for name, subject in subjects.items()}
    times = in_turns(runs, REPEATS)
    baseline, *others = runs
    ratios = {name: ratio(times[name], times[baseline]) for name in others}
    cells = [shown(statistics.median(times[baseline])), *map(str, ratios.values())]
    to_hotkv = None
    if contestants.HOTKV in times:
        to_hotkv = ratio(times["ours"], times[contestants.HOTKV]).median
    return show(workload, cells, ratios["ours"].median, to_hotkv)


def show(workload: Workload, cells: list[str], ours: float, to_hotkv: float | None = None) -> bool:
    missed = workload.limit is not None and ours > workload.limit
    if to_hotkv is not None:
        missed |= to_hotkv > TO_HOTKV
        cells = [*cells, f"{to_hotkv:.2f}"]
    limit = "" if workload.limit is None else f"{workload.limit:g}"
    print(
        f"{workload.name:56} {limit:>5} " + " ".join(f"{cell:>18}" for cell in cells),
        "  SHORT" if missed else "",
        flush=True,
    )
    return not missed


def header(title: str, makers: dict[str, Any]) -> None:
    columns = [*makers, *(["ours to HotKV"] if contestants.HOTKV in makers else [])]
    names = " ".join(f"{name:>18}" for name in columns)
    print(f"\n{title}\n{'':56} {'limit':>5} {names}")


def footprint(row: Footprint) -> bool:
    """Compare what a thread takes on a server of its own, and what was sent for it.

    The first is the memory that removing all keys gives back: not what the server keeps for each
    connection, nor the histograms that it starts with the first command of each kind.
    """
    stored, sent = {}, {}
    for name in ("Rust package", "ours", "aws ValkeySaver", contestants.ZSTD):
        with running() as server, server.client() as client, ExitStack() as stack:
            makers = contestants.on_redis(server.url, stack)
            makers[contestants.ZSTD] = contestants.compressed(server.url)
            before = client.info("stats")["total_net_input_bytes"]
            row.fill(makers[name]())
            sent[name] = client.info("stats")["total_net_input_bytes"] - before
            full = client.info("memory")["used_memory"]
            client.execute_command("FLUSHALL", "SYNC")  # Valkey frees in the background otherwise
            stored[name] = full - client.info("memory")["used_memory"]
    good = True
    for what, sizes, limit in (("stored", stored, row.stored), ("sent", sent, row.sent)):
        first, *others = sizes.values()
        cells = [f"{first / 1e6:>9.1f}MB", *(f"{size / first:>6.3f}" for size in others)]
        workload = Workload(f"bytes {what}: {row.name}", row.fill, limit)  # type: ignore[arg-type]
        cells[-1] += " (zstd)"
        good &= show(workload, cells, sizes["ours"] / first)
    compressed = stored[contestants.ZSTD] / stored["Rust package"]
    return good and (row.zstd is None or compressed <= row.zstd)


def asked(where: str) -> Callable[[Workload | Footprint], bool]:
    """Return whether all words of the command line are in the name of a row."""
    return lambda row: all(word in f"{where} {row.name}" for word in sys.argv[1:])


def main() -> int:
    good = True
    with ExitStack() as stack:
        contestants.install()
        server = stack.enter_context(running())
        with server.client() as client:
            info = client.info("server")
        print(f"Valkey {info['valkey_version']}, {contestants.versions()}")
        print(f"medians of {REPEATS} alternated repeats; ratios to the first column, middle half")
        makers = contestants.on_redis(server.url, stack)
        subjects = {name: Subject(make()) for name, make in makers.items()}
        header("redis: over one server", makers)
        for workload in filter(asked("redis"), REDIS):
            good &= compare(workload, subjects)
        for workload in filter(asked("redis"), [CONCURRENT]):
            good &= compare(workload, dict(list(subjects.items())[:2]))
        for row in filter(asked("redis bytes"), FOOTPRINTS):
            good &= footprint(row)
        makers = contestants.in_memory()
        subjects = {name: Subject(make(), time.thread_time) for name, make in makers.items()}
        header("memory: in one process", makers)
        for workload in filter(asked("memory"), MEMORY):
            good &= compare(workload, subjects)
        for kind, serde in contestants.SERDES.items():
            makers = contestants.in_memory(serde())
            subjects = {name: Subject(make(), time.thread_time) for name, make in makers.items()}
            header(f"foreign serde: in memory, {kind}", makers)
            for workload in filter(asked(f"foreign serde {kind}"), FOREIGN):
                good &= compare(workload, subjects)
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
