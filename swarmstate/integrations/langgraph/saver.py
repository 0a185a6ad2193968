"""A LangGraph checkpointer over any store.

Every operation is written once, as steps around the operations of a
:class:`~swarmstate.checkpoints.protocol.CheckpointEngine`, and driven twice: a method runs it, the
method with an ``a`` in front awaits it.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from time import time
from types import GeneratorType
from typing import TYPE_CHECKING, Any, TypeVar

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
)
from langgraph.checkpoint.serde.base import SerializerProtocol

from swarmstate._checkpoints import Draft, ListCache, ListWrites, draft_of, next_version, writes_of
from swarmstate.arguments import check_count, check_method, check_number, shown
from swarmstate.checkpoints.generic import engine_of
from swarmstate.checkpoints.protocol import (
    CheckpointEngine,
    CheckpointName,
    StoredCheckpoint,
    Surplus,
)
from swarmstate.errors import ArgumentTypeError, ArgumentValueError
from swarmstate.integrations.langgraph import ages, history, retention
from swarmstate.integrations.langgraph.config import (
    checkpoint_id_of,
    configurable_of,
    name_of,
    thread_id_of,
    thread_ids_of,
)
from swarmstate.integrations.langgraph.listing import Listing
from swarmstate.integrations.langgraph.metadata import stored_metadata
from swarmstate.integrations.langgraph.owning import Owner
from swarmstate.integrations.langgraph.serialization import (
    CheckpointReader,
    OnBlocked,
    watch_blocked_types,
)
from swarmstate.protocols import StoreLike
from swarmstate.steps import Outcome, Steps, finish, then

if TYPE_CHECKING:
    from swarmstate.integrations.langgraph.observed import Observer
    from swarmstate.observability import Metrics, MetricsSink, Tracer

__all__ = ["SwarmStateSaver"]

T = TypeVar("T")

# Unique, not secret.
_bits = random.getrandbits


def _no_store(value: object) -> str:
    """Return what is wrong with what was given as a store, and what would be right."""
    name = type(value).__name__
    if isinstance(value, (str, bytes)):
        # Not shown: a URL may hold a password.
        return f"store must be a swarmstate store, not {name}; of a URL make one: RedisStore(url)"
    if isinstance(value, type):
        return f"store must be a swarmstate store, not the class {value.__name__} itself"
    if type(value).__module__.partition(".")[0] in ("redis", "valkey"):
        return (
            f"store must be a swarmstate store, not a client ({name}); "
            "of a client make one: RedisStore(client=...)"
        )
    if hasattr(value, "get") and hasattr(value, "set"):
        return f"store must have the methods of a StoreLike: {name} has no set_many"
    return f"store must be a swarmstate store, not {name} ({shown(value)})"


class SwarmStateSaver(Owner, BaseCheckpointSaver[str]):
    """Keeps the checkpoints of LangGraph graphs in a store; sync and async in one class.

    Args:
        store: Any store; a new in-memory one if omitted. The saver never closes it, unless it has
            opened it by :meth:`from_conn_string`.
        serde: Turns values into bytes and back; LangGraph's ``JsonPlusSerializer()`` if omitted.
        ttl: Seconds after which a thread that is not written to expires as a whole. Overrides the
            store's own. Needs a store that can expire keys.
        ttl_on_read: Whether reading a thread renews it too.
        max_checkpoints_per_thread: How many checkpoints each checkpoint namespace of a thread
            keeps, besides older ones that a pending interrupt or a ``DeltaChannel`` still needs.
        on_blocked: What happens when the serializer is not allowed to load a type and would give
            back plain data instead: ``"warn"`` leaves it to the serializer, which logs a warning;
            ``"error"`` raises :class:`~swarmstate.errors.DecodeError`, also for every object that
            LangGraph's ``JsonPlusSerializer`` cannot rebuild and would replace. What another
            serializer replaces cannot be seen.
        list_cache_bytes: How many bytes may be kept of what was last written of long lists, of
            which only what is new is stored and sent. Without it (0) a put that meets a list takes
            one round trip more.
        incremental: Means nothing: a value is always stored once per version. Programs for the Rust
            package of the same name pass it.
        metrics: Where durations are recorded, see :mod:`swarmstate.observability`.
        tracer: Where spans are recorded, see :mod:`swarmstate.observability`.

    Raises:
        ArgumentTypeError, ArgumentValueError: an argument that is not accepted.

    Example:
        >>> from swarmstate.integrations.langgraph import SwarmStateSaver
        >>> saver = SwarmStateSaver()
        >>> saver.get_tuple({"configurable": {"thread_id": "a thread"}}) is None
        True
    """

    def __init__(
        self,
        store: StoreLike | None = None,
        *,
        serde: SerializerProtocol | None = None,
        ttl: float | None = None,
        ttl_on_read: bool = False,
        max_checkpoints_per_thread: int | None = None,
        on_blocked: OnBlocked = "warn",
        list_cache_bytes: int = 32 << 20,
        incremental: bool = True,
        metrics: Metrics | MetricsSink | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        super().__init__(serde=serde)
        if store is None:
            from swarmstate import Store

            store = Store()
        elif not hasattr(type(store), "set_many"):
            raise ArgumentTypeError(_no_store(store))
        check_count("max_checkpoints_per_thread", max_checkpoints_per_thread, 1, optional=True)
        check_count("list_cache_bytes", list_cache_bytes, 0)
        if on_blocked not in ("warn", "error"):
            raise ArgumentValueError(
                f"on_blocked must be 'warn' or 'error', not {shown(on_blocked)}"
            )
        self.store = store
        self._engine: CheckpointEngine = engine_of(store, ttl, ttl_on_read)
        self._limit = max_checkpoints_per_thread
        self._lists = ListCache(list_cache_bytes)
        self._strict = on_blocked == "error"
        self._last_reader: CheckpointReader | None = None
        if self._strict:
            watch_blocked_types()
        self._observer: Observer | None = None
        if metrics is not None or tracer is not None:
            from swarmstate.integrations.langgraph.observed import CountingEngine, Observer

            check_method("metrics", metrics, "record")
            check_method("tracer", tracer, "start_as_current_span")
            self._observer = Observer(metrics, tracer)
            self._engine = CountingEngine(self._engine)

    # One operation each: the method, the awaited method, and the steps that both drive.

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Return the checkpoint that ``config`` names, or the latest of its thread and namespace.

        One round trip over Redis. In memory the cost does not depend on how many checkpoints the
        thread has.

        Raises:
            DecodeError: a stored value is missing or cannot be read.
            StoreUnavailable: the store cannot be reached; never reported as "no checkpoint".
        """
        return self._run("get_tuple", config, self._get_tuple, config)

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Await :meth:`get_tuple`."""
        return await self._arun("get_tuple", config, self._get_tuple, config)

    def _get_tuple(self, config: RunnableConfig) -> Outcome[CheckpointTuple | None]:
        return then(self._engine.get(name_of(config)), self._got)

    def _got(self, found: StoredCheckpoint | None) -> CheckpointTuple | None:
        reader = self._reader()
        return (
            None
            if found is None
            else reader.tuple(found, lists=self._lists if reader.splits else None)
        )

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """Yield checkpoints, newest first, of one namespace of a thread, or of all its namespaces.

        Pages of 100: one round trip for the ids, then one a page, two with a filter. Without a
        ``config`` the checkpoints of all threads are listed, for which the store is enumerated.

        Args:
            config: Names the thread, and optionally the checkpoint namespace and id.
            filter: Metadata that must be equal.
            before: Only checkpoints with a lesser id than this one's.
            limit: How many at most; 0 or less yields none.
        """
        listing = self._listing(config, filter, before, limit)
        while not listing.done:
            yield from self._run("list", config, listing.list_page)

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """Yield what :meth:`list` yields."""
        listing = self._listing(config, filter, before, limit)
        while not listing.done:
            for found in await self._arun("list", config, listing.list_page):
                yield found

    def _listing(
        self,
        config: RunnableConfig | None,
        filter: dict[str, Any] | None,
        before: RunnableConfig | None,
        limit: int | None,
    ) -> Listing:
        thread = checkpoint_ns = checkpoint_id = None
        if config is not None:
            thread, _, checkpoint_id = name_of(config)
            checkpoint_ns = configurable_of(config).get("checkpoint_ns")
        if limit is not None and not isinstance(limit, int):
            raise ArgumentTypeError(
                f"limit must be None or an int, not {type(limit).__name__} ({shown(limit)})"
            )
        if filter is not None and not isinstance(filter, Mapping):
            raise ArgumentTypeError(
                f"filter must be None or a dict, not {type(filter).__name__} ({shown(filter)})"
            )
        return Listing(
            self._engine,
            self._reader(),
            thread=thread,
            checkpoint_ns=checkpoint_ns,
            checkpoint_id=checkpoint_id or None,
            before=(checkpoint_id_of(configurable_of(before)) or None) if before else None,
            filter=filter,
            limit=limit,
        )

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint, the values of the channels in ``new_versions``, or nothing at all.

        One round trip over Redis. A value is stored once per channel and version; values of
        channels that did not change are neither serialised nor sent again, except to a Redis that
        refuses scripts.

        Returns:
            The config that names the stored checkpoint.
        """
        return self._run("put", config, self._put, config, checkpoint, metadata, new_versions)

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Await :meth:`put`."""
        return await self._arun(
            "put", config, self._put, config, checkpoint, metadata, new_versions
        )

    def _put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> Outcome[RunnableConfig]:
        reader = self._reader()
        draft = draft_of(
            config,
            checkpoint,
            metadata,
            new_versions,
            reader.dumps,
            stored_metadata,
            self._lists if reader.splits else None,
        )
        caller = None if self._limit is None else retention.caller_of(draft.name, metadata)
        if not draft.is_unsure:
            return self._add(draft, caller)
        parent = name_of(config)
        if not parent.id:
            return self._settled([None], draft, caller)
        asked = self._engine.load([parent], channels=(), writes=False)
        return then(asked, self._settled, draft, caller)

    # No closures: one that calls itself is a cycle, which every put would leave to the collector.

    def _settled(
        self, parent: Sequence[StoredCheckpoint | None], draft: Draft, caller: CheckpointName | None
    ) -> Outcome[RunnableConfig]:
        draft.settle(parent[0] and parent[0].record)
        return self._add(draft, caller)

    def _add(self, draft: Draft, caller: CheckpointName | None) -> Outcome[RunnableConfig]:
        answer = self._engine.put(
            draft.name,
            draft.record,
            draft.values,
            draft.inherited,
            keep=self._limit,
            caller=caller,
        )
        return then(answer, self._added, draft, caller)

    def _added(
        self,
        answer: tuple[Surplus | None, Sequence[str]],
        draft: Draft,
        caller: CheckpointName | None,
    ) -> Outcome[RunnableConfig]:
        surplus, missing = answer
        if missing:
            # The checkpoint that these values came from has been removed meanwhile.
            draft.send(missing)
            return self._add(draft, caller)
        stored = draft.done()
        if surplus is None or self._limit is None:
            return stored
        thinned: Outcome[Any] = retention.thin(self._engine, self._reader(), surplus, self._limit)
        return then(thinned, lambda _: stored)

    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Store the pending writes of a task; one that is already there is kept as it is.

        Writes to the special channels (errors, interrupts, resumes, schedules) are replaced.
        One round trip over Redis for any number of writes.
        """
        self._run("put_writes", config, self._put_writes, config, writes, task_id, task_path)

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Await :meth:`put_writes`."""
        await self._arun("put_writes", config, self._put_writes, config, writes, task_id, task_path)

    def _put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str,
    ) -> Outcome[Any]:
        reader = self._reader()
        name, stored, lists = writes_of(
            config,
            writes,
            task_id,
            task_path,
            WRITES_IDX_MAP,
            reader.dumps,
            self._lists if reader.splits else None,
        )
        if lists is None:
            return self._engine.put_writes(name, stored)
        return self._write(name, stored, lists)

    def _write(
        self, name: CheckpointName, stored: dict[str, Any], lists: ListWrites
    ) -> Outcome[None]:
        answer = self._engine.put_writes(name, stored, lists.values, lists.inherited)
        return then(answer, self._wrote, name, stored, lists)

    def _wrote(
        self,
        missing: Sequence[str],
        name: CheckpointName,
        stored: dict[str, Any],
        lists: ListWrites,
    ) -> Outcome[None]:
        if not missing:
            return None
        lists.send(missing)
        return self._write(name, stored, lists)

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """Return what each channel's value is rebuilt from: a seed and the writes since.

        Walks the ancestors of the checkpoint in pages of 100, at most three round trips a page.
        """
        return self._run(
            "get_delta_channel_history", config, self._get_delta_channel_history, config, channels
        )

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """Await :meth:`get_delta_channel_history`."""
        return await self._arun(
            "get_delta_channel_history", config, self._get_delta_channel_history, config, channels
        )

    def _get_delta_channel_history(
        self, config: RunnableConfig, channels: Sequence[str]
    ) -> Steps[Mapping[str, DeltaChannelHistory]]:
        name = name_of(config)
        return history.delta_history(self._engine, self._reader(), name, channels)

    def delete_thread(self, thread_id: str) -> None:
        """Remove everything of a thread, and of no other."""
        self._run("delete_thread", None, self._delete_thread, thread_id)

    async def adelete_thread(self, thread_id: str) -> None:
        """Await :meth:`delete_thread`."""
        await self._arun("delete_thread", None, self._delete_thread, thread_id)

    def _delete_thread(self, thread_id: str) -> Outcome[None]:
        return self._engine.delete_thread(thread_id_of(thread_id))

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Remove the checkpoints that these runs made, with their writes, in all threads.

        Enumerates the store. A ``DeltaChannel`` that is rebuilt from writes of such a run loses
        them; :meth:`prune` is what keeps them.
        """
        self._run("delete_for_runs", None, self._delete_for_runs, run_ids)

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Await :meth:`delete_for_runs`."""
        await self._arun("delete_for_runs", None, self._delete_for_runs, run_ids)

    def _delete_for_runs(self, run_ids: Sequence[str]) -> Outcome[None]:
        return retention.delete_for_runs(self._engine, self._reader(), run_ids)

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Add all checkpoints and writes of one thread to another; they appear at once."""
        self._run("copy_thread", None, self._copy_thread, source_thread_id, target_thread_id)

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Await :meth:`copy_thread`."""
        await self._arun("copy_thread", None, self._copy_thread, source_thread_id, target_thread_id)

    def _copy_thread(self, source_thread_id: str, target_thread_id: str) -> Outcome[None]:
        source, target = thread_id_of(source_thread_id), thread_id_of(target_thread_id)
        return self._engine.copy_thread(source, target)

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Remove old checkpoints of these threads.

        Args:
            thread_ids: The threads.
            strategy: ``"keep_latest"`` keeps the latest checkpoint of every namespace, and what a
                ``DeltaChannel`` in it is rebuilt from; ``"delete"`` keeps nothing.
        """
        self._run("prune", None, self._prune, thread_ids, strategy)

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Await :meth:`prune`."""
        await self._arun("prune", None, self._prune, thread_ids, strategy)

    def _prune(self, thread_ids: Sequence[str], strategy: str) -> Outcome[None]:
        if strategy not in ("keep_latest", "delete"):
            raise ArgumentValueError(
                f"strategy must be 'keep_latest' or 'delete', not {shown(strategy)}"
            )
        return self._prune_each(thread_ids_of("thread_ids", thread_ids), strategy)

    def _prune_each(self, threads: Sequence[str], strategy: str) -> Steps[None]:
        for thread in threads:
            if strategy == "delete":
                yield from finish(self._engine.delete_thread(thread))
            else:
                yield from retention.prune(self._engine, self._reader(), thread, 1)

    def threads(
        self, *, metadata: Mapping[str, Any] | None = None, limit: int | None = None
    ) -> Sequence[str]:
        """Return the ids of threads, those with the greatest checkpoint id first.

        Enumerates the store and the checkpoint ids of each thread, 100 threads at a time; loads no
        checkpoint, but with ``metadata`` that of each thread until there are enough.

        Args:
            metadata: What the metadata of a thread's newest checkpoint must hold, if given.
            limit: How many at most.
        """
        return self._run("threads", None, self._threads, metadata, limit)

    async def athreads(
        self, *, metadata: Mapping[str, Any] | None = None, limit: int | None = None
    ) -> Sequence[str]:
        """Await :meth:`threads`."""
        return await self._arun("threads", None, self._threads, metadata, limit)

    def _threads(
        self, metadata: Mapping[str, Any] | None, limit: int | None
    ) -> Outcome[Sequence[str]]:
        return ages.newest_threads(self._engine, self._reader(), metadata, limit)

    def prune_idle(self, *, older_than: float) -> Sequence[str]:
        """Remove the threads that were not written to for so long.

        The age of a thread is that of its greatest checkpoint id, which holds a time, or else of
        that checkpoint's ``ts``; a thread that tells neither stays. Each is looked at again right
        before it is removed. Enumerates the store, and goes through it in parts of 100 threads.

        Args:
            older_than: How long, in seconds.

        Returns:
            The ids of the threads that are gone.
        """
        return self._run("prune_idle", None, self._prune_idle, older_than)

    async def aprune_idle(self, *, older_than: float) -> Sequence[str]:
        """Await :meth:`prune_idle`."""
        return await self._arun("prune_idle", None, self._prune_idle, older_than)

    def _prune_idle(self, older_than: float) -> Outcome[Sequence[str]]:
        check_number("older_than", older_than, 0)
        before = time() - older_than
        return ages.prune_idle(self._engine, self._reader(), before)

    def task_paths(self, config: RunnableConfig) -> dict[str, str]:
        """Return task id -> task path for the pending writes of the checkpoint ``config`` names.

        LangGraph's own tuples do not carry the paths, which decide the order of the writes.
        """
        return self._run("task_paths", config, self._task_paths, config)

    def _task_paths(self, config: RunnableConfig) -> Outcome[dict[str, str]]:
        return then(self._engine.get(name_of(config)), _paths)

    def get_next_version(self, current: str | int | float | None, channel: None) -> str:
        """Return a version greater than ``current`` that no other branch will ever give out."""
        return next_version(current, _bits(56))

    def _attach(self, store: StoreLike) -> None:
        self.store = store
        self._engine = engine_of(store, None, False)
        self._lists = ListCache(self._lists.most)
        if self._observer is not None:
            from swarmstate.integrations.langgraph.observed import CountingEngine

            self._engine = CountingEngine(self._engine)

    def _reader(self) -> CheckpointReader:
        reader = self._last_reader
        if reader is None or reader.serde is not self.serde:
            reader = self._last_reader = CheckpointReader(self.serde, self._strict)
        return reader

    def _run(
        self,
        name: str,
        config: RunnableConfig | None,
        step: Callable[..., Outcome[T]],
        /,
        *args: Any,
    ) -> T:
        """Do one operation: at once where nothing has to be waited for, else its steps."""
        if self._observer is None:
            outcome: Any = step(*args)
            if isinstance(outcome, GeneratorType):
                # By this name the errors of a store tell what failed.
                outcome.__name__ = name
                outcome = self._engine.run(outcome)
        else:
            with self._observer.observing(name, config) as watched:
                outcome = self._engine.run(watched(step, *args))
        result: T = outcome
        return result

    async def _arun(
        self,
        name: str,
        config: RunnableConfig | None,
        step: Callable[..., Outcome[T]],
        /,
        *args: Any,
    ) -> T:
        if self._observer is None:
            outcome: Any = step(*args)
            if isinstance(outcome, GeneratorType):
                outcome.__name__ = name
                outcome = await self._engine.arun(outcome)
        else:
            with self._observer.observing(name, config) as watched:
                outcome = await self._engine.arun(watched(step, *args))
        result: T = outcome
        return result


def _paths(found: StoredCheckpoint | None) -> dict[str, str]:
    return {} if found is None else {write.task_id: write.task_path for write in found.writes}
