"""Moving threads from one checkpointer to another."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any

from langgraph.checkpoint.base import WRITES_IDX_MAP, BaseCheckpointSaver, CheckpointTuple
from langgraph.checkpoint.memory import InMemorySaver

from swarmstate.arguments import shown
from swarmstate.errors import ArgumentTypeError, SwarmStateError
from swarmstate.integrations.langgraph.config import configurable_of
from swarmstate.integrations.langgraph.saver import SwarmStateSaver

__all__ = ["CopyMismatchError", "CopyReport", "copy_threads"]

_Name = tuple[str, str]
_Writes = list[tuple[str, str, list[tuple[str, Any]]]]


class CopyMismatchError(SwarmStateError, ValueError):
    """A copied checkpoint does not read as its original does.

    Attributes:
        thread: The thread id.
        namespace: The checkpoint namespace.
        checkpoint: The checkpoint id.
        part: What differs.
    """

    def __init__(self, thread: str, namespace: str, checkpoint: str, part: str) -> None:
        super().__init__(
            f"the copy of checkpoint {checkpoint!r} in namespace {namespace!r} of thread "
            f"{thread!r} differs from its original in: {part}"
        )
        self.thread = thread
        self.namespace = namespace
        self.checkpoint = checkpoint
        self.part = part


@dataclass
class CopyReport:
    """How far a copy has come.

    Attributes:
        total: How many threads there are to copy, or None while that is unknown.
        threads: How many are done: their histories read the same on both sides.
        checkpoints: How many checkpoints were written.
        skipped: How many were there already, equal.
    """

    total: int | None = None
    threads: int = 0
    checkpoints: int = 0
    skipped: int = 0


def copy_threads(
    source: BaseCheckpointSaver[Any],
    target: BaseCheckpointSaver[Any],
    thread_ids: Iterable[str] | None = None,
    *,
    progress: bool | Callable[[CopyReport], None] = True,
) -> CopyReport:
    """Copy whole threads from any checkpointer to any other.

    Checkpoints keep their ids, parents, versions, metadata and pending writes. Each thread's
    history is read back and compared. What the target already has, equal, is not written again: a
    copy that was interrupted goes on where it stopped when it is started again, and a second copy
    writes nothing. The source is not changed; nothing should write to a thread while it is copied.

    Args:
        source: Where the threads are.
        target: Where they go.
        thread_ids: Which threads; all of them if omitted, for which the source is listed.
        progress: Whether to draw a progress bar on standard error, which is done on a terminal
            only, or a function to call after each thread instead.

    Returns:
        What was done.

    Raises:
        CopyMismatchError: a copy does not read as its original.
        ArgumentTypeError: not checkpointers, or not ids.
    """
    for what, saver in (("source", source), ("target", target)):
        if not isinstance(saver, BaseCheckpointSaver):
            raise ArgumentTypeError(
                f"{what} must be a LangGraph checkpointer, not {type(saver).__name__} "
                f"({shown(saver)})"
            )
    if isinstance(thread_ids, (str, bytes)):
        raise ArgumentTypeError(
            f"thread_ids must be an iterable of thread ids, not one ({shown(thread_ids)})"
        )
    ids = list(dict.fromkeys(_all_threads(source) if thread_ids is None else thread_ids))
    report = CopyReport(total=len(ids))
    with _bar(len(ids)) if progress is True else nullcontext(progress or _silent) as tell:
        tell(report)
        for thread in ids:
            _copy(source, target, thread, report)
            report.threads += 1
            tell(report)
    return report


def _all_threads(saver: BaseCheckpointSaver[Any]) -> Iterator[str]:
    if isinstance(saver, SwarmStateSaver):
        yield from saver.threads()
        return
    for found in saver.list(None):
        yield configurable_of(found.config)["thread_id"]


def _copy(
    source: BaseCheckpointSaver[Any],
    target: BaseCheckpointSaver[Any],
    thread: str,
    report: CopyReport,
) -> None:
    originals = _history(source, thread)
    there = _history(target, thread)
    changed = False
    known: set[tuple[str, str, Any]] = set()
    for name, original in sorted(originals.items(), key=lambda entry: (entry[0][1], entry[0][0])):
        namespace = name[0]
        checkpoint = original.checkpoint
        versions = checkpoint["channel_versions"]
        new = {c: v for c, v in versions.items() if (namespace, c, v) not in known}
        known.update((namespace, c, v) for c, v in new.items())
        if name in there and _difference(original, there[name], target) is None:
            report.skipped += 1
            continue
        configurable = {"thread_id": thread, "checkpoint_ns": namespace}
        if original.parent_config is not None:
            parent = configurable_of(original.parent_config)["checkpoint_id"]
            configurable["checkpoint_id"] = parent
        stored = target.put({"configurable": configurable}, checkpoint, original.metadata, new)
        for task_id, path, writes in _writes_of(source, thread, original):
            target.put_writes(stored, writes, task_id, path)
        changed = True
        report.checkpoints += 1
    if not changed:
        return
    copies = _history(target, thread)
    for name, original in originals.items():
        copy = copies.get(name)
        part = "existence" if copy is None else _difference(original, copy, target)
        if part is not None:
            raise CopyMismatchError(thread, *name, part)


def _history(saver: BaseCheckpointSaver[Any], thread: str) -> dict[_Name, CheckpointTuple]:
    """Return everything a saver holds of a thread, by namespace and id."""
    found: dict[_Name, CheckpointTuple] = {}
    for one in saver.list({"configurable": {"thread_id": thread}}):
        configurable = configurable_of(one.config)
        found[configurable.get("checkpoint_ns", ""), configurable["checkpoint_id"]] = one
    return found


def _writes_of(source: BaseCheckpointSaver[Any], thread: str, original: CheckpointTuple) -> _Writes:
    """Return (task id, task path, writes) in an order and with paths that keep the order.

    A tuple does not tell the task paths that order its writes. Savers that we can ask are asked;
    otherwise the paths count up, which keeps the order as well.
    """
    configurable = configurable_of(original.config)
    namespace = configurable.get("checkpoint_ns", "")
    checkpoint_id = configurable["checkpoint_id"]
    paths: dict[str, str] = {}
    if isinstance(source, SwarmStateSaver):
        paths = source.task_paths(original.config)
    elif isinstance(source, InMemorySaver):
        stored = source.writes.get((thread, namespace, checkpoint_id), {})
        paths = {task_id: path for task_id, _, _, path in stored.values()}
    grouped: dict[str, list[tuple[str, Any]]] = {}
    for task_id, channel, value in original.pending_writes or ():
        grouped.setdefault(task_id, []).append((channel, value))
    found: _Writes = []
    for number, (task_id, writes) in enumerate(grouped.items()):
        path = paths.get(task_id, f"{number:08}" if number else "")
        # Each of the special channels has a place of its own and must not shift the others.
        plain = [write for write in writes if write[0] not in WRITES_IDX_MAP]
        found += [(task_id, path, [w]) for w in writes if w[0] in WRITES_IDX_MAP]
        if plain:
            found.append((task_id, path, plain))
    return found


def _difference(
    original: CheckpointTuple, copy: CheckpointTuple, target: BaseCheckpointSaver[Any]
) -> str | None:
    """Return the name of the first part that differs, or None."""

    def equal(left: Any, right: Any) -> bool:
        # Objects without an equality of their own, and those that refuse to be compared as a whole,
        # as arrays do, are compared by what would be stored.
        with suppress(Exception):
            if left == right:
                return True
        dumps = target.serde.dumps_typed
        return bool(dumps(left) == dumps(right))

    for part in ("channel_values", "channel_versions", "versions_seen"):
        if not equal(original.checkpoint.get(part), copy.checkpoint.get(part)):
            return part
    left, right = dict(original.checkpoint), dict(copy.checkpoint)
    for body in (left, right):
        for part in ("channel_values", "channel_versions", "versions_seen"):
            body.pop(part, None)
    if not equal(left, right):
        return "checkpoint"
    if not equal(original.metadata, copy.metadata):
        return "metadata"
    if _parent(original) != _parent(copy):
        return "parent"
    if not equal(list(original.pending_writes or ()), list(copy.pending_writes or ())):
        return "pending writes"
    return None


def _parent(found: CheckpointTuple) -> Any:
    config = found.parent_config
    return None if config is None else configurable_of(config).get("checkpoint_id")


def _silent(report: CopyReport) -> None:
    pass


@contextmanager
def _bar(total: int) -> Iterator[Callable[[CopyReport], None]]:
    """Draw the progress on standard error, if that is a terminal."""
    if not sys.stderr.isatty():
        yield _silent
        return
    from tqdm import tqdm

    with tqdm(total=total, unit=" threads") as bar:

        def tell(report: CopyReport) -> None:
            copied, skipped = report.checkpoints, report.skipped
            bar.set_postfix_str(f"{copied} checkpoints copied, {skipped} already there", False)
            bar.update(report.threads - bar.n)

        yield tell
