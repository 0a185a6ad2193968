"""Threads that carry the batches of all tasks, so that none of them waits for another's fault.

Every server has *lanes*: each is a queue, and a thread that takes whatever is waiting and sends it
as one pipeline over one connection. What may be sent again shares one lane, what may not shares
another, so that nothing breaks its connection but its like; and what is large, or was on a
connection that broke, goes alone, because a server closes the connection of what it finds too
large, and takes everything else on it along.

A thread that is held up by one reply (a large one, or one that does not come) is relieved of its
queue by another, with another connection. One more thread, the *keeper*, sees to that: it looks at
the lanes every now and then while they are busy, and sleeps when they do. It also holds what has
to wait before it is tried again, and finds the servers of a cluster.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from swarmstate._redis import Job, Trip, Unit
from swarmstate.backends.redis.transport.clock import monotonic
from swarmstate.backends.redis.transport.exchange import LARGE, Exchange
from swarmstate.backends.redis.transport.topology import Node
from swarmstate.errors import StoreUnavailable

__all__ = ["Carrier", "start"]

_NAME = "swarmstate-redis"
_MOST_AT_ONCE = 1000
_MOST_BYTES_AT_ONCE = 1 << 20
# Threads, and so connections, of one lane.
_MOST_WORKERS = 4
# How often the keeper looks at lanes that are busy, and how often it finds none before it sleeps.
_LOOK_SECONDS = 0.05
_LOOKS = 4
_LONGEST_NAP = 60.0
_IDLE_SECONDS = 60.0


def start(work: Callable[[], None]) -> threading.Thread:
    """Start a thread that keeps no interpreter alive."""
    thread = threading.Thread(target=work, name=_NAME, daemon=True)
    thread.start()
    return thread


class _Lane:
    """What goes to one server in one way.

    Attributes:
        node: the server.
        kind: whether what goes here may be sent again; None: it goes alone.
        idle: after how many seconds without anything to do it ends: nodes of a cluster come and go.
        inbox: the units; None is the end.
        leader: the worker that takes from it.
        workers: how many there are, the relieved ones included.
        seen: how many rounds the leader had begun, and how many replies it still waited for, when
            the keeper looked last.
    """

    def __init__(self, node: Node, kind: bool | None, *, idle: float | None) -> None:
        self.node = node
        self.kind = kind
        self.idle = idle
        self.inbox: queue.SimpleQueue[Unit | None] = queue.SimpleQueue()
        self.leader: _Worker | None = None
        self.workers: set[_Worker] = set()
        self.seen: tuple[int, int] = (0, 0)

    def collect(self) -> tuple[list[Unit], bool]:
        """Return what is there, once there is something, and whether there may be more.

        Nothing, where there was nothing for too long.
        """
        inbox = self.inbox
        units: list[Unit] = []
        try:
            unit = inbox.get(timeout=self.idle)
            while unit is not None:
                units.append(unit)
                # Whether there is room for it is asked before it is taken.
                if self.kind is None or len(units) >= _MOST_AT_ONCE or inbox.empty():
                    return units, True
                unit = inbox.get_nowait()
        except queue.Empty:
            # There was nothing for too long, or another worker was faster.
            return units, True
        # The others of this lane look for the end, too.
        self.inbox.put(None)
        return units, False


class _Worker:
    """A thread that takes from a lane until another one does.

    Attributes:
        rounds: how many it has begun.
        busy: whether it is in the middle of one.
        trip: what it carries.
    """

    def __init__(self, carrier: Carrier, lane: _Lane) -> None:
        self._carrier = carrier
        self._lane = lane
        self.rounds = 0
        self.busy = False
        self.trip: Trip | None = None
        self.thread: threading.Thread | None = None

    def work(self) -> None:
        lane, carrier = self._lane, self._carrier
        more = True
        while more and lane.leader is self:
            units, more = lane.collect()
            if not units and more and carrier.retire(lane):
                break
            self.rounds += 1
            self.busy = True
            carrier.wake()
            carrier.carry(lane, self, units)
            self.busy = False
            self.trip = None
            del units
        lane.workers.discard(self)


class Carrier:
    """Carries the jobs of all tasks of one process.

    Args:
        exchange: what sends them.
    """

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        # By whether what goes there may be sent again; None: it goes alone.
        self._lanes: dict[tuple[Node, bool | None], _Lane] = {}
        self._only: dict[bool | None, _Lane] = {}
        # Held while something is put where it might be too late for it.
        self._lock = threading.Lock()
        self._stopped = False
        self._outbox: deque[Job] = deque()
        self._settled = self._outbox.append
        self._cancelled: deque[tuple[float, Unit]] = deque()
        self._desk: queue.SimpleQueue[Job | Unit | str | None] = queue.SimpleQueue()
        # Finding the nodes of a cluster for the first time takes its time.
        self._mapped = not exchange.topology.clustered
        self._refreshing: threading.Thread | None = None
        self._asleep = False
        self._keeper = start(self._keep)

    # For tasks ---------------------------------------------------------------------------------

    def post(self, job: Job) -> None:
        """Take a job. It is told by its future that it has come out.

        Raises:
            StoreUnavailable: the store was closed.
        """
        job.done = self._settled
        only = self._only.get(job.batch.idempotent)
        if only is not None and job.batch.commands and not job.batch.everywhere:
            # The short way where there is one server: it saves a twentieth of an awaited call.
            unit = Unit(job, range(len(job.batch.commands)))
            job.units = (unit,)
            with self._lock:
                if not self._stopped:
                    only.inbox.put(unit)
                    return
            raise StoreUnavailable("the store is closed")
        if not self._mapped:
            self._put(self._desk, job)
            return
        job.units = self._exchange.split(job)
        for unit in job.units:
            self._route(unit)
        if self._outbox:
            self._deliver()

    def give_up(self, job: Job) -> None:
        """Let go of a job that nobody waits for any more: what was not sent yet is not sent."""
        job.given_up = True
        if job.batch.reads:
            return
        for unit in job.units:
            trip = unit.trip
            if trip is not None:
                # Before anything else is sent there, it has to land.
                trip.guard.adrift[unit] = None
                self._cancelled.append((monotonic(), unit))
                self.wake()

    def stop(self, *, wait: bool) -> None:
        """Refuse what comes, and end the threads when what has come is carried out."""
        with self._lock:
            self._stopped = True
            self._desk.put(None)
            lanes = tuple(self._lanes.values())
            for lane in lanes:
                lane.inbox.put(None)
        if wait:
            workers = [worker.thread for lane in lanes for worker in tuple(lane.workers)]
            for thread in (self._keeper, *workers):
                if thread is not None and thread is not threading.current_thread():
                    thread.join()

    def _put(self, inbox: queue.SimpleQueue[Any], item: Job | Unit) -> None:
        with self._lock:
            # Nobody would look into it again.
            if self._stopped:
                raise StoreUnavailable("the store is closed")
            inbox.put(item)

    def _route(self, unit: Unit) -> None:
        """Put a unit where it is carried from, or where it waits."""
        again: list[Unit] = []
        if not unit.not_before or unit.not_before <= monotonic():
            node = self._exchange.place(unit, again)
            if node is not None:
                with self._lock:
                    self._lane(node, _kind(unit)).inbox.put(unit)
        else:
            again.append(unit)
        for each in again:
            self._put(self._desk, each)

    def _lane(self, node: Node, kind: bool | None) -> _Lane:
        """Return a lane, with the lock held."""
        if self._stopped:
            raise StoreUnavailable("the store is closed")
        lane = self._lanes.get((node, kind))
        if lane is None:
            clustered = self._exchange.topology.clustered
            lane = _Lane(node, kind, idle=_IDLE_SECONDS if clustered else None)
            self._lead(lane)
            self._lanes[node, kind] = lane
            if not clustered:
                self._only[kind] = lane
        return lane

    def retire(self, lane: _Lane) -> bool:
        """Let go of a lane that was not used for long; return whether it was so until now."""
        with self._lock:
            if not lane.inbox.empty():
                return False
            if self._lanes.get((lane.node, lane.kind)) is lane:
                del self._lanes[lane.node, lane.kind]
            return True

    def _lead(self, lane: _Lane) -> None:
        """Have a new thread take from a lane, and the old one end with what it has in hand."""
        before = lane.leader
        lane.leader = worker = _Worker(self, lane)
        lane.workers.add(worker)
        try:
            worker.thread = start(worker.work)
        except BaseException:  # raised again: no thread was started, so the old one leads on
            lane.leader = before
            lane.workers.discard(worker)
            raise

    # For workers -------------------------------------------------------------------------------

    def wake(self) -> None:
        """Have the keeper look, if it sleeps."""
        if self._asleep:
            self._asleep = False
            self._desk.put("look")

    def carry(self, lane: _Lane, worker: _Worker, units: list[Unit]) -> None:
        """Carry out what a worker has taken."""
        group: list[Unit] = []
        size = 0
        passed: list[Unit] = []
        try:
            known = self._exchange.guard(lane.node).scripts
            for unit in units:
                if unit.chunks is not None or unit.pack(known):
                    if lane.kind is not None and _kind(unit) is None:
                        passed.append(unit)
                        self._pass_on(unit)
                        continue
                    group.append(unit)
                    size += unit.size
                    if size > _MOST_BYTES_AT_ONCE:
                        self._travel(lane, worker, group, passed)
                        group, size = [], 0
            if group:
                self._travel(lane, worker, group, passed)
        except BaseException as error:  # noqa: BLE001 (whoever waits must hear of it, all the same)
            for unit in units:
                if unit not in passed:
                    unit.settle(error)
        if self._outbox:
            self._deliver()

    def _travel(self, lane: _Lane, worker: _Worker, group: list[Unit], passed: list[Unit]) -> None:
        """Send some units, and see to those that must try again."""
        guard = self._exchange.guard(lane.node)
        trip = worker.trip = Trip(lane.node, guard, group, threading.Lock())
        again = self._exchange.carry(trip)
        if again:
            self._deliver()
            passed += again
            for unit in again:
                self._pass_on(unit)

    def _pass_on(self, unit: Unit) -> None:
        """Have another thread go on with a unit, or do it here where there is no other any more."""
        try:
            self._route(unit)
        except StoreUnavailable:
            self._exchange.complete([unit])

    def _deliver(self) -> None:
        """Tell tasks what has come out, once for each event loop."""
        loops: dict[asyncio.AbstractEventLoop, list[Job]] = {}
        outbox = self._outbox
        try:
            while outbox:
                job = outbox.popleft()
                loops.setdefault(job.future.get_loop(), []).append(job)
        except IndexError:
            # Another thread does the same.
            pass
        for loop, jobs in loops.items():
            try:
                loop.call_soon_threadsafe(_hand_over, jobs)
            except RuntimeError:  # noqa: PERF203 (per loop, not per call)
                # It was closed meanwhile: nobody waits there any more.
                continue

    # The keeper --------------------------------------------------------------------------------

    def _keep(self) -> None:
        waiting: list[Unit] = []
        looks = 0
        running = True
        while running or waiting:
            timeout = self._nap(waiting, looks)
            running = self._receive(waiting, timeout) and running
            try:
                self._try_again(waiting, running)
                looks = 0 if self._look() else looks + 1
            except BaseException as error:  # noqa: BLE001 (whoever waits must hear of it)
                for unit in waiting:
                    unit.settle(error)
                waiting.clear()
            self._deliver()

    def _nap(self, waiting: list[Unit], looks: int) -> float | None:
        """Return how long there is nothing to do, in seconds; None: until something comes."""
        timeout = _LOOK_SECONDS
        if looks >= _LOOKS:
            self._asleep = True
            # What began before this was seen would not wake anybody.
            leaders = [lane.leader for lane in tuple(self._lanes.values())]
            if not any(leader is not None and leader.busy for leader in leaders):
                if not waiting:
                    return None
                timeout = _LONGEST_NAP
        if waiting:
            soonest = min(unit.not_before for unit in waiting)
            timeout = min(timeout, max(0.0, soonest - monotonic()))
        return timeout

    def _receive(self, waiting: list[Unit], timeout: float | None) -> bool:
        """Take what has come; return whether more may come."""
        running = True
        with contextlib.suppress(queue.Empty):
            item = self._desk.get(timeout=timeout) if timeout != 0.0 else self._desk.get_nowait()
            while True:
                if item is None:
                    running = False
                elif isinstance(item, Job):
                    # All of it, until it is known where its parts go.
                    waiting.append(Unit(item, range(len(item.batch.commands))))
                elif isinstance(item, Unit):
                    waiting.append(item)
                item = self._desk.get_nowait()
        self._asleep = False
        return running

    def _try_again(self, waiting: list[Unit], running: bool) -> None:
        """Send what has waited long enough on its way."""
        now = monotonic()
        ready = [unit for unit in waiting if unit.not_before <= now]
        if ready and not self._mapped:
            error = self._exchange.reach()
            if error is None:
                self._mapped = True
            else:
                waiting[:] = [unit for unit in waiting if unit.not_before > now]
                for unit in ready:
                    self._exchange.unreached(unit, error, waiting)
                return
        for unit in ready:
            waiting.remove(unit)
            if unit.job.given_up:
                unit.settle()
            elif unit.job.units:
                self._pass_on(unit)
            else:
                unit.job.units = self._exchange.split(unit.job)
                for part in unit.job.units:
                    self._pass_on(part)

    def _look(self) -> bool:
        """See to lanes that are held up; return whether any is busy."""
        busy = False
        for lane in tuple(self._lanes.values()):
            worker = lane.leader
            if worker is None or not worker.busy:
                continue
            busy = True
            trip = worker.trip
            seen = (worker.rounds, 0 if trip is None else len(trip.unread))
            if seen == lane.seen and trip is not None and trip.unread:
                self._double(lane, trip)
                if not lane.inbox.empty():
                    self._relieve(lane, trip)
            lane.seen = seen
        refreshing = self._refreshing is not None and self._refreshing.is_alive()
        if self._exchange.stale and self._exchange.topology.clustered and not refreshing:
            # In a thread of its own: the node that is asked may be the one that is down.
            self._refreshing = start(self._exchange.refresh)
        while self._cancelled and self._cancelled[0][0] + _LOOK_SECONDS <= monotonic():
            _, unit = self._cancelled.popleft()
            trip = unit.trip
            if trip is not None and all(other.job.given_up for other in trip.unread[:]):
                trip.break_off()
        return busy or bool(self._cancelled)

    def _double(self, lane: _Lane, trip: Trip) -> None:
        """Ask once more, elsewhere, for what has to wait behind a reply that takes its time.

        Only where nothing can come of it: one command that reads. What comes first counts.
        """
        for unit in trip.unread[:-1]:
            job = unit.job
            if not (unit.doubled or unit.asking) and len(job.batch.commands) == 1:
                unit.doubled = True
                if job.batch.reads:
                    again = Job(job.batch, job.operation, job.deadline)
                    again.done = functools.partial(_adopt, unit)
                    self._pass_on(Unit(again, unit.indexes, unit.slot))

    def _relieve(self, lane: _Lane, trip: Trip) -> None:
        """Have another thread take from a lane."""
        # What was given up must land before anything else goes there.
        if len(lane.workers) < _MOST_WORKERS and not trip.guard.adrift:
            with contextlib.suppress(RuntimeError):
                # Unless there can be no more threads.
                self._lead(lane)


def _adopt(unit: Unit, again: Job) -> None:
    """Settle a unit with what a second request for the same has brought."""
    if again.error is None and not unit.settled:
        # One entry, so that it is whole whichever thread comes last.
        unit.job.replies = again.replies
        unit.settle()


def _kind(unit: Unit) -> bool | None:
    """Return what a unit may share a connection with, see :attr:`Carrier._lanes`."""
    batch = unit.job.batch
    alone = unit.size >= LARGE or unit.suspect or batch.then is not None
    return None if alone else batch.idempotent


def _hand_over(jobs: list[Job]) -> None:
    for job in jobs:
        if not job.future.done():
            job.future.set_result(None)
