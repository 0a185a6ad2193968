"""The commands that show threads, checkpoints and pending writes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from typing import Any

import click

from swarmstate.checkpoints.protocol import (
    CheckpointEngine,
    CheckpointName,
    StoredCheckpoint,
    TaskWrite,
)
from swarmstate.cli.changes import changes
from swarmstate.cli.commands import command
from swarmstate.cli.opening import Place, check_not_memory, engine, settled
from swarmstate.cli.showing import Display, ago, bytes_of, plural
from swarmstate.cli.values import of_blob, shape_of
from swarmstate.errors import DecodeError

__all__ = ["heads", "in_parts", "when"]

_PAGE = 100
_PAGE_BYTES = 8 << 20
_MOST_SHOWN = 2000

_ns = click.option(
    "--ns", default=None, help='The checkpoint namespace; "" is that of the graph itself.'
)
_full = click.option("--full", is_flag=True, help="Show values whole.")


def in_parts(items: Sequence[Any], size: int = _PAGE) -> Iterator[Sequence[Any]]:
    """Yield some items at a time."""
    return (items[first : first + size] for first in range(0, len(items), size))


def when(checkpoint_id: str) -> float | None:
    """Return when a checkpoint was made, in seconds since the Unix epoch, if its id says so."""
    from swarmstate.integrations.langgraph.ages import time_of

    return time_of(checkpoint_id)


def _iso(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")


def heads(
    held: CheckpointEngine, found: Sequence[CheckpointName], *, whole: bool = False
) -> Iterator[tuple[CheckpointName, StoredCheckpoint | DecodeError]]:
    """Yield checkpoints that are still there, without what they hold or whole.

    One that cannot be read comes as its error, and hides no other one.
    """
    left = list(found)
    while left:
        part = left[:_PAGE]
        try:
            loaded = _loaded(held, part, whole=whole)
        except DecodeError as error:
            if len(part) == 1:
                yield part[0], error
                del left[:1]
                continue
            for name in part:
                yield from heads(held, [name], whole=whole)
            del left[: len(part)]
            continue
        for name, one in zip(part, loaded, strict=False):
            if one is not None:
                yield name, one
        del left[: len(loaded)]


def _loaded(
    held: CheckpointEngine, part: Sequence[CheckpointName], *, whole: bool
) -> list[StoredCheckpoint | None]:
    most = _PAGE_BYTES if whole else None
    channels = None if whole else ()
    return settled(held, held.load(part, channels=channels, writes=whole, most=most))


# Threads ----------------------------------------------------------------------------------------


@command(name="threads")
@click.option("--limit", type=click.IntRange(0), help="How many at most.")
def list_threads(display: Display, place: Place, limit: int | None) -> None:
    """List the threads, those with the newest checkpoint first."""
    check_not_memory(place)
    with place.reading() as store:
        held = engine(store)
        rows: list[dict[str, Any]] = []
        for some in in_parts(settled(held, held.threads())):
            known: dict[str, list[CheckpointName]] = {thread: [] for thread in some}
            for name in settled(held, held.list_ids(some, None, None, None)):
                known[name.thread].append(name)
            rows += (_thread_row(thread, found) for thread, found in known.items())
    rows.sort(key=lambda row: (row["newest"] or "", row["thread"]), reverse=True)
    rows = rows[:limit]
    if display.as_json:
        display.json(rows)
        return
    display.table(
        ("thread", "#checkpoints", "#namespaces", "newest", "written"),
        (
            (
                row["thread"],
                row["checkpoints"],
                row["namespaces"],
                row["newest"],
                _since(row["newest"]),
            )
            for row in rows
        ),
        "no threads",
    )


def _thread_row(thread: str, found: Sequence[CheckpointName]) -> dict[str, Any]:
    newest = max((name.id for name in found), default=None)
    return {
        "thread": thread,
        "checkpoints": len(found),
        "namespaces": len({name.checkpoint_ns for name in found}),
        "newest": newest,
        "time": _iso(when(newest)) if newest else None,
    }


def _since(checkpoint_id: str | None) -> str:
    made = when(checkpoint_id) if checkpoint_id else None
    if made is None:
        return ""
    return f"{ago(datetime.now(timezone.utc).timestamp() - made)} ago"


# Checkpoints ------------------------------------------------------------------------------------


@command(name="history")
@click.argument("thread")
@_ns
@click.option("--limit", type=click.IntRange(0), help="How many at most.")
def history(display: Display, place: Place, thread: str, ns: str | None, limit: int | None) -> None:
    """List the checkpoints of THREAD, newest first."""
    check_not_memory(place)
    with place.reading() as store:
        held = engine(store)
        found = _checkpoints(held, thread, ns)[:limit]
        rows = [_history_row(name, one) for name, one in heads(held, found)]
    if display.as_json:
        display.json(rows)
        return
    display.table(
        ("checkpoint", "namespace", "#step", "source", "written", "#channels"),
        (
            (
                row["checkpoint"],
                row["namespace"],
                *(
                    (row["metadata"].get("step"), row["metadata"].get("source"))
                    if isinstance(row.get("metadata"), dict)
                    else (None, None)
                ),
                row["time"] or "",
                len(row["versions"]) if "versions" in row else row["error"],
            )
            for row in rows
        ),
    )


def _checkpoints(held: CheckpointEngine, thread: str, ns: str | None) -> list[CheckpointName]:
    """Return the names of a thread's checkpoints, newest first; there must be the thread."""
    found = settled(held, held.list_ids([thread], ns, None, None))
    if not found and not settled(held, held.spaces(thread)):
        raise click.ClickException(f"there is no thread {thread!r}")
    return found


def _history_row(name: CheckpointName, one: StoredCheckpoint | DecodeError) -> dict[str, Any]:
    row: dict[str, Any] = {"checkpoint": name.id, "namespace": name.checkpoint_ns}
    if isinstance(one, DecodeError):
        return {**row, "time": _iso(when(name.id)), "error": str(one)}
    body = of_blob(one.record.body)
    ts = body.get("ts") if isinstance(body, dict) else None
    return {
        **row,
        "parent": one.record.parent,
        "time": ts if isinstance(ts, str) else _iso(when(name.id)),
        "metadata": of_blob(one.record.metadata),
        "versions": one.record.versions,
    }


def _one(
    held: CheckpointEngine, thread: str, checkpoint: str | None, ns: str | None
) -> StoredCheckpoint:
    """Return a checkpoint as a whole: the newest, or the one with an id."""
    space = "" if ns is None and checkpoint is None else ns
    found = _checkpoints(held, thread, space)
    if checkpoint is not None:
        found = [name for name in found if name.id == checkpoint]
    if not found:
        what = "no checkpoint" if checkpoint is None else f"no checkpoint {checkpoint!r}"
        where = "" if space is None else f" in namespace {space!r}"
        raise click.ClickException(f"thread {thread!r} has {what}{where}")
    if checkpoint is not None and len(found) > 1:
        spaces = ", ".join(repr(name.checkpoint_ns) for name in found)
        raise click.UsageError(f"several namespaces have that checkpoint: give --ns, of {spaces}")
    for _, one in heads(held, found[:1], whole=True):
        if isinstance(one, DecodeError):
            raise one
        return one
    raise click.ClickException(f"checkpoint {found[0].id!r} is gone by now")


def _whole(one: StoredCheckpoint) -> dict[str, Any]:
    body = of_blob(one.record.body)
    return {
        "thread": one.name.thread,
        "namespace": one.name.checkpoint_ns,
        "checkpoint": one.name.id,
        "parent": one.record.parent,
        "time": body.get("ts") if isinstance(body, dict) else None,
        "metadata": of_blob(one.record.metadata),
        "channels": {
            channel: {
                "version": one.record.versions.get(channel),
                "type": tag,
                "bytes": len(data),
                "value": of_blob((tag, data)),
            }
            for channel, (tag, data) in sorted(one.values.items())
        },
        "rebuilt_from_writes": [c for c in one.record.deltas if c not in one.values],
        "writes": [_write_row(write) for write in one.writes],
    }


def _write_row(write: TaskWrite) -> dict[str, Any]:
    tag, data = write.value
    return {
        "task": write.task_id,
        "path": write.task_path,
        "index": write.idx,
        "channel": write.channel,
        "type": tag,
        "bytes": len(data),
        "value": of_blob(write.value),
    }


@command(name="show")
@click.argument("thread")
@click.argument("checkpoint", required=False)
@_ns
@click.option("--channel", multiple=True, help="Only this channel; may be given several times.")
@_full
def show(
    display: Display,
    place: Place,
    thread: str,
    checkpoint: str | None,
    ns: str | None,
    channel: tuple[str, ...],
    full: bool,
) -> None:
    """Show what a CHECKPOINT of THREAD holds; the newest one, if none is named.

    Objects are shown as what their bytes say: none of their classes is imported.
    """
    check_not_memory(place)
    with place.reading() as store:
        found = _whole(_one(engine(store), thread, checkpoint, ns))
    if channel:
        lost = [name for name in channel if name not in found["channels"]]
        if lost:
            raise click.ClickException(f"the checkpoint has no channel {lost[0]!r}")
        found["channels"] = {name: found["channels"][name] for name in channel}
    if display.as_json:
        display.json(found)
        return
    for label in ("thread", "namespace", "checkpoint", "parent", "time"):
        if found[label]:
            display.line(f"{label:<12}{found[label]}")
    most = None if full else _MOST_SHOWN
    display.line("metadata")
    display.value(found["metadata"], most)
    for name, held in found["channels"].items():
        display.line(f"channel {name}: {shape_of(held['value'])}, {bytes_of(held['bytes'])}")
        display.value(held["value"], most)
    for name in found["rebuilt_from_writes"]:
        display.line(f"channel {name}: rebuilt from the writes of earlier checkpoints")
    for write in found["writes"]:
        _show_write(display, write, most)


def _show_write(display: Display, write: dict[str, Any], most: int | None) -> None:
    size = bytes_of(write["bytes"])
    display.line(
        f"pending write {write['index']} of task {write['task']} to {write['channel']}: "
        f"{shape_of(write['value'])}, {size}"
    )
    display.value(write["value"], most)


@command(name="diff")
@click.argument("thread")
@click.argument("a")
@click.argument("b")
@_ns
@_full
def diff(
    display: Display, place: Place, thread: str, a: str, b: str, ns: str | None, full: bool
) -> None:
    """Show what changed in the channels of THREAD from checkpoint A to checkpoint B."""
    check_not_memory(place)
    with place.reading() as store:
        held = engine(store)
        before, after = _one(held, thread, a, ns), _one(held, thread, b, ns)
    found: dict[str, Any] = {"thread": thread, "from": a, "to": b, "channels": {}}
    for channel in sorted({*before.values, *after.values}):
        old, new = before.values.get(channel), after.values.get(channel)
        if old == new:
            continue
        if old is None or new is None:
            kind, blob = ("added", new) if old is None else ("removed", old)
            found["channels"][channel] = {"change": kind, "value": of_blob(blob or ("null", b""))}
            continue
        found["channels"][channel] = {
            "change": "changed",
            "bytes": [len(old[1]), len(new[1])],
            "changes": list(changes(of_blob(old), of_blob(new))),
        }
    if display.as_json:
        display.json(found)
        return
    if not found["channels"]:
        display.line("the channels hold the same")
    most = None if full else _MOST_SHOWN
    for channel, change in found["channels"].items():
        display.line(f"channel {channel}: {change['change']}")
        if "value" in change:
            display.value(change["value"], most)
        for each in change.get("changes", ()):
            display.line(f"  {each['change']} {each['path'] or 'the value'}")
            for side in ("before", "after"):
                if side in each:
                    display.line(f"  {side}:")
                    display.value(each[side], most)


# Pending writes ---------------------------------------------------------------------------------


@command(name="writes")
@click.argument("thread", required=False)
@click.argument("checkpoint", required=False)
@_ns
@click.option("--all", "every", is_flag=True, help="Of all checkpoints, not of the newest ones.")
@_full
def writes(
    display: Display,
    place: Place,
    thread: str | None,
    checkpoint: str | None,
    ns: str | None,
    every: bool,
    full: bool,
) -> None:
    """List pending writes: what tasks of an unfinished step have written.

    Of the newest checkpoint in each namespace of THREAD, or of every thread; or of a CHECKPOINT.
    """
    check_not_memory(place)
    rows: list[dict[str, Any]] = []
    with place.reading() as store:
        held = engine(store)
        threads = settled(held, held.threads()) if thread is None else [thread]
        for each in threads:
            found = (
                _checkpoints(held, each, ns)
                if thread is not None
                else settled(held, held.list_ids([each], ns, None, None))
            )
            if checkpoint is not None:
                found = [name for name in found if name.id == checkpoint]
                if not found:
                    raise click.ClickException(f"thread {each!r} has no checkpoint {checkpoint!r}")
            elif not every:
                found = list({name.checkpoint_ns: name for name in reversed(found)}.values())
            for name, one in heads(held, found, whole=True):
                if isinstance(one, DecodeError):
                    raise one
                where = {
                    "thread": each,
                    "namespace": name.checkpoint_ns,
                    "checkpoint": name.id,
                }
                rows += ({**where, **_write_row(write)} for write in one.writes)
    if display.as_json:
        display.json(rows)
        return
    if not rows:
        display.note("no pending writes")
    before = None
    for row in rows:
        place_of_row = (row["thread"], row["namespace"], row["checkpoint"])
        if place_of_row != before:
            space = f" in namespace {row['namespace']}" if row["namespace"] else ""
            display.line(f"thread {row['thread']}, checkpoint {row['checkpoint']}{space}")
            before = place_of_row
        _show_write(display, row, None if full else _MOST_SHOWN)
    if rows:
        display.note(plural(len(rows), "pending write"))
