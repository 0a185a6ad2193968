"""`python bench/peers [words]`: the in-memory store against the Rust package of the same name."""

from __future__ import annotations

import sys

import rust_package
from floors import floors
from footprint import footprints
from measuring import REPEATS, compare, table
from memory_store import MEASURES

import swarmstate


def main() -> int:
    wanted = " ".join(sys.argv[1:])
    peer = rust_package.load()
    print(f"ours {swarmstate.__version__} against {rust_package.REQUIREMENT} (Rust)")
    print(f"medians of {REPEATS} alternated repeats; a ratio above 1: we are faster, or smaller\n")
    short = table(
        compare(measure, swarmstate.Store, peer.Store)
        for measure in MEASURES
        if wanted in measure.name
    )
    if not wanted or wanted == "memory":
        print()
        short += footprints()
    if not wanted or wanted == "floors":
        print()
        short += floors()
    return 1 if short else 0


if __name__ == "__main__":
    raise SystemExit(main())
