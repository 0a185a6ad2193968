"""`python bench/savers [words]`: our saver against the others, on one server, in one run."""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import contestants
from workloads import CONCURRENT, MEMORY, REDIS, Workload, graph

sys.path.append(str(Path(__file__).parents[2] / "tests" / "support"))
from servers import running

REPEATS = 11


def compare(
    workload: Workload, makers: dict[str, Callable[[], Any]], repeats: int = REPEATS
) -> bool:
    """Measure all savers in turns, print ratios to the first; return whether ours is within."""
    runs = {name: workload.build(make()) for name, make in makers.items()}
    times: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run()
    for repeat in range(repeats):
        for name in list(runs) if repeat % 2 else reversed(list(runs)):
            times[name].append(runs[name]())
    baseline, *others = runs
    cells = [f"{statistics.median(times[baseline]) * 1e6:>10.0f}us"]
    ratios: dict[str, float] = {}
    for name in others:
        pairs = sorted(mine / base for mine, base in zip(times[name], times[baseline], strict=True))
        ratios[name] = statistics.median(pairs)
        spread = f"{pairs[len(pairs) // 4]:.2f}-{pairs[-1 - len(pairs) // 4]:.2f}"
        cells.append(f"{ratios[name]:>6.2f} {spread:>11}")
    return show(workload, cells, ratios["ours"])


def show(workload: Workload, cells: list[str], ours: float) -> bool:
    missed = workload.limit is not None and ours > workload.limit
    limit = "" if workload.limit is None else f"{workload.limit:g}"
    print(
        f"{workload.name:42} {limit:>5} " + " ".join(f"{cell:>18}" for cell in cells),
        "  SHORT" if missed else "",
        flush=True,
    )
    return not missed


def header(title: str, makers: dict[str, Any]) -> None:
    names = " ".join(f"{name:>18}" for name in makers)
    print(f"\n{title}\n{'':42} {'limit':>5} {names}")


def stored_bytes() -> bool:
    """Compare what 50 invokes of one thread leave on a server of their own."""
    sizes = {}
    for name in ("swarmstate 0.11 (Rust)", "ours", "aws ValkeySaver"):
        with running() as server, server.client() as client, ExitStack() as stack:
            makers = contestants.on_redis(server.url, stack)
            before = client.info("memory")["used_memory"]
            app = graph(makers[name]())
            for _ in range(50):
                app.invoke({"messages": [("user", "hello")]}, {"configurable": {"thread_id": "t"}})
            sizes[name] = client.info("memory")["used_memory"] - before
    first, *_ = sizes.values()
    cells = [f"{first / 1e6:>9.1f}MB"]
    cells += [f"{size / first:>6.2f}" for size in list(sizes.values())[1:]]
    workload = Workload("bytes stored by 50 invokes of one thread", graph, 0.55)
    return show(workload, cells, sizes["ours"] / first)


def main() -> int:
    words = " ".join(sys.argv[1:])
    good = True
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="swarmstate-peers-")))
        contestants.install(scratch)
        server = stack.enter_context(running())
        makers = contestants.on_redis(server.url, stack)
        print(f"medians of {REPEATS} alternated repeats; ratios to the first column, middle half")
        chosen = [each for each in REDIS if words in f"redis {each.name}"]
        if chosen or words in "redis concurrent":
            header("over one server", makers)
        for workload in chosen:
            good &= compare(workload, makers)
        if words in f"redis {CONCURRENT.name}":
            waiting = {name: makers[name] for name in list(makers)[:2]}
            good &= compare(CONCURRENT, waiting)
        if words in "redis bytes":
            good &= stored_bytes()
        makers = contestants.in_memory()
        chosen = [each for each in MEMORY if words in f"memory {each.name}"]
        if chosen:
            header("in memory", makers)
        for workload in chosen:
            good &= compare(workload, makers)
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
