"""A thread with one list that grows, as a conversation does."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import HumanMessage
from threads import checkpoint, config

from swarmstate.integrations.langgraph import SwarmStateSaver

__all__ = ["Chat", "message"]


def message(number: int) -> HumanMessage:
    return HumanMessage(f"{number} " + "a message of some length " * 10, id=f"{number}")


class Chat:
    """A thread with one list that grows."""

    def __init__(self, saver: SwarmStateSaver, thread: str = "thread") -> None:
        self.saver = saver
        self.where = config(thread)
        self.messages: list[Any] = []
        self.versions: dict[str, Any] = {}

    def put(self, *added: Any, **others: Any) -> Any:
        self.where = self.saver.put(*self.prepared(*added, **others))
        return self.where

    async def aput(self, *added: Any, **others: Any) -> Any:
        self.where = await self.saver.aput(*self.prepared(*added, **others))
        return self.where

    def prepared(self, *added: Any, **others: Any) -> Any:
        self.messages = [*self.messages, *added]
        new: dict[str, Any] = {}
        if added:
            new["messages"] = self.saver.get_next_version(self.versions.get("messages"), None)
        for name in others:
            new[name] = self.saver.get_next_version(self.versions.get(name), None)
        self.versions = {**self.versions, **new}
        body = checkpoint(self.versions, {"messages": self.messages, **others})
        return self.where, body, {}, new

    def read(self, where: Any = None) -> Any:
        found = self.saver.get_tuple(where or self.where)
        assert found is not None
        return found
