"""Doing something at any line of a store, counted over all its modules."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from swarmstate.errors import StoreUnavailable

__all__ = ["at_line", "interrupt"]


def at_line(
    backend: str, number: int, act: Callable[[], None], work: Callable[[], Any]
) -> tuple[bool, Any]:
    """Do something at a line of one backend.

    Returns:
        Whether that line was reached, and what the work returned or raised.
    """
    lines = 0

    def enter(frame: FrameType, event: str, argument: Any) -> Any:
        return line if f"backends/{backend}" in frame.f_code.co_filename else None

    def line(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal lines
        if event == "line":
            lines += 1
            if lines == number:
                act()
        return line

    before = sys.gettrace()
    gc.disable()  # Finalizers of stores of other tests have such lines, too.
    sys.settrace(enter)
    try:
        outcome = work()
    except (KeyboardInterrupt, StoreUnavailable) as raised:
        # Without the frames, which would keep a connection alive.
        outcome = type(raised)
    finally:
        sys.settrace(before)
        gc.enable()
    return lines >= number, outcome


def interrupt() -> None:
    raise KeyboardInterrupt
