"""A thread that removes expired items now and then."""

from __future__ import annotations

import logging
import threading
import weakref
from concurrent.futures import Future
from typing import Protocol

from swarmstate.errors import SwarmStateError

__all__ = ["Sweeper"]

_log = logging.getLogger(__name__)


class Sweepable(Protocol):
    """What can be swept."""

    def sweep_ttl(self) -> int:
        """Remove what has expired, and return how much that was."""
        ...


class Sweeper:
    """Starts and ends the thread of one memory; the thread does not keep the memory alive."""

    def __init__(self, swept: Sweepable) -> None:
        self._swept = weakref.ref(swept)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._future: Future[None] | None = None
        self._stop = threading.Event()

    def start(self, seconds: float) -> Future[None]:
        """Start the thread, or return the future of the one that runs."""
        with self._lock:
            if self._future is not None and self._thread is not None and self._thread.is_alive():
                return self._future
            stop = self._stop = threading.Event()
            future: Future[None] = Future()
            future.add_done_callback(lambda done: stop.set())
            thread = threading.Thread(
                target=_sweep, args=(self._swept, stop, future, seconds), daemon=True
            )
            self._thread, self._future = thread, future
            weakref.finalize(self, stop.set)
            thread.start()
            return future

    def stop(self, timeout: float | None) -> bool:
        """End the thread; return whether it has ended in time."""
        with self._lock:
            thread = self._thread
            self._stop.set()
        if thread is None or thread is threading.current_thread():
            return True
        thread.join(timeout)
        return not thread.is_alive()


def _sweep(
    reference: weakref.ref[Sweepable], stop: threading.Event, future: Future[None], seconds: float
) -> None:
    while not stop.wait(seconds):
        swept = reference()
        if swept is None:
            break
        try:
            swept.sweep_ttl()
        except SwarmStateError as error:
            # The next time it may work; until then expired items are only absent.
            _log.warning("expired items could not be removed: %s", error)
        del swept
    if not future.done():
        future.set_result(None)
