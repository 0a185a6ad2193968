"""Running the logic of a store: blocking in the caller's thread, or awaited without blocking."""

from __future__ import annotations

import asyncio
import os
import queue
import threading
import time
import weakref
from typing import Any, TypeVar

from swarmstate.backends.redis.transport.exchange import Exchange, Job, Unit
from swarmstate.backends.redis.transport.topology import Topology
from swarmstate.errors import StoreUnavailable
from swarmstate.steps import Steps

__all__ = ["Driver"]

T = TypeVar("T")

_MOST_AT_ONCE = 1000


class Driver:
    """Runs steps over a topology.

    Blocking calls use one connection each, taken from the client's pool. Awaited calls from all
    tasks and event loops meet in one thread that writes whatever is waiting as one pipeline, so
    that many tasks share one connection (per node) and a handful of system calls. The thread
    starts with the first awaited call and ends with :meth:`close`.

    Args:
        topology: where the servers are.
        timeout: how long redirects and busy servers are followed, in seconds.
        retries: how often a batch is sent again after its connection broke, where that is safe.
    """

    def __init__(self, topology: Topology, *, timeout: float = 5.0, retries: int = 3) -> None:
        self._exchange = Exchange(topology, timeout, retries)
        self._topology = topology
        # By process: a forked child has the objects, but neither the thread that carries nor the
        # one that may have held the lock at that moment.
        self._io_threads: dict[int, _IOThread] = {}
        self._locks: dict[int, threading.Lock] = {}
        self._closed = False
        # A store that is dropped without close() must not leave its thread and sockets behind. The
        # garbage collector does not wait.
        weakref.finalize(self, _end, self._io_threads, topology, wait=False)

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
        """
        self.check_open(steps)
        exchange = self._exchange
        operation: str = getattr(steps, "__name__", "call")
        try:
            batch = next(steps)
            while True:
                self.check_open(steps)
                job = exchange.job(batch, operation)
                exchange.perform(job)
                batch = steps.send(job.replies) if job.error is None else steps.throw(job.error)
        except StopIteration as stop:
            result: T = stop.value
            return result

    async def arun(self, steps: Steps[T]) -> T:
        """Run steps to their end without blocking the event loop, and return their result.

        A cancelled task leaves its batch to be carried out and its reply to be dropped; nobody
        else's is touched.

        Raises:
            StoreUnavailable: a batch failed and the steps did not handle it.
        """
        self.check_open(steps)
        loop = asyncio.get_running_loop()
        operation: str = getattr(steps, "__name__", "call")
        try:
            batch = next(steps)
            while True:
                self.check_open(steps)
                future: asyncio.Future[Job] = loop.create_future()
                io_thread = self._io_thread()
                job = self._exchange.job(batch, operation, io_thread.delivery(loop, future))
                io_thread.post(job)
                await future
                batch = steps.send(job.replies) if job.error is None else steps.throw(job.error)
        except StopIteration as stop:
            result: T = stop.value
            return result
        finally:
            steps.close()

    @property
    def _lock(self) -> threading.Lock:
        return self._locks.setdefault(os.getpid(), threading.Lock())

    def _io_thread(self) -> _IOThread:
        io_thread = self._io_threads.get(os.getpid())
        if io_thread is None:
            with self._lock:
                self.check_open()
                io_thread = self._io_threads.get(os.getpid())
                if io_thread is None:
                    io_thread = self._io_threads[os.getpid()] = _IOThread(self._exchange)
        return io_thread

    def close(self, *, wait: bool = True) -> None:
        """Refuse further calls, end the thread and close what is ours; again does nothing.

        Args:
            wait: until the thread has carried out what it was given, if need be for the timeout.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = True
        _end(self._io_threads, self._topology, wait=wait)


def _end(io_threads: dict[int, _IOThread], topology: Topology, *, wait: bool) -> None:
    io_thread = io_threads.pop(os.getpid(), None)
    if io_thread is not None:
        io_thread.stop(wait=wait)
    topology.close()


class _IOThread:
    """The thread that carries the batches of all tasks."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._inbox: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._outbox: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Job], Job]]] = {}
        self._waiting: list[Unit] = []
        self._lock = threading.Lock()
        self._stopped = False
        self._thread = threading.Thread(target=self._work, name="swarmstate-redis", daemon=True)
        self._thread.start()

    def post(self, job: Job) -> None:
        with self._lock:
            # Nobody would look into the inbox again.
            if self._stopped:
                raise StoreUnavailable("the store is closed")
            self._inbox.put(job)

    def stop(self, *, wait: bool) -> None:
        with self._lock:
            self._stopped = True
            self._inbox.put(None)
        if wait and self._thread is not threading.current_thread():
            self._thread.join()

    def delivery(self, loop: asyncio.AbstractEventLoop, future: asyncio.Future[Job]) -> Any:
        def done(job: Job) -> None:
            self._outbox.setdefault(loop, []).append((future, job))

        return done

    def _work(self) -> None:
        running = True
        while running or self._waiting:
            running = self._turn(running)

    def _turn(self, running: bool) -> bool:
        """Carry out what is there; return whether there may be more to come."""
        jobs, running = self._collect(running)
        try:
            for job in jobs:
                self._waiting += self._exchange.split(job)
            now = time.monotonic()
            ready = [unit for unit in self._waiting if unit.not_before <= now]
            if ready:
                later = [unit for unit in self._waiting if unit.not_before > now]
                self._waiting = later + self._exchange.round(ready)
        except BaseException as error:  # noqa: BLE001 (whoever waits must hear of it, all the same)
            for job in [*jobs, *(unit.job for unit in self._waiting)]:
                job.abandon(error)
            self._waiting = []
        self._deliver()
        return running

    def _collect(self, running: bool) -> tuple[list[Job], bool]:
        """Return what was posted, waiting for it only if there is nothing else to do."""
        jobs: list[Job] = []
        timeout: float | None = None
        if self._waiting or not running:
            soonest = min((unit.not_before for unit in self._waiting), default=0.0)
            timeout = max(0.0, soonest - time.monotonic())
        try:
            job = self._inbox.get(timeout=timeout) if timeout != 0.0 else self._inbox.get_nowait()
            while len(jobs) < _MOST_AT_ONCE:
                if job is None:
                    running = False
                else:
                    jobs.append(job)
                job = self._inbox.get_nowait()
        except queue.Empty:
            pass
        return jobs, running

    def _deliver(self) -> None:
        outbox, self._outbox = self._outbox, {}
        for loop, settled in outbox.items():
            try:
                loop.call_soon_threadsafe(_hand_over, settled)
            except RuntimeError:  # noqa: PERF203 (per loop, not per call)
                # The loop was closed meanwhile: nobody waits there any more.
                continue


def _hand_over(settled: list[tuple[asyncio.Future[Job], Job]]) -> None:
    for future, job in settled:
        if not future.done():
            future.set_result(job)
