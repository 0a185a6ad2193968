"""Connections to one file: how it is made, opened and recognised.

A process must never open the file by other means than SQLite: closing any descriptor of a file
drops all locks that the process has on it (POSIX), those of SQLite included.
"""

from __future__ import annotations

import os
import random
import sqlite3
import threading
import time
import warnings
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any, TypeVar
from urllib.parse import quote

from swarmstate.arguments import shown
from swarmstate.backends.disk.faults import is_busy, primary_code, translated
from swarmstate.backends.disk.schema import APPLICATION, FORMAT, SCHEMA
from swarmstate.errors import (
    AccessDenied,
    ArgumentTypeError,
    ArgumentValueError,
    StoreUnavailable,
)

__all__ = ["File", "absolute", "filesystem_of", "making", "patiently"]

T = TypeVar("T")

making = threading.RLock()
"""Held while a file is made, while a database gets its first connection, and during a fork."""

_CACHE_KIB = 8192  # of each connection, for pages
_STATEMENTS = 256  # that a connection keeps prepared; SQLite's own default of 128 is too few
# A log that a long reader made grow is cut to this when it starts over.
_LOG_BYTES = 64 * 1024 * 1024
_CHECKED_EVERY = 0.001  # seconds, of reads
_NETWORKED = {
    *("afs", "cifs", "ncpfs", "nfs", "nfs3", "nfs4", "smb2", "smb3", "smbfs"),
    *("fuse.glusterfs", "fuse.s3fs", "fuse.sshfs"),
}
_NOT_OURS = "{path} is a SQLite file of another program{hint}; it was not touched"
_FROM_RUST = (
    " (the Rust package of this name, it seems: docs/disk.md shows the command that copies it)"
)


def absolute(path: Any) -> str:
    """Return where a file is, whatever becomes the working directory; or raise.

    Raises:
        ArgumentTypeError: the path is neither a str nor an os.PathLike.
        ArgumentValueError: no file can be there.
    """
    try:
        name = os.fsdecode(path)
    except TypeError:
        raise ArgumentTypeError(
            f"path must be a str or an os.PathLike, not {type(path).__name__} ({shown(path)})"
        ) from None
    if name == ":memory:":
        raise ArgumentValueError(
            "path must be that of a file, not ':memory:': use swarmstate.Store(), which is faster, "
            "or open_store('memory://')"
        )
    if not name or "\0" in name or name.startswith("sqlite:"):
        hint = ": open_store() takes URLs" if name.startswith("sqlite:") else ""
        raise ArgumentValueError(f"path must be that of a file, not {shown(name)}{hint}")
    return os.path.abspath(name)


def filesystem_of(path: str, mounts: str) -> str:
    """Return the type of file system that a path is on; ``mounts`` is as in /proc/self/mounts."""
    found, kind = "", ""
    for line in mounts.splitlines():
        _, point, this, *_ = [*line.split(" "), "", "", ""]
        point = point.replace("\\040", " ")
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(found):
            found, kind = point, this
    return kind


def patiently(attempt: Callable[[], T], timeout: float) -> T:
    """Call ``attempt`` until nothing is in its way, for at most ``timeout`` seconds."""
    deadline: float | None = None
    pause = 0.0002
    while True:
        try:
            return attempt()
        except sqlite3.OperationalError as error:
            now = monotonic()
            if deadline is None:
                deadline = now + timeout
            if not is_busy(error) or now >= deadline:
                raise
        # SQLite's own handler waits up to 100 ms between attempts; writers that keep a file busy
        # would then starve it.
        time.sleep(pause * (0.5 + random.random()))  # noqa: S311 (not for a secret)
        pause = min(pause * 1.5, 0.01)


class File:
    """One file, as found when it was first opened.

    Args:
        path: where it is; made absolute at once.
        synchronous: ``"NORMAL"`` or ``"FULL"``.
        timeout: seconds to wait for a lock.
        read_only: whether nothing is ever written.

    Raises:
        InvalidArgumentError: the path is no path, or the file another program's.
        AccessDenied: the file cannot be opened or made with our rights.
        StoreUnavailable: it cannot be opened for another reason.
    """

    def __init__(self, path: Any, *, synchronous: str, timeout: float, read_only: bool) -> None:
        self.path = absolute(path)
        self.timeout = timeout
        self.read_only = read_only
        self._synchronous = synchronous
        # Device and number; -1 as long as it has not been opened.
        self._device = self._number = -1
        self._next_check = 0.0
        self._warn()
        # Once: a later connection would make another file in the place of one that is gone.
        self._prepare()

    def check_now_and_then(self) -> None:
        """Do as :meth:`check` does, unless this was asked for less than a millisecond ago.

        A read that comes that soon after may miss that the file has been replaced meanwhile. The
        system call is an eighth of what a read of one value costs.
        """
        now = monotonic()
        if now >= self._next_check:
            self.check()
            self._next_check = now + _CHECKED_EVERY

    def check(self) -> None:
        """Raise if another file, or none, is at the path by now. One system call.

        Raises:
            StoreUnavailable: what is written now would be lost with the old file.
        """
        try:
            found = os.stat(self.path)
        except OSError as error:
            raise StoreUnavailable(
                f"{self.path} was removed, or cannot be reached, while it was open: "
                f"{error.strerror}"
            ) from error
        if found.st_ino != self._number or found.st_dev != self._device:
            if self._number >= 0:
                raise StoreUnavailable(
                    f"{self.path} was replaced by another file while it was open: make a new store"
                )
            self._device, self._number = found.st_dev, found.st_ino

    def connect(self) -> sqlite3.Connection:
        """Return another connection, ready for use.

        Raises:
            AccessDenied, ArgumentValueError, StoreUnavailable: as when the file was first opened.
        """
        if self._number >= 0:
            self.check()
        try:
            # Another process that opens or closes the file lets nobody in meanwhile.
            return patiently(self._ready, self.timeout)
        except sqlite3.Error as error:
            raise self._unopened(error) from error

    def _ready(self) -> sqlite3.Connection:
        connection = self._connected("ro" if self.read_only else "rw")
        try:
            if self._number < 0:
                self._recognise(connection)
            self.check()
            for setting in (
                f"synchronous={self._synchronous}",
                f"cache_size=-{_CACHE_KIB}",
                "temp_store=MEMORY",
                f"journal_size_limit={_LOG_BYTES}",
                "wal_autocheckpoint=0",
            ):
                connection.execute(f"PRAGMA {setting}")
        except BaseException:  # an interrupt too must leave no connection open
            connection.close()
            raise
        return connection

    def _connected(self, mode: str) -> sqlite3.Connection:
        return sqlite3.connect(
            # The empty authority: POSIX lets a path begin with two slashes, which would be one.
            f"file://{quote(self.path)}?mode={mode}",
            uri=True,
            timeout=0,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=_STATEMENTS,
        )

    def _warn(self) -> None:
        try:
            with open("/proc/self/mounts", encoding="utf-8", errors="replace") as mounts:
                kind = filesystem_of(os.path.realpath(self.path), mounts.read())
        except OSError:
            return
        if kind in _NETWORKED:
            warnings.warn(
                f"{self.path} is on a network file system ({kind}), whose locks SQLite cannot rely "
                "on: use a local disk, or RedisStore to share state between machines",
                RuntimeWarning,
                stacklevel=4,
            )

    def _prepare(self) -> None:
        """Make the file if there is none, and look at one that may be another program's."""
        path = self.path
        folder = os.path.dirname(path)
        if os.path.isdir(path):
            raise ArgumentValueError(f"path must be that of a file, and {path} is a folder")
        if not os.path.isdir(folder):
            raise StoreUnavailable(f"{path} cannot be opened: there is no folder {folder}")
        if self.read_only:
            if not os.path.exists(path):
                raise StoreUnavailable(f"{path} cannot be opened read-only: there is no such file")
            return
        if not os.access(folder, os.W_OK | os.X_OK):
            raise AccessDenied(
                f"{path} cannot be opened for writing: the folder {folder} is read-only for us, "
                "and SQLite keeps its log beside the file"
            )
        try:
            # SQLite would make it readable for others. The lock: a thread that found the file
            # already there would lock it, and lose its locks when this descriptor is closed.
            with making:
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        except FileExistsError:
            pass
        except OSError as error:
            raise AccessDenied(f"{path} cannot be made: {error.strerror}") from error
        else:
            return
        if not os.access(path, os.R_OK | os.W_OK):
            raise AccessDenied(f"{path} cannot be opened for writing: it is read-only for us")
        if os.path.getsize(path) == 0:
            return
        # Opening it for writing would already finish what another program left half done.
        probe: sqlite3.Connection | None = None
        try:
            probe = self._connected("ro")
            patiently(partial(self._is_ours, probe), self.timeout)
        except sqlite3.Error as error:
            if primary_code(error) == 26:
                raise ArgumentValueError(
                    f"{path} is not a SQLite file; it was not touched"
                ) from error
        finally:
            if probe is not None:
                probe.close()

    def _is_ours(self, connection: sqlite3.Connection) -> bool:
        """Return whether the file is one of ours; False where it has no content yet.

        Raises:
            ArgumentValueError: it is another program's, or of a newer format.
        """
        execute = connection.execute
        alone = not connection.in_transaction
        if alone:  # all of it at one moment: another process may be making the file
            execute("BEGIN")
        try:
            (version,) = execute("PRAGMA user_version").fetchone()
            (application,) = execute("PRAGMA application_id").fetchone()
            tables = [name for (name,) in execute("SELECT name FROM sqlite_master").fetchall()]
        finally:
            if alone:
                execute("ROLLBACK")
        if application == APPLICATION and version == FORMAT:
            return True
        if application == APPLICATION and version > FORMAT:
            raise ArgumentValueError(
                f"{self.path} has format {version}, and this version of swarmstate reads {FORMAT}: "
                "use a newer one; the file was not touched"
            )
        if version or application or tables:
            hint = _FROM_RUST if "kv" in tables else ""
            raise ArgumentValueError(_NOT_OURS.format(path=self.path, hint=hint))
        return False

    def _recognise(self, connection: sqlite3.Connection) -> None:
        """Make sure that the file is ours, and fill it where it is empty."""
        if self._is_ours(connection):
            if not self.read_only:  # another tool may have left another mode
                self._keep_log(connection)
            return
        if self.read_only:
            raise StoreUnavailable(f"{self.path} is empty, and read_only=True lets nothing be made")
        self._keep_log(connection)
        execute = connection.execute
        execute("BEGIN IMMEDIATE")
        try:
            # Another process may have been faster.
            if not self._is_ours(connection):
                for statement in SCHEMA:
                    execute(statement)
                execute(f"PRAGMA application_id={APPLICATION}")
                execute(f"PRAGMA user_version={FORMAT}")
            execute("COMMIT")
        except BaseException:  # an interrupt too must leave no transaction open
            if connection.in_transaction:
                execute("ROLLBACK")
            raise

    def _keep_log(self, connection: sqlite3.Connection) -> None:
        (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
        if mode != "wal":
            raise StoreUnavailable(
                f"{self.path} cannot be used: its file system lets processes share no memory, "
                f"which SQLite's log needs (it offers the mode {mode!r})"
            )

    def _unopened(self, error: sqlite3.Error) -> Exception:
        folder = os.path.dirname(self.path)
        if primary_code(error) == 26:
            return ArgumentValueError(f"{self.path} is not a SQLite file; it was not touched")
        if primary_code(error) in (8, 14):
            if not os.access(self.path, os.R_OK):
                return AccessDenied(f"{self.path} cannot be opened: we may not read it")
            if not os.access(folder, os.W_OK | os.X_OK):
                return AccessDenied(
                    f"{self.path} cannot be opened: the folder {folder} is read-only for us, and "
                    "SQLite keeps its log beside the file, for readers too"
                )
        return translated(error, self.path, self.timeout)
