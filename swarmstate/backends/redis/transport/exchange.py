"""Sending batches to the servers they belong to, and what to do when that does not go well.

A batch becomes one unit per node or slot. A *round* sends every waiting unit, one write per node,
and then reads every reply. Units that must try again (a redirect, a script the server has not seen,
a connection that broke) come back from the round with a time before which not to; everything else
is settled in its job. The blocking driver runs rounds for one job, the coalescing one for
everybody's.

A call has ``(retries + 1) * timeout``, and the pauses between its attempts on top. A request that
was not answered for ``timeout`` is asked again only once the server has answered on another
connection: then it is not at work on the first, which is closed there before the second is sent
(see :mod:`~swarmstate.backends.redis.transport.fence`). Until then the first is waited for.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from typing import Any

from swarmstate._redis import Courier, Job, Trip, Unit
from swarmstate.backends.redis.transport import faults
from swarmstate.backends.redis.transport.clock import jitter, monotonic, sleep
from swarmstate.backends.redis.transport.fence import Guard, NotNow, ask, limits, line
from swarmstate.backends.redis.transport.following import go_on, judged
from swarmstate.backends.redis.transport.topology import (
    Node,
    Topology,
    denied,
    key_of,
    slot_of,
)
from swarmstate.backends.redis.transport.wire import (
    command_name,
    read,
    readable,
    split_error,
    write,
)
from swarmstate.errors import AccessDenied, StoreUnavailable, SwarmStateError

__all__ = ["LARGE", "Exchange"]

LARGE = 256 * 1024
"""Bytes of a request from which it shares a connection with no other. No limit of a server's on the
size of requests can be set below 1 MiB."""

# Chunks of less together go out by one system call.
_ONE_CALL = 64 * 1024
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 1.0
# As many redirects are followed at once; nodes that do not agree yet point at each other.
_REDIRECTS = 3
# How long a cluster is asked at least whether it has replaced a node, in seconds.
_LOOK_SECONDS = 0.2


class Exchange(Courier):
    """Carries jobs out over a topology.

    Args:
        topology: where the servers are.
        timeout: how long a reply, or more of it, is waited for before something is done about it,
            in seconds.
        retries: how often a unit is sent again after its connection broke.

    Attributes:
        seconds: what a call has, without the pauses between its attempts.
        stale: whether there was a sign that a cluster's map has changed.
    """

    def __init__(self, topology: Topology, timeout: float, retries: int) -> None:
        self._guards: dict[str, Guard] = {}
        only = None
        if not topology.clustered:
            node = topology.node(None)
            only = (node, self.guard(node))
        super().__init__(only, (*topology.failures, NotNow), timeout, read)
        self.topology = topology
        self.seconds = (retries + 1) * timeout
        self.stale = False
        self._retries = retries

    def complete(self, waiting: list[Unit]) -> None:
        """Carry units out, blocking until all of them are settled."""
        while waiting:
            pause = min(unit.not_before for unit in waiting) - monotonic()
            if pause > 0:
                sleep(pause)
            now = monotonic()
            self.refresh(min(now + self.timeout, min(unit.job.deadline for unit in waiting)))
            now = monotonic()
            later = [unit for unit in waiting if unit.not_before > now]
            waiting = later + self.round(unit for unit in waiting if unit.not_before <= now)

    def refresh(self, deadline: float | None = None) -> None:
        """Ask a cluster for its map if there was a sign that it has changed."""
        if self.stale:
            self.stale = False
            try:
                self.topology.refresh(deadline)
            except self.topology.failures as error:
                self.stale = True
                _pass_on(error)

    # Where to ----------------------------------------------------------------------------------

    def split(self, job: Job) -> list[Unit]:
        """Return the units of a job; where the nodes are unknown, the job fails."""
        batch = job.batch
        units: list[Unit]
        if not batch.commands:
            job.settle()
            return []
        if batch.everywhere:
            units = self._split_everywhere(job)
        elif not self.topology.clustered:
            return [Unit(job, range(len(batch.commands)))]
        else:
            by_slot: dict[int | None, list[int]] = {}
            for index, command in enumerate(batch.commands):
                key = key_of(command)
                slot = None if key is None else slot_of(key)
                by_slot.setdefault(slot, []).append(index)
            units = [Unit(job, indexes, slot) for slot, indexes in by_slot.items()]
        if len(units) > 1:
            job.divide(len(units))
        return units

    def _split_everywhere(self, job: Job) -> list[Unit]:
        failures = 0
        while True:
            try:
                soon = min(job.deadline, monotonic() + self.timeout)
                if failures:
                    self.topology.refresh(soon)
                nodes = self.topology.primaries(soon)
                break
            except self.topology.failures as error:
                _pass_on(error)
                failures += 1
                now = monotonic()
                reason = self._reason(job, self.topology.address, error)
                if (
                    failures > self._retries
                    or now >= job.deadline
                    or isinstance(reason, AccessDenied)
                ):
                    job.settle(reason)
                    return []
                pause = _pause(failures)
                job.pause(now, now + pause)
                sleep(pause)
        units = []
        job.replies = [[None] * len(nodes) for _ in job.batch.commands]
        for part, node in enumerate(nodes):
            unit = Unit(job, range(len(job.batch.commands)))
            unit.node = node
            unit.part = part
            units.append(unit)
        return units

    def place(self, unit: Unit, again: list[Unit]) -> Node | None:
        """Return where a unit goes; where that is unknown, it tries again later, or has failed."""
        try:
            return unit.node or self.topology.node(unit.slot, unit.job.deadline)
        except self.topology.failures as error:
            _pass_on(error)
            self._broken(unit, None, error, again, sent=False)
            return None

    def reach(self) -> Exception | None:
        """Find the nodes of a cluster; return why that was not possible, if it was not."""
        try:
            self.topology.primaries()
        except self.topology.failures as error:
            return error
        return None

    def unreached(self, unit: Unit, error: Exception, again: list[Unit]) -> None:
        """Have a unit try again later, or fail, because its node could not be found."""
        self._broken(unit, None, error, again, sent=False)

    def guard(self, node: Node) -> Guard:
        """Return what is known of a node's server."""
        guard = self._guards.get(node.address)
        if guard is None:
            guard = self._guards.setdefault(node.address, Guard(node.address))
        return guard

    def _trip(self, node: Node, units: list[Unit]) -> Trip:
        return Trip(node, self.guard(node), units)

    # One round ---------------------------------------------------------------------------------

    def round(self, units: Iterable[Unit]) -> list[Unit]:
        """Send units, read their replies, and return those that must try again."""
        again: list[Unit] = []
        by_node: dict[Node, list[Unit]] = {}
        for unit in units:
            node = self.place(unit, again)
            if node is not None:
                by_node.setdefault(node, []).append(unit)
        return self._travel([self._trip(node, group) for node, group in by_node.items()], again)

    def _travel(self, trips: Sequence[Trip], again: list[Unit]) -> list[Unit]:
        """Send what the trips carry, then read the replies; add to ``again`` and return it."""
        try:
            for trip in trips:
                self.send(trip, again)
            for trip in trips:
                self.receive(trip, again)
        finally:
            for trip in trips:
                trip.end()
        return again

    def write(self, sock: Any, chunks: list[bytes], deadline: float) -> None:
        """Send several chunks."""
        if sum(map(len, chunks)) < _ONE_CALL:
            sock.sendall(b"".join(chunks))
        else:
            write(sock, chunks, deadline)

    def unsent(self, trip: Trip, error: Exception, again: list[Unit]) -> None:
        """See to the units of a trip that could not set out, or broke while it did."""
        units = trip.units
        if isinstance(error, NotNow):
            trip.end()
            for unit in units:
                self._refused(unit, unit.indexes, trip, error.reply, again)
            return
        _pass_on(error)
        sent = bool(trip.unread)
        if len(trip.unread) == 1:
            error = _last_word(trip) or error
        trip.end()
        for unit in units:
            self._broken(unit, trip, error, again, sent=sent)

    def broken(self, trip: Trip, error: Exception, again: list[Unit]) -> None:
        """See to the units whose replies do not come any more."""
        _pass_on(error)
        lost = trip.unread[::-1]
        if len(lost) == 1:
            error = _told(lost[0]) or error
        trip.end()
        for unit in lost:
            self._broken(unit, trip, error, again, sent=True)

    # Waiting -----------------------------------------------------------------------------------

    def overdue(self, trip: Trip, error: Exception) -> bool:
        """See what to do when reading has failed; return whether to go on waiting.

        A server that answers on another connection is not at work on what was sent on this one:
        that was lost, and may be sent again. One that does not answer there either is only asked
        again where it may have been replaced.
        """
        _pass_on(error)
        if not faults.timed_out(error):
            return False
        now = monotonic()
        for unit in trip.unread:
            if now >= unit.job.deadline and not unit.settled:
                self._give_up(unit, trip)
        waiting = [unit for unit in trip.unread if not unit.settled and not unit.job.given_up]
        if not waiting:
            return False
        soon = min(now + self.timeout, max(unit.job.deadline for unit in waiting))
        try:
            with line(trip.node, soon) as other:
                ask(other, ("PING",), soon)
                if not readable(trip.connection):
                    if trip.peer is not None and trip.writes:
                        trip.guard.lose(trip.peer)
                        trip.guard.kill(other, trip.peer, soon)
                    return False
        except NotNow as answer:
            # Only a server that was started since has its data to load.
            if split_error(answer.reply)[0] == "LOADING":
                return False
        except self.topology.failures as failure:
            _pass_on(failure)
            if not faults.timed_out(failure) and not readable(trip.connection):
                return False
            if self.topology.clustered and self._replaced(trip.node, waiting, soon):
                return False
        trip.hurry(min(trip.deadline - monotonic(), self.timeout))
        return True

    def _replaced(self, node: Node, units: Sequence[Unit], deadline: float) -> bool:
        """Return whether a cluster has given what a node served to another one."""
        find = self.topology.node
        try:
            self.topology.refresh(max(deadline, monotonic() + _LOOK_SECONDS))
            return any(unit.part is None and find(unit.slot) is not node for unit in units)
        except self.topology.failures as error:
            _pass_on(error)
            return False

    def _give_up(self, unit: Unit, trip: Trip) -> None:
        """Fail a unit whose time is over, while its connection goes on."""
        error = TimeoutError(f"no answer within {self.seconds:g} s")
        if not unit.job.batch.reads:
            trip.guard.adrift[unit] = None
        reason = self._reason(
            *(unit.job, trip.node.address, error),
            sent=True,
            doubt=not unit.repeatable,
            share=unit.share,
        )
        unit.settle(reason)

    def follow(self, unit: Unit, trip: Trip) -> None:
        """Send what depends on the replies of a unit."""
        go_on(unit, trip)

    # What came back ----------------------------------------------------------------------------

    def sort(self, unit: Unit, trip: Trip, again: list[Unit]) -> None:
        """Settle a unit of several replies, or of errors, or send again what has to be."""
        job = unit.job
        replies = unit.replies
        if unit.more:
            self._take_more(unit, trip, again)
            return
        if job.batch.atomic and len(unit.indexes) > 1:
            outcome = replies[-1]
            if isinstance(outcome, Exception):
                # Refused as a whole; the commands that were not queued say why.
                first = 2 if unit.asking else 1
                for index, reply in zip(unit.indexes, replies[first:-1], strict=True):
                    if isinstance(reply, Exception):
                        self._refused(unit, [index], trip, reply, again)
                        return
                self._refused(unit, unit.indexes[:1], trip, outcome, again)
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
            unit.settle()
            return
        # Only what was refused goes again; a unit stays whole where that is all of it.
        self._refused(unit, [index for index, _ in refused], trip, refused[0][1], again)

    def _take_more(self, unit: Unit, trip: Trip, again: list[Unit]) -> None:
        """Settle a unit of which something followed, or send it again."""
        refused, carried_out = judged(unit)
        if refused is None:
            unit.job.replies = unit.replies[-1] if carried_out else []
            unit.settle()
            return
        index, error = refused
        if not carried_out:
            self._refused(unit, [index], trip, error, again)
            return
        # It is not to be repeated: the others were carried out.
        code, text = split_error(error)
        command = command_name(unit.command(index))
        place = f"{command} for {faults.call_name(unit.job.operation)} on {trip.node.address}"
        unit.settle(faults.refusal(code, command, place, text))

    def _refused(
        self,
        unit: Unit,
        indexes: Sequence[int],
        trip: Trip,
        error: Exception,
        again: list[Unit],
    ) -> None:
        """Send a unit again after the server refused it, or fail it."""
        job = unit.job
        code, text = split_error(error)
        if "Protocol error" in text:
            self._broken(unit, trip, error, again, sent=True)
            return
        command = command_name(unit.command(indexes[0]), source=unit.source)
        left = job.deadline - monotonic()
        retry = False
        pause = 0.0
        if code == "NOSCRIPT" and not unit.source:
            trip.guard.scripts.clear()
            unit.source = retry = True
        elif code in faults.REDIRECTS and self.topology.clustered and unit.part is None:
            unit.delays += 1
            retry = left > 0
            unit.node = self._target(trip.node, text)
            unit.asking = code == "ASK" and unit.node is not None
            if code == "MOVED" or unit.node is None:
                self.stale = True
            if unit.node is None or unit.delays > _REDIRECTS:
                pause = _pause(unit.delays)
        elif code in faults.NOT_NOW:
            unit.delays += 1
            retry = left > 0
            pause = _pause(unit.delays)
            if code in faults.NOT_HERE:
                trip.leave()
            self._anywhere(unit)
        elif code == "READONLY":
            # It may be a replica for good.
            unit.failures += 1
            retry = left > 0 and unit.failures <= self._retries
            pause = _pause(unit.failures)
            trip.leave()
            self._anywhere(unit)
        if retry and not job.given_up:
            if not job.batch.atomic and not job.batch.then:
                unit.indexes = indexes
            # The last attempt comes shortly before the end, not after it.
            unit.not_before = monotonic() + min(pause, 0.9 * left)
            again.append(unit)
            return
        place = f"{command} for {faults.call_name(job.operation)} on {trip.node.address}"
        unit.settle(faults.refusal(code, command, place, text))

    def _target(self, node: Node, text: str) -> Node | None:
        """Return the node that a MOVED or ASK names, if it is known."""
        host, _, port = text.split(" ")[-1].rpartition(":")
        # Without a host it is that of the node which answers, at another port.
        host = host or node.address.rpartition(":")[0]
        try:
            return self.topology.find(host, int(port)) if port.isdigit() else None
        except self.topology.failures as error:
            _pass_on(error)
            return None

    def _anywhere(self, unit: Unit) -> None:
        """Have a unit go to wherever its slot is served by the time that it goes."""
        if unit.part is None:
            unit.node = None
            unit.asking = False
        self.stale = True

    def _broken(
        self, unit: Unit, trip: Trip | None, error: Exception, again: list[Unit], *, sent: bool
    ) -> None:
        """Send a unit again after its connection broke, or give it up."""
        if unit.settled:
            return
        job = unit.job
        answer = faults.answer(error)
        if trip is not None and not sent and answer is not None and faults.passing(*answer):
            # It is the server that lets nobody connect for the moment.
            self._refused(unit, unit.indexes, trip, error, again)
            return
        barred = not sent and denied(error)
        unit.failures += 1
        unit.suspect = unit.suspect or sent
        now = monotonic()
        retry = (
            (not sent or unit.repeatable)
            and unit.failures <= self._retries
            and now < job.deadline
            and not job.given_up
            and not barred
        )
        if sent and trip is not None and unit.size >= LARGE and not faults.timed_out(error):
            reason = self._oversize(unit, trip, answer)
            if reason is not None:
                retry = False
                error = ConnectionError(reason)
        if retry:
            unit.not_before = now + _pause(unit.failures)
            job.pause(now, unit.not_before)
            self._anywhere(unit)
            again.append(unit)
            return
        address = self.topology.address if trip is None else trip.node.address
        doubt = sent and not unit.repeatable
        unit.settle(self._reason(job, address, error, sent=sent, doubt=doubt, share=unit.share))

    def _oversize(self, unit: Unit, trip: Trip, answer: tuple[str, str] | None) -> str | None:
        """Return what a request is too large for that broke its connection, if it is."""
        known: dict[str, int] = {}
        soon = min(unit.job.deadline, monotonic() + self.timeout)
        try:
            known = limits(trip.node, soon)
        except NotNow:
            pass
        except self.topology.failures as error:
            _pass_on(error)
        commands = [unit.job.batch.commands[index] for index in unit.indexes]
        parts = [part for command in commands for part in command]
        largest = max(len(part) for part in parts if isinstance(part, bytes | str))
        told = f"the server closed the connection while it was sent {unit.size} bytes"
        for name, limit in known.items():
            size = largest if name == "proto-max-bulk-len" else unit.size
            if size > limit:
                return f"{told}, more than its {name} of {limit} allows"
        if answer is not None:
            return f"{told}, more than its proto-max-bulk-len allows: {answer[1]}"
        if unit.failures > 1 and not known:
            return (
                f"{told}, each time: they may be more than its proto-max-bulk-len, "
                "client-query-buffer-limit or maxmemory-clients allows"
            )
        return None

    def _reason(
        self,
        job: Job,
        address: str,
        error: Exception,
        *,
        sent: bool = False,
        doubt: bool = False,
        share: str = "",
    ) -> SwarmStateError:
        """Return the error for a call whose connection failed."""
        reason: SwarmStateError
        name = faults.call_name(job.operation)
        if not sent and denied(error):
            reason = AccessDenied(f"{name} was denied on {address}{share}: {error}")
        else:
            doubtful = " (it may or may not have been carried out)" if doubt else ""
            reason = StoreUnavailable(f"{name} failed on {address}{share}{doubtful}: {error}")
        reason.__cause__ = error
        return reason


def _pass_on(error: BaseException) -> None:
    """Raise what belongs to the handler of a signal, as itself."""
    own = faults.foreign(error)
    if own is not None:
        raise own


def _last_word(trip: Trip) -> Exception | None:
    """Return what a server has said about a request before it closed the connection, if it has."""
    (unit,) = trip.unread
    with contextlib.suppress(Exception):
        # The connection is known to be broken.
        while readable(trip.connection):
            unit.replies.append(read(trip.connection))
    return _told(unit)


def _told(unit: Unit) -> Exception | None:
    """Return the reply that says that a request cannot be read at all."""
    for reply in unit.replies:
        if isinstance(reply, Exception) and "Protocol error" in str(reply):
            return reply
    return None


def _pause(attempts: int) -> float:
    """Return how long to wait before the next attempt, in seconds: doubling, with jitter.

    As ``EqualJitterBackoff`` of the client libraries, but for the source of its chance.
    """
    longest = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(attempts, 10))
    return jitter(longest / 2, longest)
