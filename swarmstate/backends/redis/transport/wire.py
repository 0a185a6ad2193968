"""Packing commands and reading replies on one connection of the client library.

The connections, their TLS, their logins and their parsers are the client library's; what goes over
them is ours. So every kind of client is served the same way, transactions and redirects on clusters
included, and we know exactly whether a command was sent before something broke.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

from swarmstate.backends.redis.commands import Command, Script

__all__ = ["command_name", "pack", "split_error"]

_CHUNK = 64 * 1024
# Commands of no more arguments are written in one go.
_FEW = 64


def pack(commands: Iterable[Sequence[Any]], *, source: bool = False) -> list[bytes]:
    """Return the commands in the wire format, in chunks that are worth a system call each.

    Args:
        commands: the commands; a :class:`Script` becomes EVALSHA, or EVAL with ``source``.
        source: send the text of scripts instead of their hash.
    """
    chunks: list[bytes] = []
    parts: list[bytes] = []
    size = 0
    for command in commands:
        arguments = command
        head = command[0]
        if isinstance(head, Script):
            if source:
                arguments = (b"EVAL", head.source, *command[1:])
            else:
                arguments = (b"EVALSHA", head.sha, *command[1:])
        flat: list[Any] = []
        length = 0
        for argument in arguments:
            if type(argument) is str:
                data = argument.encode()
            elif type(argument) is int:
                data = b"%d" % argument
            else:
                data = argument
            length += len(data)
            flat += (len(data), data)
        size += length
        if length < _CHUNK and len(arguments) <= _FEW:
            parts.append(_form(len(arguments)) % tuple(flat))
        else:
            parts.append(b"*%d\r\n" % len(arguments))
            pairs = iter(flat)
            for length, data in zip(pairs, pairs, strict=True):
                if length < _CHUNK:
                    parts.append(b"$%d\r\n%b\r\n" % (length, data))
                else:
                    # A large value goes out as it is: joining would copy it once more.
                    parts.append(b"$%d\r\n" % length)
                    chunks += (b"".join(parts), data)
                    parts = [b"\r\n"]
                    size = 0
        if size > _CHUNK:
            chunks.append(b"".join(parts))
            parts = []
            size = 0
    if parts:
        chunks.append(b"".join(parts))
    return chunks


@lru_cache(maxsize=_FEW)
def _form(count: int) -> bytes:
    """Return what the lengths and the bytes of so many arguments are filled into."""
    return b"*%d\r\n" % count + b"$%d\r\n%b\r\n" * count


_CODES = {
    "AskError": "ASK",
    "ClusterCrossSlotError": "CROSSSLOT",
    "ClusterDownError": "CLUSTERDOWN",
    "ExecAbortError": "EXECABORT",
    "MasterDownError": "MASTERDOWN",
    "MovedError": "MOVED",
    "NoPermissionError": "NOPERM",
    "NoScriptError": "NOSCRIPT",
    "OutOfMemoryError": "OOM",
    "ReadOnlyError": "READONLY",
    "TryAgainError": "TRYAGAIN",
}


# How Redis before 7.0 tells of a command that was refused inside a script.
_IN_SCRIPT = re.compile(r"^Error running script .*: -?([A-Z]+) ")


def split_error(error: Exception) -> tuple[str, str]:
    """Return the code and the text of an error reply.

    The client libraries turn the codes they know into classes and cut them off the text.
    """
    # Not str(): newer clients append the code to it.
    text = str(error.args[0]) if error.args else ""
    code = _CODES.get(type(error).__name__)
    if code is not None:
        return code, text
    if (inside := _IN_SCRIPT.search(text)) is not None:
        return inside[1], text
    first, _, rest = text.partition(" ")
    if first.isupper() and first.isascii() and rest:
        return first, rest
    return "ERR", text


def command_name(command: Command, *, source: bool = False) -> str:
    """Return the name of a command as the server knows it."""
    head = command[0]
    if isinstance(head, Script):
        return "EVAL" if source else "EVALSHA"
    return head.decode() if isinstance(head, bytes) else str(head)
