"""SwarmStateConversationStore: the conversations of Pydantic AI."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import random
from typing import Any

import pytest

pytest.importorskip("pydantic_ai.conversation_store", reason="pydantic-ai is not installed")

from pydantic_ai import Agent, BinaryContent
from pydantic_ai.conversation import Conversation
from pydantic_ai.conversation_store import (
    ConversationConflict,
    ConversationEntry,
    ConversationRecord,
    InMemoryConversationStore,
)
from pydantic_ai.exceptions import UserError
from pydantic_ai.messages import ModelRequest, ModelResponse, TextPart, ToolCallPart, UserPromptPart
from pydantic_ai.models.test import TestModel

from swarmstate import Store, codecs
from swarmstate.errors import ArgumentTypeError, ArgumentValueError, DecodeError
from swarmstate.integrations import pydantic_ai
from swarmstate.integrations.pydantic_ai import SwarmStateConversationStore


def asked(text: Any) -> ModelRequest:
    return ModelRequest(parts=[UserPromptPart(content=text)])


def answered(text: str) -> ModelResponse:
    return ModelResponse(parts=[TextPart(content=text)])


@pytest.fixture
def conversations(store: Any) -> SwarmStateConversationStore:
    return SwarmStateConversationStore(store)


async def saved(store: Any, name: str, *texts: str, **options: Any) -> Conversation:
    conversation = await store.load(name) or Conversation(conversation_id=name)
    conversation.messages.extend(asked(text) for text in texts)
    await store.save(conversation, **options)
    return conversation


def texts(conversation: Conversation | None) -> list[Any]:
    assert conversation is not None
    return [message.parts[0].content for message in conversation.messages]  # type: ignore[union-attr]


async def test_a_conversation_comes_back_as_it_was_saved(
    conversations: SwarmStateConversationStore,
) -> None:
    assert await conversations.load("c") is None
    messages = [
        asked(["look", BinaryContent(data=b"\xff\x00\x01", media_type="audio/wav")]),
        ModelResponse(parts=[ToolCallPart("f", {"x": [1, 2.5, None, "é"]}, "id")]),
        answered("done"),
    ]
    conversation = Conversation(messages=list(messages), conversation_id="c")
    conversation.usage.requests = 7
    entries = await conversations.save(conversation, scope="me")
    loaded = await conversations.load("c")
    assert loaded is not None
    assert loaded.messages == messages
    assert loaded.usage == conversation.usage
    assert loaded.revision == conversation.revision
    again = await conversations.load_entries("c")
    assert again == entries
    for entry in entries:
        assert await conversations.read_entry(str(entry.id)) == entry
    assert await conversations.read_history(str(entries[1].id)) == entries[:2]
    assert await conversations.read_history(str(entries[2].id), limit=1) == entries[2:]
    assert await conversations.read_history(None) == []


async def test_a_save_stores_only_what_is_new(
    conversations: SwarmStateConversationStore,
) -> None:
    await saved(conversations, "c", "1", "2")
    conversation = await conversations.load("c")
    assert conversation is not None
    conversation.messages.append(asked("3"))
    assert len(await conversations.save(conversation)) == 1
    assert await conversations.save(conversation) == []
    assert texts(await conversations.load("c")) == ["1", "2", "3"]
    assert texts(await conversations.load("c", limit=2)) == ["2", "3"]
    assert texts(await conversations.load("c", limit=0)) == []


async def test_who_saves_what_was_changed_meanwhile_is_told_and_leaves_nothing(
    conversations: SwarmStateConversationStore, seen: Any
) -> None:
    await saved(conversations, "c", "1")
    one, other = await conversations.load("c"), await conversations.load("c")
    assert one is not None
    assert other is not None
    one.messages.append(asked("one"))
    other.messages.append(asked("other"))
    await conversations.save(one)
    before = seen.snapshot().state
    with pytest.raises(ConversationConflict):
        await conversations.save(other)
    with pytest.raises(ConversationConflict):
        await conversations.save(Conversation(conversation_id="c", messages=[asked("x")]))
    assert seen.snapshot().state == before
    assert texts(await conversations.load("c")) == ["1", "one"]


async def test_of_eight_writers_one_wins(store: Any) -> None:
    await saved(SwarmStateConversationStore(store), "c", "0")

    async def write(number: int) -> bool:
        mine = SwarmStateConversationStore(store)
        conversation = await mine.load("c")
        assert conversation is not None
        start.release()
        async with gate:
            pass
        conversation.messages.append(asked(str(number)))
        try:
            await mine.save(conversation)
        except ConversationConflict:
            return False
        return True

    gate, start = asyncio.Lock(), asyncio.Semaphore(0)
    await gate.acquire()
    writers = [asyncio.ensure_future(write(number)) for number in range(8)]
    for _ in writers:
        await start.acquire()
    gate.release()
    won = await asyncio.gather(*writers)
    assert won.count(True) == 1
    winner = texts(await SwarmStateConversationStore(store).load("c"))
    assert winner == ["0", str(won.index(True))]


async def test_writers_that_try_again_lose_nothing(store: Any) -> None:
    async def write(number: int) -> None:
        mine = SwarmStateConversationStore(store)
        while True:
            try:
                await saved(mine, "c", str(number))
            except ConversationConflict:
                continue
            return

    await asyncio.gather(*(write(number) for number in range(6)))
    found = texts(await SwarmStateConversationStore(store).load("c"))
    assert sorted(found) == [str(number) for number in range(6)]


async def test_a_loaded_conversation_can_travel_as_json(
    conversations: SwarmStateConversationStore,
) -> None:
    from pydantic_ai.conversation import ConversationTypeAdapter

    await saved(conversations, "c", "1", "2")
    text = ConversationTypeAdapter.dump_json(await conversations.load("c"))  # type: ignore[arg-type]
    back = ConversationTypeAdapter.validate_json(text)
    back.messages.append(asked("3"))
    await conversations.save(copy.deepcopy(back))
    assert texts(await conversations.load("c")) == ["1", "2", "3"]


async def test_a_fork_shares_entries_and_outlives_its_source(
    conversations: SwarmStateConversationStore,
) -> None:
    source = await saved(conversations, "c", "1", "2", "3")
    fork = await conversations.fork("c", at=2, new_conversation_id="f")
    fork.messages.append(asked("4"))
    await conversations.save(fork)
    assert texts(await conversations.load("f")) == ["1", "2", "4"]
    entries, forked = [
        [entry.id for entry in await conversations.load_entries(name) or ()] for name in "cf"
    ]
    assert entries[:2] == forked[:2]
    await conversations.delete("c")
    assert await conversations.load("c") is None
    assert texts(await conversations.load("f")) == ["1", "2", "4"]
    with pytest.raises(LookupError):
        await conversations.read_entry(str(entries[2]))
    with pytest.raises(ConversationConflict):
        await conversations.save(source)


async def test_a_deleted_conversation_leaves_nothing(
    conversations: SwarmStateConversationStore, seen: Any
) -> None:
    await saved(conversations, "kept", "1")
    before = seen.snapshot().state
    await saved(conversations, "c", "secret")
    await conversations.fork("c", new_conversation_id="f")
    await conversations.delete("c")
    await conversations.delete("f")
    await conversations.delete("f")
    assert seen.snapshot().state == before


async def test_what_is_forked_while_it_is_deleted_keeps_its_history(
    store: Any, conversations: SwarmStateConversationStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await saved(conversations, "c", "1", "2")
    carry_out = conversations._call.__call__
    forked: list[Any] = []

    class Interrupted(pydantic_ai.Calls):
        async def __call__(self, method: str, *args: Any, **options: Any) -> Any:
            done = await carry_out(method, *args, **options)
            if method == "keys" and not forked:
                # The members of the family are read: now there is one more.
                forked.append(
                    await SwarmStateConversationStore(store).fork("c", new_conversation_id="f")
                )
            return done

    deleting = SwarmStateConversationStore(store)
    monkeypatch.setattr(deleting, "_call", Interrupted(store, "commit"))
    await deleting.delete("c")
    assert forked
    assert await conversations.load("c") is None
    assert texts(await conversations.load("f")) == ["1", "2"]


async def test_a_branch_leaves_the_old_history_stored(
    conversations: SwarmStateConversationStore,
) -> None:
    conversation = await saved(conversations, "c", "1", "2", "3")
    assert conversation.revision is not None
    branched = await conversations.branch("c", at=1, expected_revision=conversation.revision)
    branched.messages.append(asked("2b"))
    await conversations.save(branched)
    assert texts(await conversations.load("c")) == ["1", "2b"]
    record = await conversations.read_record("c")
    assert record is not None
    (tip,) = record.branches
    back = await conversations.branch("c", from_entry=tip, expected_revision=record.revision)
    assert texts(back) == ["1", "2", "3"]


async def test_a_history_rewritten_from_its_first_message_stays_in_one_family(
    conversations: SwarmStateConversationStore, seen: Any
) -> None:
    await saved(conversations, "c", "1", "2")
    conversation = await conversations.load("c")
    assert conversation is not None
    conversation.messages[:] = [asked("new")]
    await conversations.save(conversation)
    record = await conversations.read_record("c")
    assert record is not None
    assert [
        entry.message.parts[0].content  # type: ignore[union-attr]
        for entry in await conversations.read_history(record.branches[0])
    ] == ["1", "2"]
    await conversations.delete("c")
    assert seen.namespaces() == []


async def test_records_are_listed_by_scope_the_newest_first(
    conversations: SwarmStateConversationStore,
) -> None:
    for name, scope in (("a", "x"), ("b", "y"), ("c", "x")):
        await saved(conversations, name, "1", scope=scope)
    await saved(conversations, "a", "2")
    listed = await conversations.list_conversations()
    assert [record.conversation_id for record in listed] == ["a", "c", "b"]
    listed = await conversations.list_conversations(scope="x", limit=1)
    assert [record.conversation_id for record in listed] == ["a"]
    assert await conversations.load("a", scope="y") is None
    await conversations.delete("a", scope="y")
    assert await conversations.load("a", scope="x") is not None
    with pytest.raises(UserError):
        await conversations.list_conversations(limit=-1)


async def test_a_record_that_points_at_nothing_is_refused(
    conversations: SwarmStateConversationStore,
) -> None:
    record = ConversationRecord(conversation_id="c", head_id="nowhere")
    with pytest.raises(ConversationConflict):
        await conversations.write_record(record, expected_revision=None)
    entry = ConversationEntry(parent_id=None, message=asked("1"))
    record = dataclasses.replace(record, head_id=entry.id)
    await conversations.write_record(record, new_entries=[entry], expected_revision=None)
    assert await conversations.read_record("c") == record
    for head in ("nowhere", None):
        other = dataclasses.replace(record, head_id=head, revision="r")
        with pytest.raises(ConversationConflict):
            await conversations.write_record(other, expected_revision="unknown")
    with pytest.raises(ConversationConflict):
        await conversations.write_record(
            dataclasses.replace(record, head_id="nowhere"), expected_revision=record.revision
        )
    with pytest.raises(ConversationConflict):
        await conversations.delete_record("c", expected_revision="unknown")
    with pytest.raises(ConversationConflict):
        await conversations.delete_record("none", expected_revision="unknown")
    with pytest.raises(LookupError):
        await conversations.read_entry("nowhere")
    with pytest.raises(LookupError):
        await conversations.read_history("nowhere")


async def outcome(on: Any, act: str, name: str, other: str, at: int, step: int) -> Any:
    """Do something with a store; return what came of it, or how it failed."""
    try:
        if act == "save":
            return texts(await saved(on, name, str(step)))
        if act == "fork":
            return texts(await on.fork(name, at=at, new_conversation_id=other))
        if act == "delete":
            return await on.delete(name)
        if act == "list":
            found = await on.list_conversations()
            return [(one.conversation_id, one.forked_from, len(one.branches)) for one in found]
        conversation = await on.load(name)
        if conversation is None:
            return None
        revision = conversation.revision
        if act == "branch":
            return texts(await on.branch(name, at=at, expected_revision=revision))
        conversation.messages[at:] = [asked(f"new {step}")]
        await on.save(conversation)
        return texts(await on.load(name))
    except UserError as error:
        return type(error)


async def lines(on: Any, name: str) -> Any:
    """Return the history of a conversation, and those of its branches."""
    record = await on.read_record(name)
    if record is None:
        return None
    found = [await on.read_history(tip) for tip in (record.head_id, *record.branches)]
    return [[entry.message.parts[0].content for entry in line] for line in found]


async def test_it_does_what_the_librarys_own_store_does(store: Any) -> None:
    chance = random.Random(11)
    mine, theirs = SwarmStateConversationStore(store), InMemoryConversationStore()
    names = ["a", "b", "c", "d"]
    for step in range(80):
        act = chance.choice(["save", "save", "fork", "branch", "rewrite", "delete", "list"])
        arguments = (act, chance.choice(names), chance.choice(names), chance.randrange(4), step)
        assert await outcome(mine, *arguments) == await outcome(theirs, *arguments)
        for name in names:
            assert await lines(mine, name) == await lines(theirs, name)
    for name in names:
        await mine.delete(name)


async def test_an_agent_goes_on_with_its_conversation(
    conversations: SwarmStateConversationStore,
) -> None:
    agent = Agent(TestModel(custom_output_text="hi"))
    for turn in (1, 2):
        conversation = await conversations.load("c") or Conversation(conversation_id="c")
        result = await agent.run("hello", conversation=conversation)
        await conversations.save(result)
        loaded = await conversations.load("c")
        assert loaded is not None
        assert len(loaded.messages) == 2 * turn
        assert loaded.usage.requests == turn


async def test_messages_are_maps_that_any_program_can_read(
    conversations: SwarmStateConversationStore, seen: Any
) -> None:
    await saved(conversations, "c", "hello")
    (name,) = (name for name in seen.namespaces() if ":entries:" in name)
    ((_, data),) = seen.snapshot().state[name].items()
    entry = codecs.loads(data)
    assert entry["message"]["parts"][0]["content"] == "hello"
    assert entry["parent_id"] is None


async def test_what_another_program_left_there_is_an_error_of_ours(
    conversations: SwarmStateConversationStore, seen: Any
) -> None:
    for value in (5, {"conversation_id": "c"}, {"x": b"y"}):
        seen.set("{pydantic-ai}:records", "c", value)
        with pytest.raises(DecodeError):
            await conversations.load("c")


def test_what_is_no_store_or_no_namespace_is_refused() -> None:
    with pytest.raises(ArgumentTypeError, match="store"):
        SwarmStateConversationStore(None)
    for namespace in ("", "{a}", "\0a"):
        with pytest.raises(ArgumentValueError, match="namespace"):
            SwarmStateConversationStore(Store(), namespace=namespace)
