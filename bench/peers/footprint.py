"""How much memory the stores take, each measured in a process of its own."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path

import packages

REPEATS = 5
ENTRIES = 100_000
SNAPSHOTS = 20_000
REQUIRED = {"100,000 small entries": 1.4, "one held snapshot, one set apart": 15.0}


def resident() -> int:
    """The resident memory of this process, in bytes."""
    import psutil

    return int(psutil.Process().memory_info().rss)


def measure(side: str, folder: str) -> None:
    """Print the growth in bytes: of a store of entries, and per held snapshot."""
    if side == "ours":
        from swarmstate import Store

        store = Store(codec="ormsgpack")
    else:
        store = packages.rust(folder=Path(folder)).Store()
    store.set("ns", "warm", 1)
    before = resident()
    for number in range(ENTRIES):
        store.set("ns", f"key{number}", {"n": number})
    entries = resident() - before
    held = [store.snapshot()]
    before = resident()
    for number in range(SNAPSHOTS):
        store.set("ns", f"key{number * 5}", {"n": -number})
        held.append(store.snapshot())
    print(json.dumps([entries, (resident() - before) / SNAPSHOTS]))


def footprints() -> int:
    """Print both footprints; return how many fall short."""
    found: dict[str, list[list[float]]] = {"ours": [], "peer": []}
    for _ in range(REPEATS):
        for side, results in found.items():
            command = [sys.executable, __file__, side, str(packages.rust_folder())]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            results.append(json.loads(done.stdout))
    short = 0
    print(f"{'memory':58} {'ours':>9} {'peer':>9} {'required':>9} {'measured':>9}")
    for index, (name, required) in enumerate(REQUIRED.items()):
        ours, peer = (statistics.median(run[index] for run in found[s]) for s in ("ours", "peer"))
        missed = peer / ours < required
        short += missed
        print(
            f"{name:58} {ours:>8.0f}B {peer:>8.0f}B {required:>9g} {peer / ours:>9.3g}"
            f"{'   SHORT' if missed else ''}"
        )
    return short


if __name__ == "__main__":
    measure(*sys.argv[1:])
