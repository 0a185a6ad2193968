"""Which functions turn a saver's values into bytes and back: the serializer's own, or ours in C."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from langgraph.checkpoint.serde.base import SerializerProtocol

from swarmstate import _messages

__all__ = ["Dumps", "Loads", "fast"]

Dumps = Callable[[Any], tuple[str, bytes]]
Loads = Callable[[tuple[str, bytes]], Any]


def fast(serde: SerializerProtocol) -> tuple[Dumps, Loads]:
    """Return the fastest functions that do what a serializer's two methods do.

    For LangGraph's own ``JsonPlusSerializer``, exactly that class and without a hook of the user's,
    they are written in C: the same bytes, values, errors and events. A method that is patched
    later is noticed by each call. For every other serializer, and where LangChain or LangGraph is
    not what the C was written for, they are the serializer's own methods.

    Args:
        serde: The serializer.

    Returns:
        ``dumps_typed`` and ``loads_typed``. O(1); ask again when another serializer takes the place
        of this one.
    """
    ours = _messages.accelerate(serde)
    if ours is None:
        return serde.dumps_typed, serde.loads_typed
    return ours.dumps_typed, ours.loads_typed
