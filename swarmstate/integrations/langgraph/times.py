"""Microseconds since the Unix epoch, as LangGraph's items show them."""

from __future__ import annotations

from datetime import datetime, timezone

__all__ = ["moment"]

_of_timestamp = datetime.fromtimestamp
_utc = timezone.utc


def moment(microseconds: int) -> datetime:
    """Return a time in UTC, to the microsecond."""
    # Exact until the year 2242: a float of so many seconds is off by less than half a microsecond.
    return _of_timestamp(microseconds / 1_000_000, _utc)
