"""Sending batches to the servers they belong to, and what to do when that does not go well.

A batch becomes one unit per node or slot. A *round* sends every waiting unit, one write per node,
and then reads every reply. Units that must try again (a redirect, a script the server has not seen,
a connection that broke before anything was sent) come back from the round with a time before which
not to; everything else is settled in its job. The blocking driver runs rounds for one job, the
coalescing one for everybody's.
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from swarmstate.backends.redis.commands import Batch, Command, CommandRefused
from swarmstate.backends.redis.transport.clock import monotonic
from swarmstate.backends.redis.transport.topology import Node, Topology, key_of, slot_of
from swarmstate.backends.redis.transport.wire import command_name, pack, split_error
from swarmstate.errors import StoreUnavailable

__all__ = ["Exchange", "Job", "Unit"]

_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 1.0

# Answers that say "not here" or "not now": nothing was carried out, so all may be sent again.
_REDIRECTS = frozenset(("MOVED", "ASK"))
_BUSY = frozenset(("TRYAGAIN", "CLUSTERDOWN", "READONLY", "MASTERDOWN", "LOADING"))


class Job:
    """A batch on its way, and how it came out.

    Attributes:
        replies: one per command, once ``left`` is 0.
        error: why the batch failed, if it did.
        left: how many of its units are under way.
    """

    __slots__ = ("batch", "deadline", "done", "error", "left", "operation", "replies")

    def __init__(
        self,
        batch: Batch,
        operation: str,
        deadline: float,
        done: Callable[[Job], None] | None,
    ) -> None:
        self.batch = batch
        self.operation = operation
        self.deadline = deadline
        self.done = done
        self.replies: list[Any] = [None] * len(batch.commands)
        self.error: BaseException | None = None
        self.left = 0

    @property
    def name(self) -> str:
        """What the method is called that a user called."""
        return self.operation.lstrip("_")

    def fail(self, error: BaseException) -> None:
        """Keep the first of the job's errors."""
        if self.error is None:
            self.error = error

    def settle(self, units: int) -> None:
        """Count units that are through, and tell whoever waits, once, when all are."""
        self.left -= units
        if self.left <= 0 and self.done is not None:
            done, self.done = self.done, None
            done(self)

    def abandon(self, error: BaseException) -> None:
        """Fail the job, unless it came out already, and wait for nothing more."""
        if self.done is not None:
            self.fail(error)
            self.settle(self.left)


class Unit:
    """Commands of one job that go to one place.

    Attributes:
        indexes: which of the job's commands.
        expected: how many replies there will be to the payload.
        slot: the slot they belong to, if they have keys.
        part: which entry of an ``everywhere`` reply this unit fills.
        node: where to send instead of where the slot says.
        asking: send ASKING first, as a node asked for that takes over a slot.
        source: send scripts as text.
        failures: how often the connection broke.
        not_before: when to try again, by the monotonic clock.
    """

    __slots__ = (
        "asking",
        "expected",
        "failures",
        "indexes",
        "job",
        "node",
        "not_before",
        "part",
        "slot",
        "source",
    )

    def __init__(self, job: Job, indexes: Sequence[int], slot: int | None = None) -> None:
        self.job = job
        self.indexes = indexes
        self.slot = slot
        self.expected = 0
        self.part: int | None = None
        self.node: Node | None = None
        self.asking = False
        # EVALSHA in a transaction could fail after its neighbours were carried out.
        self.source = job.batch.atomic
        self.failures = 0
        self.not_before = 0.0

    @property
    def share(self) -> str:
        """What an error text says of a part of a job; the others come out by themselves."""
        whole = len(self.indexes) == len(self.job.batch.commands)
        return "" if whole else " for a part of the call"

    def payload(self) -> Sequence[Command]:
        """Return what to send."""
        batch = self.job.batch
        commands = batch.commands
        if len(self.indexes) != len(commands):
            commands = [commands[index] for index in self.indexes]
        if batch.atomic and len(commands) > 1:
            commands = [("MULTI",), *commands, ("EXEC",)]
        if self.asking:
            # It holds for the next command, or for all of a transaction.
            if batch.atomic or len(commands) == 1:
                commands = [("ASKING",), *commands]
            else:
                commands = [part for command in commands for part in (("ASKING",), command)]
        self.expected = len(commands)
        return commands


class Trip:
    """One connection's part of a round.

    Attributes:
        node: where it goes.
        units: what it carries.
        connection: while it is under way.
        unread: whether replies may be under way, so that nobody else may read from the connection.
    """

    __slots__ = ("connection", "node", "units", "unread")

    def __init__(self, node: Node, units: list[Unit]) -> None:
        self.node = node
        self.units = units
        self.connection: Any = None
        self.unread = False

    def end(self) -> None:
        """Give the connection back, closed unless every reply was read; again does nothing."""
        connection, self.connection = self.connection, None
        if connection is not None:
            if self.unread:
                connection.disconnect()
            self.node.release(connection)


class Exchange:
    """Carries jobs out over a topology.

    Args:
        topology: where the servers are.
        timeout: how long redirects and busy servers are followed, in seconds.
        retries: how often a unit is sent again after its connection broke.
    """

    def __init__(self, topology: Topology, timeout: float, retries: int) -> None:
        self.topology = topology
        self._timeout = timeout
        self._retries = retries
        self._stale = False

    def job(self, batch: Batch, operation: str, done: Callable[[Job], None] | None = None) -> Job:
        """Return a job for a batch, with its deadline set."""
        return Job(batch, operation, time.monotonic() + self._timeout, done)

    def perform(self, job: Job) -> None:
        """Carry one job out, blocking until it is settled."""
        waiting = self.split(job)
        if len(waiting) == 1 and not self.topology.clustered:
            waiting = self._travel([Trip(self.topology.node(None), waiting)], [])
        else:
            waiting = self.round(waiting)
        while waiting:
            pause = max(unit.not_before for unit in waiting) - time.monotonic()
            if pause > 0:
                time.sleep(pause)
            waiting = self.round(waiting)

    def split(self, job: Job) -> list[Unit]:
        """Return the units of a job; where the nodes are unknown, the job fails."""
        batch = job.batch
        if not batch.commands:
            job.settle(0)
            return []
        if batch.everywhere:
            units = self._split_everywhere(job)
        elif not self.topology.clustered:
            units = [Unit(job, range(len(batch.commands)))]
        else:
            by_slot: dict[int | None, list[int]] = {}
            for index, command in enumerate(batch.commands):
                key = key_of(command)
                slot = None if key is None else slot_of(key)
                by_slot.setdefault(slot, []).append(index)
            units = [Unit(job, indexes, slot) for slot, indexes in by_slot.items()]
        job.left = len(units)
        return units

    def _split_everywhere(self, job: Job) -> list[Unit]:
        failures = 0
        while True:
            try:
                if failures:
                    time.sleep(_pause(failures))
                    self.topology.refresh()
                nodes = self.topology.primaries()
                break
            except self.topology.failures as error:
                failures += 1
                if failures > self._retries:
                    job.fail(self._unreachable(job, self.topology.address, error, sent=False))
                    job.settle(0)
                    return []
        units = []
        job.replies = [[None] * len(nodes) for _ in job.batch.commands]
        for part, node in enumerate(nodes):
            unit = Unit(job, range(len(job.batch.commands)))
            unit.node = node
            unit.part = part
            units.append(unit)
        return units

    # One round ---------------------------------------------------------------------------------

    def round(self, units: Iterable[Unit]) -> list[Unit]:
        """Send units, read their replies, and return those that must try again."""
        again: list[Unit] = []
        by_node: dict[Node, list[Unit]] = {}
        if self._stale:
            self._stale = False
            try:
                self.topology.refresh()
            except self.topology.failures:
                self._stale = True
        for unit in units:
            try:
                node = unit.node or self.topology.node(unit.slot)
            except self.topology.failures as error:  # noqa: PERF203 (a unit fails by itself)
                self._broken(unit, self.topology.address, error, sent=False, again=again)
            else:
                by_node.setdefault(node, []).append(unit)
        return self._travel([Trip(node, group) for node, group in by_node.items()], again)

    def _travel(self, trips: Sequence[Trip], again: list[Unit]) -> list[Unit]:
        """Send what the trips carry, then read the replies; add to ``again`` and return it."""
        try:
            for trip in trips:
                self._send(trip, again)
            for trip in trips:
                self._receive(trip, again)
        finally:
            for trip in trips:
                trip.end()
        return again

    def _send(self, trip: Trip, again: list[Unit]) -> None:
        units = trip.units
        try:
            trip.connection = trip.node.acquire(monotonic() + self._timeout)
            if len(units) == 1:
                chunks = pack(units[0].payload(), source=units[0].source)
            else:
                chunks = []
                for unit in units:
                    chunks += pack(unit.payload(), source=unit.source)
                if sum(map(len, chunks)) < 1 << 16:
                    chunks = [b"".join(chunks)]
            trip.unread = True
            trip.connection.send_packed_command(chunks)
        except self.topology.failures as error:
            trip.end()
            for unit in units:
                self._broken(unit, trip.node.address, error, sent=trip.unread, again=again)

    def _receive(self, trip: Trip, again: list[Unit]) -> None:
        if trip.connection is None:
            return
        unread = deque(trip.units)
        try:
            while unread:
                replies = [_read(trip.connection) for _ in range(unread[0].expected)]
                self._take(unread.popleft(), trip.node, replies, again)
            trip.unread = False
        except self.topology.failures as error:
            for unit in unread:
                self._broken(unit, trip.node.address, error, sent=True, again=again)
        trip.end()

    # What came back ----------------------------------------------------------------------------

    def _take(self, unit: Unit, node: Node, replies: list[Any], again: list[Unit]) -> None:
        """Settle a unit whose replies are all there, or send it again."""
        job = unit.job
        if job.batch.atomic and len(unit.indexes) > 1:
            outcome = replies[-1]
            if isinstance(outcome, Exception):
                # Refused as a whole; the commands that were not queued say why.
                first = 2 if unit.asking else 1
                for index, reply in zip(unit.indexes, replies[first:-1], strict=True):
                    if isinstance(reply, Exception):
                        self._refused(unit, [index], node, reply, again)
                        return
                self._refused(unit, unit.indexes[:1], node, outcome, again)
                return
            replies = outcome
        elif unit.asking:
            replies = replies[1::2]
        refused: list[tuple[int, Exception]] = []
        ignore = job.batch.ignore
        for index, reply in zip(unit.indexes, replies, strict=True):
            if isinstance(reply, Exception):
                if not ignore or split_error(reply)[0] not in ignore:
                    refused.append((index, reply))
            elif unit.part is None:
                job.replies[index] = reply
            else:
                job.replies[index][unit.part] = reply
        if not refused:
            job.settle(1)
            return
        # Only what was refused goes again; a unit stays whole where that is all of it.
        error = refused[0][1]
        self._refused(unit, [index for index, _ in refused], node, error, again)

    def _refused(
        self,
        unit: Unit,
        indexes: Sequence[int],
        node: Node,
        error: Exception,
        again: list[Unit],
    ) -> None:
        job = unit.job
        code, text = split_error(error)
        command = command_name(job.batch.commands[indexes[0]], source=unit.source)
        retry = False
        pause = 0.0
        if code == "NOSCRIPT" and not unit.source:
            unit.source = retry = True
        elif code in _REDIRECTS and self.topology.clustered and unit.part is None:
            retry = time.monotonic() < job.deadline
            host, port = _target(text)
            try:
                unit.node = self.topology.find(host, port)
            except self.topology.failures:
                unit.node = None
            unit.asking = code == "ASK" and unit.node is not None
            if code == "MOVED":
                self._stale = True
            if unit.node is None:
                self._stale = True
                pause = _FIRST_PAUSE
        elif code in _BUSY:
            unit.failures += 1
            # A cluster tells that it will soon be well; a single server's replica may never be.
            if self.topology.clustered and code != "READONLY":
                retry = time.monotonic() < job.deadline
            else:
                retry = unit.failures <= self._retries
            pause = _pause(unit.failures)
            unit.node = None if unit.part is None else unit.node
            unit.asking = False
            self._stale = True
        if retry:
            if not job.batch.atomic:
                unit.indexes = indexes
            unit.not_before = time.monotonic() + pause
            again.append(unit)
            return
        place = f"{command} for {job.name}() on {node.address}"
        job.fail(CommandRefused(code, command, f"{place} was refused: {code} {text}"))
        job.settle(1)

    def _broken(
        self, unit: Unit, address: str, error: Exception, *, sent: bool, again: list[Unit]
    ) -> None:
        """Send a unit again after its connection broke, or give it up."""
        job = unit.job
        unit.failures += 1
        if unit.failures <= self._retries and (not sent or job.batch.idempotent):
            unit.not_before = time.monotonic() + _pause(unit.failures)
            if unit.part is None:
                unit.node = None
                unit.asking = False
            self._stale = True
            again.append(unit)
            return
        job.fail(self._unreachable(job, address, error, sent=sent, share=unit.share))
        job.settle(1)

    def _unreachable(
        self, job: Job, address: str, error: Exception, *, sent: bool, share: str = ""
    ) -> StoreUnavailable:
        doubt = (
            "" if job.batch.idempotent or not sent else " (it may or may not have been carried out)"
        )
        failure = StoreUnavailable(f"{job.name}() failed on {address}{share}{doubt}: {error}")
        failure.__cause__ = error
        return failure


def _read(connection: Any) -> Any:
    """Return the next reply; an error that the server sent is a value like any other."""
    # The parser is asked for each time: a cluster's connections are given another as they connect.
    direct = getattr(connection, "swarmstate_direct", False)
    reader = connection._parser if direct else connection
    try:
        return reader.read_response(disable_decoding=True)
    except Exception as error:  # told apart by name: either library's error reply is meant
        if _is_reply(error):
            return error
        raise


def _is_reply(error: Exception) -> bool:
    return any(base.__name__ == "ResponseError" for base in type(error).__mro__)


def _target(text: str) -> tuple[str, int]:
    """Return the address that a MOVED or ASK names."""
    host, _, port = text.split(" ")[-1].rpartition(":")
    return host, int(port) if port.isdigit() else 0


def _pause(failures: int) -> float:
    """Return how long to wait before the next attempt, in seconds: doubling, with jitter."""
    longest = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0**failures)
    return random.uniform(longest / 2, longest)  # noqa: S311 (spreads clients, hides nothing)
