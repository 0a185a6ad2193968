"""Running the logic of a store: in the caller's thread, or awaited without blocking."""

from __future__ import annotations

import asyncio
import queue
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

from swarmstate.backends.disk.database import Database, Job, Work
from swarmstate.errors import StoreUnavailable
from swarmstate.forks import ProcessLock, here
from swarmstate.steps import Steps, raised_stop

__all__ = ["Apart", "Driver", "Read", "Request", "Write"]

T = TypeVar("T")


class Read(NamedTuple):
    """What steps want read."""

    work: Work
    then: Callable[[Any], Any] | None = None
    """Makes the result of what was read, where that may take long."""


class Write(NamedTuple):
    """What steps want written, as one transaction or a part of one."""

    work: Work
    size: int = 0
    """How many bytes that is, roughly."""


class Apart(NamedTuple):
    """What steps want done that takes long: several transactions, or one over the whole store."""

    work: Callable[[Database], Any]


Request = Read | Write | Apart

_MOST = 500  # requests that the thread takes at once


def performed(database: Database, request: Request) -> Any:
    """Return what became of a request, once it is done."""
    if type(request) is Read:
        result = database.read(request.work)
        return result if request.then is None else request.then(result)
    if type(request) is Write:
        return database.write(request.work, request.size)
    return request.work(database)  # type: ignore[arg-type]


class Driver:
    """Runs steps over a database.

    Blocking calls do what they want in their own thread. Awaited ones of all tasks and event loops
    are done by one thread, which commits what waits together and wakes each loop once. It starts
    with the first awaited call and ends with :meth:`close`.

    Args:
        database: the database.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        # By process: a forked child has the object, but not the thread.
        self._couriers: dict[int, Courier] = {}
        self._lock = ProcessLock()
        self._closed = False
        # The garbage collector does not wait.
        weakref.finalize(self, _end, self._couriers, database, wait=False)

    def check_open(self, steps: Steps[Any] | None = None) -> None:
        """Raise if the store is closed, and let go of the steps that cannot be run."""
        if self._closed:
            if steps is not None:
                steps.close()
            raise StoreUnavailable("the store is closed")

    def run(self, steps: Steps[T]) -> T:
        """Run steps to their end and return their result.

        Raises:
            StoreUnavailable: a request failed and the steps did not handle it.
            AccessDenied: the store is read-only.
        """
        database = self.database
        if self._closed:
            self.check_open(steps)
        try:
            request = next(steps)
            while True:
                try:
                    result = performed(database, request)
                except Exception as error:  # noqa: BLE001, PERF203 - it is for the steps
                    request = steps.throw(error)
                else:
                    request = steps.send(result)
        except StopIteration as stop:
            value: T = stop.value
            return value
        except RuntimeError as error:
            stopped = raised_stop(error)
            if stopped is None:
                raise
        raise stopped

    async def arun(self, steps: Steps[T]) -> T:
        """Run steps to their end without blocking the event loop, and return their result.

        What a task wanted that was cancelled may still be done.

        Raises:
            StoreUnavailable: a request failed and the steps did not handle it.
            AccessDenied: the store is read-only.
        """
        self.check_open(steps)
        loop = asyncio.get_running_loop()
        try:
            request = next(steps)
            while True:
                try:
                    if type(request) is Apart:
                        result = await loop.run_in_executor(None, request.work, self.database)
                    else:
                        result = await self._posted(request, loop)
                except Exception as error:  # noqa: BLE001, PERF203 - it is for the steps
                    request = steps.throw(error)
                else:
                    request = steps.send(result)
        except StopIteration as stop:
            value: T = stop.value
            return value
        finally:
            steps.close()

    async def _posted(self, request: Request, loop: asyncio.AbstractEventLoop) -> Any:
        parcel = Parcel(request, loop)
        courier = self._couriers.get(here.process) or self._courier()
        courier.inbox.put(parcel)
        if courier.ended:
            courier.refuse()
        try:
            await parcel.future
        except BaseException:  # raised again: a cancelled task lets go of what it wanted
            parcel.unwanted = True
            raise
        if parcel.error is not None:
            raise parcel.error
        return parcel.result

    def _courier(self) -> Courier:
        with self._lock:
            self.check_open()
            courier = self._couriers.get(here.process)
            if courier is None:
                courier = self._couriers[here.process] = Courier(self.database)
        return courier

    def close(self, *, wait: bool = True) -> None:
        """Refuse further calls and close all connections; again does nothing.

        Args:
            wait: until the thread has done what it was given.
        """
        with self._lock:
            self._closed = True
        _end(self._couriers, self.database, wait=wait)


def _end(couriers: dict[int, Courier], database: Database, *, wait: bool) -> None:
    courier = couriers.pop(here.process, None)
    if courier is None:
        database.close()
    else:
        courier.stop(wait=wait)


class Parcel:
    """A request of a task, and what became of it.

    Attributes:
        future: done when the request is.
        unwanted: whether the task has gone.
    """

    __slots__ = ("error", "future", "job", "loop", "request", "result", "unwanted")

    def __init__(self, request: Request, loop: asyncio.AbstractEventLoop) -> None:
        self.request = request
        self.loop = loop
        self.future: asyncio.Future[None] = loop.create_future()
        self.job: Job | None = None
        self.result: Any = None
        self.error: Exception | None = None
        self.unwanted = False


class Courier:
    """The thread that does what tasks want.

    Args:
        database: where.

    Attributes:
        inbox: what tasks want; None ends the thread.
        ended: whether nobody takes anything out any more.
    """

    def __init__(self, database: Database) -> None:
        self.inbox: queue.SimpleQueue[Parcel | None] = queue.SimpleQueue()
        self.ended = False
        self._database = database
        # A daemon, so that a store which nobody closed keeps no interpreter from ending.
        self._thread = threading.Thread(target=self._work, name="swarmstate-disk", daemon=True)
        self._thread.start()

    def stop(self, *, wait: bool) -> None:
        """Let the thread close the database once it has done what it was given."""
        self.inbox.put(None)
        if wait and self._thread is not threading.current_thread():
            self._thread.join()

    def _work(self) -> None:
        inbox = self.inbox
        going = True
        while going:
            parcels: list[Parcel] = []
            parcel: Parcel | None = None
            with suppress(queue.Empty):
                parcel = inbox.get()
                while parcel is not None:
                    if not parcel.unwanted:
                        parcels.append(parcel)
                    if len(parcels) == _MOST:
                        break
                    parcel = inbox.get_nowait()
                else:
                    going = False
            self._perform(parcels)
            del parcel, parcels
        self._database.close()
        # Before the last look: whoever posts after that finds it set, and looks in turn.
        self.ended = True
        self.refuse()

    def refuse(self) -> None:
        """Tell what was posted too late that the store is closed."""
        with suppress(queue.Empty):
            while True:
                late = self.inbox.get_nowait()
                if late is not None:
                    self._perform([late])

    def _perform(self, parcels: list[Parcel]) -> None:
        database = self._database
        jobs: list[Job] = []
        for parcel in parcels:
            request = parcel.request
            try:
                if type(request) is Write:
                    parcel.job = database.job(request.work, request.size)
                    jobs.append(parcel.job)
                else:
                    parcel.result = performed(database, request)
            except Exception as error:  # noqa: BLE001 - it is the task's
                parcel.error = error
        if jobs:
            database.write_all(jobs)
        told: dict[asyncio.AbstractEventLoop, list[Parcel]] = {}
        for parcel in parcels:
            if parcel.job is not None:
                parcel.result, parcel.error = parcel.job.result, parcel.job.error
            told.setdefault(parcel.loop, []).append(parcel)
        for loop, group in told.items():
            # A loop that was closed meanwhile has nobody who waits.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(_deliver, group)


def _deliver(parcels: list[Parcel]) -> None:
    for parcel in parcels:
        if not parcel.future.done():
            parcel.future.set_result(None)
