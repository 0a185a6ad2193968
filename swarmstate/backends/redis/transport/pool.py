"""The connections that a store opens itself: bounded, waited for, the last one used first."""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from queue import Empty, SimpleQueue
from typing import Any

__all__ = ["Pool"]


class _Slot:
    """The right to have one connection in use.

    An interrupt can come between any two steps, so that somebody loses what they just got. A slot
    that is lost makes room for the next; one that is given back is used again.
    """

    __slots__ = ("__weakref__", "_free")

    def __init__(self, free: weakref.ref[SimpleQueue[_Slot]]) -> None:
        self._free = free

    def __del__(self) -> None:
        # Not while the pool itself goes.
        if (free := self._free()) is not None:
            free.put(_Slot(self._free))


class Pool:
    """Connections of the client library, without the bookkeeping that its own pools do per call.

    Args:
        template: a pool of the library; its class and arguments of connections are used.
        size: how many connections there are at most.
        timeout: how long to wait for one when all are in use, in seconds.
    """

    def __init__(self, template: Any, size: int, timeout: float) -> None:
        self.connection_kwargs: dict[str, Any] = template.connection_kwargs
        self._class = template.connection_class
        self._size = size
        self._timeout = timeout
        self._lock = threading.Lock()
        self._closed = False
        self._reset()

    def _reset(self) -> None:
        self._idle: deque[Any] = deque()
        self._free: SimpleQueue[_Slot] = SimpleQueue()
        for _ in range(self._size):
            self._free.put(_Slot(weakref.ref(self._free)))
        self._pid = os.getpid()

    def get_connection(self) -> Any:
        """Return a connection that is connected and has nothing to say.

        Raises:
            TimeoutError: all were in use for too long.
        """
        if self._pid != os.getpid():
            # A forked child must not talk on its parent's sockets.
            with self._lock:
                if self._pid != os.getpid():
                    self._reset()
        try:
            slot = self._free.get(timeout=self._timeout)
        except Empty:
            raise TimeoutError(
                f"all {self._size} connections were in use for {self._timeout} s (max_connections)"
            ) from None
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = None
        try:
            if connection is None:
                connection = self._class(**self.connection_kwargs)
                connection.swarmstate_direct = _keeps_no_books(connection)
            elif _spoke(connection):
                # It was closed by the server, or an answer came that nobody waits for.
                connection.disconnect()
            connection.connect()
        except BaseException:  # whatever it was, the slot must be free again
            # The error may be kept for long, and with it all that is named here.
            self._free.put(slot)
            raise
        # They live and end together.
        connection.swarmstate_slot = slot
        return connection

    def release(self, connection: Any) -> None:
        """Take a connection back."""
        slot, connection.swarmstate_slot = connection.swarmstate_slot, None
        self._idle.append(connection)
        self._free.put(slot)
        if self._closed:
            self.disconnect()

    def disconnect(self) -> None:
        """Close every connection, those in use when they come back."""
        self._closed = True
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return
            connection.disconnect()


def _spoke(connection: Any) -> bool:
    """Return whether there is something to read on an idle connection, if only its end."""
    try:
        return bool(connection.can_read())
    except Exception:  # noqa: BLE001 (whatever is wrong with it, it is connected anew)
        return True


def _keeps_no_books(connection: Any) -> bool:
    """Return whether replies may be read straight from the connection's parser.

    What the library does around it serves its own pools, a newer protocol and health checks.
    """
    return str(getattr(connection, "protocol", "")) == "2" and (
        not connection.health_check_interval and hasattr(connection, "_parser")
    )
