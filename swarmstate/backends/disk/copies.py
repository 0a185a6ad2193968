"""The file as a whole: a copy of it, and the same in less room."""

from __future__ import annotations

import os
import secrets
import sqlite3
from contextlib import suppress
from functools import partial
from typing import Any

from swarmstate.backends.disk.connections import absolute, patiently
from swarmstate.backends.disk.database import Database
from swarmstate.backends.disk.faults import translated
from swarmstate.backends.disk.rows import milliseconds_now, sweep
from swarmstate.backends.disk.schema import APPLICATION
from swarmstate.errors import AccessDenied, ArgumentValueError, StoreUnavailable

__all__ = ["backed_up", "compacted"]


def backed_up(path: Any, database: Database) -> None:
    """Write a copy of the file, at one moment, to ``path``."""
    target = absolute(path)
    _check_target(target, database.file.path)
    # Complete before it has its name, so that whoever looks finds the old copy or the new one.
    partial_copy = f"{target}.{secrets.token_hex(4)}.partial"
    try:
        try:
            os.close(os.open(partial_copy, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        except PermissionError as error:
            raise AccessDenied(f"{target} cannot be made: {error.strerror}") from error
        except OSError as error:
            raise StoreUnavailable(f"{target} cannot be made: {error.strerror}") from error
        database.read(partial(_copied, partial_copy))
        os.replace(partial_copy, target)
        _synchronise(os.path.dirname(target))
    finally:
        for name in (partial_copy, f"{partial_copy}-journal", f"{partial_copy}-wal"):
            with suppress(FileNotFoundError):
                os.unlink(name)


def _check_target(target: str, source: str) -> None:
    """Raise where a copy would take something's place that is no copy."""
    if os.path.isdir(target):
        raise ArgumentValueError(f"path must be that of a file, and {target} is a folder")
    if not os.path.exists(target):
        return
    if os.path.samefile(target, source):
        raise ArgumentValueError(f"{target} is the store's own file: name another one")
    if os.path.exists(f"{target}-wal"):
        raise ArgumentValueError(
            f"{target} is in use, or was left without being closed: name another file, or open and "
            "close that one first"
        )
    probe: sqlite3.Connection | None = None
    application = 0
    try:
        probe = sqlite3.connect(target)
        application = probe.execute("PRAGMA application_id").fetchone()[0]
    except sqlite3.Error:
        pass
    finally:
        if probe is not None:
            probe.close()
    if application != APPLICATION and os.path.getsize(target):
        raise ArgumentValueError(
            f"{target} is a file of another program, which a backup would replace"
        )


def _copied(path: str, source: sqlite3.Connection) -> None:
    copy = sqlite3.connect(path, isolation_level=None)
    try:
        # In one go, and so at one moment: readers keep no writer waiting.
        source.backup(copy)
    except sqlite3.Error as error:
        # Told of the copy, not of the store.
        raise translated(error, path, 0.0) from error
    finally:
        copy.close()


def _synchronise(folder: str) -> None:
    """Make a new name in a folder outlast a power cut, where that can be asked for."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def compacted(database: Database) -> int:
    """Write the file again without unused room; return how many bytes that freed."""
    while database.write(lambda connection: sweep(connection, milliseconds_now())):
        pass
    before = _size(database.file.path)
    database.alone(_rewritten)
    return max(0, before - _size(database.file.path))


def _rewritten(writer: sqlite3.Connection) -> None:
    writer.execute("VACUUM")
    # This kind of checkpoint keeps writers out by itself.
    patiently(partial(_emptied, writer), 1.0)


def _emptied(writer: sqlite3.Connection) -> None:
    writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()


def _size(path: str) -> int:
    size = 0
    for name in (path, f"{path}-wal"):
        with suppress(FileNotFoundError):
            size += os.path.getsize(name)
    return size
