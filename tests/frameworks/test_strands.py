"""SwarmStateStorage: the storage of Strands Agents."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

pytest.importorskip("strands", reason="strands-agents is not installed")

from strands import Agent
from strands.models.model import Model
from strands.session.snapshot_session_manager import SnapshotSessionManager
from strands.storage import InMemoryStorage, Storage
from strands.types.exceptions import StorageError

from swarmstate import Store
from swarmstate.errors import ArgumentTypeError, StoreUnavailable
from swarmstate.integrations.strands import SwarmStateStorage


class Scripted(Model):
    """A model that tells how many messages it was given."""

    def update_config(self, **config: Any) -> None: ...

    def get_config(self) -> Any:
        return {}

    def structured_output(self, *args: Any, **options: Any) -> Any:
        raise NotImplementedError

    async def stream(self, messages: Any, *args: Any, **options: Any) -> AsyncIterator[Any]:
        yield {"messageStart": {"role": "assistant"}}
        yield {"contentBlockStart": {"start": {}}}
        yield {"contentBlockDelta": {"delta": {"text": f"{len(messages)} messages"}}}
        yield {"contentBlockStop": {}}
        yield {"messageStop": {"stopReason": "end_turn"}}


@pytest.fixture
def storage(store: Any) -> SwarmStateStorage:
    return SwarmStateStorage(store)


async def test_it_is_a_storage_of_the_library(storage: SwarmStateStorage) -> None:
    assert isinstance(storage, Storage)
    assert await storage.read("none") is None
    assert await storage.list("") == await storage.list() == []
    await storage.delete("none")


@pytest.mark.parametrize("data", [b"", b"x", bytes(range(256)), b"\0" * 10_000], ids=len)
async def test_bytes_come_back_as_they_were(storage: SwarmStateStorage, data: bytes) -> None:
    await storage.write("a/b.json", data)
    assert await storage.read("a/b.json") == data
    await storage.write("a/b.json", b"new")
    assert await storage.read("a/b.json") == b"new"
    await storage.delete("a/b.json")
    assert await storage.read("a/b.json") is None


async def test_what_is_like_bytes_is_stored_as_bytes(storage: SwarmStateStorage) -> None:
    data = bytearray(b"abc")
    await storage.write("k", data)
    data[0] = 0
    await storage.write("m", memoryview(b"abc"))  # type: ignore[arg-type]
    for key in "km":
        found = await storage.read(key)
        assert type(found) is bytes
        assert found == b"abc"


async def test_keys_are_listed_in_order_by_prefix(storage: SwarmStateStorage) -> None:
    for key in ("b", "a/2", "a/10", "a", "ab/1", "é/1"):
        await storage.write(key, b"")
    assert await storage.list("") == ["a", "a/10", "a/2", "ab/1", "b", "é/1"]
    assert await storage.list("a/") == ["a/10", "a/2"]
    assert await storage.list("/a") == ["a", "a/10", "a/2", "ab/1"]
    assert await storage.list("none") == []


async def test_slashes_are_treated_as_the_library_does(storage: SwarmStateStorage) -> None:
    await storage.write("//a///b/", b"1")
    assert await storage.read("a/b") == b"1"
    assert await storage.list("a//") == ["a/b"]


@pytest.mark.parametrize("key", ["", "/", "a/../b", "..", "a\\b"])
async def test_keys_that_are_refused(storage: SwarmStateStorage, key: str) -> None:
    for call in (storage.write(key, b""), storage.read(key), storage.delete(key)):
        with pytest.raises(StorageError):
            await call
    if key not in ("", "/"):
        with pytest.raises(StorageError):
            await storage.list(key)
        with pytest.raises(StorageError):
            storage.namespace(key)


async def test_a_part_of_the_storage_sees_only_itself(storage: SwarmStateStorage) -> None:
    one, other = storage.namespace("one/"), storage.namespace("/one/two")
    await one.write("k", b"1")
    await one.namespace("two").write("k", b"2")
    await storage.write("onek", b"3")
    assert await storage.list() == ["one/k", "one/two/k", "onek"]
    assert await one.list() == ["k", "two/k"]
    assert await other.list() == ["k"]
    assert await other.read("k") == b"2"
    assert await storage.namespace("").list() == await storage.list()
    await other.delete("k")
    assert await one.list() == ["k"]


async def test_a_part_is_found_by_its_own_words(storage: SwarmStateStorage) -> None:
    await storage.namespace("red").write("one", b"the red house")
    await storage.namespace("blue").write("two", b"a blue house by the sea")
    assert {found.key for found in await storage.search("house")} == {"red/one", "blue/two"}
    (found,) = await storage.namespace("blue").search("sea")
    assert (found.key, found.data) == ("two", b"a blue house by the sea")


class Words:
    """A search strategy that keeps an index of its own."""

    def __init__(self) -> None:
        self.told: list[tuple[str, bytes]] = []

    async def index(self, storage: Any, key: str, data: bytes) -> None:
        if data == b"refused":
            raise ValueError("not a text")
        self.told.append((key, data))

    async def search(self, storage: Any, query: str) -> list[Any]:
        return [(storage._prefix, query)]


async def test_a_search_strategy_is_told_of_writes_and_answers_searches(store: Any) -> None:
    words = Words()
    storage = SwarmStateStorage(store, search_strategy=words)
    await storage.write("/one", b"1")
    part = storage.namespace("red")
    await part.write("a//two", b"2")
    assert words.told == [("one", b"1"), ("a/two", b"2")]
    assert await storage.search("x") == [("", "x")]
    assert await part.search("y") == [("red/", "y")]
    with pytest.raises(StorageError, match=r"wrote 'three', but could not index it: not a text"):
        await part.write("three", b"refused")
    assert await part.read("three") == b"refused"


async def test_it_does_what_the_librarys_own_storage_does(store: Any) -> None:
    chance = random.Random(3)
    mine: Any = SwarmStateStorage(store).namespace("x")
    theirs: Any = InMemoryStorage().namespace("x")
    names = ["a", "a/b", "/a//b", "b/", "", "..", "c\\d", "é", "a/b/c"]
    for step in range(150):
        key = chance.choice(names)
        call = chance.choice(
            [
                lambda on, key=key, step=step: on.write(key, str(step).encode()),
                lambda on, key=key: on.read(key),
                lambda on, key=key: on.delete(key),
                lambda on, key=key: on.list(key),
                lambda on, key=key: on.namespace(key).list(),
            ]
        )

        async def outcome(on: Any, call: Any = call) -> Any:
            try:
                return await call(on)
            except StorageError:
                return StorageError

        assert await outcome(mine) == await outcome(theirs)


async def test_many_tasks_write_at_once(storage: SwarmStateStorage) -> None:
    await asyncio.gather(*(storage.write(f"k/{n:02}", bytes([n])) for n in range(40)))
    keys = await storage.list("k/")
    assert [await storage.read(key) for key in keys] == [bytes([n]) for n in range(40)]


async def test_each_blob_is_an_entry_that_any_program_can_read(
    storage: SwarmStateStorage, seen: Any
) -> None:
    await storage.namespace("s").write("k", b"data")
    assert seen.items("strands") == [("s/k", b"data")]


def agent(storage: SwarmStateStorage, session: str) -> Agent:
    manager = SnapshotSessionManager(session_id=session, storage=storage)
    return Agent(model=Scripted(), agent_id="a", session_manager=manager, callback_handler=None)


async def test_an_agent_goes_on_where_its_session_ended(storage: SwarmStateStorage) -> None:
    first = await agent(storage, "s").invoke_async("hello")
    assert str(first).strip() == "1 messages"
    again = await agent(storage, "s").invoke_async("again")
    assert str(again).strip() == "3 messages"
    other = await agent(storage, "o").invoke_async("hello")
    assert str(other).strip() == "1 messages"
    assert all(key.startswith("session/") for key in await storage.list())


async def test_what_the_store_raises_is_the_cause(
    store: Any, storage: SwarmStateStorage, kind: str
) -> None:
    closed = store._store if kind == "foreign" else store
    done = closed.close()
    if done is not None:
        await done
    for call in (storage.write("k", b""), storage.read("k"), storage.list()):
        with pytest.raises(StorageError, match="closed") as failure:
            await call
        assert isinstance(failure.value.__cause__, StoreUnavailable)


def test_what_is_no_store_is_refused() -> None:
    with pytest.raises(ArgumentTypeError, match="store"):
        SwarmStateStorage({})
    assert SwarmStateStorage(Store(), namespace="mine") is not None
