"""Threads made by hand, as a graph would make them."""

from __future__ import annotations

from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.base.id import uuid6


def config(thread: Any = "thread", namespace: str = "", checkpoint_id: str | None = None) -> Any:
    configurable = {"thread_id": thread, "checkpoint_ns": namespace}
    if checkpoint_id is not None:
        configurable["checkpoint_id"] = checkpoint_id
    return {"configurable": configurable}


def checkpoint(versions: dict[str, Any], values: dict[str, Any], id: str | None = None) -> Any:
    return {
        "v": 2,
        "id": id or str(uuid6(clock_seq=1)),
        "ts": "2025-01-01T00:00:00+00:00",
        "channel_values": dict(values),
        "channel_versions": dict(versions),
        "versions_seen": {},
        "updated_channels": None,
    }


def grow(
    saver: BaseCheckpointSaver[Any],
    count: int,
    *,
    thread: Any = "thread",
    namespace: str = "",
    writes: int = 0,
) -> Any:
    """Add checkpoints to the end of a thread, each with one new value and one that it inherits."""
    latest = saver.get_tuple(config(thread, namespace)) if not writes else None
    versions: dict[str, Any] = {}
    values: dict[str, Any] = {}
    where = config(thread, namespace)
    if latest is not None:
        versions = dict(latest.checkpoint["channel_versions"])
        values = dict(latest.checkpoint["channel_values"])
        where = latest.config
    new = {}
    if "kept" not in versions:
        versions["kept"] = new["kept"] = saver.get_next_version(None, None)
        values["kept"] = "the same all along"
    for number in range(count):
        versions["step"] = new["step"] = saver.get_next_version(versions.get("step"), None)
        values["step"] = number
        where = saver.put(where, checkpoint(versions, values), {"step": number}, dict(new))
        new = {}
        if writes:
            saver.put_writes(where, [("x", number)] * writes, f"task{number}", "~path")
    return where


def ready(saver: BaseCheckpointSaver[Any], after: Any) -> Any:
    """Return a function that puts one more checkpoint, with nothing left to find out."""
    latest = saver.get_tuple(after)
    assert latest is not None
    body = latest.checkpoint
    new = {"step": saver.get_next_version(body["channel_versions"]["step"], None)}
    versions = {**body["channel_versions"], **new}
    values = {**body["channel_values"], "step": -1}
    return lambda: saver.put(after, checkpoint(versions, values), {"step": -1}, new)
