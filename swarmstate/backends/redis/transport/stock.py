"""A bounded number of things, handed out first come, first served.

An interrupt (Ctrl-C, an exception of a signal handler, the end of a greenlet) can come between any
two steps of Python code, also in a handler that cleans up after another interrupt. What is counted
up and down is wrong then, and what is locked stays locked. So nothing here is counted, and no lock
guards anything:

- How many things there are is how many are alive. A set has a weak reference to each, which the
  interpreter takes out as the thing dies, whatever was being done with it.
- Each change is one call into the interpreter's own containers, which happens or does not.
- Whoever waits holds a lock of their own meanwhile, which the interpreter opens if they are
  interrupted. A place in the line whose lock is open, or whose owner is dead, is nobody's.
- Whoever waits looks after a while whether something was lost on its way to them.

This also makes it safe to fork at any moment: a child finds nothing locked.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

from swarmstate.backends.redis.transport.clock import monotonic

__all__ = ["Stock"]

T = TypeVar("T")

# How soon the first in line looks after what may have been lost, and how soon the others do.
_FIRST_LOOKS_SECONDS = 0.05
_OTHERS_LOOK_SECONDS = 0.5


class _Waiter(Generic[T]):
    """A place in the line, as long as someone stands there."""

    __slots__ = ("__weakref__", "handed", "waiting")

    def __init__(self) -> None:
        self.handed: SimpleQueue[T] = SimpleQueue()
        self.waiting = threading.Lock()


class Stock(Generic[T]):
    """At most so many things, made when they are first needed; the last one given back goes first.

    Whoever takes a thing gives it back. If they were interrupted before they could, it is enough
    that nothing refers to it any more.

    Args:
        make: makes a thing, which must allow weak references.
        size: how many there are at most.

    Attributes:
        idle: the things that nobody uses.
        line: the places of those who wait.
    """

    __slots__ = ("_alive", "_make", "_size", "idle", "line")

    def __init__(self, make: Callable[[], T], size: int) -> None:
        self._make = make
        self._size = size
        self._alive: set[weakref.ref[T]] = set()
        self.idle: deque[T] = deque()
        self.line: deque[weakref.ref[_Waiter[T]]] = deque()

    @property
    def taken(self) -> bool:
        """Whether others have all things at this moment, or wait for one."""
        return not self.idle and len(self._alive) >= self._size

    def take(self) -> T | None:
        """Return a thing; None if there is none now, or others wait for one already."""
        return None if self.line else self._take()

    def wait(self, deadline: float) -> T | None:
        """Return a thing when it is the caller's turn; None if that is not before the deadline."""
        waiter: _Waiter[T] = _Waiter()
        place = weakref.ref(waiter)
        thing = None
        try:
            with waiter.waiting:
                self.line.append(place)
                # Something may have been given back just before.
                self.serve()
                while thing is None and (left := deadline - monotonic()) > 0:
                    thing = self._handed(waiter, place, left)
        except BaseException:  # an interrupt: whoever keeps it must not keep the thing
            if thing is not None:
                self.release(thing)
            raise
        finally:
            # Looked at first: the interpreter may keep an exception that is being handled, with all
            # that has a name here, where an interrupt comes just then.
            if place in self.line:
                with suppress(ValueError):
                    self.line.remove(place)
            # What came at the last moment, or twice because a place had seemed lost.
            while (extra := _left_over(waiter)) is not None:
                self.release(extra)
        return self.take() if thing is None else thing

    def _handed(self, waiter: _Waiter[T], place: weakref.ref[_Waiter[T]], left: float) -> T | None:
        try:
            others = self.line[0] is not place
        except IndexError:
            others = False
        left = min(left, _OTHERS_LOOK_SECONDS if others else _FIRST_LOOKS_SECONDS)
        with suppress(Empty):
            return waiter.handed.get(timeout=left)
        if place not in self.line and waiter.handed.empty():
            # Whoever took the place out of the line was interrupted.
            self.line.appendleft(place)
        self.serve()
        return None

    def release(self, thing: T) -> None:
        """Take a thing back, for whoever has waited longest."""
        self.idle.append(thing)
        if self.line:
            self.serve()

    def drain(self) -> list[T]:
        """Take all things that nobody uses, for good."""
        drained = []
        with suppress(IndexError):
            while True:
                drained.append(self.idle.pop())
        return drained

    def _take(self) -> T | None:
        try:
            return self.idle.pop()
        except IndexError:
            pass
        if len(self._alive) >= self._size:
            return None
        thing = self._make()
        self._alive.add(weakref.ref(thing, self._alive.discard))
        # Others may have made one at the same moment. Then all of them wait, and one is served.
        return thing if len(self._alive) <= self._size else None

    def serve(self) -> None:
        """Hand what there is to those who wait."""
        while self.line and (thing := self._take()) is not None:
            waiter = self._next()
            if waiter is None:
                self.idle.append(thing)
                continue
            waiter.handed.put(thing)
            if not waiter.waiting.locked() and (thing := _left_over(waiter)) is not None:
                # They had given up meanwhile.
                self.idle.append(thing)

    def _next(self) -> _Waiter[T] | None:
        """Take the first place out of the line at which someone still waits."""
        while True:
            try:
                place = self.line.popleft()
            except IndexError:
                return None
            waiter = place()
            if waiter is not None and waiter.waiting.locked():
                return waiter


def _left_over(waiter: _Waiter[T]) -> T | None:
    if waiter.handed.empty():
        return None
    try:
        return waiter.handed.get_nowait()
    except Empty:
        return None
