"""A saver that does everything twice, on LangGraph's InMemorySaver and on ours, and compares."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple
from langgraph.checkpoint.memory import InMemorySaver

from swarmstate.integrations.langgraph import SwarmStateSaver


def plain(found: CheckpointTuple | None) -> CheckpointTuple | None:
    """Return a tuple whose configs hold only what names a checkpoint, to compare it."""
    if found is None:
        return None
    return found._replace(config=_named(found.config), parent_config=_named(found.parent_config))


def _named(config: RunnableConfig | None) -> Any:
    if config is None:
        return None
    configurable = config["configurable"]
    return {
        "thread_id": configurable["thread_id"],
        "checkpoint_ns": configurable.get("checkpoint_ns", ""),
        "checkpoint_id": configurable["checkpoint_id"],
    }


def newest_first(found: Iterator[CheckpointTuple]) -> list[Any]:
    return sorted(
        (plain(one) for one in found),
        key=lambda one: (one.config["checkpoint_id"], one.config["checkpoint_ns"]),
        reverse=True,
    )


class TwinSaver(BaseCheckpointSaver[str]):
    """Forwards every call to both savers; every answer must be the same."""

    def __init__(self, ours: SwarmStateSaver) -> None:
        super().__init__()
        self.ours = ours
        self.reference = InMemorySaver()

    def assert_same_history(self, thread_id: str) -> list[Any]:
        """Compare everything both savers know of a thread; return it, newest first."""
        config: Any = {"configurable": {"thread_id": thread_id}}
        ours = list(self.ours.list(config))
        assert [plain(one) for one in ours] == newest_first(self.reference.list(config))
        for one in ours:
            assert plain(self.ours.get_tuple(one.config)) == plain(one)
        return ours

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        found = self.ours.get_tuple(config)
        assert plain(found) == plain(self.reference.get_tuple(config))
        return found

    def list(self, config: RunnableConfig | None, **options: Any) -> Iterator[CheckpointTuple]:
        found = list(self.ours.list(config, **options))
        if config is not None and "checkpoint_ns" in config["configurable"]:
            reference = [plain(one) for one in self.reference.list(config, **options)]
            assert [plain(one) for one in found] == reference
        yield from found

    def put(self, config: RunnableConfig, *rest: Any) -> RunnableConfig:
        stored = self.ours.put(config, *rest)
        assert _named(stored) == _named(self.reference.put(config, *rest))
        return stored

    def put_writes(
        self, config: RunnableConfig, writes: Any, task_id: str, task_path: str = ""
    ) -> None:
        # LangGraph looks at the signature: a saver without task_path is never given it.
        self.ours.put_writes(config, writes, task_id, task_path)
        self.reference.put_writes(config, writes, task_id, task_path)

    def delete_thread(self, thread_id: str) -> None:
        self.ours.delete_thread(thread_id)
        self.reference.delete_thread(thread_id)

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, Any]:
        found = self.ours.get_delta_channel_history(config=config, channels=channels)
        reference = self.reference.get_delta_channel_history(config=config, channels=channels)
        assert found == reference
        return found

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        found = await self.ours.aget_tuple(config)
        assert plain(found) == plain(await self.reference.aget_tuple(config))
        return found

    async def alist(
        self, config: RunnableConfig | None, **options: Any
    ) -> AsyncIterator[CheckpointTuple]:
        found = [one async for one in self.ours.alist(config, **options)]
        if config is not None and "checkpoint_ns" in config["configurable"]:
            reference = [plain(one) for one in self.reference.list(config, **options)]
            assert [plain(one) for one in found] == reference
        for one in found:
            yield one

    async def aput(self, config: RunnableConfig, *rest: Any) -> RunnableConfig:
        stored = await self.ours.aput(config, *rest)
        assert _named(stored) == _named(await self.reference.aput(config, *rest))
        return stored

    async def aput_writes(
        self, config: RunnableConfig, writes: Any, task_id: str, task_path: str = ""
    ) -> None:
        # LangGraph looks at the signature: a saver without task_path is never given it.
        await self.ours.aput_writes(config, writes, task_id, task_path)
        await self.reference.aput_writes(config, writes, task_id, task_path)

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, Any]:
        found = await self.ours.aget_delta_channel_history(config=config, channels=channels)
        reference = await self.reference.aget_delta_channel_history(
            config=config, channels=channels
        )
        assert found == reference
        return found

    def get_next_version(self, current: Any, channel: None) -> str:
        return self.ours.get_next_version(current, channel)
