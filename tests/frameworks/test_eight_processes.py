"""Eight processes that write to one session lose nothing, and none overwrites another."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import session_writers
from preloaded import context

from swarmstate.backends.opening import open_store

PROCESSES = 8
EVERY = {
    f"{name}:{number}" for name in range(PROCESSES) for number in range(session_writers.ROUNDS)
}

Where = tuple[str, dict[str, Any]]


@pytest.fixture(params=["file", "server", "no scripts", "cluster"])
def where(request: pytest.FixtureRequest) -> Where:
    """A place that eight processes can open: a URL and options."""
    if request.param == "file":
        return f"sqlite:///{request.getfixturevalue('tmp_path')}/sessions.db", {}
    url = {"server": "server_url", "no scripts": "no_scripts_url", "cluster": "cluster_url"}
    return request.getfixturevalue(url[request.param]), {"prefix": f"eight{id(request)}"}


def race(what: Callable[..., None], where: Where) -> list[int]:
    barrier, out = context.Barrier(PROCESSES), context.Queue()
    started = [
        context.Process(target=what, args=(*where, name, barrier, out)) for name in range(PROCESSES)
    ]
    for process in started:
        process.start()
    results = [out.get(timeout=120) for _ in started]
    for process in started:
        process.join()
    assert [process.exitcode for process in started] == [0] * PROCESSES
    return results


def test_pydantic_ai(where: Where) -> None:
    pytest.importorskip("pydantic_ai", reason="pydantic-ai is not installed")
    from pydantic_ai.conversation import Conversation
    from pydantic_ai.messages import ModelRequest, UserPromptPart

    from swarmstate.integrations.pydantic_ai import SwarmStateConversationStore

    with open_store(where[0], **where[1]) as store:
        conversations = SwarmStateConversationStore(store)
        first: Any = ModelRequest(parts=[UserPromptPart("first")])
        asyncio.run(conversations.save(Conversation(conversation_id="c", messages=[first])))
        race(session_writers.pydantic_ai, where)
        found: Any = asyncio.run(conversations.load("c"))
        texts = [message.parts[0].content for message in found.messages]
        assert len(texts) == 1 + len(EVERY)
        assert set(texts[1:]) == EVERY


def test_google_adk(where: Where) -> None:
    pytest.importorskip("google.adk", reason="google-adk is not installed")
    from swarmstate.integrations.google_adk import SwarmStateSessionService

    with open_store(where[0], **where[1]) as store:
        service = SwarmStateSessionService(store)
        session: Any = {"app_name": "a", "user_id": "u", "session_id": "s"}
        asyncio.run(service.create_session(**session))
        race(session_writers.google_adk, where)
        found: Any = asyncio.run(service.get_session(**session))
        assert len(found.events) == len({event.id for event in found.events}) == len(EVERY)
        last = session_writers.ROUNDS - 1
        shared = {f"user:{name}": last for name in range(PROCESSES)}
        assert found.state == {**dict.fromkeys(EVERY, True), **shared}
