"""The time that deadlines and pauses are measured by: real, also where a test has frozen the clock.

Whoever replaces functions of :mod:`time`, or every reference to one in every module (freezegun does
that), reaches neither of these: both are held inside another object.
"""

from __future__ import annotations

import functools
import random
import time

__all__ = ["jitter", "monotonic", "sleep"]

monotonic = (
    functools.partial(time.clock_gettime, time.CLOCK_MONOTONIC)
    if hasattr(time, "clock_gettime")
    else functools.partial(time.monotonic)
)
"""Return seconds since some moment in the past, never going back."""

sleep = functools.partial(time.sleep)
"""Wait for a number of seconds."""

jitter = random.Random().uniform  # noqa: S311 (spreads clients, hides nothing)
"""Return a number between two others, from a generator that no one else seeds."""
