"""`python bench/peers [words]`: our stores against those of the Rust package of the same name.

"redis", "memory", "floors" and "handoff" are the sections; other words choose among the in-memory
measures.
"""

from __future__ import annotations

import sys
from types import ModuleType

import packages
from floors import floors
from footprint import footprints
from handoff_graphs import MEASURES as HANDOFF_MEASURES
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
    if wanted == "handoff":
        return 1 if handoff_graphs(peer) else 0
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
        short += handoff_graphs(peer)
        print()
        short += redis_stores()
    return 1 if short else 0


def handoff_graphs(peer: ModuleType) -> int:
    """Print how handoff graphs compare; return how many measures fall short."""
    return table(
        measure.against(swarmstate.HandoffGraph, peer.HandoffGraph) for measure in HANDOFF_MEASURES
    )


if __name__ == "__main__":
    raise SystemExit(main())
