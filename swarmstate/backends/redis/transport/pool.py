"""Connections to one server: those that a store opens itself, and those of a user's client.

Both kinds of pool are bounded, hand out connections first come, first served, give up at a deadline
and survive interrupts and forks; how, is told in :mod:`.stock`. A connection is made, connected and
closed by the client library.
"""

from __future__ import annotations

import re
import select
from collections import deque
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from inspect import signature, unwrap
from os import getpid
from queue import Queue
from typing import Any, NamedTuple, Protocol

from swarmstate._redis import AtHand
from swarmstate.backends.redis.transport.clock import monotonic, sleep
from swarmstate.backends.redis.transport.deadlines import within
from swarmstate.backends.redis.transport.stock import Stock
from swarmstate.forks import here

__all__ = [
    "BorrowedPool",
    "ConnectionPool",
    "Identity",
    "Pool",
    "apart",
    "identity",
    "without_greeting",
]

# How many connections of a user's pool are in the making at the same time, at most.
_MOST_CONNECTING = 16
# How soon to look again whether a stranger gave a connection back to a shared pool, in seconds.
_SHARED_LOOKS_SECONDS = 0.005
_LIBRARY_NAME = "redis-py(swarmstate)"


class Identity(NamedTuple):
    """How the server knows a connection, for ``CLIENT KILL ID id ADDR address``."""

    id: int
    address: str


def identity(connection: Any) -> Identity | None:
    """Return how the server knows a connection that was acquired, without asking it.

    None where the server would not tell as the connection was made (``CLIENT INFO``, since Redis
    6.2), or where the connection is closed.
    """
    known: tuple[Any, Identity | None] | None = getattr(connection, "swarmstate_known", None)
    if known is None or known[0] is None or known[0] is not _socket(connection):
        return None
    return known[1]


class ConnectionPool(Protocol):
    """Connections to one server."""

    def ready(self) -> Any:
        """Return one that is at hand, as :meth:`acquire` would; None: ask that one."""
        ...

    def acquire(self, deadline: float) -> Any:
        """Return a connection that is connected and has nothing to say."""
        ...

    def release(self, connection: Any) -> None:
        """Take a connection back."""
        ...

    def open(self) -> Any:
        """Return a new connection that is not counted; whoever asked for it disconnects it."""
        ...

    def drop_idle(self) -> None:
        """Let no connection that is open now be handed out again."""
        ...

    def close(self) -> None:
        """Close what is ours."""
        ...


class Pool(AtHand):
    """Connections that the store opens itself.

    Not the library's own pool: that one has neither line nor deadline, and what else it does for
    each call costs more than all of this: with it, ``get`` takes 1.08 (redis 5.0.1), 1.17 (6.4) or
    1.4 (8.1) times as long (``bench/test_connections.py``).

    Args:
        kind: the library's class of connections.
        options: what it is called with.
        size: how many connections there are at most.
    """

    def __init__(self, kind: Callable[..., Any], options: Mapping[str, Any], size: int) -> None:
        self._kind = kind
        self._options = {**options, **without_greeting(kind)}
        self._size = size
        # Something new whenever connections become obsolete.
        self.epoch = object()
        self.closed = False
        self._stocks: dict[int, Stock[Any]] = {}
        self.pid = 0
        self.process = -1
        self._move_in()

    def _move_in(self) -> None:
        """Start without connections in this process: its parent's are not for talking."""
        pid = getpid()
        stock = Stock(partial(_make, self._kind, self._options), self._size)
        self.stock = self._stocks.setdefault(pid, stock)
        self.pid = pid
        self.process = here.process
        for other in [each for each in self._stocks if each != pid]:
            self._stocks.pop(other, None)

    def acquire(self, deadline: float) -> Any:
        """Return a connection that is connected and has nothing to say.

        Raises:
            TimeoutError: all were in use until the deadline, or connecting took longer.
        """
        if self.process != here.process:
            self._move_in()
        connection = self.stock.take()
        if connection is None:
            begin = monotonic()
            connection = self.stock.wait(deadline)
            if connection is None:
                raise TimeoutError(
                    f"all {self._size} connections were in use for {monotonic() - begin:.3g} s "
                    "(max_connections)"
                )
        try:
            if (
                connection.swarmstate_epoch is self.epoch
                and connection._sock is not None
                and not _spoke(connection)
            ):
                return connection
        except BaseException:  # an interrupt: whoever keeps it must not keep the connection
            connection.disconnect()
            self.release(connection)
            raise
        # It is new, obsolete, closed by the server, or an answer came that nobody waits for.
        connect = partial(self._connect, connection)
        return within(deadline, connect, self.release, "connecting to the server")

    def _connect(self, connection: Any) -> Any:
        epoch = self.epoch
        try:
            if connection._sock is not None:
                connection.disconnect()
            connection.connect()
            _introduce(connection, greet=True)
        except BaseException:  # whatever it was, the connection goes back
            connection.disconnect()
            self.release(connection)
            raise
        connection.swarmstate_epoch = epoch
        return connection

    def open(self) -> Any:
        """Return a new connection that is not counted; whoever asked for it disconnects it."""
        return _opened(self._kind, self._options)

    def drop_idle(self) -> None:
        """Let no connection that is open now be handed out again; O(1)."""
        self.epoch = object()

    def close(self) -> None:
        """Close every connection, those in use when they come back."""
        self.closed = True
        if self.process != here.process:
            self._move_in()
        for connection in self.stock.drain():
            connection.disconnect()


class _Permit:
    """The right to take one connection out of a user's pool."""

    __slots__ = ("__weakref__",)


class BorrowedPool:
    """Connections out of the pool of a user's client.

    The pool is shared with whatever else the user does, so its bound is kept, and where others hold
    all of its connections, they are waited for. It is used only in the process in which it was
    borrowed: its locks do not survive a fork at any moment.

    Args:
        pool: the library's pool, or one of a subclass.
        most: how many connections there are at most in a forked child.
    """

    def __init__(self, pool: Any, most: int) -> None:
        self._pool = pool
        self._most = most
        self._pid = getpid()
        self._size = int(pool.max_connections)
        self._permits = Stock(_Permit, self._size)
        self._connecting = Stock(_Permit, _MOST_CONNECTING)
        # Who looks for what strangers give back.
        self._turns = Stock(_Permit, 1)
        # Connections that were given back in good order, the last one last.
        self._warm: deque[Any] = deque(maxlen=_MOST_CONNECTING)
        self._own: dict[int, Pool] = {}
        # Older clients (and valkey's) want the name of the command, newer ones warn about it.
        wanted = signature(unwrap(pool.get_connection)).parameters.get("command_name")
        needed = wanted is not None and wanted.default is wanted.empty
        self._get: Callable[[], Any] = (
            (lambda: pool.get_connection("EVAL")) if needed else pool.get_connection
        )

    def _here(self) -> Pool:
        pid = getpid()
        own = self._own.get(pid)
        if own is None:
            pool = self._pool
            made = Pool(pool.connection_class, apart(pool), min(self._size, self._most))
            own = self._own.setdefault(pid, made)
        return own

    def ready(self) -> Any:
        """Return None: what is at hand in a pool that is shared, only the pool can tell."""
        return None

    def acquire(self, deadline: float) -> Any:
        """Return a connection that is connected and has nothing to say.

        Raises:
            TimeoutError: all were in use until the deadline, or connecting took longer.
        """
        if self._pid != getpid():
            return self._here().acquire(deadline)
        begin = monotonic()
        connection = None
        permit = self._permits.take() or self._permits.wait(deadline)
        try:
            if permit is not None:
                connection = self._take(deadline)
            if connection is None:
                raise TimeoutError(
                    f"all {self._size} connections of the client's pool were in use for "
                    f"{monotonic() - begin:.3g} s"
                )
            connection.swarmstate_permit = permit
        except BaseException:  # whatever it was, the next one may try
            if connection is not None:
                self._pool.release(connection)
            if permit is not None:
                self._permits.release(permit)
            raise
        return connection

    def _take(self, deadline: float) -> Any:
        """Return a connection, or None if strangers use all of them until the deadline."""
        if not self._turns.taken and (connection := self._try(deadline)) is not None:
            return connection
        turn = self._turns.take() or self._turns.wait(deadline)
        if turn is None:
            return None
        try:
            while (connection := self._try(deadline)) is None and monotonic() < deadline:
                # Nobody tells when a stranger gives one back.
                sleep(_SHARED_LOOKS_SECONDS)
            return connection
        finally:
            self._turns.release(turn)

    def _try(self, deadline: float) -> Any:
        """Return a connection, or None if strangers use all of them now."""
        if _is_used_up(self._pool):
            return None
        try:
            if self._is_warm():
                return self._get_known()
            slot = self._connecting.take() or self._connecting.wait(deadline)
            if slot is None:
                return None
            return within(
                deadline,
                lambda: self._get_new(slot),
                self._pool.release,
                "connecting to the server",
            )
        except Exception as error:  # told apart by name: either library's is meant
            if _says_used_up(error):
                return None
            raise

    def _is_warm(self) -> bool:
        """Return whether the pool will probably give what is connected, and at once."""
        try:
            connection = self._warm.pop()
        except IndexError:
            return False
        return _silent(_socket(connection))

    def _get_known(self) -> Any:
        connection = self._get()
        known = getattr(connection, "swarmstate_known", None)
        if known is None or known[0] is not _socket(connection):
            self._meet(connection)
        return connection

    def _get_new(self, slot: _Permit) -> Any:
        try:
            return self._get_known()
        finally:
            self._connecting.release(slot)

    def _meet(self, connection: Any) -> None:
        try:
            _introduce(connection, greet=False)
        except BaseException:  # whatever it was, the connection goes back
            connection.disconnect()
            self._pool.release(connection)
            raise

    def release(self, connection: Any) -> None:
        """Give a connection back to the user's pool."""
        if self._pid != getpid():
            self._here().release(connection)
            return
        permit, connection.swarmstate_permit = connection.swarmstate_permit, None
        warm = _socket(connection) is not None
        try:
            self._pool.release(connection)
        finally:
            if permit is not None:
                self._permits.release(permit)
        if warm:
            self._warm.append(connection)

    def open(self) -> Any:
        """Return a new connection that is not counted; whoever asked for it disconnects it."""
        return _opened(self._pool.connection_class, apart(self._pool))

    def drop_idle(self) -> None:
        """Close the connections that nobody uses at this moment."""
        if self._pid != getpid():
            self._here().drop_idle()
            return
        waiting = getattr(self._pool, "pool", None)
        if isinstance(waiting, Queue):
            # Such a pool would close what others use, too.
            taken = []
            while not waiting.empty():
                taken.append(waiting.get_nowait())
            for connection in taken:
                if connection is not None:
                    connection.disconnect()
                waiting.put_nowait(connection)
        else:
            self._pool.disconnect(inuse_connections=False)

    def close(self) -> None:
        """Close what this process opened itself; the user's pool is left alone."""
        own = self._own.get(getpid())
        if own is not None:
            own.close()


def _make(kind: Callable[..., Any], options: Mapping[str, Any]) -> Any:
    connection = kind(**options)
    connection.swarmstate_direct = _keeps_no_books(connection)
    connection.swarmstate_epoch = None
    connection.swarmstate_peer = None
    return connection


def apart(pool: Any) -> dict[str, Any]:
    """Return what to make connections with that are like a pool's, and apart from it."""
    # Notifications of maintenance act on the pool that they came through.
    return {name: value for name, value in pool.connection_kwargs.items() if "maint" not in name}


def _opened(kind: Callable[..., Any], options: Mapping[str, Any]) -> Any:
    connection = kind(**options)
    connection.connect()
    return connection


def without_greeting(kind: Any) -> Mapping[str, None]:
    """Return the options that keep a connection from telling the library's name by itself.

    It takes a round trip for each part of the name, for which :func:`_introduce` needs one, and
    3 ms to look its version up.
    """
    return _without_greeting(kind) if isinstance(kind, type) else {}


@lru_cache(32)
def _without_greeting(kind: type) -> Mapping[str, None]:
    known = {name for each in kind.__mro__ for name in signature(each.__init__).parameters}  # type: ignore[misc]
    if "driver_info" in known:
        return {"driver_info": None}
    return {name: None for name in ("lib_name", "lib_version") if name in known}


# As in "id=3 addr=127.0.0.1:60000 laddr=127.0.0.1:6379 ..."; a Unix socket's path may hold blanks.
_INFO = re.compile(rb"\bid=(\d+) addr=(.*?) laddr=")


def _introduce(connection: Any, *, greet: bool) -> None:
    """Ask how the server knows a connection, and tell it who we are; one round trip."""
    commands: list[tuple[str, ...]] = [("CLIENT", "INFO")]
    if greet:
        commands.insert(0, ("CLIENT", "SETINFO", "LIB-NAME", _LIBRARY_NAME))
    connection.send_packed_command(connection.pack_commands(commands), check_health=False)
    known = None
    for _ in commands:
        try:
            reply = connection.read_response(disable_decoding=True)
        except Exception as error:  # told apart by name: either library's is meant
            # Older servers do not know a command, and some users may not use it. A server that
            # has no time at the moment is asked again with another connection.
            kinds = {base.__name__ for base in type(error).__mro__}
            if "ResponseError" not in kinds or str(error).startswith("BUSY"):
                raise
            continue
        if isinstance(reply, bytes) and (found := _INFO.search(reply)) is not None:
            known = Identity(int(found[1]), found[2].decode())
    connection.swarmstate_known = (_socket(connection), known)


def _socket(connection: Any) -> Any:
    """Return the socket of a connection, also of one that wraps another, or None."""
    inner = getattr(connection, "_conn", connection)
    return getattr(inner, "_sock", None)


def _spoke(connection: Any) -> bool:
    """Return whether there is something to read on an idle connection, if only its end."""
    try:
        return bool(connection.can_read())
    except Exception:  # noqa: BLE001 (whatever is wrong with it, it is connected again)
        return True


def _silent(sock: Any) -> bool:
    """Return whether a socket is open and has nothing to read, without touching it."""
    try:
        if hasattr(select, "poll"):
            poll = select.poll()
            poll.register(sock, select.POLLIN)
            return not poll.poll(0)
        return not select.select([sock], [], [], 0)[0]
    except (OSError, TypeError, ValueError):
        # It is closed, or no socket.
        return False


def _is_used_up(pool: Any) -> bool:
    """Return whether a library's pool has no connection to give, as far as can be seen."""
    waiting = getattr(pool, "pool", None)
    if isinstance(waiting, Queue):
        # Such a pool would wait, for as long as it was told to.
        return waiting.empty()
    if getattr(pool, "_available_connections", True):
        return False
    return bool(getattr(pool, "_created_connections", 0) >= pool.max_connections)


def _says_used_up(error: Exception) -> bool:
    """Return whether a library's pool had no connection to give."""
    return type(error).__name__ == "MaxConnectionsError" or (
        type(error).__name__ == "ConnectionError"
        and str(error) in ("Too many connections", "No connection available.")
    )


def _keeps_no_books(connection: Any) -> bool:
    """Return whether replies may be read straight from the connection's parser.

    What the library does around it serves its own pools, a newer protocol and health checks.
    """
    return (
        str(getattr(connection, "protocol", "")) == "2"
        and not connection.health_check_interval
        and hasattr(connection, "_parser")
        and type(connection).read_response.__module__.partition(".")[0] in ("redis", "valkey")
    )
