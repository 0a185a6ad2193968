"""`python bench/peers [words]`: our stores against those of the Rust package of the same name.

"redis", "memory" and "floors" are the sections; other words choose among the in-memory measures.
"""

from __future__ import annotations

import sys

import packages
from floors import floors
from footprint import footprints
from measuring import REPEATS, table
from memory_store import MEASURES
from redis_store import redis_stores

import swarmstate


def main() -> int:
    wanted = " ".join(sys.argv[1:])
    peer = packages.rust()
    print(f"ours {swarmstate.__version__} against {packages.RUST} (Rust)")
    print(f"medians of {REPEATS} alternated repeats; a ratio above 1: we are faster, or smaller\n")
    if wanted == "redis":
        return 1 if redis_stores() else 0
    short = table(
        measure.against(swarmstate.Store, peer.Store)
        for measure in MEASURES
        if wanted in measure.name
    )
    if not wanted or wanted == "memory":
        print()
        short += footprints()
    if not wanted or wanted == "floors":
        print()
        short += floors()
    if not wanted:
        print()
        short += redis_stores()
    return 1 if short else 0


if __name__ == "__main__":
    raise SystemExit(main())
