"""How long threads live: with the time of the last write, each as a whole."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from time import monotonic

from swarmstate.backends.redis.checkpoints import scripts as lua
from swarmstate.backends.redis.checkpoints.keys import ThreadKeys, in_parts
from swarmstate.backends.redis.commands import Batch, Command, CommandRefused
from swarmstate.steps import Steps

__all__ = ["Lifetime"]

# How long reads leave it, once a server has refused to renew for one.
_PAUSE_SECONDS = 10.0
_TRANSIENT = ("READONLY", "MISCONF", "NOREPLICAS")


class Lifetime:
    """The time to live of the threads of one engine.

    Each write gives its own keys all of the time. A thread is over with its first key, so that one
    must never outlive another. When less than half of the time is left to it, or when a writer with
    another time was there, every key of the thread is renewed.

    Args:
        keys: Where threads lie.
        ttl: Milliseconds that a thread lives after it was last renewed; None: it stays.
        on_read: Whether reading a thread renews it too.
    """

    def __init__(self, keys: ThreadKeys, ttl: int | None, *, on_read: bool) -> None:
        self._keys = keys
        self.ttl = ttl
        self.on_read = on_read
        self.argument = b"" if ttl is None else b"%d" % ttl
        """What scripts are told: the time, "" for threads that stay, "-" to leave them alone."""
        self._refused = False
        self._warned = False
        self._reads_wait_until = 0.0

    def refuse(self, reason: str) -> None:
        """Leave the time of threads alone from now on, and warn of it: what is written stands."""
        self._refused = True
        self.argument = b"-"
        self._warn("does not expire" if self.ttl is not None else "may still expire", reason)

    def _warn(self, what: str, reason: str) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"a thread of prefix {self._keys.store.layout.prefix!r} {what}: {reason}",
                RuntimeWarning,
                stacklevel=4,
            )

    def refused(self, error: CommandRefused) -> None:
        """Do the same for an error that says so, or raise it again."""
        if error.command not in ("PEXPIRE", "PERSIST"):
            raise error
        self.refuse(str(error))

    def outdated(self, left: int) -> bool:
        """Return whether a write must renew a thread whose first key has so many milliseconds left.

        Args:
            left: As PTTL gives it before the write: -1 for no end, -2 where there was no key.
        """
        if self._refused or left == -2:
            return False
        if self.ttl is None:
            return left >= 0
        return left * 2 < self.ttl or left > self.ttl

    def outdated_on_read(self, left: int) -> bool:
        """Return whether a read must renew it: it never gives an end to what has none."""
        if self.ttl is None or not self.on_read or not 0 <= left * 2 < self.ttl:
            return False
        return not self._refused and monotonic() > self._reads_wait_until

    def own(self, first: bytes, left: int | None, keys: list[bytes]) -> list[Command]:
        """Return the commands that give what a write touches its time.

        Args:
            first: The thread's first key, which is included where it needs that.
            left: What is left to it, as PTTL gives it; None leaves it alone.
            keys: The keys that are written.
        """
        if self._refused or self.ttl is None:
            return []
        if left is not None and (left < 0 or left > self.ttl):
            keys = [first, *keys]
        return [("PEXPIRE", key, self.ttl) for key in keys]

    def keep(self, keys: Sequence[bytes]) -> Steps[None]:
        """Let keys stay that an expired thread has left behind. One round trip."""
        commands: list[Command] = [("PERSIST", key) for key in keys]
        for reply in (yield Batch(commands, idempotent=True, ignore=("NOPERM", *_TRANSIENT))):
            if reply is None or isinstance(reply, bytes):
                self._told(reply or b"the server refuses PERSIST", read=False)
                return

    def renew(self, thread: str, left: int, *, scripted: bool, read: bool = False) -> Steps[None]:
        """Give every key of a thread the same time. Two round trips, and one for each pass.

        The first key is the one that counts. If it gets more time than it has, the others get
        theirs before, so that none ends sooner. Once it has its own, the others are given the same,
        unless another writer has changed it meanwhile: of several at once, the last one's holds for
        all keys.

        Args:
            thread: The thread.
            left: What was left to the first key, as PTTL gives it.
            scripted: Whether scripts can be used. Without them, writers with different times that
                come at the same moment are not told apart.
            read: Whether it was only read.
        """
        parts = yield from self._keys.parts(thread)
        first = parts[0].keys[0]
        rest = [key for part in parts for key in (*part.keys[1:], *part.writes.values())]
        less = self.ttl is not None and (left > self.ttl or left == -1)
        ttl = self.argument

        def one_by_one(keys: Sequence[bytes]) -> list[Command]:
            return [("PEXPIRE", key, ttl) if ttl else ("PERSIST", key) for key in keys]

        def together(exact: int) -> list[Command]:
            if not scripted:
                return one_by_one(rest)
            return [lua.RENEW((first, *some), [ttl, exact]) for some in in_parts(rest)]

        passes = [one_by_one([first]), together(1)]
        for commands in passes if less else [together(0), *passes]:
            for some in in_parts(commands):
                replies = yield Batch(some, idempotent=True, ignore=("NOPERM", *_TRANSIENT))
                for reply in replies:
                    if reply is None or isinstance(reply, bytes):
                        refused = b"the server refuses %b" % (b"PEXPIRE" if ttl else b"PERSIST")
                        self._told(reply or refused, read=read)
                        return

    def _told(self, reason: bytes, *, read: bool) -> None:
        """Note why a server did not renew."""
        text = reason.decode(errors="replace")
        if read:
            self._reads_wait_until = monotonic() + _PAUSE_SECONDS
            self._warn("is not renewed by reads", text)
        elif not text.startswith(_TRANSIENT):
            self.refuse(text)
