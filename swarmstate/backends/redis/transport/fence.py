"""Requests that were given up, and how they are kept from arriving later.

A request that was written to a socket and then given up (it timed out, its connection broke, its
task was cancelled, an interrupt came) may still be on its way: a network can hold it back until
long after its retry, or after whatever the same program has written since, and it would undo that.
So before anything else is sent to that server, the connection it was sent on is closed at the
server's end, by ``CLIENT KILL ID ... ADDR ...``: what the server has not read by then, it never
will. Both filters must fit: every server counts its connections for itself, and after a failover
the id alone could be a stranger's.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any, Protocol

from swarmstate._redis import Peer, pack
from swarmstate.backends.redis.commands import Command, Script
from swarmstate.backends.redis.transport.clock import monotonic, sleep
from swarmstate.backends.redis.transport.faults import NOT_NOW
from swarmstate.backends.redis.transport.pool import identity
from swarmstate.backends.redis.transport.topology import Node
from swarmstate.backends.redis.transport.wire import (
    parser_of,
    read,
    socket_of,
    split_error,
    write,
)
from swarmstate.forks import here

__all__ = ["Guard", "NotNow", "Sent", "ask", "limits", "line"]

_LIMITS = ("proto-max-bulk-len", "client-query-buffer-limit", "maxmemory-clients")
_LOOK_SECONDS = 0.005
# Answers that any question would get.
_AT_ALL = NOT_NOW | {"NOAUTH", "WRONGPASS"}


class NotNow(Exception):  # noqa: N818 (it is passed on as the server's answer)
    """The server answered, to a question of ours, that it cannot answer now."""

    def __init__(self, reply: Exception) -> None:
        super().__init__(*reply.args)
        self.reply = reply


class Sent(Protocol):
    """What a guard has to know of a request that was given up."""

    @property
    def under_way(self) -> bool:
        """Whether it was sent, and its reply has not come."""
        ...


class Guard:
    """What is known of one server, and what was given up there.

    Attributes:
        era: goes up when the server turns out not to be the right one: connections of an earlier
            era are not used again.
        loose: connections on which something was given up that may still arrive.
        adrift: requests that were given up while their connection goes on, with others' replies.
        scripts: those that the server has, as far as known.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.era = 0
        self.loose: dict[Peer, None] = {}
        self.adrift: dict[Sent, None] = {}
        self.scripts: set[Script] = set()
        self._warned = False
        self._process = here.process

    def meet(self, connection: Any) -> Peer:
        """Return who a connection is, for as long as its socket is the one that it has now."""
        peer: Peer | None = getattr(connection, "swarmstate_peer", None)
        sock = socket_of(connection)
        if peer is None or peer.socket is not sock:
            peer = Peer(sock, identity(connection), self.era, parser_of(connection))
            connection.swarmstate_peer = peer
        return peer

    def lose(self, peer: Peer) -> None:
        """Take a connection on which something may still be on its way; again does nothing."""
        if not peer.fenced:
            self.loose[peer] = None

    def clear(self, node: Node, deadline: float) -> None:
        """See to it that nothing which was given up can arrive any more.

        Raises:
            NotNow: the server has no time.
            TimeoutError: the time is over.
        """
        self._wait(deadline)
        if self.loose:
            with line(node, deadline) as connection:
                for peer in tuple(self.loose):
                    self.kill(connection, peer, deadline)

    def _wait(self, deadline: float) -> None:
        """Wait until what is adrift has landed, or its connection is lost."""
        if self._process != here.process:
            # The parent's threads carry it, and see to it.
            self._process = here.process
            self.adrift.clear()
        while self.adrift:
            for sent in tuple(self.adrift):
                # What was not sent by the time that it was given up is not sent any more.
                if not sent.under_way:
                    self.adrift.pop(sent, None)
            if self.adrift:
                if monotonic() >= deadline:
                    raise TimeoutError("a request that was given up is still under way")
                sleep(_LOOK_SECONDS)

    def kill(self, connection: Any, peer: Peer, deadline: float) -> None:
        """Have the server close a connection, over another one."""
        if peer.identity is not None:
            command = ("CLIENT", "KILL", "ID", peer.identity.id, "ADDR", peer.identity.address)
            reply = ask(connection, command, deadline)
            if isinstance(reply, Exception):
                self._warn(str(reply))
        else:
            self._warn("it may not ask for CLIENT INFO")
        peer.fenced = True
        self.loose.pop(peer, None)

    def _warn(self, reason: str) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"a request to {self.address} was given up, and whether it still arrives is up to "
                f"the network: the store's user may not close its old connection ({reason}); "
                "with the permissions +client|info and +client|kill it would",
                RuntimeWarning,
                stacklevel=2,
            )


@contextlib.contextmanager
def line(node: Node, deadline: float) -> Iterator[Any]:
    """Give a connection apart from all others, for the length of a ``with`` block."""
    connection = node.fresh(deadline)
    try:
        yield connection
    finally:
        connection.disconnect()


def limits(node: Node, deadline: float) -> dict[str, int]:
    """Return how large the server lets requests be, as far as it tells."""
    found = {}
    with line(node, deadline) as connection:
        for name in _LIMITS:
            reply = ask(connection, ("CONFIG", "GET", name), deadline)
            if isinstance(reply, Exception):
                break
            value = b"".join(reply.values() if isinstance(reply, dict) else reply[1:2])
            if value.isdigit() and int(value):
                found[name] = int(value)
    return found


def ask(connection: Any, command: Command, deadline: float) -> Any:
    """Send one command and return its reply, an error too unless it says "not now".

    Raises:
        NotNow: the server has no time to answer.
    """
    sock = socket_of(connection)
    before = sock.gettimeout()
    sock.settimeout(max(deadline - monotonic(), 0.001))
    try:
        write(sock, pack([command]), deadline)
        reply = read(connection)
    except BaseException:  # raised again: its reply must not be taken for another's
        connection.disconnect()
        raise
    sock.settimeout(before)
    if isinstance(reply, Exception) and split_error(reply)[0] in _AT_ALL:
        raise NotNow(reply)
    return reply
