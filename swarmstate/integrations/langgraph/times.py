"""Microseconds since the Unix epoch, as LangGraph's items show them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

__all__ = ["moment"]

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def moment(microseconds: int) -> datetime:
    """Return a time in UTC, to the microsecond."""
    return _EPOCH + timedelta(microseconds=microseconds)
