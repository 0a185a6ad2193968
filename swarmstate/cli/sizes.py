"""The command that says what takes up how much."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click

from swarmstate.checkpoints.format import names, record_fields, thread_namespace
from swarmstate.checkpoints.protocol import CheckpointEngine
from swarmstate.cli.commands import command
from swarmstate.cli.contents import namespaces_of_thread
from swarmstate.cli.opening import Place, check_not_memory, engine, settled
from swarmstate.cli.showing import Display, bytes_of, plural
from swarmstate.cli.threads import heads
from swarmstate.errors import DecodeError
from swarmstate.protocols import StoreLike

__all__: list[str] = []

_RECORDS = "(records)"
_WRITES = "(pending writes)"
_UNNAMED = "(named by no checkpoint)"


@command(name="sizes")
@click.option("--thread", multiple=True, help="Only this thread; may be given several times.")
@click.option("--limit", type=click.IntRange(0), help="How many threads at most.")
def sizes(display: Display, place: Place, thread: tuple[str, ...], limit: int | None) -> None:
    """List the bytes of each thread, and of each channel in it, largest first.

    Bytes as they are stored, keys included: a value that several checkpoints share counts once.
    What the server or the file adds to that is not counted. Reads all that it measures.
    """
    check_not_memory(place)
    with place.reading() as store, place.as_stored().reading() as stored:
        held = engine(store)
        there = set(settled(held, held.threads()))
        for each in thread:
            if each not in there:
                raise click.ClickException(f"there is no thread {each!r}")
        seen: set[str] = set()
        rows = [_measured(held, stored, each, seen) for each in thread or sorted(there)]
        rest = 0
        if not thread:
            for namespace in stored.namespaces():
                if namespace not in seen:
                    rest += _bytes(stored.items(namespace))
    rows.sort(key=lambda row: (-row["bytes"], row["thread"]))
    total = sum(row["bytes"] for row in rows) + rest
    rows = rows[:limit]
    if display.as_json:
        display.json({"threads": rows, "other": rest, "bytes": total})
        return
    display.table(
        ("thread", "channel", "#size", "#bytes"),
        (
            line
            for row in rows
            for line in (
                (row["thread"], "", bytes_of(row["bytes"]), row["bytes"]),
                *(("", channel, bytes_of(size), size) for channel, size in row["channels"].items()),
            )
        ),
        "no threads",
    )
    other = f", {bytes_of(rest)} outside of threads" if not thread else ""
    display.note(f"{plural(len(rows), 'thread')}; {bytes_of(total)} in all{other}")


def _measured(
    held: CheckpointEngine, stored: StoreLike, thread: str, seen: set[str]
) -> dict[str, Any]:
    """Return how much a thread takes up, and take note of its namespaces."""
    sizes: dict[str, int] = {}
    channels = _channels(held, thread)
    values = {names(thread, space).values: space for space in stored.keys(thread_namespace(thread))}
    for namespace in namespaces_of_thread(stored, thread):
        seen.add(namespace)
        for key, data in stored.items(namespace):
            if namespace in values:
                what = channels.get((values[namespace], key), _UNNAMED)
            else:
                what = _WRITES if namespace.startswith("langgraph:writes:") else _RECORDS
            sizes[what] = sizes.get(what, 0) + len(key.encode()) + len(data)
    ordered = dict(sorted(sizes.items(), key=lambda entry: (-entry[1], entry[0])))
    return {"thread": thread, "bytes": sum(sizes.values()), "channels": ordered}


def _channels(held: CheckpointEngine, thread: str) -> dict[tuple[str, str], str]:
    """Return which channel each key of the values of a thread belongs to."""
    found: dict[tuple[str, str], str] = {}
    for name, one in heads(held, settled(held, held.list_ids([thread], None, None, None))):
        if not isinstance(one, DecodeError):
            for place, key in record_fields(one.record).items():
                # A part of a value is named by its channel and where it is in it.
                channel: Any = place
                found[name.checkpoint_ns, key] = channel if isinstance(channel, str) else channel[0]
    return found


def _bytes(items: Iterable[tuple[str, Any]]) -> int:
    return sum(len(key.encode()) + len(data) for key, data in items)
