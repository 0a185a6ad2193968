"""The metadata that is stored with a checkpoint: what LangGraph's own savers store."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint import base
from langgraph.checkpoint.base import CheckpointMetadata, get_checkpoint_metadata

from swarmstate._checkpoints import checkpoint_metadata

__all__ = ["stored_metadata"]


class _Text(str):
    __slots__ = ()


_CONFIGS: list[Any] = [
    {},
    {"metadata": None, "configurable": None},
    {
        "metadata": {
            "step": 5,
            "user": "a\0b",
            "flag": True,
            "ratio": 0.5,
            "list": [1],
            "none": None,
        },
        "configurable": {
            **dict.fromkeys(("thread_id", "checkpoint_ns", "checkpoint_id", "checkpoint_map"), "x"),
            **dict.fromkeys(("langgraph_step", "langgraph_node", "langgraph_triggers"), "x"),
            **dict.fromkeys(("langgraph_path", "langgraph_checkpoint_ns", "run_id"), "x"),
            **dict.fromkeys(("__pregel_read", "_one", "user", "ls_provider", "revision_id"), "y"),
            "own": _Text("text"),
            "object": object(),
        },
        "tags": ["x"],
    },
]
_METADATA: list[Any] = [
    {},
    {"source": "loop", "step": -1, "parents": {}, "writes": {"a": "b\0"}, "thread_id": "\0"},
    {"text": _Text("x\0"), "none": None, "nested": {"a": "\0"}, "__own": 1},
]


def _agrees(made: Any) -> bool:
    """Return whether a function does what LangGraph's does, in its order and types too."""
    for config in _CONFIGS:
        for metadata in _METADATA:
            found, expected = made(config, metadata), get_checkpoint_metadata(config, metadata)
            if [(k, type(v), v) for k, v in found.items()] != [
                (k, type(v), v) for k, v in expected.items()
            ]:
                return False
    return True


def _fastest() -> Any:
    """Return the fastest function that does what LangGraph's does."""
    # LangGraph's takes a tenth of a put in memory; ours is compared with it once, on import, and
    # not used with a LangGraph whose function has become another one.
    excluded = getattr(base, "EXCLUDED_METADATA_KEYS", None)
    if isinstance(excluded, (set, frozenset)):
        ours = partial(checkpoint_metadata, excluded)
        if _agrees(ours):
            return ours
    return get_checkpoint_metadata


stored_metadata: Callable[[RunnableConfig, CheckpointMetadata], Mapping[str, Any]] = _fastest()
"""Return the metadata to store, as LangGraph's ``get_checkpoint_metadata`` makes it."""
