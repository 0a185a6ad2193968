"""LangGraph: a checkpointer, a long-term memory and a cache over any store."""

from importlib.metadata import version

try:
    from langgraph.checkpoint import base
except ImportError as error:
    raise ImportError(
        "the LangGraph integration needs the library langgraph-checkpoint: "
        "pip install 'langgraph-checkpoint>=4.1'"
    ) from error
if not hasattr(base, "DeltaChannelHistory"):
    raise ImportError(
        "the LangGraph integration needs langgraph-checkpoint 4.1 or later, and "
        f"{version('langgraph-checkpoint')} is installed: "
        "pip install --upgrade 'langgraph-checkpoint>=4.1'"
    )

from swarmstate.integrations.langgraph.cache import SwarmStateCache
from swarmstate.integrations.langgraph.copying import CopyMismatchError, CopyReport, copy_threads
from swarmstate.integrations.langgraph.saver import SwarmStateSaver
from swarmstate.integrations.langgraph.serialization import CheckpointDecodeError
from swarmstate.integrations.langgraph.store import SwarmStateStore

__all__ = [
    "CheckpointDecodeError",
    "CopyMismatchError",
    "CopyReport",
    "SwarmStateCache",
    "SwarmStateSaver",
    "SwarmStateStore",
    "copy_threads",
]
