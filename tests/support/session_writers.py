"""What processes do to one session of a framework at the same time; run by spawned processes."""

from __future__ import annotations

import asyncio
from typing import Any

from swarmstate.backends.opening import open_store

ROUNDS = 3


def pydantic_ai(url: str, options: dict[str, Any], name: int, barrier: Any, out: Any) -> None:
    from pydantic_ai.conversation_store import ConversationConflict
    from pydantic_ai.messages import ModelRequest, UserPromptPart

    from swarmstate.integrations.pydantic_ai import SwarmStateConversationStore

    async def write(store: Any) -> int:
        conversations = SwarmStateConversationStore(store)
        conflicts = 0
        for number in range(ROUNDS):
            while True:
                conversation = await conversations.load("c")
                assert conversation is not None
                text = f"{name}:{number}"
                conversation.messages.append(ModelRequest(parts=[UserPromptPart(text)]))
                try:
                    await conversations.save(conversation)
                except ConversationConflict:
                    conflicts += 1
                    continue
                break
        return conflicts

    with open_store(url, **options) as store:
        barrier.wait()
        out.put(asyncio.run(write(store)))


def google_adk(url: str, options: dict[str, Any], name: int, barrier: Any, out: Any) -> None:
    from google.adk.errors import StaleSessionError
    from google.adk.events.event import Event
    from google.adk.events.event_actions import EventActions

    from swarmstate.integrations.google_adk import SwarmStateSessionService

    async def write(store: Any) -> int:
        service = SwarmStateSessionService(store)
        conflicts = 0
        for number in range(ROUNDS):
            delta = {f"{name}:{number}": True, f"user:{name}": number}
            event = Event(author="user", actions=EventActions(state_delta=delta))
            while True:
                session = await service.get_session(app_name="a", user_id="u", session_id="s")
                assert session is not None
                try:
                    await service.append_event(session, event)
                except StaleSessionError:
                    conflicts += 1
                    continue
                break
        return conflicts

    with open_store(url, **options) as store:
        barrier.wait()
        out.put(asyncio.run(write(store)))
