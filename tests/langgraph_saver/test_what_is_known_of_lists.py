"""What a saver knows of lists is never relied on: after forks, in event loops, as lists slide."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from chats import Chat, message
from forking import child
from segments import held_and_needed, sizes
from threads import config

from swarmstate import Store
from swarmstate.integrations.langgraph import SwarmStateSaver
from swarmstate.protocols import StoreLike

MakeStore = Callable[..., StoreLike]


def values(found: Any) -> Any:
    return found.checkpoint["channel_values"]["messages"]


def test_after_a_fork_both_processes_go_on_and_each_list_is_whole(make_store: MakeStore) -> None:
    store = make_store()
    chat = Chat(SwarmStateSaver(store))
    common = chat.put(*map(message, range(60)))

    def goes_on() -> None:
        chat.put(message(1000))
        chat.put(message(1001), other=1)
        assert values(chat.read()) == chat.messages

    assert child(goes_on) == 0
    chat.put(message(60))
    chat.put(other=1)
    assert values(chat.read()) == chat.messages == list(map(message, range(61)))
    assert values(chat.read(common)) == chat.messages[:60]
    listed = [values(one) for one in chat.saver.list(config())]
    assert len(listed) == (3 if type(store) is Store else 5)
    assert {len(one) for one in listed} <= {60, 61, 62}
    held, needed = held_and_needed(store)
    assert needed <= held


def test_what_a_forked_process_has_removed_is_sent_again(make_store: MakeStore) -> None:
    store = make_store()
    chat = Chat(SwarmStateSaver(store))
    chat.put(*map(message, range(60)))
    assert child(lambda: chat.saver.delete_thread("thread")) == 0
    chat.put(message(60))
    chat.put(other=1)
    assert values(chat.read()) == chat.messages


def test_event_loops_that_share_a_saver_put_to_one_thread_and_to_their_own(
    make_store: MakeStore,
) -> None:
    saver = SwarmStateSaver(make_store(), list_cache_bytes=200_000)

    async def work(number: int) -> list[Any]:
        own, shared = Chat(saver, f"own{number}"), Chat(saver)
        for step in range(8):
            for chat in (own, shared):
                await chat.aput(*(message(1000 * number + 10 * step + n) for n in range(8)))
                assert values(await saver.aget_tuple(chat.where)) == chat.messages
        return own.messages

    with ThreadPoolExecutor(3) as pool:
        done = list(pool.map(lambda number: asyncio.run(work(number)), range(3)))
    for number, messages in enumerate(done):
        assert values(saver.get_tuple(config(f"own{number}"))) == messages


@pytest.mark.parametrize("limit", [None, 3])
def test_a_list_that_loses_its_head_as_it_grows_takes_what_storing_it_whole_does(
    make_store: MakeStore, limit: int | None
) -> None:
    store = make_store()
    chat = Chat(SwarmStateSaver(store, max_checkpoints_per_thread=limit))
    chat.messages = list(map(message, range(50)))
    whole, windows = [], []
    for number in range(50, 80):
        chat.messages = chat.messages[1:]
        chat.put(message(number))
        whole.append(len(chat.saver.serde.dumps_typed(chat.messages)[1]))
        windows.append(chat.messages)
    assert [values(one) for one in chat.saver.list(config())] == windows[: -(limit or 30) - 1 : -1]
    assert sum(sizes(store).values()) < 1.02 * sum(whole[-(limit or 30) :])
    held, needed = held_and_needed(store)
    assert held == needed


class Plain(Store):
    """A store whose threads are kept by the engine over any store."""


@pytest.mark.parametrize("kind", [Store, Plain])
def test_a_page_in_memory_has_about_as_many_bytes_as_asked_for(kind: type[Store]) -> None:
    chat = Chat(SwarmStateSaver(kind()))
    for number in range(30):
        where = chat.put(f"{number:02}" * 10_000)
        chat.saver.put_writes(where, [("messages", chat.messages)], "task")
    engine: Any = chat.saver._engine
    names = engine.list_ids(["thread"], "", None, None)

    def load(most: int | None) -> list[int]:
        found = engine.load(names, channels=None, writes=True, most=most)
        return [
            sum(len(data) for _, data in (*one.values.values(), *(w.value for w in one.writes)))
            for one in found
        ]

    every = load(None)
    assert len(every) == 30
    for most in (0, 3_000_000, 100_000_000):
        some, room = load(most), max(most, every[0])
        assert some == every[: len(some)]
        # One more than there is room for may come along.
        assert sum(some[1:-1]) <= room
        assert len(some) == 30 or sum(every[1 : len(some) + 1]) > room
    assert len(load(0)) < 5
