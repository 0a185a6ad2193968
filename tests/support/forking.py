"""Work in a forked child."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable
from typing import Any

__all__ = ["SECONDS", "child"]

SECONDS = 20
"""How long a child may take; one that hangs is killed and reported."""


def child(work: Callable[[], Any]) -> int:
    """Fork; do the work in the child and return its status: 0 if all went well."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(SECONDS)
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitpid(pid, 0)[1]
