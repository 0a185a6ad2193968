"""What a store asks of a server: batches of commands, written as data.

The logic of the stores (and of the checkpointer over them) is written once, as generators of
:class:`Batch`: each ``yield`` is one round trip and gives the list of replies. A driver (see
:mod:`~swarmstate.backends.redis.transport.driver`) runs such a generator, blocking or awaited::

    def steps_of_len(keys) -> Steps[int]:
        replies = yield Batch([("HLEN", key) for key in keys], idempotent=True)
        return sum(replies)

    driver.run(steps_of_len(keys))
    await driver.arun(steps_of_len(keys))
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from swarmstate._redis import Batch
from swarmstate.errors import AccessDenied, StoreUnavailable, SwarmStateError

__all__ = [
    "AT_ONCE",
    "Argument",
    "Batch",
    "Command",
    "CommandDenied",
    "CommandFailed",
    "CommandRefused",
    "Script",
    "fields",
    "fill",
]

AT_ONCE = 2000
"""Fields per command: servers bound the arguments of one."""

Argument = bytes | str | int
"""Text goes as UTF-8, a number in decimal."""


class Script:
    """A Lua script, sent as EVALSHA; the driver sends the source to a server that lacks it.

    A call is a command like any other: ``(script, number_of_keys, *keys, *arguments)``, or
    ``script(keys, arguments)``.
    """

    __slots__ = ("name", "sha", "source")

    def __init__(self, name: str, source: str) -> None:
        self.name = name
        self.source = source.encode()
        # Redis names scripts by SHA-1; nothing secret depends on it.
        self.sha = hashlib.sha1(self.source, usedforsecurity=False).hexdigest().encode()

    def __call__(self, keys: Sequence[Argument], arguments: Sequence[Argument] = ()) -> Command:
        """Return the command that runs the script."""
        return (self, len(keys), *keys, *arguments)

    def __repr__(self) -> str:
        return f"<Script {self.name}>"


Command = tuple[Argument | Script, ...]
"""The name and the arguments; the first key stands at index 1, in a script's call at index 2."""


class CommandRefused(SwarmStateError):  # noqa: N818 (as its public kinds)
    """The server answered, and the answer was an error.

    Always raised as :class:`CommandDenied` or :class:`CommandFailed`.

    Attributes:
        code: the first word of the answer, such as ``"WRONGTYPE"`` or ``"NOPERM"``; ``"ERR"``
            where the server gives nothing more precise.
        command: the name of the refused command.
    """

    def __init__(self, code: str, command: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.command = command

    @property
    def scripting_refused(self) -> bool:
        """Whether the server does not let us run scripts at all."""
        return self.command in ("EVAL", "EVALSHA") and (
            self.code == "NOPERM" or "unknown command" in str(self).lower()
        )


class CommandDenied(CommandRefused, AccessDenied):
    """The server does not let us do this, and will not the next time."""


class CommandFailed(CommandRefused, StoreUnavailable):
    """The server could not do this; another time it may."""


def fields(reply: Any) -> dict[bytes, bytes]:
    """Return the reply to HGETALL as a dict, whichever protocol version brought it."""
    if isinstance(reply, dict):
        return reply
    entries = iter(reply)
    return dict(zip(entries, entries, strict=True))


def fill(key: bytes, flat: Sequence[bytes | str]) -> list[Command]:
    """Return the commands that add fields and values, given in turns, to a hash."""
    return [("HSET", key, *flat[at : at + 2 * AT_ONCE]) for at in range(0, len(flat), 2 * AT_ONCE)]
