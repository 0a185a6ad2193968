"""The command that copies threads from one store to another.

:func:`swarmstate.integrations.langgraph.copy_threads` moves threads between checkpointers of any
make, for which it has to rebuild every value. Between two stores the bytes can move as they are:
then nothing depends on whether the classes of the values can be imported here, what another
serializer has encrypted stays so, and what is stored once stays stored once.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Protocol

import click

from swarmstate.cli.commands import command
from swarmstate.cli.contents import expire, expiries, namespaces_of_thread
from swarmstate.cli.opening import Place, check_not_memory, engine, settled, written_as
from swarmstate.cli.showing import Display, plural
from swarmstate.cli.threads import in_parts
from swarmstate.errors import SwarmStateError
from swarmstate.protocols import StoreLike
from swarmstate.shown import shown

__all__: list[str] = []

_AT_ONCE = 500


class CopyRefusedError(SwarmStateError, ValueError):
    """The target has something else where a thread would go, or lost it; it was not overwritten."""


@command(name="copy", url=False)
@click.argument("source")
@click.argument("target")
@click.option("--thread", multiple=True, help="Only this thread; may be given several times.")
@click.option("--target-prefix", help="What keys start with there.  [default: as --prefix]")
@click.option("--target-codec", help="The codec there.  [default: as --codec]")
def copy(
    display: Display,
    at: Any,
    source: str,
    target: str,
    thread: tuple[str, ...],
    target_prefix: str | None,
    target_codec: str | None,
) -> None:
    """Copy threads from the store at the URL SOURCE to the one at TARGET.

    Checkpoints keep their ids, values, metadata and pending writes, and a thread its time to live
    where the target can keep it. A thread appears as a whole. What is there already, equal, is not
    written again: a copy that was interrupted goes on where it stopped. Nothing should write to a
    thread while it is copied.
    """
    origin: Place = at(source)
    goal: Place = at(target)
    if not goal.is_file and not goal.is_memory:
        goal = replace(goal, prefix=target_prefix or goal.prefix)
    goal = replace(goal, codec=target_codec or goal.codec)
    check_not_memory(origin)
    if origin == goal:
        raise click.UsageError("source and target are the same")
    with origin.reading() as readable:
        held = engine(readable)
        there = settled(held, held.threads())
    lost = [each for each in thread if each not in set(there)]
    if lost:
        raise click.ClickException(f"there is no thread {lost[0]!r}")
    threads = list(dict.fromkeys(thread or sorted(there)))
    done = {"threads": 0, "copied": 0, "unchanged": 0, "keys": 0, "threads_without_their_expiry": 0}
    with (
        origin.as_stored().reading() as old,
        goal.as_stored().writing(make=True) as new,
        _progress(len(threads)) as advance,
    ):
        for each in threads:
            keys, kept = _copied(old, new, each, (origin.codec, goal.codec))
            done["threads"] += 1
            done["copied" if keys else "unchanged"] += 1
            done["keys"] += keys
            done["threads_without_their_expiry"] += not kept
            advance()
    if display.as_json:
        display.json(done)
        return
    display.line(f"copied {plural(done['copied'], 'thread')}; unchanged: {done['unchanged']:,}")
    if done["threads_without_their_expiry"]:
        count = plural(done["threads_without_their_expiry"], "thread")
        display.note(f"{count} had a time to live that could not be kept there")


def _copied(
    old: StoreLike, new: StoreLike, thread: str, converted: tuple[str, str]
) -> tuple[int, bool]:
    """Copy one thread.

    Returns:
        How many keys were new, and whether it expires there as it does here.
    """
    namespaces = list(namespaces_of_thread(old, thread))
    missing: list[tuple[str, str, bytes]] = []
    for namespace in namespaces:
        items = [(key, written_as(data, *converted)) for key, data in sorted(old.items(namespace))]
        for some in in_parts(items, _AT_ONCE):
            found = new.get_many([(namespace, key) for key, _ in some])
            for (key, data), present in zip(some, found, strict=True):
                if present is None:
                    missing.append((namespace, key, data))
                elif present != data:
                    raise CopyRefusedError(
                        f"thread {shown(thread)} is there with something else at key {shown(key)} "
                        f"of {shown(namespace)}, and was left as it is: delete it there first"
                    )
    is_new = not any(namespace in new for namespace in namespaces)
    # What makes it exist comes last, and in one call.
    head = [item for item in missing if item[0] == namespaces[-1]]
    for some in in_parts(missing[: len(missing) - len(head)], _AT_ONCE):
        new.set_many(some)
    new.set_many(head)
    for some in in_parts(missing, _AT_ONCE):
        if new.get_many([item[:2] for item in some]) != [data for *_, data in some]:
            raise CopyRefusedError(f"thread {shown(thread)} does not read as it was written there")
    kept = True
    # What is there already keeps the time that it has.
    for some in in_parts(namespaces) if is_new else ():
        for namespace, at in expiries(old, some).items():
            if namespace in new:
                kept = expire(new, namespace, at) and kept
    return len(missing), kept


class _Advance(Protocol):
    def __call__(self) -> None: ...


@contextmanager
def _progress(total: int) -> Iterator[_Advance]:
    """Draw a bar on standard error, if that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), "threads", TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=total)
        yield lambda: progress.advance(task)
