"""What follows from replies, on the same connection: reads that are watched, then a transaction.

WATCH belongs to a connection. So a unit whose batch has a ``then`` has a connection to itself until
the transaction has come out; where nothing follows, an empty one ends what was begun.
"""

from __future__ import annotations

from typing import Any

from swarmstate._redis import Trip, Unit
from swarmstate.backends.redis.transport.wire import split_error, write

__all__ = ["go_on", "judged"]

Refused = tuple[int, Exception]
"""The index of a command, of the job's own and what followed, and what the server said."""


def go_on(unit: Unit, trip: Trip) -> None:
    """Send what follows from a unit's replies, or end what it has begun on its connection."""
    commands = None
    then = unit.job.batch.then
    replies, refused = _read(unit)
    if then is not None and refused is None and not unit.job.given_up and not unit.settled:
        commands = then(replies)
    chunks = unit.follow(commands)
    if trip.peer is not None:
        write(trip.peer.socket, chunks, unit.job.deadline)


def judged(unit: Unit) -> tuple[Refused | None, bool]:
    """Return what of a unit was refused first, if anything, and whether a transaction ran.

    One that a change of a watched key has prevented counts as run: its reply is None.
    """
    _, refused = _read(unit)
    if refused is not None:
        return refused, False
    begun = len(unit.job.batch.commands)
    replies = unit.replies[-len(unit.more) :]
    for index, reply in enumerate(replies):
        if isinstance(reply, Exception):
            return (begun + index, reply), False
    if not unit.decided:
        return None, False
    first = begun + [command[0] for command in unit.more].index("MULTI") + 1
    for index, reply in enumerate(replies[-1] or ()):
        if isinstance(reply, Exception):
            return (first + index, reply), True
    return None, True


def _read(unit: Unit) -> tuple[list[Any], Refused | None]:
    """Return the replies to a unit's own commands, and the first that was refused, if any was."""
    commands = unit.job.batch.commands
    replies = unit.replies[1 : 2 * len(commands) : 2] if unit.asking else unit.replies
    replies = replies[: len(commands)]
    first: Refused | None = None
    for index, reply in enumerate(replies):
        if isinstance(reply, Exception):
            replies[index] = None
            if first is None and split_error(reply)[0] not in unit.job.batch.ignore:
                first = index, reply
    return replies, first
