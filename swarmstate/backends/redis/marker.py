"""The marker of a prefix: written before anything else, and kept warm.

A prefix whose marker is gone looks like namespaces of a shorter prefix, whose ``clear()`` would
take them. So the marker is there before the first write of a store object, and about once a second
a call carries it along: a write writes it again, a read touches it. A server that was flushed or
restarted without its data has it again soon after, and one that evicts the least recently used keys
takes it last.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import monotonic
from typing import Any, NoReturn

from swarmstate.backends.redis.commands import Batch, Command, CommandRefused
from swarmstate.backends.redis.keys import Layout
from swarmstate.errors import AccessDenied, StoreUnavailable
from swarmstate.steps import Steps

__all__ = ["Marker"]

_WARM_SECONDS = 1.0
# On a cluster, where the marker's node may be another one: how long to wait for a call that goes
# there anyway.
_WAIT_SECONDS = 30.0
_AT_ONCE = 10_000


class Marker:
    """The marker of one store object's prefix.

    Args:
        layout: the keys of the prefix.
        near: on a cluster, whether a key is served by the node that serves the marker. A call that
            goes elsewhere must not wait for that node, nor fail with it.
    """

    def __init__(self, layout: Layout, near: Callable[[bytes], bool] | None = None) -> None:
        self._layout = layout
        self._near = near
        self._touch: Command = ("TOUCH", layout.marker)
        self.written = False
        """Whether this object has written it."""
        self.due_to_writes = -math.inf
        """From when on, by the monotonic clock, a write should carry it along."""
        # On a cluster the first call finds the nodes.
        self.due_to_reads = 0.0 if near is None else monotonic() + _WARM_SECONDS
        """The same for a read."""
        # Whether it was there, so that it belongs there.
        self._known = False
        self._touchable = True

    def _warm(self) -> None:
        self.due_to_reads = monotonic() + _WARM_SECONDS
        if self.written:
            self.due_to_writes = self.due_to_reads

    def first(self) -> list[Command]:
        """Return what goes with, or on a cluster ahead of, the first write of this object."""
        return [self._layout.mark(), ("TYPE", self._layout.marker_before)]

    def write(self) -> Steps[None]:
        """Write the marker by itself. One round trip.

        Raises:
            AccessDenied: the user may not write such keys.
        """
        try:
            replies = yield Batch(self.first(), idempotent=True)
        except CommandRefused as refused:
            self.tell(refused)
        yield from self.wrote(replies)

    def wrote(self, replies: Sequence[Any]) -> Steps[None]:
        """Take note of the replies where the marker was written, and move what 0.1.0 left."""
        moved = self.written
        self.written = self._known = True
        self._warm()
        if not moved and replies[1:] == [b"string"]:
            yield from self._move()

    def tell(self, refused: CommandRefused) -> NoReturn:
        """Raise what it means for the caller that the marker was refused."""
        if refused.code != "NOPERM":
            raise refused
        raise AccessDenied(
            f"a store that writes needs the key patterns {' and '.join(self._layout.patterns)}, "
            f"and SET: {refused}"
        ) from refused

    def _move(self) -> Steps[None]:
        """Remove the marker and what is derived from where version 0.1.0 kept them.

        What is derived is rebuilt where it belongs now. The old marker goes last, so that whoever
        writes next finishes what was begun.
        """
        with suppress(CommandRefused, StoreUnavailable):
            (pages,) = yield Batch([self._layout.scan_before()], idempotent=True, everywhere=True)
            if any(cursor != b"0" for cursor, _ in pages):
                return
            found = self._layout.classify((), (key for _, page in pages for key in page), ())
            old: list[Command] = [("UNLINK", key) for key in found.derived]
            for first in range(0, len(old), _AT_ONCE):
                yield Batch(old[first : first + _AT_ONCE], idempotent=True)
            yield Batch([("UNLINK", self._layout.marker_before)], idempotent=True)

    def carried(self, key: bytes | None, *, write: bool) -> list[Command]:
        """Return what a call carries along where the marker is due and the way is the same.

        Args:
            key: a key that the call goes to anyway.
            write: whether the call writes. A read only touches the marker, which also a replica, a
                full server and one's own missing rights allow.
        """
        if self._near is not None and (key is None or not self._near(key)):
            return []
        if write:
            return [self._layout.mark()] if self.written else self.first()
        return [self._touch] if self._touchable else []

    def visit(self) -> Steps[None]:
        """Go there where no call did for long; a node that does not answer concerns no call."""
        wait = self.due_to_reads + _WAIT_SECONDS
        if self._near is None or not self._known or monotonic() < wait:
            return
        self._warm()
        with suppress(CommandRefused, StoreUnavailable):
            replies = yield Batch([self._touch], idempotent=True)
            yield from self.touched(replies)

    def touched(self, replies: Sequence[int]) -> Steps[None]:
        """Take note of the reply to a touch; a marker that was there is written again."""
        self._warm()
        if replies[0]:
            self._known = True
        elif self._known:
            # A prefix that never had one must not get one by being read: what is read through it
            # may be namespaces of a shorter prefix.
            try:
                yield Batch([self._layout.mark()], idempotent=True)
            except (CommandRefused, StoreUnavailable):
                # A replica, a full server, a user who may not write: the next write does it.
                self._known = False
                self.due_to_writes = -math.inf

    def untouchable(self) -> None:
        """Take note that reads may not touch the marker."""
        self._touchable = False
        if self._near is None:
            self.due_to_reads = math.inf
