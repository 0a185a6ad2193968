"""The command that shows what changes, live."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timezone
from typing import Any

import click

from swarmstate.cli.commands import command, duration
from swarmstate.cli.opening import Place, check_not_memory
from swarmstate.cli.showing import Display, bytes_of
from swarmstate.cli.values import of_stored
from swarmstate.protocols import StoreLike
from swarmstate.snapshots import contents

__all__: list[str] = []

# Looking must not be what keeps the server busy: a look takes at most this part of the time.
_PAUSE_PER_LOOK = 9
_SIGNS = {"added": "+", "changed": "~", "removed": "-"}

_Contents = dict[str, dict[str, bytes]]


@command(name="watch")
@click.argument("start", nargs=-1)
@click.option(
    "--interval", type=duration, default=1.0, show_default=True, help="Between two looks."
)
@click.option("--looks", type=click.IntRange(1), help="Stop after so many looks.")
@click.option("--values", is_flag=True, help="Show the new values too.")
def watch(
    display: Display,
    place: Place,
    start: tuple[str, ...],
    interval: float,
    looks: int | None,
    values: bool,
) -> None:
    """Show keys that come, change and go, in all namespaces or those that begin with a START.

    Each look reads all that is watched; between two of them it rests at least nine times as long as
    the look took. What changes and changes back in between is not seen.
    """
    check_not_memory(place)
    # Interrupting it is how it ends.
    with suppress(KeyboardInterrupt), place.as_stored().reading() as store:
        before: _Contents | None = None
        done = 0
        while True:
            began = time.monotonic()
            now = _seen(store, start)
            for event in () if before is None else _events(before, now):
                if values and event["change"] != "removed":
                    data = now[event["namespace"]][event["key"]]
                    event["value"] = of_stored(data, place.codec)
                _tell(display, event)
            if before is None:
                display.note(f"watching {sum(map(len, now.values())):,} keys of {place.shown}")
            before = now
            done += 1
            if done == looks:
                return
            time.sleep(max(interval, _PAUSE_PER_LOOK * (time.monotonic() - began)))


def _seen(store: StoreLike, start: tuple[str, ...]) -> _Contents:
    if not start:
        return contents(store.snapshot())
    found = {name for each in start for name in store.namespaces(each)}
    return {name: dict(store.items(name)) for name in found}


def _events(before: _Contents, now: _Contents) -> Iterator[dict[str, Any]]:
    at = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
    for namespace in sorted({*before, *now}):
        old, new = before.get(namespace, {}), now.get(namespace, {})
        for key in sorted({*old, *new}):
            if old.get(key) != new.get(key):
                change = "added" if key not in old else "removed" if key not in new else "changed"
                size = len(new[key]) if key in new else None
                event = {"time": at, "change": change, "namespace": namespace, "key": key}
                yield {**event, "bytes": size}


def _tell(display: Display, event: dict[str, Any]) -> None:
    if display.as_json:
        display.json_line(event)
        return
    size = "" if event["bytes"] is None else f"  {bytes_of(event['bytes'])}"
    display.line(
        f"{event['time']} {_SIGNS[event['change']]} {event['namespace']} {event['key']}{size}"
    )
    if "value" in event:
        display.value(event["value"], None)
