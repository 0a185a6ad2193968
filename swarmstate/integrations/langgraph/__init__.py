"""LangGraph: a checkpointer over any store, and a way to move threads into it."""

try:
    import langgraph.checkpoint.base  # noqa: F401 (only whether it is installed)
except ImportError as error:
    raise ImportError(
        "the LangGraph integration needs langgraph-checkpoint: pip install 'swarmstate[langgraph]'"
    ) from error

from swarmstate.integrations.langgraph.copying import CopyMismatchError, CopyReport, copy_threads
from swarmstate.integrations.langgraph.saver import SwarmStateSaver
from swarmstate.integrations.langgraph.serialization import CheckpointDecodeError

__all__ = [
    "CheckpointDecodeError",
    "CopyMismatchError",
    "CopyReport",
    "SwarmStateSaver",
    "copy_threads",
]
