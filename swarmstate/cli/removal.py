"""The commands that remove threads and old checkpoints."""

from __future__ import annotations

import time
from typing import Any

import click

from swarmstate.cli.commands import agreed, command, duration, yes_option
from swarmstate.cli.opening import Place, check_not_memory, engine, settled
from swarmstate.cli.showing import Display, plural
from swarmstate.cli.threads import in_parts
from swarmstate.cli.values import Inert

__all__: list[str] = []


@command(name="delete")
@click.argument("thread", nargs=-1, required=True)
@yes_option
def delete(display: Display, place: Place, thread: tuple[str, ...], yes: bool) -> None:
    """Remove each THREAD with all of its checkpoints."""
    check_not_memory(place)
    threads = list(dict.fromkeys(thread))
    with place.reading() as store:
        held = engine(store)
        lost = [each for each in threads if not settled(held, held.spaces(each))]
        if lost:
            raise click.ClickException(f"there is no thread {lost[0]!r}; nothing was removed")
        count = len(settled(held, held.list_ids(threads, None, None, None)))
    if not yes:
        for each in threads:
            display.note(each)
    what = f"{plural(len(threads), 'thread')} with {plural(count, 'checkpoint')}"
    agreed(f"Remove {what}?", yes)
    with place.writing() as store:
        held = engine(store)
        for each in threads:
            settled(held, held.delete_thread(each))
    if display.as_json:
        display.json({"deleted": threads, "checkpoints": count})
    else:
        display.line(f"removed {what}")


@command(name="prune")
@click.argument("thread", nargs=-1)
@click.option(
    "--keep",
    type=click.IntRange(1),
    help="Keep so many of the newest checkpoints of each namespace, and what these need.",
)
@click.option(
    "--idle", type=duration, help="Remove threads that were not written to for so long, as 30d."
)
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@yes_option
def prune(
    display: Display,
    place: Place,
    thread: tuple[str, ...],
    keep: int | None,
    idle: float | None,
    dry_run: bool,
    yes: bool,
) -> None:
    """Remove old checkpoints of each THREAD, or of all threads, and threads that are idle."""
    check_not_memory(place)
    if keep is None and idle is None:
        raise click.UsageError("give --keep, --idle or both")
    if thread and idle is not None:
        raise click.UsageError("--idle looks at all threads: name none")
    before = None if idle is None else time.time() - idle
    with place.reading() as store:
        held = engine(store)
        there = settled(held, held.threads())
        lost = [each for each in thread if each not in set(there)]
        if lost:
            raise click.ClickException(f"there is no thread {lost[0]!r}; nothing was removed")
        going = [] if before is None else _idle(store, before)
        staying = [each for each in dict.fromkeys(thread or there) if each not in set(going)]
        older = 0 if keep is None else _older(held, staying, keep)
    parts = [
        *([plural(len(going), "idle thread")] if before is not None else []),
        *([f"up to {plural(older, 'old checkpoint')}"] if keep is not None else []),
    ]
    what = " and ".join(parts)
    if dry_run:
        if display.as_json:
            display.json({"idle_threads": going, "old_checkpoints_at_most": older})
        else:
            for each in going:
                display.line(each)
            display.line(f"would remove {what}")
        return
    if not going and not older:
        done: list[str] = []
        pruned = 0
    else:
        for each in () if yes else going:
            display.note(each)
        agreed(f"Remove {what}?", yes)
        done, pruned = _prune(place, before, keep, staying)
    if display.as_json:
        display.json({"deleted": done, "checkpoints": pruned})
        return
    removed = [
        *([plural(len(done), "idle thread")] if before is not None else []),
        *([plural(pruned, "checkpoint")] if keep is not None else []),
    ]
    display.line(f"removed {' and '.join(removed)}")


def _reader() -> Any:
    from swarmstate.integrations.langgraph.serialization import CheckpointReader

    serde: Any = Inert()
    return CheckpointReader(serde, strict=False)


def _idle(store: Any, before: float) -> list[str]:
    from swarmstate.integrations.langgraph.ages import idle_threads

    held = engine(store)
    return sorted(name.thread for name in held.run(idle_threads(held, _reader(), before)))


def _older(held: Any, threads: list[str], keep: int) -> int:
    """Return how many checkpoints are beyond the newest of their namespace."""
    counts: dict[tuple[str, str], int] = {}
    for some in in_parts(threads):
        for name in settled(held, held.list_ids(some, None, None, None)):
            counts[name[:2]] = counts.get(name[:2], 0) + 1
    return sum(max(count - keep, 0) for count in counts.values())


def _prune(
    place: Place, before: float | None, keep: int | None, staying: list[str]
) -> tuple[list[str], int]:
    from swarmstate.integrations.langgraph import ages, retention

    gone: list[str] = []
    pruned = 0
    with place.writing() as store:
        held = engine(store)
        if before is not None:
            gone = sorted(held.run(ages.prune_idle(held, _reader(), before)))
        for each in staying if keep is not None else ():
            count = len(settled(held, held.list_ids([each], None, None, None)))
            held.run(retention.prune(held, _reader(), each, keep or 1))
            pruned += count - len(settled(held, held.list_ids([each], None, None, None)))
    return gone, pruned
