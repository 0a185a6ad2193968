"""How often the sessions of other frameworks go to the server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from proxies import Proxy

from swarmstate.backends.redis import AsyncRedisStore


@pytest.fixture
def counted(proxy: Proxy, request: pytest.FixtureRequest) -> Iterator[Any]:
    store = AsyncRedisStore(proxy.url, prefix=f"trips{id(request)}")
    yield store
    store.driver.close()


async def trips(proxy: Proxy, awaitable: Any) -> int:
    with proxy.counted():
        await awaitable
    return proxy.trips


async def test_an_openai_session_takes_one_trip_a_call(proxy: Proxy, counted: Any) -> None:
    pytest.importorskip("agents", reason="openai-agents is not installed")
    from swarmstate.integrations.openai_agents import SwarmStateSession

    session = SwarmStateSession("s", counted)
    items: list[Any] = [{"role": "user", "content": str(number)} for number in range(50)]
    for _ in range(2):
        await session.add_items(items)
        await session.get_items(5)
        await session.pop_item()
    assert await trips(proxy, session.add_items(items)) == 1
    assert await trips(proxy, session.get_items()) == 1
    assert await trips(proxy, session.get_items(5)) == 1
    assert await trips(proxy, session.pop_item()) == 1
    assert await trips(proxy, session.clear_session()) == 1


async def test_a_conversation_is_loaded_in_two_trips_and_saved_in_two(
    proxy: Proxy, counted: Any
) -> None:
    pytest.importorskip("pydantic_ai.conversation_store", reason="pydantic-ai is not installed")
    from pydantic_ai.conversation import Conversation
    from pydantic_ai.messages import ModelRequest, UserPromptPart

    from swarmstate.integrations.pydantic_ai import SwarmStateConversationStore

    store = SwarmStateConversationStore(counted)
    messages: list[Any] = [
        ModelRequest(parts=[UserPromptPart(content=str(number))]) for number in range(50)
    ]
    await store.save(Conversation(conversation_id="c", messages=messages))
    record = await store.read_record("c")
    assert record is not None
    assert await trips(proxy, store.read_history(record.head_id)) == 1
    # The record, then its history.
    assert await trips(proxy, store.load("c")) == 2
    loaded = await store.load("c")
    assert loaded is not None
    assert len(loaded.messages) == 50
    loaded.messages.append(messages[0])
    # The library reads the record before it writes.
    assert await trips(proxy, store.save(loaded)) == 2


async def test_an_adk_event_takes_two_trips(proxy: Proxy, counted: Any) -> None:
    pytest.importorskip("google.adk", reason="google-adk is not installed")
    from google.adk.events.event import Event
    from google.adk.events.event_actions import EventActions

    from swarmstate.integrations.google_adk import SwarmStateSessionService

    service = SwarmStateSessionService(counted)
    who: Any = {"app_name": "a", "user_id": "u"}
    session = await service.create_session(**who, session_id="s", state={"app:x": 1})

    def event(**state: int) -> Event:
        return Event(author="user", actions=EventActions(state_delta=dict(state)))

    await service.append_event(session, event(k=1))
    assert await trips(proxy, service.append_event(session, event(k=2))) == 2
    shared = Event(author="user", actions=EventActions(state_delta={"app:x": 2}))
    assert await trips(proxy, service.append_event(session, shared)) == 4
    # Three reads that go together: how many requests that makes is the driver's to decide.
    assert await trips(proxy, service.get_session(**who, session_id="s")) <= 3
    assert await trips(proxy, service.get_user_state(**who)) == 1


async def test_a_storage_takes_one_trip_a_call(proxy: Proxy, counted: Any) -> None:
    pytest.importorskip("strands", reason="strands-agents is not installed")
    from swarmstate.integrations.strands import SwarmStateStorage

    storage = SwarmStateStorage(counted)
    await storage.write("k", b"1")
    assert await trips(proxy, storage.write("k", b"2")) == 1
    assert await trips(proxy, storage.read("k")) == 1
    assert await trips(proxy, storage.list()) == 1
    assert await trips(proxy, storage.delete("k")) == 1
