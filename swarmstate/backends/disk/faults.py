"""What SQLite says when it fails, as errors of ours."""

from __future__ import annotations

import re
import sqlite3

from swarmstate.errors import (
    AccessDenied,
    ArgumentValueError,
    DecodeError,
    StoreUnavailable,
    SwarmStateError,
)

__all__ = ["is_busy", "primary_code", "translated"]

_BUSY, _LOCKED, _NOMEM, _READONLY, _IOERR, _CORRUPT = 5, 6, 7, 8, 10, 11
_FULL, _CANTOPEN, _PROTOCOL, _TOOBIG, _PERM, _AUTH, _NOTADB = 13, 14, 15, 18, 3, 23, 26
_MOVED = 8 | 4 << 8  # SQLITE_READONLY_DBMOVED

# Python 3.10 gives no codes, and SQLite's texts have not changed in many years.
_TEXTS = (
    ("database is locked", _BUSY),
    ("database table is locked", _LOCKED),
    ("locking protocol", _PROTOCOL),
    ("attempt to write a readonly database", _READONLY),
    ("disk I/O error", _IOERR),
    ("malformed", _CORRUPT),
    ("is full", _FULL),
    ("unable to open", _CANTOPEN),
    ("too big", _TOOBIG),
    ("access permission denied", _PERM),
    ("not a database", _NOTADB),
)


def primary_code(error: BaseException) -> int:
    """Return SQLite's primary result code; 0 where there is none."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is not None:
        return int(code) & 0xFF
    text = str(error)
    return next((code for part, code in _TEXTS if part in text), 0)


def is_busy(error: BaseException) -> bool:
    """Return whether another connection was in the way, so that waiting helps."""
    return isinstance(error, sqlite3.OperationalError) and primary_code(error) in (_BUSY, _PROTOCOL)


def translated(error: Exception, path: str, timeout: float) -> Exception:
    """Return an error as it is raised to callers; what is not SQLite's is returned as it is.

    Args:
        error: What was raised.
        path: The file.
        timeout: How long a lock was waited for, in seconds.
    """
    if isinstance(error, OverflowError):
        return ArgumentValueError(f"{path}: SQLite holds no value of more than 1,000,000,000 bytes")
    if not isinstance(error, sqlite3.Error):
        return error
    made = _made(error, path, timeout)
    made.__cause__ = error
    return made


def _made(error: sqlite3.Error, path: str, timeout: float) -> SwarmStateError:
    code = primary_code(error)
    if code in (_BUSY, _PROTOCOL):
        return StoreUnavailable(
            f"{path} was locked by another process or connection for more than {timeout:g} seconds"
        )
    if code == _FULL:
        return StoreUnavailable(f"{path}: there is no room left on the disk: {error}")
    if getattr(error, "sqlite_errorcode", 0) == _MOVED:
        return StoreUnavailable(f"{path} was removed or replaced while it was open")
    if code in (_READONLY, _PERM, _AUTH):
        return AccessDenied(f"{path} cannot be written: {error}")
    if code == _TOOBIG or isinstance(error, sqlite3.DataError):
        return ArgumentValueError(
            f"{path}: SQLite holds no name or value of more than 1,000,000,000 bytes"
        )
    if re.search(r"decode to UTF-8", str(error), re.IGNORECASE):
        return DecodeError(
            f"{path}: a name or key is not UTF-8 (written by another program?): {error}"
        )
    if code in (_CORRUPT, _NOTADB):
        return StoreUnavailable(f"{path} is damaged: {error}")
    return StoreUnavailable(f"{path}: {error}")
