"""Writing and reading on one connection of the client library.

The connections, their TLS, their logins and their parsers are the client library's; what goes over
them is ours. So every kind of client is served the same way, transactions and redirects on clusters
included, and we know exactly whether a command was sent before something broke.
"""

from __future__ import annotations

import re
import select
from collections.abc import Sequence
from typing import Any

from swarmstate.backends.redis.commands import Command, Script
from swarmstate.backends.redis.transport.clock import monotonic

__all__ = [
    "command_name",
    "is_reply",
    "parser_of",
    "read",
    "readable",
    "socket_of",
    "split_error",
    "write",
]

# As much of a large value as must be taken by the network within one timeout.
_STRIDE = 1 << 20


# Connections ------------------------------------------------------------------------------------


def socket_of(connection: Any) -> Any:
    """Return the socket of a connection, or None while it has none."""
    try:
        return connection._sock
    except AttributeError:
        # A client that caches replies wraps its connections.
        return connection._conn._sock


def parser_of(connection: Any) -> Any:
    """Return the library's parser over its reader in C, where no more is needed to read, or None.

    Only of a connection that was not read from halfway.
    """
    if not getattr(connection, "swarmstate_direct", False):
        return None
    parser = connection._parser
    reader: Any = getattr(parser, "_reader", None)
    known = all(hasattr(reader, name) for name in ("feed", "gets", "has_data"))
    return parser if known and not reader.has_data() and hasattr(parser, "_buffer") else None


def write(sock: Any, chunks: Sequence[bytes], deadline: float) -> None:
    """Send chunks; raises TimeoutError when the deadline passes between two parts of them."""
    for chunk in chunks:
        if len(chunk) <= _STRIDE:
            sock.sendall(chunk)
            continue
        view = memoryview(chunk)
        for at in range(0, len(view), _STRIDE):
            if monotonic() >= deadline:
                raise TimeoutError("the time was over before everything was sent")
            sock.sendall(view[at : at + _STRIDE])


def read(connection: Any) -> Any:
    """Return the next reply; an error that the server sent is a value like any other.

    After a timeout it can be called again: what has arrived is kept.
    """
    # The parser is asked for each time: a cluster's connections are given another as they connect.
    direct = getattr(connection, "swarmstate_direct", False)
    try:
        if direct:
            return connection._parser.read_response(disable_decoding=True)
        return connection.read_response(disable_decoding=True, disconnect_on_error=False)
    except Exception as error:  # told apart by name: either library's error reply is meant
        if is_reply(error):
            _consume(connection, error)
            return error
        raise


def readable(connection: Any) -> bool:
    """Return whether something has arrived on a connection, if only its end."""
    sock = socket_of(connection)
    if sock is None:
        return True
    if hasattr(sock, "pending") and sock.pending():
        return True
    if not hasattr(select, "poll"):
        return bool(select.select([sock], [], [], 0)[0])
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


# Error replies that the libraries raise as if the connection had failed.
_RAISED = frozenset(("BusyLoadingError", "AuthenticationError", "AuthorizationError"))


def is_reply(error: BaseException) -> bool:
    """Return whether an error of a client library is what a server answered."""
    return any(
        base.__name__ == "ResponseError" or base.__name__ in _RAISED for base in type(error).__mro__
    )


def _consume(connection: Any, error: Exception) -> None:
    """Take an error reply out of the parser that is written in Python: it goes back before it."""
    if type(error).__name__ in _RAISED:
        parser = getattr(connection, "_conn", connection)._parser
        buffer: Any = getattr(parser, "_buffer", None)
        if hasattr(buffer, "purge"):
            if not buffer.readline().startswith(b"-"):
                raise error
            buffer.purge()


# Error replies ----------------------------------------------------------------------------------

_CODES = {
    "AskError": "ASK",
    "BusyLoadingError": "LOADING",
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
    name = type(error).__name__
    code = _CODES.get(name)
    if code is not None:
        return code, text
    if name == "AuthenticationError":
        return ("NOAUTH" if "required" in text else "WRONGPASS"), text
    if (inside := _IN_SCRIPT.search(text)) is not None:
        return inside[1], text
    first, _, rest = text.partition(" ")
    if first.isupper() and first.isascii() and rest:
        return first, rest
    return "ERR", text


def command_name(command: Sequence[Any] | Command, *, source: bool = False) -> str:
    """Return the name of a command as the server knows it."""
    head = command[0]
    if isinstance(head, Script):
        return "EVAL" if source else "EVALSHA"
    return head.decode() if isinstance(head, bytes) else str(head)
