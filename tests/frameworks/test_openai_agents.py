"""SwarmStateSession: the sessions of the OpenAI Agents SDK."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

pytest.importorskip("agents", reason="openai-agents is not installed")

from agents import Agent, Runner, SessionSettings, SQLiteSession, set_tracing_disabled
from agents.items import ModelResponse
from agents.memory import Session
from agents.models.interface import Model
from agents.run import RunConfig
from agents.usage import Usage
from openai.types.responses import ResponseOutputMessage, ResponseOutputText

from swarmstate import Store
from swarmstate.errors import ArgumentTypeError, ArgumentValueError, EncodeError, StoreUnavailable
from swarmstate.integrations.openai_agents import SwarmStateSession

set_tracing_disabled(True)


def said(text: str, role: str = "user") -> dict[str, Any]:
    return {"role": role, "content": text}


class Parrot(Model):
    """A model that answers with how many items it was given, and remembers them."""

    def __init__(self) -> None:
        self.given: list[Any] = []

    async def get_response(self, *args: Any, input: Any, **options: Any) -> Any:  # type: ignore[override]
        self.given.append(input)
        text = ResponseOutputText(text=f"{len(input)} items", type="output_text", annotations=[])
        message = ResponseOutputMessage(
            id="1", type="message", role="assistant", content=[text], status="completed"
        )
        return ModelResponse(output=[message], usage=Usage(), response_id="r")

    def stream_response(self, *args: Any, **options: Any) -> Any:
        raise NotImplementedError


@pytest.fixture
def session(store: Any) -> SwarmStateSession:
    return SwarmStateSession("s", store)


async def test_it_is_a_session_of_the_sdk(session: SwarmStateSession) -> None:
    assert isinstance(session, Session)
    assert session.session_id == "s"
    assert await session.get_items() == []
    assert await session.pop_item() is None


async def test_items_come_back_in_order_as_they_were(session: SwarmStateSession) -> None:
    items: list[Any] = [
        said("hello"),
        {"role": "assistant", "content": [{"type": "output_text", "text": "ça va? 🐝", "n": None}]},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": '{"a": 1.5}'},
    ]
    await session.add_items(items)
    await session.add_items([])
    await session.add_items([said("more")])
    assert await session.get_items() == [*items, said("more")]


async def test_a_limit_gives_the_last_items(store: Any) -> None:
    session = SwarmStateSession("s", store, session_settings=SessionSettings(limit=2))
    await session.add_items([said(str(number)) for number in range(5)])
    assert [item["content"] for item in await session.get_items()] == ["3", "4"]
    assert [item["content"] for item in await session.get_items(3)] == ["2", "3", "4"]
    assert len(await session.get_items(100)) == 5
    assert await session.get_items(0) == await session.get_items(-1) == []
    assert len(await SwarmStateSession("s", store).get_items()) == 5
    as_dict = SwarmStateSession("s", store, session_settings={"limit": 1})
    assert await as_dict.get_items() == [said("4")]


async def test_popping_takes_the_last_item_until_none_is_left(session: SwarmStateSession) -> None:
    await session.add_items([said("1"), said("2")])
    assert await session.pop_item() == said("2")
    await session.add_items([said("3")])
    assert await session.pop_item() == said("3")
    assert await session.pop_item() == said("1")
    assert await session.pop_item() is None


async def test_clearing_a_session_leaves_the_others(store: Any) -> None:
    names = ["s", "s:1", "", "{s}", "é 🐝", "s" * 300]
    sessions = {name: SwarmStateSession(name, store) for name in names}
    for name, session in sessions.items():
        await session.add_items([said(name)])
    await sessions["s"].clear_session()
    await sessions["s"].clear_session()
    assert await sessions["s"].get_items() == []
    for name in names[1:]:
        assert await SwarmStateSession(name, store).get_items() == [said(name)]


async def test_what_is_changed_afterwards_stays_outside(session: SwarmStateSession) -> None:
    item = said("before")
    await session.add_items([item])
    item["content"] = "after"
    (got,) = await session.get_items()
    got["content"] = "changed"
    assert await session.get_items() == [said("before")]


async def test_many_tasks_add_without_loss_and_each_in_one_piece(store: Any) -> None:
    async def add(number: int) -> None:
        for step in range(4):
            pair = [said(f"{number}.{step}.{half}") for half in "ab"]
            await SwarmStateSession("s", store).add_items(pair)

    await asyncio.gather(*(add(number) for number in range(8)))
    texts = [item["content"] for item in await SwarmStateSession("s", store).get_items()]
    assert len(set(texts)) == len(texts) == 64
    for first, second in zip(texts[::2], texts[1::2], strict=True):
        assert (first[:-1], first[-1], second[-1]) == (second[:-1], "a", "b")


async def test_it_does_what_the_sdks_own_session_does(store: Any) -> None:
    chance = random.Random(5)
    reference = SQLiteSession("s", ":memory:")
    session = SwarmStateSession("s", store)
    for step in range(120):
        act = chance.choice(["add", "add", "pop", "get", "get", "clear"])
        if act == "add":
            items = [said(f"{step}.{number}") for number in range(chance.randrange(4))]
            await reference.add_items(items)  # type: ignore[arg-type]
            await session.add_items(items)
        elif act == "pop":
            assert await session.pop_item() == await reference.pop_item()
        elif act == "get":
            limit = chance.choice([None, 0, 1, 3, 50])
            assert await session.get_items(limit) == await reference.get_items(limit)
        elif chance.random() < 0.2:
            await reference.clear_session()
            await session.clear_session()
    reference.close()


async def test_an_agent_goes_on_with_what_was_said(store: Any) -> None:
    model = Parrot()
    agent = Agent(name="parrot", model=model)
    config = RunConfig(tracing_disabled=True)
    first = await Runner.run(
        agent, "hello", session=SwarmStateSession("s", store), run_config=config
    )
    assert first.final_output == "1 items"
    # Another object, as in another process.
    again = await Runner.run(
        agent, "again", session=SwarmStateSession("s", store), run_config=config
    )
    assert again.final_output == "3 items"
    assert [item.get("role") for item in model.given[1]] == ["user", "assistant", "user"]
    assert len(await SwarmStateSession("s", store).get_items()) == 4
    other = await Runner.run(agent, "x", session=SwarmStateSession("o", store), run_config=config)
    assert other.final_output == "1 items"


async def test_each_item_is_an_entry_that_any_program_can_read(
    session: SwarmStateSession, seen: Any
) -> None:
    await session.add_items([said("1"), said("2")])
    assert seen.namespaces() == ["openai-agents:s"]
    assert [value for _, value in sorted(seen.items("openai-agents:s"))] == [said("1"), said("2")]


async def test_an_item_that_cannot_be_stored_is_refused_and_none_is_added(
    session: SwarmStateSession,
) -> None:
    with pytest.raises(EncodeError):
        await session.add_items([said("1"), {"role": "user", "content": object()}])
    assert await session.get_items() == []


async def test_a_closed_store_is_told(store: Any, session: SwarmStateSession, kind: str) -> None:
    closed = store._store if kind == "foreign" else store
    done = closed.close()
    if done is not None:
        await done
    with pytest.raises(StoreUnavailable):
        await session.add_items([said("1")])


def test_what_is_no_session_or_no_store_is_refused() -> None:
    with pytest.raises(ArgumentTypeError, match="session_id"):
        SwarmStateSession(5, Store())  # type: ignore[arg-type]
    with pytest.raises(ArgumentTypeError, match="store"):
        SwarmStateSession("s", {})

    class Less:
        def set_many(self, items: Any) -> None: ...

    with pytest.raises(ArgumentTypeError, match="append, tail, pop"):
        SwarmStateSession("s", Less())
    with pytest.raises(ArgumentValueError, match="ttl"):
        SwarmStateSession("s", Store(), ttl=-1)
    with pytest.raises(ArgumentTypeError, match="ttl"):
        SwarmStateSession("s", Store(), ttl="1")  # type: ignore[arg-type]


async def test_a_session_expires_after_its_ttl(store: Any, seen: Any) -> None:
    from servers import wait_until

    if not callable(getattr(seen, "expire", None)):
        with pytest.raises(ArgumentValueError, match="expire"):
            SwarmStateSession("s", store, ttl=0.2)
        return
    session = SwarmStateSession("s", store, ttl=0.2)
    await SwarmStateSession("stays", store).add_items([said("1")])
    await session.add_items([said("1")])
    wait_until(lambda: "openai-agents:s" not in seen)
    assert await session.get_items() == []
    assert await SwarmStateSession("stays", store).get_items() == [said("1")]
