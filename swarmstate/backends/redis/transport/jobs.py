"""A batch on its way: what goes to which place, and with whom it shares a connection."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from threading import Lock
from typing import Any

from swarmstate.arguments import shown
from swarmstate.backends.redis.commands import Batch, Command, Script
from swarmstate.backends.redis.transport.faults import call_name
from swarmstate.backends.redis.transport.fence import Guard, Peer
from swarmstate.backends.redis.transport.topology import Node
from swarmstate.backends.redis.transport.wire import pack
from swarmstate.errors import ArgumentValueError

__all__ = ["Job", "Trip", "Unit"]


class Job:
    """A batch on its way, and how it came out.

    Attributes:
        replies: one per command, once it is settled.
        error: why the batch failed, if it did.
        deadline: when it is given up, by the monotonic clock.
        units: its parts, as long as a task waits for them; each goes to one place.
        given_up: whether nobody waits for it any more.
        done: called with the job when it has come out.
        future: what the task awaits that it belongs to.
    """

    # Most jobs need only what __init__ sets: the rest costs nothing until it is set.
    error: BaseException | None = None
    units: Sequence[Unit] = ()
    given_up = False
    done: Callable[[Job], None] | None = None
    future: Any = None
    _left: list[bool] | None = None
    _paused = 0.0

    def __init__(self, batch: Batch, operation: str, deadline: float) -> None:
        self.batch = batch
        self.operation = operation
        self.deadline = deadline
        self.replies: list[Any] = [None] * len(batch.commands)

    @property
    def name(self) -> str:
        """What the method is called that a user called, for errors."""
        return call_name(self.operation)

    def divide(self, parts: int) -> None:
        """Learn of how many parts the job is, before any of them is under way."""
        self._left = [True, *[False] * (parts - 1)]

    def settle(self, error: BaseException | None = None) -> None:
        """Count a unit that is through, and tell whoever waits, once, when all are."""
        if error is not None and self.error is None:
            self.error = error
        # Units settle in several threads: whoever takes the last entry knows that all are.
        if (self._left is None or self._left.pop()) and self.done is not None:
            self.done(self)

    def pause(self, now: float, until: float) -> None:
        """Put a pause on top of the time that the job has; one of all its units is one pause."""
        if until > self._paused:
            self.deadline += until - max(now, self._paused)
            self._paused = until


class Unit:
    """Commands of one job that go to one place.

    Attributes:
        indexes: which of the job's commands.
        chunks: what to send, once it is packed.
        size: how many bytes that was.
        expected: how many replies there will be.
        replies: those that have come.
        slot: the slot they belong to, if they have keys.
        part: which entry of an ``everywhere`` reply this unit fills.
        node: where to send instead of where the slot says.
        asking: send ASKING first, as a node asked for that takes over a slot.
        source: send scripts as text.
        failures: how often the connection broke, or led to the wrong server.
        delays: how often the server had no time, or another one to send us to.
        not_before: when to try again, by the monotonic clock.
        settled: whether it has come out, or was given up.
        suspect: whether it was on a connection that broke, and may be why.
        doubled: whether it was looked at for asking for the same twice.
        taught: the scripts that the server will have afterwards.
        more: what followed from the replies, see :attr:`Batch.then`.
        decided: whether that is more than the end of what was begun.
        trip: what it travels with, from before it is sent until its replies are there.
    """

    # As with jobs.
    chunks: Sequence[bytes] = ()
    size = 0
    expected = 0
    part: int | None = None
    node: Node | None = None
    asking = False
    failures = 0
    delays = 0
    not_before = 0.0
    settled = False
    suspect = False
    doubled = False
    taught: Sequence[Script] = ()
    more: Sequence[Command] = ()
    decided = False
    trip: Trip | None = None

    def __init__(self, job: Job, indexes: Sequence[int], slot: int | None = None) -> None:
        self.job = job
        self.indexes = indexes
        self.slot = slot
        self.replies: list[Any] = []
        # EVALSHA in a transaction could fail after its neighbours were carried out.
        self.source = job.batch.atomic

    @property
    def under_way(self) -> bool:
        """Whether it was sent, and its reply has not come."""
        trip = self.trip
        return trip is not None and self in trip.unread

    @property
    def share(self) -> str:
        """What an error text says of a part of a job; the others come out by themselves."""
        whole = len(self.indexes) == len(self.job.batch.commands)
        return "" if whole else " for a part of the call"

    @property
    def repeatable(self) -> bool:
        """Whether it may be sent again without knowing whether it was carried out."""
        return self.job.batch.idempotent and not self.decided

    def command(self, index: int) -> Command:
        """Return a command of the job, or of what followed."""
        commands = self.job.batch.commands
        return commands[index] if index < len(commands) else self.more[index - len(commands)]

    def follow(self, commands: Sequence[Command] | None) -> list[bytes]:
        """Take what follows from the replies, and return what is sent."""
        self.decided = bool(commands)
        # An empty transaction ends WATCH as UNWATCH does, which fewer users may call.
        self.more = (("MULTI",), *(commands or ()), ("EXEC",))
        if self.asking:
            self.more = (("ASKING",), *self.more)
        chunks = pack(self.more)
        self.expected += len(self.more)
        return chunks

    def settle(self, error: BaseException | None = None) -> None:
        """Tell the job how this part came out; again does nothing."""
        if not self.settled:
            self.settled = True
            self.job.settle(error)

    def pack(self, known: Set[Script]) -> bool:
        """Make what is sent; return whether that was possible. If not, the job has failed.

        Args:
            known: the scripts that the server has; others are sent as text.
        """
        batch = self.job.batch
        commands: Sequence[Command] = batch.commands
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
        unknown = [one[0] for one in commands if type(one[0]) is Script and one[0] not in known]
        if unknown:
            self.taught = unknown
            self.source = True
        try:
            self.chunks = pack(commands, source=self.source)
        except Exception as error:  # noqa: BLE001 (what is wrong with it is its caller's to hear)
            if isinstance(error, UnicodeEncodeError):
                text = f"{shown(error.object)} cannot be sent to a server: {error.reason}"
                error = ArgumentValueError(text)
            self.settle(error)
            return False
        size = len(self.chunks[0])
        if len(self.chunks) > 1:
            size = sum(map(len, self.chunks))
        self.size = size
        self.expected = len(commands)
        self.more = ()
        self.decided = False
        self.replies = []
        return True


class Trip:
    """One connection's part of a round.

    Attributes:
        node: where it goes.
        guard: what is known of the server there.
        units: what it carries.
        unread: those whose replies have not come, once they are under way; the next one is last.
        connection: while it is under way.
        peer: who the connection is at the server.
    """

    connection: Any = None
    peer: Peer | None = None
    _hurried = False

    def __init__(
        self, node: Node, guard: Guard, units: list[Unit], lock: Lock | None = None
    ) -> None:
        self.node = node
        self.guard = guard
        self.units = units
        self.unread: list[Unit] = []
        # Where another thread may end a trip early, it must not end what comes after it.
        self._lock = lock

    @property
    def deadline(self) -> float:
        """When the first of those that still wait for it is given up."""
        if len(self.units) == 1:
            return self.units[0].job.deadline
        waiting = [unit.job.deadline for unit in self.units if not unit.settled]
        return min(waiting, default=0.0)

    @property
    def writes(self) -> bool:
        """Whether something that is under way may change the server."""
        return not all(unit.job.batch.reads for unit in self.unread)

    def hurry(self, seconds: float) -> None:
        """Wait for the next bytes no longer than this."""
        if self.peer is not None:
            self._hurried = True
            self.peer.socket.settimeout(max(seconds, 0.001))

    def leave(self) -> None:
        """Use no connection to this server again: it is not the right one, or will not be soon."""
        if self.peer is not None and self.peer.era == self.guard.era:
            self.guard.era += 1

    def break_off(self) -> None:
        """Have the thread that waits for replies find the connection closed."""
        with self._lock or Lock():
            if self.connection is not None and self.peer is not None:
                self.peer.shut_down()

    def end(self) -> None:
        """Give the connection back, closed unless every reply was read; again does nothing."""
        if self.unread and self.peer is not None and self.writes:
            # First of all, so that no interrupt comes before it.
            self.guard.lose(self.peer)
        if self._lock is None:
            connection, self.connection = self.connection, None
        else:
            with self._lock:
                connection, self.connection = self.connection, None
        if connection is None:
            return
        peer = self.peer
        if self.unread or (peer is not None and peer.era != self.guard.era):
            connection.disconnect()
        elif self._hurried and peer is not None:
            peer.socket.settimeout(peer.timeout)
        for unit in self.units:
            unit.trip = None
        self.unread.clear()
        self.node.release(connection)
