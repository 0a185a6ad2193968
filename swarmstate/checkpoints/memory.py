"""Checkpoints in the in-memory store.

What every step of a graph needs is written in C (``ext/checkpoints.pxi``) and done at one moment;
what removes or copies is done as by the engine over any store, which leaves the same content.
"""

from __future__ import annotations

from swarmstate._core import Checkpoints, Store
from swarmstate.checkpoints.generic import GenericEngine
from swarmstate.checkpoints.protocol import CheckpointEngine

__all__ = ["MemoryEngine", "engine_in_memory"]


class MemoryEngine(Checkpoints, GenericEngine):
    """A :class:`~swarmstate.checkpoints.protocol.CheckpointEngine` of a store in memory."""


def engine_in_memory(store: Store) -> CheckpointEngine:
    """Return the engine of a store in memory.

    A subclass may have methods of its own, which only the engine over any store calls.
    """
    return MemoryEngine(store) if type(store) is Store else GenericEngine(store)
