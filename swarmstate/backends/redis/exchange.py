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
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from swarmstate.backends.redis.commands import Batch, Command, CommandRefused
from swarmstate.backends.redis.topology import Node, Topology, key_of, slot_of
from swarmstate.backends.redis.wire import command_name, pack, split_error
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
        done: Callable[[Job], None] | None = None,
    ) -> None:
        self.batch = batch
        self.operation = operation
        self.deadline = deadline
        self.done = done
        self.replies: list[Any] = [None] * len(batch.commands)
        self.error: BaseException | None = None
        self.left = 0

    def fail(self, error: BaseException) -> None:
        """Settle the job with the first of its errors."""
        if self.error is None:
            self.error = error


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
            waiting = self._visit(self.topology.node(None), waiting)
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
            self._settle(job, 0)
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
                    self._settle(job, 0)
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
        sent: list[tuple[Node, Any, list[Unit]]] = []
        try:
            for node, group in by_node.items():
                connection = self._send(node, group, again)
                if connection is not None:
                    sent.append((node, connection, group))
        except BaseException:
            for node, connection, _ in sent:
                connection.disconnect()
                node.release(connection)
            raise
        for position, (node, connection, group) in enumerate(sent):
            try:
                self._receive(node, connection, group, again)
            except BaseException:  # noqa: PERF203 (once per node)
                # Replies may still be under way on the others.
                for other, unread, _ in sent[position + 1 :]:
                    unread.disconnect()
                    other.release(unread)
                raise
        return again

    def _visit(self, node: Node, units: list[Unit]) -> list[Unit]:
        """Make a round of one node, which most are."""
        again: list[Unit] = []
        connection = self._send(node, units, again)
        if connection is not None:
            self._receive(node, connection, units, again)
        return again

    def _send(self, node: Node, group: list[Unit], again: list[Unit]) -> Any:
        try:
            connection = node.acquire()
        except self.topology.failures as error:
            for unit in group:
                self._broken(unit, node.address, error, sent=False, again=again)
            return None
        try:
            if len(group) == 1:
                chunks = pack(group[0].payload(), source=group[0].source)
            else:
                chunks = []
                for unit in group:
                    chunks += pack(unit.payload(), source=unit.source)
                if sum(map(len, chunks)) < 1 << 16:
                    chunks = [b"".join(chunks)]
            connection.send_packed_command(chunks)
        except self.topology.failures as error:
            connection.disconnect()
            node.release(connection)
            for unit in group:
                self._broken(unit, node.address, error, sent=True, again=again)
            return None
        except BaseException:
            connection.disconnect()
            node.release(connection)
            raise
        return connection

    def _receive(self, node: Node, connection: Any, group: list[Unit], again: list[Unit]) -> None:
        unread = iter(group)
        unit: Unit | None = None
        try:
            for unit in unread:
                replies = [_read(connection) for _ in range(unit.expected)]
                self._take(unit, node, replies, again)
        except self.topology.failures as error:
            connection.disconnect()
            for lost in [unit, *unread]:
                if lost is not None:
                    self._broken(lost, node.address, error, sent=True, again=again)
        except BaseException:
            connection.disconnect()
            raise
        finally:
            node.release(connection)

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
        forgive = job.batch.forgive
        for index, reply in zip(unit.indexes, replies, strict=True):
            if isinstance(reply, Exception):
                if not forgive or split_error(reply)[0] not in forgive:
                    refused.append((index, reply))
            elif unit.part is None:
                job.replies[index] = reply
            else:
                job.replies[index][unit.part] = reply
        if not refused:
            self._settle(job, 1)
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
        place = f"{command} for {job.operation}() on {node.address}"
        job.fail(CommandRefused(code, command, f"{place} was refused: {code} {text}"))
        self._settle(job, 1)

    def _broken(
        self, unit: Unit, address: str, error: Exception, *, sent: bool, again: list[Unit]
    ) -> None:
        """Send a unit again after its connection broke, or give it up."""
        job = unit.job
        unit.failures += 1
        if unit.failures <= self._retries and (not sent or job.batch.repeat):
            unit.not_before = time.monotonic() + _pause(unit.failures)
            if unit.part is None:
                unit.node = None
                unit.asking = False
            self._stale = True
            again.append(unit)
            return
        job.fail(self._unreachable(job, address, error, sent=sent))
        self._settle(job, 1)

    def _unreachable(
        self, job: Job, address: str, error: Exception, *, sent: bool
    ) -> StoreUnavailable:
        doubt = "" if job.batch.repeat or not sent else " (it may or may not have been carried out)"
        failure = StoreUnavailable(f"{job.operation}() failed on {address}{doubt}: {error}")
        failure.__cause__ = error
        return failure

    def _settle(self, job: Job, units: int) -> None:
        job.left -= units
        if job.left <= 0 and job.done is not None:
            job.done(job)


def _read(connection: Any) -> Any:
    """Return the next reply; an error that the server sent is a value like any other."""
    try:
        return connection.read_response(disable_decoding=True)
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
