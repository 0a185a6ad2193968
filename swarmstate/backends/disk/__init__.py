"""A store in a file, with no server: :class:`DiskStore`, and :class:`AsyncDiskStore`."""

import sqlite3

if sqlite3.sqlite_version_info < (3, 24):  # pragma: no cover
    raise ImportError(
        f"swarmstate.backends.disk needs SQLite 3.24 or newer; this Python has "
        f"{sqlite3.sqlite_version}"
    )

from swarmstate.backends.disk.store import AsyncDiskStore, DiskStore

__all__ = ["AsyncDiskStore", "DiskStore"]
