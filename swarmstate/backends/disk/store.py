"""The two stores: one logic, run blocking or awaited."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from swarmstate.arguments import check_number
from swarmstate.backends.disk.connections import File
from swarmstate.backends.disk.database import Database
from swarmstate.backends.disk.driver import Driver
from swarmstate.backends.disk.steps import ScratchSteps, StoreSteps
from swarmstate.backends.opened import Awaited, Blocking, Opened
from swarmstate.checkpoints.protocol import CheckpointEngine
from swarmstate.errors import ArgumentTypeError, ArgumentValueError
from swarmstate.items.protocol import ItemEngine
from swarmstate.protocols import Default
from swarmstate.shown import shown
from swarmstate.steps import awaited, blocking, introduced

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["AsyncDiskStore", "DiskStore"]

_SYNCHRONOUS = ("NORMAL", "FULL")


class _Opened(Opened):
    """A store's file and its logic: what both stores are made of."""

    _found_again_by = "path"

    steps: StoreSteps
    driver: Driver

    def __init__(
        self,
        path: str | os.PathLike[str] = "swarmstate.db",
        *,
        codec: str = "msgpack",
        default: Default | None = None,
        max_history: int | None = 0,
        synchronous: str = "NORMAL",
        ttl: float | None = None,
        ttl_on_read: bool = False,
        timeout: float = 5.0,
        read_only: bool = False,
    ) -> None:
        check_number("timeout", timeout, 0.001)
        if not isinstance(synchronous, str) or synchronous not in _SYNCHRONOUS:
            raise (ArgumentValueError if isinstance(synchronous, str) else ArgumentTypeError)(
                f"synchronous must be 'NORMAL' or 'FULL', not {shown(synchronous)}"
            )
        if read_only and ttl is not None:
            raise ArgumentValueError(
                "read_only=True and a ttl exclude each other: nothing is renewed"
            )
        self.steps = StoreSteps(
            codec=codec,
            default=default,
            max_history=max_history,
            ttl=ttl,
            ttl_on_read=ttl_on_read,
        )
        file = File(path, synchronous=synchronous, timeout=timeout, read_only=bool(read_only))
        self.driver = Driver(Database(file, self.steps.tracker.rest))
        self._scratch = None

    @property
    def path(self) -> str:
        """Where the file is, as an absolute path."""
        return self.driver.database.file.path

    def checkpoint_engine(
        self, *, ttl: float | None = None, ttl_on_read: bool = False
    ) -> CheckpointEngine:
        """Return how a checkpointer does its operations here.

        Args:
            ttl: seconds that a thread lives after it was last renewed, from 0.001 to 10**10; None:
                as the store's namespaces.
            ttl_on_read: whether reading a thread renews it too.

        Raises:
            ArgumentTypeError, ArgumentValueError: a ttl out of bounds, or none to renew; or this is
                :meth:`scratch`, where threads do not expire and cannot be awaited.
        """
        if isinstance(self.steps, ScratchSteps):
            if ttl is not None or ttl_on_read or not isinstance(self, DiskStore):
                raise ArgumentValueError(
                    "a checkpointer over scratch() of a file takes no ttl and must block: give it "
                    "the store itself"
                )
            from swarmstate.checkpoints.generic import GenericEngine

            return GenericEngine(self)
        from swarmstate.backends.disk.checkpoints import DiskCheckpoints

        return DiskCheckpoints(self.steps, self.driver, ttl=ttl, ttl_on_read=ttl_on_read)

    def item_engine(self) -> ItemEngine:
        """Return how LangGraph's long-term memory keeps its items here."""
        from swarmstate.backends.disk.items import DiskItems

        return DiskItems(self.steps, self.driver)

    def scratch(self) -> Self:
        """Return the store's place for what need not last, such as a cache; never touches the file.

        It is a store of the same kind, apart in the same file, and no part of this one: not of
        ``snapshot``, ``restore``, ``clear``, ``len`` or any listing. It uses the connections of
        this store, which alone closes them. ``backup`` and ``compact`` are about the whole file.
        """
        return self._apart(ScratchSteps)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} codec={self.codec!r} at {self.path}>"


@introduced
class DiskStore(_Opened, Blocking):
    """A store in one file, with the interface of :class:`swarmstate.Store` and no server.

    Any number of threads and processes of one machine may use the file at the same time. Every
    write that has returned survives the end of the process, however it ends. The file is SQLite's,
    in its WAL mode, so there are two more beside it while it is in use, ``-wal`` and ``-shm``.

    Args:
        path: the file, which is made if there is none, for its owner alone (mode 0600).
        codec: the name of the codec.
        default: encodes what the codec does not know.
        max_history: how many snapshots ``history()`` keeps: 0 none, n the last n, None all.
        synchronous: ``"FULL"``: a write that has returned survives a power cut too. ``"NORMAL"``:
            the last ones may be lost then, newest first and each one whole; much faster.
        ttl: seconds that a namespace lives after the last write to it, from 0.001 to 10**10; None:
            until it is deleted.
        ttl_on_read: whether a read restarts that time.
        timeout: seconds to wait for other processes that write.
        read_only: whether to refuse every write; the file must be there.

    Raises:
        ArgumentTypeError, ArgumentValueError: an argument that is not accepted, or a file of
            another program or a newer format, which is not touched.
        UnknownCodecError: there is no such codec.
        AccessDenied: the file may not be opened or made.
        StoreUnavailable: it cannot be opened for another reason.
    """

    _counterpart = "AsyncDiskStore"

    set = blocking(StoreSteps.set)
    get = blocking(StoreSteps.get)
    contains = blocking(StoreSteps.contains)
    set_default = blocking(StoreSteps.set_default)
    delete = blocking(StoreSteps.delete)
    update = blocking(StoreSteps.update)
    set_many = blocking(StoreSteps.set_many)
    get_many = blocking(StoreSteps.get_many)
    delete_many = blocking(StoreSteps.delete_many)
    delete_namespace = blocking(StoreSteps.delete_namespace)
    expire = blocking(StoreSteps.expire)
    keys = blocking(StoreSteps.keys)
    items = blocking(StoreSteps.items)
    max_key = blocking(StoreSteps.max_key)
    commit = blocking(StoreSteps.commit)
    append = blocking(StoreSteps.append)
    tail = blocking(StoreSteps.tail)
    pop = blocking(StoreSteps.pop)
    namespaces = blocking(StoreSteps.namespaces)
    clear = blocking(StoreSteps.clear)
    snapshot = blocking(StoreSteps.snapshot)
    restore = blocking(StoreSteps.restore)
    backup = blocking(StoreSteps.backup)
    compact = blocking(StoreSteps.compact)
    __len__ = blocking(StoreSteps.count)
    __contains__ = blocking(StoreSteps.has_namespace)


@introduced
class AsyncDiskStore(_Opened, Awaited):
    """The methods of :class:`DiskStore`, awaited; the arguments are the same.

    One thread does what any number of tasks and event loops want, and commits together what was
    asked for together. A cancelled task harms no other; what it had asked for may still be done.
    ``len(store)`` is ``await store.count()`` here and ``namespace in store`` is
    ``await store.has_namespace(namespace)``. Only making the store itself opens the file at once.
    """

    set = awaited(StoreSteps.set)
    get = awaited(StoreSteps.get)
    contains = awaited(StoreSteps.contains)
    set_default = awaited(StoreSteps.set_default)
    delete = awaited(StoreSteps.delete)
    update = awaited(StoreSteps.update)
    set_many = awaited(StoreSteps.set_many)
    get_many = awaited(StoreSteps.get_many)
    delete_many = awaited(StoreSteps.delete_many)
    delete_namespace = awaited(StoreSteps.delete_namespace)
    expire = awaited(StoreSteps.expire)
    keys = awaited(StoreSteps.keys)
    items = awaited(StoreSteps.items)
    max_key = awaited(StoreSteps.max_key)
    commit = awaited(StoreSteps.commit)
    append = awaited(StoreSteps.append)
    tail = awaited(StoreSteps.tail)
    pop = awaited(StoreSteps.pop)
    namespaces = awaited(StoreSteps.namespaces)
    clear = awaited(StoreSteps.clear)
    snapshot = awaited(StoreSteps.snapshot)
    restore = awaited(StoreSteps.restore)
    backup = awaited(StoreSteps.backup)
    compact = awaited(StoreSteps.compact)
    count = awaited(StoreSteps.count)
    has_namespace = awaited(StoreSteps.has_namespace)
