"""Which server a command goes to: one server (also behind Sentinel), or a cluster's nodes."""

from __future__ import annotations

import binascii
import random
from collections import deque
from collections.abc import Callable
from functools import partial
from importlib import import_module
from os import getpid
from typing import Any, NamedTuple, Protocol

from swarmstate.backends.redis.commands import Command, Script
from swarmstate.backends.redis.transport.clock import monotonic
from swarmstate.backends.redis.transport.deadlines import Shared, Workers, within
from swarmstate.backends.redis.transport.pool import ConnectionPool
from swarmstate.backends.redis.transport.redaction import Redaction

__all__ = [
    "Address",
    "Cluster",
    "Lent",
    "Node",
    "Single",
    "Topology",
    "denied",
    "failures_of",
    "key_of",
    "name_of",
    "slot_of",
]

SLOTS = 16384
# How long to wait for one node of a cluster before asking another as well, in seconds.
_STAGGER = 0.1


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


def failures_of(library: str) -> tuple[type[Exception], ...]:
    """Return what the clients of a library raise when a connection fails, or cannot be made.

    Not all of it is worth another try: see :func:`denied`.
    """
    exceptions = import_module(f"{library}.exceptions")
    return (
        exceptions.RedisError if library == "redis" else exceptions.ValkeyError,
        exceptions.RedisClusterException
        if library == "redis"
        else exceptions.ValkeyClusterException,
        OSError,
    )


# What a server may answer to a login now and no longer answer later.
_PASSING = (
    *("BUSY", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "MISCONF", "NOREPLICAS", "OOM", "READONLY"),
    # The last refuses nobody: the URL says that the server is part of a cluster, and it is not.
    *("TRYAGAIN", "max number of clients", "This instance has cluster support disabled"),
)
_PASSING_KINDS = frozenset(
    (
        *("BusyLoadingError", "ClusterDownError", "MasterDownError", "OutOfMemoryError"),
        *("ReadOnlyError", "TryAgainError"),
    )
)
_REFUSALS = frozenset(("AuthenticationError", "AuthorizationError", "ResponseError"))


def denied(error: BaseException) -> bool:
    """Return whether a server refused to let us in, so that trying again does not help.

    For errors that came while connecting, and for those that the library raises instead of
    returning: a wrong password, none where one is needed or one where there is none, a user without
    permission, a database that does not exist, protected mode.
    """
    cause: BaseException | None = error
    while cause is not None:
        kinds = {base.__name__ for base in type(cause).__mro__}
        text = str(cause.args[0]) if cause.args else ""
        if kinds & _REFUSALS:
            passing = kinds & _PASSING_KINDS or text.removeprefix("ERR ").startswith(_PASSING)
            return not passing
        cause = cause.__cause__
    return False


class Node:
    """One server and the connections to it.

    Every error that comes from here is free of passwords.
    """

    __slots__ = ("_pool", "_redaction", "address", "ready", "release")

    def __init__(self, pool: ConnectionPool, address: str, redaction: Redaction) -> None:
        self._pool = pool
        self._redaction = redaction
        self.address = address
        self.ready: Callable[[], Any] = pool.ready
        """Return a connection that is connected and idle, and at hand; None: acquire one."""
        self.release: Callable[[Any], None] = pool.release
        """Give a connection back: closed, or with every reply read."""

    def acquire(self, deadline: float) -> Any:
        """Return a connection that is connected and idle; first come, first served.

        Args:
            deadline: when to give up, by the monotonic clock, in seconds. Connecting counts.

        Raises:
            TimeoutError: the deadline came first.
            Exception: one of the topology's failures: connecting failed.
        """
        try:
            return self._pool.acquire(deadline)
        except Exception as error:  # raised here or below, as it is or cleaned
            clean = self._redaction.of(error)
            if clean is error:
                raise
        # Outside, so that it does not refer to the other one.
        raise clean

    def fresh(self, deadline: float) -> Any:
        """Return a new connection outside of the bound, for what must not wait for the others.

        Whoever asked for it closes it, with ``connection.disconnect()``.

        Raises:
            TimeoutError: the deadline came first.
            Exception: one of the topology's failures: connecting failed.
        """
        return within(
            deadline,
            self.open,
            lambda connection: connection.disconnect(),
            "connecting to the server",
        )

    def open(self) -> Any:
        """As :meth:`fresh`, however long connecting takes."""
        try:
            return self._pool.open()
        except Exception as error:  # raised here or below, as it is or cleaned
            clean = self._redaction.of(error)
            if clean is error:
                raise
        raise clean

    def drop_idle(self) -> None:
        """Let no connection that is open now be handed out again.

        For a name that leads to another server meanwhile: the next connection is a new one.
        """
        self._pool.drop_idle()

    def close(self) -> None:
        """Close the connections, if they are ours."""
        self._pool.close()

    def __repr__(self) -> str:
        return f"<Node {self.address}>"


class Topology(Protocol):
    """How the driver finds servers.

    Where a deadline is left out, it is the topology's timeout from now.
    """

    failures: tuple[type[Exception], ...]
    """What a broken connection raises."""

    clustered: bool
    """Whether commands must be sent to the node that serves their slot."""

    address: str
    """How an error names the whole."""

    def primaries(self, deadline: float | None = None) -> list[Node]:
        """Return every node that holds data."""
        ...

    def node(self, slot: int | None, deadline: float | None = None) -> Node:
        """Return the node that serves a slot, or any one for None."""
        ...

    def find(self, host: str, port: int) -> Node | None:
        """Return the node at an address that a redirect names, or None if it names none."""
        ...

    def refresh(self, deadline: float | None = None) -> None:
        """Learn which node serves what by now."""
        ...

    def close(self) -> None:
        """Let go of the connections, if they are ours."""
        ...


class Single:
    """One server, or the master behind a Sentinel."""

    clustered = False

    def __init__(self, node: Node, library: str) -> None:
        self._node = node
        self._nodes = [node]
        self.failures = failures_of(library)
        self.address = node.address

    def primaries(self, deadline: float | None = None) -> list[Node]:
        """Return the one node."""
        return self._nodes

    def node(self, slot: int | None, deadline: float | None = None) -> Node:
        """Return the one node."""
        return self._node

    def find(self, host: str, port: int) -> Node | None:
        """Return None: one server redirects nowhere."""
        return None

    def refresh(self, deadline: float | None = None) -> None:
        """Do nothing: there is nothing to learn."""

    def close(self) -> None:
        """Close the connections if they are ours."""
        self._node.close()


Address = tuple[str, int]


class SlotMap(NamedTuple):
    """Which node serves what."""

    owners: list[Address | None]
    """By slot."""

    primaries: list[Address]
    """In the order of their names."""

    known: frozenset[Address]
    """Primaries and replicas."""

    @property
    def served(self) -> int:
        """How many slots are served."""
        return SLOTS - self.owners.count(None)


class Lent(Protocol):
    """What a user's client knows of its cluster."""

    def primaries(self) -> list[Address]:
        """Return the addresses of the primaries."""
        ...

    def owner(self, slot: int) -> Address:
        """Return the address of the primary that serves a slot."""
        ...


class Cluster:
    """The nodes of a cluster, and which of them serves what.

    The map is asked for with CLUSTER SLOTS, of several nodes if the first does not answer soon. A
    user's client has a map already, which serves until it proves to be stale: the client's own way
    to a new one waits for each frozen node in turn.

    Args:
        seeds: the nodes to ask as long as there is no map.
        make: makes the node at an address.
        library: ``"redis"`` or ``"valkey"``.
        address: how an error names the cluster.
        timeout: how long to look for the map at most, in seconds.
        lent: the map of a user's client, good in this process.
        remap: turns an address that the cluster names into one that can be reached from here.
    """

    clustered = True

    def __init__(
        self,
        seeds: Callable[[], list[Address]],
        make: Callable[[Address], Node],
        *,
        library: str,
        address: str,
        timeout: float,
        lent: Lent | None = None,
        remap: Callable[[Address], Address] | None = None,
    ) -> None:
        self.failures = failures_of(library)
        self.address = address
        self._seeds = seeds
        self._make = make
        self._timeout = timeout
        self._lent = lent
        self._lent_to = getpid()
        self._remap = remap
        self._map: SlotMap | None = None
        self._nodes: dict[Address, Node] = {}
        self._discovery: Shared[SlotMap] = Shared(self._discover)

    def primaries(self, deadline: float | None = None) -> list[Node]:
        """Return every primary node, ordered by name."""
        lent = self._lent_map()
        addresses = lent.primaries() if lent is not None else self._slots(deadline).primaries
        return [self._at(address) for address in addresses]

    def node(self, slot: int | None, deadline: float | None = None) -> Node:
        """Return the primary that serves a slot."""
        slot = slot or 0
        lent = self._lent_map()
        owner = lent.owner(slot) if lent is not None else self._slots(deadline).owners[slot]
        if owner is None:
            raise ConnectionError(f"no node serves slot {slot}")
        return self._at(owner)

    def find(self, host: str, port: int) -> Node | None:
        """Return the node that a redirect names, also one that is not in the map yet."""
        if not host or not port:
            return None
        return self._at((host, port) if self._remap is None else self._remap((host, port)))

    def refresh(self, deadline: float | None = None) -> None:
        """Ask the cluster for its map of slots; callers at the same moment share one answer.

        Raises:
            TimeoutError: no node answered before the deadline.
            ConnectionError: no node has a map; the cause is what the last of them said.
        """
        self._discovered(deadline)

    def close(self) -> None:
        """Close the connections that are ours."""
        for node in list(self._nodes.values()):
            node.close()

    def _lent_map(self) -> Lent | None:
        # In a forked child its locks may be held by threads that are not there.
        if self._map is None and self._lent is not None and self._lent_to == getpid():
            return self._lent
        return None

    def _slots(self, deadline: float | None) -> SlotMap:
        return self._map or self._discovered(deadline)

    def _discovered(self, deadline: float | None) -> SlotMap:
        begin = monotonic()
        outcome = self._discovery.join(begin + self._timeout if deadline is None else deadline)
        if outcome is None:
            raise TimeoutError(
                f"no node told which one serves what for {monotonic() - begin:.3g} s"
            )
        if outcome.error is not None:
            raise ConnectionError(
                f"no node tells which one serves what: {outcome.error}"
            ) from outcome.error
        discovered: SlotMap = outcome.value
        return discovered

    def _at(self, address: Address) -> Node:
        node = self._nodes.get(address)
        return node or self._nodes.setdefault(address, self._make(address))

    def _discover(self) -> SlotMap:
        """Ask node after node, without waiting long for any of them."""
        deadline = monotonic() + self._timeout
        before = self._map
        known = [] if before is None else list(before.known)
        random.shuffle(known)
        waiting = deque(dict.fromkeys([*known, *self._seeds()]))
        workers: Workers[SlotMap] = Workers(lambda _: None)
        under_way = 0
        best: SlotMap | None = None
        error: BaseException | None = None
        while (waiting or under_way) and monotonic() < deadline:
            if waiting:
                workers.begin(partial(self._ask, waiting.popleft()))
                under_way += 1
            outcome = workers.wait(min(deadline, monotonic() + _STAGGER) if waiting else deadline)
            if outcome is None:
                continue
            under_way -= 1
            if outcome.error is not None:
                if error is None or not denied(error):
                    error = outcome.error
                continue
            found: SlotMap = outcome.value
            if best is None or found.served > best.served:
                best = found
            if best.served == SLOTS:
                break
            # Another node may know more, but is not waited for.
            deadline = min(deadline, monotonic() + _STAGGER * (1 + len(waiting)))
        workers.leave()
        if best is None:
            raise error or TimeoutError("there was no answer")
        self._map = best
        for gone in known:
            if gone not in best.known and (node := self._nodes.pop(gone, None)) is not None:
                node.close()
        return best

    def _ask(self, address: Address) -> SlotMap:
        """Return the map that one node has."""
        node = self._at(address)
        connection = node.open()
        try:
            connection.send_command("CLUSTER", "SLOTS")
            ranges = connection.read_response(disable_decoding=True)
        finally:
            connection.disconnect()
        owners: list[Address | None] = [None] * SLOTS
        known = set()
        for start, end, *members in ranges:
            # A node that does not know how it is reached leaves its host out.
            places = [(_text(member[0]) or address[0], int(member[1])) for member in members]
            if self._remap is not None:
                places = [self._remap(place) for place in places]
            owners[start : end + 1] = places[:1] * (end + 1 - start)
            known.update(places)
        primaries = {owner for owner in owners if owner is not None}
        return SlotMap(owners, sorted(primaries, key=name_of), frozenset(known))


def _text(host: Any) -> str:
    text = host.decode() if isinstance(host, bytes) else str(host or "")
    return "" if text == "?" else text


def name_of(address: Address) -> str:
    """Return how an error names an address."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
