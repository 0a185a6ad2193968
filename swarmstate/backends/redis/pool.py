"""The connections that a store opens itself: bounded, waited for, the last one used first."""

from __future__ import annotations

import os
import threading
from collections import deque
from typing import Any

__all__ = ["Pool"]


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
        self._free = threading.Semaphore(self._size)
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
        if not self._free.acquire(timeout=self._timeout):
            raise TimeoutError(
                f"all {self._size} connections were in use for {self._timeout} s (max_connections)"
            )
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = None
        try:
            if connection is None:
                connection = self._class(**self.connection_kwargs)
            elif _spoke(connection):
                # It was closed by the server, or an answer came that nobody waits for.
                connection.disconnect()
            connection.connect()
        except BaseException:
            self._free.release()
            raise
        return connection

    def release(self, connection: Any) -> None:
        """Take a connection back."""
        if self._pid != os.getpid():
            return
        if self._closed:
            connection.disconnect()
        else:
            self._idle.append(connection)
        self._free.release()

    def disconnect(self) -> None:
        """Close every connection, those in use as they come back."""
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
