"""What is derived from a thread's hashes: the order of the ids, and what records refer to.

Every write of ours keeps it right. Whatever else happens to it or to the hashes (a server evicts or
restores, other programs write) is noticed by whoever reads, and put right if the server lets us. If
not, on a replica or a full server or for a user who may not, reads do without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import randrange
from time import monotonic

from swarmstate.backends.redis.checkpoints import scripts as lua
from swarmstate.backends.redis.checkpoints.keys import ThreadKeys, in_parts
from swarmstate.backends.redis.commands import Batch, Command
from swarmstate.steps import Steps

__all__ = ["FEW", "Derived"]

_REFUSED = ("READONLY", "OOM", "NOPERM", "MISCONF", "NOREPLICAS")
# How long a server that refused is not asked again.
_PAUSE_SECONDS = 1.0
# To compare an order with its hash takes about 1 us for each id. It is always done where there are
# few; where there are more, when the last time is some hundred times as long ago.
FEW = 32
"""How many ids are compared whenever they are read."""
_SECONDS_PER_ID = 2e-4
_MOST_COMPARED = 2000
_MOST_REMEMBERED = 4096
_TURNS = 1 << 20


class Derived:
    """Keeps what is derived right."""

    def __init__(self, keys: ThreadKeys) -> None:
        self._keys = keys
        self._refused_until = 0.0
        self.known: dict[int, float] = {}
        """When to compare an order next; of one that is not here, not even the size was compared.

        By hash of the key, so that long ids do not make it large; of two alike, one comes later.
        """
        self._turn = randrange(_TURNS)  # noqa: S311 (it only spreads what is looked at)

    @property
    def refused(self) -> bool:
        """Whether the server has just refused to put something right."""
        return monotonic() < self._refused_until

    def comparison(self, checkpoints: bytes) -> int | str:
        """Return what tells a script to compare an order one by one, or "" if that is too early."""
        wait = self.known.get(hash(checkpoints), 0.0)
        if wait and monotonic() < wait:
            return ""
        self._turn = (self._turn + 1) % _TURNS
        return self._turn

    def compared(self, checkpoints: bytes, size: int) -> None:
        """Note that an order fits: of that size, it was compared one by one; of 0, by its size."""
        if len(self.known) >= _MOST_REMEMBERED:
            self.known.clear()
        wait = 0.0
        if size > FEW:
            wait = monotonic() + min(size, _MOST_COMPARED) * _SECONDS_PER_ID
        self.known[hash(checkpoints)] = wait

    def put_right(self, thread: str, checkpoint_ns: str) -> Steps[bool]:
        """Make an order fit its hash, and return whether that was allowed. Two round trips."""
        if self.refused:
            return False
        keys = self._keys.of(thread, checkpoint_ns)
        _, checkpoints, _, _, order, _ = keys
        held, listed = yield Batch(
            [("HKEYS", checkpoints), ("ZREVRANGE", order, 0, -1)],
            idempotent=True,
            ignore=("WRONGTYPE", "NOPERM"),
        )
        wrong = list({*(held or ())} ^ {*(listed or ())})
        # Of nothing too: then it may be the type that is wrong.
        commands: list[Command] = [
            lua.ORDER((checkpoints, order), some) for some in [*in_parts(wrong)] or [()]
        ]
        commands += [("UNLINK", key) for key in self._keys.before(thread, checkpoint_ns)]
        # Noted by the order; whoever has a limit notes it again.
        commands.append(("UNLINK", self._keys.references(thread, checkpoint_ns)))
        return (yield from self._derive(commands))

    def remember(
        self, thread: str, checkpoint_ns: str, entries: Mapping[bytes, bytes]
    ) -> Steps[bool]:
        """Note what records refer to, and return whether that was allowed. One round trip."""
        if self.refused:
            return False
        _, checkpoints, _, _, _, key = self._keys.of(thread, checkpoint_ns)
        commands: list[Command] = []
        for some in in_parts(list(entries.items())):
            flat = [part for pair in some for part in pair]
            commands.append(lua.REMEMBER((checkpoints, key), flat))
        return (yield from self._derive(commands))

    def _derive(self, commands: list[Command]) -> Steps[bool]:
        replies = yield Batch(commands, idempotent=True, ignore=_REFUSED)
        if all(isinstance(reply, int) for reply in replies):
            return True
        self._refused_until = monotonic() + _PAUSE_SECONDS
        return False
