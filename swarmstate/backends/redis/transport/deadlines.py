"""Waiting until a deadline, also for work that cannot be told when to stop.

Deadlines are points of the monotonic clock, in seconds.
"""

from __future__ import annotations

import _thread
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from os import getpid
from queue import Empty, SimpleQueue
from typing import Any, Generic, NamedTuple, TypeVar

from swarmstate.backends.redis.transport.clock import monotonic

__all__ = ["Outcome", "Shared", "Workers", "within"]

T = TypeVar("T")


class Outcome(NamedTuple):
    """What came of a piece of work: a value, or the error that it raised."""

    value: Any
    error: BaseException | None


class Workers(Generic[T]):
    """Threads that each do a piece of work, for a caller who waits only so long.

    Name resolution, a TLS handshake, a token that a credential provider fetches, the discovery of
    a Sentinel's master: none of them can be given a deadline, but their caller can stop waiting.
    Threads also keep interrupts away from the work, because signals arrive in the main thread.

    Args:
        late: what to do with a value for which nobody waits any more.
    """

    def __init__(self, late: Callable[[T], object]) -> None:
        self._late = late
        self._outcomes: SimpleQueue[Outcome] = SimpleQueue()
        self._left = False

    def begin(self, work: Callable[[], T]) -> None:
        """Start a piece of work."""
        try:
            # Not threading.Thread: one whose start is interrupted is never let go, nor is its work.
            _thread.start_new_thread(self._run, (work,))
        except RuntimeError:
            # There are no more threads, because the interpreter is shutting down or by a limit of
            # the system: the work is done here, as long as it takes.
            self._run(work)

    def _run(self, work: Callable[[], T]) -> None:
        try:
            self._outcomes.put(Outcome(work(), None))
        except BaseException as error:  # noqa: BLE001 (raised by whoever waits)
            self._outcomes.put(Outcome(None, error))
        if self._left:
            self._clear()

    def wait(self, until: float) -> Outcome | None:
        """Return the next outcome, in the order in which they come, or None at a deadline."""
        try:
            return self._outcomes.get(timeout=max(0.0, until - monotonic()))
        except Empty:
            return None

    def leave(self) -> None:
        """Stop waiting: values that are still to come go to ``late``."""
        self._left = True
        self._clear()

    def _clear(self) -> None:
        while True:
            try:
                outcome = self._outcomes.get_nowait()
            except Empty:
                return
            if outcome.error is None:
                self._late(outcome.value)


def within(deadline: float, work: Callable[[], T], late: Callable[[T], object], doing: str) -> T:
    """Return what ``work`` returns, which runs in a thread of its own.

    Args:
        deadline: when to stop waiting for it.
        work: what to do; it goes on after the deadline.
        late: what to do with its value then.
        doing: what it does, for the text of the error.

    Raises:
        TimeoutError: the deadline came first.
        BaseException: what ``work`` raised.
    """
    begin = monotonic()
    workers: Workers[T] = Workers(late)
    outcome = None
    try:
        workers.begin(work)
        outcome = workers.wait(deadline)
    finally:
        if outcome is None:
            workers.leave()
    if outcome is None:
        raise TimeoutError(f"{doing} took longer than {monotonic() - begin:.3g} s")
    if outcome.error is not None:
        try:
            raise outcome.error
        finally:
            # The error knows this frame, which must not know the error.
            del outcome
    value: T = outcome.value
    return value


class _Flight:
    """One time that shared work is done."""

    __slots__ = ("begun", "outcome", "tickets", "waiting")

    def __init__(self) -> None:
        self.tickets = deque([None])
        self.begun = False
        self.outcome: Outcome | None = None
        self.waiting: deque[SimpleQueue[None]] = deque()


class Shared(Generic[T]):
    """Work that many callers want at the same moment, and that is done once for all of them.

    It runs in a thread of its own, so that no caller's deadline, interrupt or fork ends it for the
    others.

    Args:
        work: what to do; bounds itself.
    """

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._flights: dict[int, _Flight] = {}

    def join(self, deadline: float) -> Outcome | None:
        """Wait for the work that is under way, or for new work; None at the deadline."""
        pid = getpid()
        flight = self._flights.get(pid) or self._flights.setdefault(pid, _Flight())
        bell: SimpleQueue[None] = SimpleQueue()
        flight.waiting.append(bell)
        if not flight.begun:
            # An interrupt may come here: so each caller starts it, and the first thread does it.
            Workers[None](lambda _: None).begin(lambda: self._fly(pid, flight))
        if flight.outcome is None:
            with suppress(Empty):
                bell.get(timeout=max(0.0, deadline - monotonic()))
        return flight.outcome

    def _fly(self, pid: int, flight: _Flight) -> None:
        try:
            flight.tickets.pop()
        except IndexError:
            return
        flight.begun = True
        try:
            outcome = Outcome(self._work(), None)
        except BaseException as error:  # noqa: BLE001 (raised by whoever waits)
            outcome = Outcome(None, error)
        self._flights.pop(pid, None)
        flight.outcome = outcome
        with suppress(IndexError):
            while True:
                flight.waiting.popleft().put(None)
