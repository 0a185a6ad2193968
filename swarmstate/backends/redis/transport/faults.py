"""What an error means: a fault of the network, an answer of the server, or something else's."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from swarmstate.backends.redis.commands import CommandDenied, CommandFailed, CommandRefused
from swarmstate.backends.redis.transport.wire import is_reply, split_error

__all__ = [
    "NOT_HERE",
    "NOT_NOW",
    "REDIRECTS",
    "answer",
    "call_name",
    "denied",
    "foreign",
    "passing",
    "refusal",
    "timed_out",
]

# Answers that say "not here" or "not now": nothing was carried out, so all may be sent again.
REDIRECTS = frozenset(("MOVED", "ASK"))
NOT_NOW: frozenset[str] = frozenset(
    ("BUSY", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "NOREPLICAS", "TRYAGAIN")
)
NOT_HERE = frozenset(("LOADING", "MASTERDOWN", "NOREPLICAS"))
"""Those among them that another server may not give, where one name leads to several in turn."""
# Answers that will be the same the next time.
_DENIED = frozenset(("DENIED", "NOAUTH", "NOPERM", "WRONGPASS"))
_DENIED_TEXTS = ("db index", "invalid password", "without any password", "unknown command")

_SPOKEN = {"__contains__": "in"}


def call_name(operation: str) -> str:
    """Return how an error names what a user called, from the name of the method."""
    return _SPOKEN.get(operation) or f"{operation.strip('_')}()"


def denied(code: str, text: str) -> bool:
    """Return whether an error reply means that trying again does not help."""
    return code in _DENIED or any(part in text.lower() for part in _DENIED_TEXTS)


def refusal(code: str, command: str, place: str, text: str) -> CommandRefused:
    """Return the error for an answer of the server's that is final."""
    kind = CommandDenied if denied(code, text) else CommandFailed
    return kind(code, command, f"{place} was refused: {code} {text}")


def passing(code: str, text: str) -> bool:
    """Return whether an error reply means that trying again may help soon."""
    return code in NOT_NOW or code == "READONLY"


def answer(error: BaseException) -> tuple[str, str] | None:
    """Return code and text where a connection failed because of what the server answered."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, Exception) and is_reply(seen):
            return split_error(seen)
        seen = seen.__cause__
    return None


def timed_out(error: BaseException) -> bool:
    """Return whether an error says that nothing came in time."""
    return any(base.__name__ == "TimeoutError" for base in type(error).__mro__)


# What is called below us, and what these call in turn.
_LIBRARIES = ("redis", "valkey", "hiredis", "swarmstate")
_SOCKETS = ("socket", "ssl", "selectors", "encodings", "gevent", "eventlet")
_CALLED = (*_LIBRARIES, *_SOCKETS, "threading")


def foreign(error: BaseException) -> BaseException | None:
    """Return what a handler of a signal has raised below us, if that is what an error came from.

    The client libraries wrap every ``OSError`` and ``TimeoutError`` that they meet, a handler's
    own as well, which belongs to whoever installed the handler. What the network raises is raised
    by the libraries or by what they call; a handler runs on top of these in a frame of its own.
    """
    seen: BaseException | None = error
    while seen is not None:
        frames = seen.__traceback__
        if frames is not None:
            outer, inner = _module(frames), _module(_last(frames))
            # What was being handled when we were called is not the cause of what happened here.
            if seen is not error and outer not in _LIBRARIES:
                return None
            if inner not in _CALLED or (isinstance(seen, OSError) and not seen.args):
                return seen
        seen = seen.__cause__ or seen.__context__
    return None


def _last(frames: TracebackType) -> TracebackType:
    while frames.tb_next is not None:
        frames = frames.tb_next
    return frames


def _module(frames: TracebackType) -> str:
    name: Any = frames.tb_frame.f_globals.get("__name__", "")
    return str(name).partition(".")[0]
