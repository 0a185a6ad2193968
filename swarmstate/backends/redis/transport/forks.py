"""Which process this is: the threads, locks and sockets that a fork copies are of no use after it.

Asking the operating system costs a system call each time (0.3 us; a call to a server takes some
50 us); this costs reading an attribute.
"""

from __future__ import annotations

import os

__all__ = ["here"]


class _Here:
    """Where the interpreter runs.

    Attributes:
        process: a number that is another one in every forked child, and in theirs.
    """

    process = 0


here = _Here()


def _forked() -> None:
    here.process += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
