"""Running the logic of a store: blocking in the caller's thread, or awaited without blocking."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
import weakref
from typing import Any, TypeVar

from swarmstate._redis import Job
from swarmstate.backends.redis.transport.clock import monotonic
from swarmstate.backends.redis.transport.exchange import Exchange
from swarmstate.backends.redis.transport.lanes import Carrier, start
from swarmstate.backends.redis.transport.topology import Topology
from swarmstate.errors import StoreUnavailable
from swarmstate.forks import ProcessLock, here
from swarmstate.steps import Steps, raised_stop

__all__ = ["Driver"]

T = TypeVar("T")

# Bytes and entries of replies from which what is made of them is made in a thread: it takes longer
# than other tasks should wait. Measured with LangGraph's serializer: 100 KB of messages take some
# 3 ms, the thread 0.1 ms.
_HEAVY_BYTES = 128 * 1024
_HEAVY_ENTRIES = 5000


class Driver:
    """Runs steps over a topology.

    Blocking calls use one connection each, taken from the client's pool. Awaited calls from all
    tasks and event loops meet in threads that write whatever is waiting for a server as one
    pipeline, so that many tasks share one connection and a handful of system calls. The threads
    start with the first awaited call and end with :meth:`close`.

    Args:
        topology: where the servers are.
        timeout: how long a reply is waited for before something is done about it, in seconds.
        retries: how often a batch is sent again after its connection broke, where that is safe.
    """

    def __init__(self, topology: Topology, *, timeout: float = 5.0, retries: int = 3) -> None:
        self._exchange = Exchange(topology, timeout, retries)
        self._topology = topology
        # By process: a forked child has the objects, but not the threads that carry.
        self._carriers: dict[int, Carrier] = {}
        self._lock = ProcessLock()
        self._closed = False
        # A store that is dropped without close() must not leave its threads and sockets behind.
        # The garbage collector does not wait.
        weakref.finalize(self, _end, self._carriers, topology, wait=False)

    @property
    def clustered(self) -> bool:
        """Whether the server is a cluster, where atomic means per slot."""
        return self._topology.clustered

    @property
    def address(self) -> str:
        """The address of the server, as errors name it."""
        return self._topology.address

    def check_open(self, steps: Steps[Any] | None = None) -> None:
        """Raise if the driver is closed, and let go of the steps that cannot be run."""
        if self._closed:
            if steps is not None:
                steps.close()
            raise StoreUnavailable("the store is closed")

    def run(self, steps: Steps[T]) -> T:
        """Run steps to their end and return their result.

        Raises:
            StoreUnavailable: a batch failed and the steps did not handle it.
            AccessDenied: the server does not let us in, or not do this.
        """
        exchange = self._exchange
        operation: str = getattr(steps, "__name__", "call")
        seconds = exchange.seconds
        try:
            if self._closed:
                self.check_open(steps)
            batch = next(steps)
            while True:
                if self._closed:
                    self.check_open(steps)
                job = Job(batch, operation, monotonic() + seconds)
                exchange.perform(job)
                # What a function of the caller's takes is the caller's own time.
                ended = monotonic() if batch.inline else None
                batch = steps.send(job.replies) if job.error is None else steps.throw(job.error)
                seconds = self._left(job, ended)
        except StopIteration as stop:
            result: T = stop.value
            return result
        except RuntimeError as error:
            stopped = raised_stop(error)
            if stopped is None:
                raise
        raise stopped

    async def arun(self, steps: Steps[T]) -> T:
        """Run steps to their end without blocking the event loop, and return their result.

        Of a task that is cancelled, what was not sent yet is not sent; what was is waited for, or
        its connection closed, before anything else goes to that server. Nobody else's is touched.

        Raises:
            StoreUnavailable: a batch failed and the steps did not handle it.
            AccessDenied: the server does not let us in, or not do this.
        """
        self.check_open(steps)
        exchange = self._exchange
        loop = asyncio.get_running_loop()
        operation: str = getattr(steps, "__name__", "call")
        seconds = exchange.seconds
        aside: _Aside | None = None
        inline = False
        try:
            batch = next(steps)
            while True:
                if self._closed:
                    self.check_open(steps)
                job = Job(batch, operation, monotonic() + seconds)
                job.future = loop.create_future()
                carrier = self._carriers.get(here.process) or self._carrier()
                try:
                    carrier.post(job)
                    await job.future
                except BaseException:  # raised again: a cancelled task may not be served later
                    carrier.give_up(job)
                    raise
                finally:
                    job.units = ()
                ended = monotonic() if batch.inline else None
                inline = inline or batch.inline
                if job.error is not None:
                    batch = steps.throw(job.error)
                elif inline or not _heavy(job.replies):
                    batch = steps.send(job.replies)
                else:
                    aside = _Aside(steps, job.replies, loop)
                    more, outcome = await aside.outcome
                    aside = None
                    if not more:
                        return outcome  # type: ignore[no-any-return]
                    batch = outcome
                seconds = self._left(job, ended)
        except StopIteration as stop:
            result: T = stop.value
            return result
        finally:
            # A thread that is still at it closes them then.
            if aside is None or aside.leave():
                steps.close()

    def _left(self, job: Job, ended: float | None) -> float:
        """Return how many seconds a call still has after a job of it."""
        left = job.deadline - (monotonic() if ended is None else ended)
        if job.error is None and (left <= 0 or job.batch.part):
            # What came too late and came all the same never ceased to arrive.
            return self._exchange.seconds
        return max(left, 0.0)

    def _carrier(self) -> Carrier:
        carrier = self._carriers.get(here.process)
        if carrier is None:
            with self._lock:
                self.check_open()
                carrier = self._carriers.get(here.process)
                if carrier is None:
                    carrier = self._carriers[here.process] = Carrier(self._exchange)
        return carrier

    def close(self, *, wait: bool = True) -> None:
        """Refuse further calls, end the threads and close what is ours; again does nothing.

        Args:
            wait: until the threads have carried out what they were given, if need be for the time
                that a call has.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = True
        _end(self._carriers, self._topology, wait=wait)


def _end(carriers: dict[int, Carrier], topology: Topology, *, wait: bool) -> None:
    carrier = carriers.pop(here.process, None)
    if carrier is not None:
        carrier.stop(wait=wait)
    topology.close()


def _heavy(replies: list[Any] | None) -> bool:
    """Return whether it takes long to make something of replies; looks no further than needed."""
    if replies is None:  # a watched transaction that was not carried out
        return False
    if len(replies) == 1 and not isinstance(replies[0], list | dict):
        return type(replies[0]) is bytes and len(replies[0]) > _HEAVY_BYTES
    size = entries = 0
    lists = [replies]
    while lists:
        parts = lists.pop()
        entries += len(parts)
        if entries > _HEAVY_ENTRIES:
            return True
        for part in parts:
            kind = type(part)
            if kind is bytes:
                size += len(part)
            elif kind is list:
                lists.append(part)
            elif kind is dict:
                lists += (list(part), list(part.values()))
        if size > _HEAVY_BYTES:
            return True
    return False


class _Aside:
    """Steps that go on in a thread of their own, so that no other task waits for them.

    Attributes:
        outcome: awaited, whether the steps want something else, and what; or else their result.
    """

    def __init__(
        self, steps: Steps[Any], replies: list[Any], loop: asyncio.AbstractEventLoop
    ) -> None:
        self.outcome: asyncio.Future[tuple[bool, Any]] = loop.create_future()
        self._steps = steps
        self._replies = replies
        self._context = contextvars.copy_context()
        self._lock = threading.Lock()
        self._finished = self._left = False
        try:
            start(self._work)
        except RuntimeError:
            # There can be no more threads.
            self._work()

    def leave(self) -> bool:
        """Wait for the steps no more; return whether they stand still."""
        with self._lock:
            self._left = True
            return self._finished

    def _work(self) -> None:
        error: BaseException | None = None
        outcome: tuple[bool, Any] = (False, None)
        try:
            outcome = True, self._context.run(self._steps.send, self._replies)
        except StopIteration as stop:
            outcome = False, stop.value
        except BaseException as raised:  # noqa: BLE001 (it is the task's)
            error = raised
        with self._lock:
            self._finished = True
            left = self._left
        if left:
            self._steps.close()
            return
        # A loop that was closed meanwhile has nobody who waits.
        with contextlib.suppress(RuntimeError):
            self.outcome.get_loop().call_soon_threadsafe(self._tell, outcome, error)

    def _tell(self, outcome: tuple[bool, Any], error: BaseException | None) -> None:
        if not self.outcome.done():
            if error is None:
                self.outcome.set_result(outcome)
            else:
                self.outcome.set_exception(error)
