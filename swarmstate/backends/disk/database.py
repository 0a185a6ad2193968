"""One writer that commits for all, a few readers, and what keeps both safe.

Writers queue their jobs, and whoever has the lock commits all that wait in one transaction, each
job in a savepoint of its own: many threads then share one commit, which is most of what a write
costs. Readers are connections in a pool; the one used last is used next, as its cache is warm.

**Checkpoints.** SQLite before 3.51.3 can corrupt a file when a commit starts the log over during a
checkpoint. So none is made automatically: a passive one runs on a second connection while the
writer holds the lock on writing, when nothing can be committed.

**Forks.** SQLite keeps what it has locked in memory that a fork copies, while the locks themselves
stay with the parent. So all connections are closed before a fork, with every call out of the way.
"""

from __future__ import annotations

import os
import random
import sqlite3
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import Any, TypeVar

from swarmstate.backends.disk.connections import File, making, patiently
from swarmstate.backends.disk.faults import is_busy, primary_code, translated
from swarmstate.backends.disk.rows import anything_expired, milliseconds_now, sweep
from swarmstate.errors import AccessDenied, StoreUnavailable

__all__ = ["Database", "Job", "Work", "release"]

T = TypeVar("T")

Work = Callable[[sqlite3.Connection], Any]
"""What is done with a connection, in one transaction; must not leave a statement unfinished."""

_READERS = 4  # connections that are kept for readers
_BATCH = 200  # jobs of one commit
_PAGES = 1000  # written since the last checkpoint, roughly, as SQLite's own default
_PAGE = 4096
_SWEPT_EVERY = 16  # commits; what has expired is absent anyway
_FULL = 13
_FATAL = (10, 11, 13, 26)  # after these the writer's connection is made again


class Job:
    """A write that waits to be committed.

    Attributes:
        work: is called within the transaction.
        size: how many bytes it writes, roughly.
        deadline: until when a lock is waited for.
        done: whether it is decided what became of it: then it has a result or an error.
    """

    __slots__ = ("deadline", "done", "error", "result", "size", "work")

    def __init__(self, work: Work, size: int, deadline: float) -> None:
        self.work = work
        self.size = size
        self.deadline = deadline
        self.done = False
        self.result: Any = None
        self.error: Exception | None = None


class Reader:
    """A connection for reading.

    Attributes:
        lock: held while it is in use. One of the standard library's, so that no interrupt can come
            between getting it and knowing that it has to be released.
        connection: None once it is closed.
    """

    __slots__ = ("__weakref__", "connection", "lock")

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.lock = threading.RLock()
        self.connection: sqlite3.Connection | None = connection

    def close(self) -> None:
        """Close the connection; the lock is held by the caller."""
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.close()


class Database:
    """A file's connections, shared by the threads of one process.

    Args:
        file: the file.
        rest: is called now and then, with the lock on writing held, to let go of what is not
            worth its memory.
    """

    def __init__(self, file: File, rest: Callable[[Database], None]) -> None:
        self.file = file
        self.timeout = file.timeout
        self._rest = rest
        self._closed = False
        self._reset()
        with making:
            self._idle.append(self._new_reader())
            _databases.add(self)

    def _reset(self) -> None:
        """Begin without connections, as a forked child must."""
        self._lock = threading.RLock()
        self._waiting: deque[Job] = deque()
        self.writer: sqlite3.Connection | None = None
        self._pages = self._changes = self._commits = 0
        self._gate = threading.RLock()
        self.snapshots = threading.RLock()
        """Held while a snapshot is taken or restored; asked for before the lock on writing."""
        self._idle: list[Reader] = []
        self._readers: weakref.WeakSet[Reader] = weakref.WeakSet()

    def check_open(self) -> None:
        """Raise StoreUnavailable if it is closed."""
        if self._closed:
            raise StoreUnavailable("the store is closed")

    # Reads -------------------------------------------------------------------------------------

    def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Return what ``work`` makes of a connection on which nothing is written.

        Raises:
            StoreUnavailable: the file cannot be read.
        """
        # Whoever reads must not ask for the lock on writing: see before_fork().
        while True:
            if self._closed:
                self.check_open()
            try:
                reader = self._idle.pop()
            except IndexError:
                reader = self._new_reader()
            try:
                with reader.lock:
                    connection = reader.connection
                    if connection is None:
                        continue  # closed before a fork
                    self.file.check_now_and_then()
                    try:
                        result = work(connection)
                    except sqlite3.OperationalError as error:
                        if not is_busy(error):
                            raise
                        # Another process opens or closes the file, and lets nobody in meanwhile.
                        result = patiently(partial(_again, work, connection), self.timeout)
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                    if len(self._idle) < _READERS and not self._closed:
                        self._idle.append(reader)
                    else:
                        reader.close()
                    return result
            except BaseException as error:  # an interrupt too: the reader must not be lost
                # A statement may be unfinished, which would hold on to what it reads.
                with reader.lock:
                    reader.close()
                release(reader.lock)
                if not isinstance(error, Exception):
                    raise
                raised = self._raised(error)
                if raised is error:
                    raise
                raise raised from error
            finally:
                if self._closed:
                    self.close()

    def _new_reader(self) -> Reader:
        try:
            with self._gate:
                self.check_open()
                reader = Reader(self.file.connect())
                self._readers.add(reader)
                return reader
        except BaseException:  # an interrupt at the end of a `with` can leave the lock held
            release(self._gate)
            raise

    def _raised(self, error: Exception) -> Exception:
        if self._closed and isinstance(error, sqlite3.ProgrammingError):
            return StoreUnavailable("the store is closed")
        return translated(error, self.file.path, self.timeout)

    def _close_idle(self) -> None:
        with suppress(IndexError):
            while True:
                reader = self._idle.pop()
                with reader.lock:
                    reader.close()

    # Writes ------------------------------------------------------------------------------------

    def job(self, work: Work, size: int) -> Job:
        """Return a job whose time begins now.

        Raises:
            AccessDenied: the store was opened read-only.
            StoreUnavailable: it is closed.
        """
        if self._closed:
            self.check_open()
        if self.file.read_only:
            raise AccessDenied(f"{self.file.path} was opened with read_only=True")
        return Job(work, size, monotonic() + self.timeout)

    def write(self, work: Callable[[sqlite3.Connection], T], size: int = 0) -> T:
        """Commit one job, together with those that wait, and return its result.

        Raises:
            StoreUnavailable: it could not be committed; nothing of it was.
            AccessDenied: the store was opened read-only.
        """
        job = self.job(work, size)
        if self._lock._is_owned():  # type: ignore[attr-defined]  # as Condition asks
            # In a signal handler, or a finalizer that the garbage collector runs: what it
            # interrupted cannot go on before it, nor share its transaction.
            raise StoreUnavailable(
                f"{self.file.path} cannot be written from within a write of the same thread "
                "(in a signal handler or finalizer)"
            )
        self._waiting.append(job)
        try:
            while not job.done:
                with self._lock:
                    if not job.done:
                        # It may have been in the hands of a thread that was interrupted.
                        if job not in self._waiting:
                            self._waiting.append(job)
                        self._lead(job)
        except BaseException:  # an interrupted caller must leave neither lock nor job behind
            release(self._lock)
            with suppress(ValueError):
                self._waiting.remove(job)
            raise
        finally:
            if self._closed:
                self.close()
        if job.error is not None:
            raise job.error
        result: T = job.result
        return result

    def write_all(self, jobs: list[Job]) -> None:
        """Commit jobs, together with those that wait."""
        while left := [job for job in jobs if not job.done]:
            with self._lock:
                self._waiting.extend(job for job in left if job not in self._waiting)
                self._lead(None)

    def _lead(self, own: Job | None) -> None:
        """Commit what waits, or a part of it. The lock is held."""
        batch: list[Job] = []
        try:
            while len(batch) < _BATCH and self._waiting:
                batch.append(self._waiting.popleft())
            self._commit(batch, own)
        finally:
            # After an interrupt too, nobody else's job may be lost.
            if len(batch) != 1 or batch[0] is not own:
                self._waiting.extendleft(
                    job for job in reversed(batch) if not (job.done or job is own)
                )
            if self.writer is not None and (self._closed or self.writer.in_transaction):
                self._drop_writer()

    def _commit(self, batch: list[Job], own: Job | None) -> None:
        """Do jobs in one transaction; those that are not done afterwards are still to be done."""
        try:
            writer = self._begin(batch, own)
        except Exception as error:  # noqa: BLE001 - whatever prevents it is the error of each job
            for job in batch:
                job.error = self._raised(error)
                job.done = True
            return
        if writer is None:
            return
        jobs = batch if len(batch) == 1 else [job for job in batch if not job.done]
        self._commits += 1
        committing = False
        try:
            if self._commits >= _SWEPT_EVERY:
                self._commits = 0
                if anything_expired(writer, milliseconds_now()):
                    # Bounded: the one that happens to come along must not pay for all.
                    jobs = [*jobs, Job(_sweep, 0, 0.0)]
            if len(jobs) == 1:
                jobs[0].result = jobs[0].work(writer)
            else:
                for job in jobs:
                    self._perform(writer, job)
            committing = True
            writer.execute("COMMIT")
            for job in jobs:
                job.done = True
        except Exception as error:  # noqa: BLE001 - told below, to whom it concerns
            self._roll_back(writer, error)
            if primary_code(error) == _FULL:
                # Once the log is copied, it starts over in the room that it has.
                self.checkpoint()
            if len(jobs) == 1:
                jobs[0].error = self._raised(error)
                jobs[0].done = True
            else:
                # One job's fault is its own.
                for job in jobs:
                    job.error = job.result = None
                    self._commit([job], own)
            return
        except BaseException:  # raised again: an interrupt may come right after the commit
            if committing and not writer.in_transaction:
                for job in jobs:
                    job.done = True
            else:
                self._roll_back(writer, None)
                for job in jobs:
                    job.error = job.result = None
            raise
        # A row costs a page of the log in the table and one in its index; neighbours share them.
        changes = writer.total_changes
        self._pages += len(jobs) + changes - self._changes
        self._changes = changes
        failed = False
        for job in jobs:
            self._pages += job.size // _PAGE
            failed = failed or job.error is not None
        if failed:
            # A statement that failed may be unfinished, which would hold on to what it read.
            self._drop_writer()
        if self._pages >= _PAGES:
            self.checkpoint()

    def _begin(self, batch: list[Job], own: Job | None) -> sqlite3.Connection | None:
        """Begin a transaction for jobs; those whose time is over by then are failed.

        Returns:
            The writer; None if it is not worth while any more.
        """
        if self._closed:
            self.check_open()
        pause = 0.0002
        while True:
            try:
                self.file.check()
                writer = self.writer = self.writer or self.file.connect()
                writer.execute("BEGIN IMMEDIATE")
                return writer
            except sqlite3.OperationalError as error:
                if not is_busy(error):
                    self._drop_writer()
                    raise
                now = monotonic()
                for job in batch:
                    if not job.done and job.deadline <= now:
                        job.error = self._raised(error)
                        job.done = True
            if all(job.done for job in batch) or (own is not None and own.done):
                return None
            time.sleep(pause * (0.5 + random.random()))  # noqa: S311 (not for a secret)
            pause = min(pause * 1.5, 0.01)

    def _perform(self, writer: sqlite3.Connection, job: Job) -> None:
        """Do one of several jobs within the transaction.

        What it raises is its own, but for SQLite's errors.
        """
        execute = writer.execute
        execute("SAVEPOINT job")
        try:
            job.result = job.work(writer)
        except sqlite3.Error:
            raise  # the transaction may be gone, or its failure be another job's as well
        except Exception as error:  # noqa: BLE001 - raised to who wanted the job done
            execute("ROLLBACK TO job")
            job.error = error
        execute("RELEASE job")

    def _roll_back(self, writer: sqlite3.Connection, error: Exception | None) -> None:
        try:
            if writer.in_transaction:
                writer.execute("ROLLBACK")
        except sqlite3.Error:
            self._drop_writer()
        else:
            if (
                error is None
                or not isinstance(error, sqlite3.Error)
                or primary_code(error) in _FATAL
            ):
                self._drop_writer()

    def _drop_writer(self) -> None:
        writer, self.writer = self.writer, None
        self._changes = 0
        if writer is not None:
            with suppress(sqlite3.Error):
                writer.close()

    # Care --------------------------------------------------------------------------------------

    def alone(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Return what ``work`` makes of the writer, in no transaction, while nobody else writes.

        Raises:
            StoreUnavailable: it could not be done.
            AccessDenied: the store was opened read-only.
        """
        self.job(work, 0)  # for its checks
        with self._lock:
            try:
                self.check_open()
                self.file.check()
                writer = self.writer = self.writer or self.file.connect()
                return patiently(lambda: work(writer), self.timeout)
            except Exception as error:  # raised again; SQLite's become one of our errors
                self._drop_writer()
                raised = self._raised(error)
                if raised is error:
                    raise
                raise raised from error

    def checkpoint(self) -> bool:
        """Copy the log into the file, as far as readers let it; return whether nothing failed.

        The lock is held by the caller. A commit that was made stands, whatever happens here; what
        was not copied will be the next time.
        """
        self._pages = 0
        writer = self.writer
        if writer is None:
            return False
        try:
            patiently(lambda: writer.execute("BEGIN IMMEDIATE"), min(self.timeout, 0.1))
            try:
                self.read(_copy_log)
            finally:
                writer.execute("ROLLBACK")
            self._rest(self)
        except (sqlite3.Error, AccessDenied, StoreUnavailable):
            return False
        return True

    def close(self) -> None:
        """Close every connection that is not in use, and those that are as soon as they are not."""
        self._closed = True
        if self._lock._is_owned():  # type: ignore[attr-defined]
            return  # in the middle of a write of this very thread, which closes the writer then
        with self._lock:
            self._drop_writer()
            self._close_idle()

    # Forks -------------------------------------------------------------------------------------

    def before_fork(self) -> None:
        """Close all connections and keep every other call out."""
        self._inside = bool(self._lock._is_owned())  # type: ignore[attr-defined]
        self._lock.acquire()
        self._gate.acquire()
        for reader in list(self._readers):
            # Waits for a read that is under way, but for one that this very thread is in.
            if not reader.lock._is_owned():  # type: ignore[attr-defined]
                with reader.lock:
                    reader.close()
        self._idle.clear()
        if not self._inside:
            self._drop_writer()

    def after_fork_in_parent(self) -> None:
        """Let the others go on."""
        self._gate.release()
        self._lock.release()

    def after_fork_in_child(self) -> None:
        """Begin without connections."""
        if self.writer is not None:
            # Forked in the middle of its own write: to close it here would be to the parent's harm.
            _abandoned.append(self.writer)
        _abandoned.extend(reader for reader in self._readers if reader.connection is not None)
        self._reset()


def release(lock: threading.RLock) -> None:
    """Release a lock that an interrupt at the end of a ``with`` block has left locked, if it has.

    Only debuggers and tests stop a program there; but then nobody else would ever get it.
    """
    while lock._is_owned():  # type: ignore[attr-defined]
        lock.release()


def _copy_log(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()


def _sweep(connection: sqlite3.Connection) -> None:
    sweep(connection, milliseconds_now())


def _again(work: Callable[[sqlite3.Connection], T], connection: sqlite3.Connection) -> T:
    if connection.in_transaction:
        connection.execute("ROLLBACK")
    return work(connection)


_databases: weakref.WeakSet[Database] = weakref.WeakSet()
_abandoned: list[object] = []
_forking: list[Database] = []


def _before_fork() -> None:
    # So that none is made while a fork is under way.
    making.acquire()
    _forking[:] = sorted(_databases, key=id)
    for database in _forking:
        database.before_fork()


def _after_fork_in_parent() -> None:
    for database in _forking:
        database.after_fork_in_parent()
    _forking.clear()
    making.release()


def _after_fork_in_child() -> None:
    for database in _forking:
        database.after_fork_in_child()
    _forking.clear()
    making.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
