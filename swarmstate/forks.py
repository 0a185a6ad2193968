"""What a fork must not copy: a child has its parent's locks, but not the threads that hold them.

Asking the operating system for the process costs a system call each time (0.3 us, where a call to a
server takes 50 us); a number that every fork changes costs reading an attribute.
"""

from __future__ import annotations

import os
import threading

__all__ = ["ProcessLock", "here"]


class _Here:
    """Where the interpreter runs.

    Attributes:
        process: a number that is another one in a forked child than in its parent.
    """

    process = 0


here = _Here()


def _forked() -> None:
    here.process += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


class ProcessLock:
    """A lock among the threads of one process: in a forked child it is not held by anybody."""

    __slots__ = ("_locks",)

    def __init__(self) -> None:
        self._locks: dict[int, threading.Lock] = {}

    def __enter__(self) -> None:
        self._locks.setdefault(here.process, threading.Lock()).acquire()

    def __exit__(self, *_: object) -> None:
        # A child that was forked in the middle has nothing to release.
        lock = self._locks.get(here.process)
        if lock is not None:
            lock.release()
