"""Which server a command goes to: one server (also behind Sentinel), or a cluster's nodes.

Everything here is read from the client the user gave or the URL made: its connection pools and, for
a cluster, its map of slots.
"""

from __future__ import annotations

import binascii
import inspect
import threading
from collections.abc import Callable
from importlib import import_module
from typing import Any, Protocol

from swarmstate.backends.redis.commands import Command, Script
from swarmstate.backends.redis.transport.clock import monotonic
from swarmstate.backends.redis.transport.pool import Pool

__all__ = ["Cluster", "Node", "Single", "Topology", "slot_of"]

SLOTS = 16384


def slot_of(key: bytes) -> int:
    """Return the cluster slot of a key: CRC16 of its hash tag, or of all of it."""
    start = key.find(b"{")
    if start >= 0:
        end = key.find(b"}", start + 1)
        if end > start + 1:
            key = key[start + 1 : end]
    return binascii.crc_hqx(key, 0) % SLOTS


def key_of(command: Command) -> bytes | None:
    """Return the first key of a command, or None where it has none."""
    index = 2 if isinstance(command[0], Script) or command[0] in ("EVAL", "EVALSHA") else 1
    if len(command) <= index:
        return None
    key = command[index]
    if isinstance(key, bytes):
        return key
    return key.encode() if isinstance(key, str) else None


class Node:
    """One server and the pool of connections to it."""

    __slots__ = ("_acquire", "_pool", "address")

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        kwargs = pool.connection_kwargs
        if "path" in kwargs:
            self.address = f"unix://{kwargs['path']}"
        elif "service_name" in vars(pool):
            self.address = f"the master of {pool.service_name!r}"
        else:
            self.address = f"{kwargs.get('host', 'localhost')}:{kwargs.get('port', 6379)}"
        # Older clients (and valkey's) want the name of the command, newer ones warn about it.
        wanted = inspect.signature(inspect.unwrap(pool.get_connection)).parameters
        name = wanted.get("command_name")
        needed = name is not None and name.default is inspect.Parameter.empty
        self._acquire: Callable[[], Any] = (
            (lambda: pool.get_connection("EVAL")) if needed else pool.get_connection
        )

    def acquire(self, deadline: float | None = None) -> Any:
        """Return a connection that is connected and idle."""
        return self._acquire()

    def fresh(self, deadline: float) -> Any:
        """Return a new connection that is counted nowhere, connected by the deadline.

        Whoever asked for it disconnects it.
        """
        pool = self._pool
        kind = getattr(pool, "connection_class", None) or pool._class
        left = max(deadline - monotonic(), 0.001)
        options = {**pool.connection_kwargs, "socket_timeout": left, "socket_connect_timeout": left}
        connection = kind(**options)
        connection.connect()
        return connection

    def release(self, connection: Any) -> None:
        """Give a connection back to the pool."""
        self._pool.release(connection)

    def close(self) -> None:
        """Close every connection of the pool."""
        self._pool.disconnect()

    def __repr__(self) -> str:
        return f"<Node {self.address}>"


class Topology(Protocol):
    """How the driver finds servers."""

    failures: tuple[type[Exception], ...]
    """What a broken connection raises."""

    clustered: bool
    """Whether commands must be sent to the node that serves their slot."""

    address: str
    """How an error names the whole."""

    def primaries(self) -> list[Node]:
        """Return every node that holds data."""
        ...

    def node(self, slot: int | None) -> Node:
        """Return the node that serves a slot, or any one for None."""
        ...

    def find(self, host: str, port: int) -> Node | None:
        """Return the node at an address, if it is known."""
        ...

    def refresh(self) -> None:
        """Learn anew which node serves what."""
        ...

    def close(self) -> None:
        """Let go of the connections, if they are ours."""
        ...


def failures_of(library: str) -> tuple[type[Exception], ...]:
    """Return what the clients of a library raise when a connection fails."""
    exceptions = import_module(f"{library}.exceptions")
    return (
        exceptions.RedisError if library == "redis" else exceptions.ValkeyError,
        exceptions.RedisClusterException
        if library == "redis"
        else exceptions.ValkeyClusterException,
        OSError,
    )


class Single:
    """One server, or the master behind a Sentinel."""

    clustered = False

    def __init__(self, pool: Any, library: str, *, owned: bool) -> None:
        self._pool = pool
        self._owned = owned
        self._node = Node(pool)
        self._nodes = [self._node]
        self.failures = failures_of(library)
        self.address = self._node.address

    def primaries(self) -> list[Node]:
        """Return the one node."""
        return self._nodes

    def node(self, slot: int | None) -> Node:
        """Return the one node."""
        return self._node

    def find(self, host: str, port: int) -> Node | None:
        """Return None: one server redirects nowhere."""
        return None

    def refresh(self) -> None:
        """Do nothing: there is nothing to learn."""

    def close(self) -> None:
        """Close the connections if they are ours."""
        if self._owned:
            self._pool.disconnect()


class Cluster:
    """A cluster, through the map of slots that its client keeps.

    Args:
        connect: makes the client, at first use: cluster clients connect as they are made.
        library: ``"redis"`` or ``"valkey"``.
        address: how an error names the cluster.
        own_pool: makes a node's pool of our own after the client's, if the client is ours.
    """

    clustered = True

    def __init__(
        self,
        connect: Callable[[], Any],
        library: str,
        address: str,
        own_pool: Callable[[Any], Pool] | None = None,
    ) -> None:
        self._connect = connect
        self._lock = threading.Lock()
        self._made: Any = None
        self._own_pool = own_pool
        self._nodes: dict[str, tuple[Any, Node]] = {}
        self._library = library
        self.failures = failures_of(library)
        self.address = address

    def _client(self) -> Any:
        if self._made is None:
            with self._lock:
                if self._made is None:
                    self._made = self._connect()
        return self._made

    def _node(self, member: Any) -> Node:
        pool = getattr(self._client(), f"get_{self._library}_connection")(member).connection_pool
        known, node = self._nodes.get(member.name, (None, None))
        if node is None or known is not pool:
            with self._lock:
                known, node = self._nodes.get(member.name, (None, None))
                if node is None or known is not pool:
                    if node is not None and self._own_pool is not None:
                        node.close()
                    node = Node(pool if self._own_pool is None else self._own_pool(pool))
                    self._nodes[member.name] = (pool, node)
        return node

    def primaries(self) -> list[Node]:
        """Return every primary node, ordered by name."""
        members = sorted(self._client().get_primaries(), key=lambda member: str(member.name))
        return [self._node(member) for member in members]

    def node(self, slot: int | None) -> Node:
        """Return the primary that serves a slot."""
        manager = self._client().nodes_manager
        return self._node(manager.get_node_from_slot(0 if slot is None else slot))

    def find(self, host: str, port: int) -> Node | None:
        """Return the node that a redirect names, if the map has it."""
        member = self._client().get_node(host=host, port=port)
        return None if member is None else self._node(member)

    def refresh(self) -> None:
        """Ask the cluster for its map of slots."""
        self._client().nodes_manager.initialize()

    def close(self) -> None:
        """Close the client and the connections if they are ours."""
        if self._own_pool is not None and self._made is not None:
            for _, node in self._nodes.values():
                node.close()
            self._made.close()
