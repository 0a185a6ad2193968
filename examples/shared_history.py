"""Write a history with one framework, and go on with it in another's program, through the store.

The first half is a program of the OpenAI Agents SDK: a scripted model answers, and the session is
kept by ``SwarmStateSession``. The second half is a program of Pydantic AI that shares nothing with
the first but the store. It reads the items, which are plain maps, and makes messages of its own of
them.

What is carried: who said which text, in their order. What is not: tool calls and their results,
images, reasoning, ids, times and usage. Each framework has its own of these, and nothing in
swarmstate turns one's into another's: the few lines of ``carried`` decide, so look at them before
you copy them.

Runs without a network: both models are scripts. Needs openai-agents and pydantic-ai-slim.
"""

from __future__ import annotations

import asyncio
from typing import Any

from agents import Agent as OpenAIAgent
from agents import Runner
from agents.items import ModelResponse
from agents.models.interface import Model
from agents.run import RunConfig
from agents.usage import Usage
from openai.types.responses import ResponseOutputMessage, ResponseOutputText
from pydantic_ai import Agent as PydanticAgent
from pydantic_ai.conversation import Conversation
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    TextPart,
    UserPromptPart,
)
from pydantic_ai.messages import (
    ModelResponse as PydanticResponse,
)
from pydantic_ai.models.test import TestModel

from swarmstate import Store
from swarmstate.integrations.openai_agents import SwarmStateSession
from swarmstate.integrations.pydantic_ai import SwarmStateConversationStore


class Scripted(Model):
    """Says what it is told to."""

    def __init__(self, *lines: str) -> None:
        self._lines = iter(lines)

    async def get_response(self, *args: Any, **options: Any) -> ModelResponse:
        """Return the next line."""
        text = ResponseOutputText(text=next(self._lines), type="output_text", annotations=[])
        message = ResponseOutputMessage(
            id="m", type="message", role="assistant", status="completed", content=[text]
        )
        return ModelResponse(output=[message], usage=Usage(), response_id=None)

    def stream_response(self, *args: Any, **options: Any) -> Any:
        """Refuse: this example does not stream."""
        raise NotImplementedError


async def first_program(store: Store) -> None:
    """Talk to an agent of the OpenAI Agents SDK."""
    agent = OpenAIAgent(name="shop", model=Scripted("Which one?", "The green one is 20 EUR."))
    session = SwarmStateSession("customer-1", store)
    for prompt in ("I want a teapot.", "The green one."):
        await Runner.run(
            agent, prompt, session=session, run_config=RunConfig(tracing_disabled=True)
        )


def carried(item: dict[str, Any]) -> ModelMessage | None:
    """Return an item of the OpenAI Agents SDK as a message of Pydantic AI, if it is text."""
    content = item.get("content")
    if isinstance(content, list):
        content = "".join(part.get("text", "") for part in content)
    if not content:
        return None
    if item.get("role") == "assistant":
        return PydanticResponse(parts=[TextPart(content=content)])
    return ModelRequest(parts=[UserPromptPart(content=content)])


async def second_program(store: Store) -> list[ModelMessage]:
    """Go on with that history with an agent of Pydantic AI; return the whole conversation."""
    items = [item for _, item in store.tail("openai-agents:customer-1")]
    messages = [message for message in map(carried, items) if message is not None]
    print(f"read {len(items)} items, carried {len(messages)} as text")
    conversations = SwarmStateConversationStore(store)
    conversation = Conversation(conversation_id="customer-1", messages=messages)
    agent = PydanticAgent(TestModel(custom_output_text="It is in stock."))
    await conversations.save(await agent.run("Do you have it?", conversation=conversation))
    saved = await conversations.load("customer-1")
    return [] if saved is None else saved.messages


def main() -> None:
    """Run one program after the other."""
    # Programs in two processes would share a RedisStore here.
    store = Store()
    asyncio.run(first_program(store))
    for message in asyncio.run(second_program(store)):
        for part in message.parts:
            if isinstance(part, TextPart | UserPromptPart):
                print(f"{part.part_kind}: {part.content}")


if __name__ == "__main__":
    main()
