"""Threads by age: listed newest first, and removed when nothing was written to them for long."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

import pytest
from freezegun import freeze_time
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from swarmstate.errors import ArgumentTypeError, ArgumentValueError, DecodeError
from swarmstate.integrations.langgraph import SwarmStateSaver
from swarmstate.protocols import StoreLike

NOW = datetime(2026, 5, 1, 12, tzinfo=timezone.utc)
DAY = 86_400


def id_of(age: float) -> str:
    """Return a UUID of version 6 that was made so many seconds before NOW."""
    ticks = int((NOW.timestamp() - age) * 10_000_000) + 0x01B21DD213814000
    number = (ticks >> 12) << 80 | 6 << 76 | (ticks & 0xFFF) << 64 | 2 << 62 | 5
    return str(uuid.UUID(int=number))


def put(
    saver: SwarmStateSaver, thread: str, checkpoint_id: str, ts: str = "", **metadata: Any
) -> None:
    config: Any = {"configurable": {"thread_id": thread, "checkpoint_ns": ""}}
    checkpoint: Any = {**empty_checkpoint(), "id": checkpoint_id, "ts": ts or "none"}
    more: Any = {"source": "loop", "step": 1, **metadata}
    saver.put(config, checkpoint, more, {})


@pytest.fixture
def saver(make_store: Callable[..., StoreLike]) -> SwarmStateSaver:
    return SwarmStateSaver(make_store())


def test_threads_are_listed_newest_first(saver: SwarmStateSaver) -> None:
    assert saver.threads() == []
    for thread, ages in {"b": [50, 10], "a": [40], "c": [30, 60], "d": [5]}.items():
        for age in ages:
            put(saver, thread, id_of(age))
    assert saver.threads() == ["d", "b", "c", "a"]
    assert saver.threads(limit=2) == ["d", "b"]
    assert saver.threads(limit=0) == []


async def test_threads_are_chosen_by_the_metadata_of_their_newest_checkpoint(
    saver: SwarmStateSaver,
) -> None:
    for number in range(250):
        put(saver, f"t{number:03}", id_of(number), user=f"u{number % 2}", deep={"n": number})
    put(saver, "t001", id_of(-1), user="u0")
    odd = [f"t{number:03}" for number in range(3, 250, 2)]
    assert saver.threads(metadata={"user": "u1"}) == odd
    assert saver.threads(metadata={"user": "u1"}, limit=3) == odd[:3]
    assert await saver.athreads(metadata={"user": "u0"}, limit=2) == ["t001", "t000"]
    assert saver.threads(metadata={"user": "u1", "deep": {"n": 7}}) == ["t007"]
    assert saver.threads(metadata={"none": 1}) == []
    assert len(saver.threads(metadata={})) == 250


def test_neither_a_list_of_threads_nor_what_is_idle_needs_checkpoints_that_can_be_read(
    make_store: Callable[..., StoreLike],
) -> None:
    store = make_store()
    saver = SwarmStateSaver(store)
    for thread, age in {"old": 3 * DAY, "new": 5}.items():
        put(saver, thread, id_of(age))
    for namespace in store.namespaces("langgraph:checkpoints:"):
        for key in store.keys(namespace):
            if not key.startswith("\0"):
                store.set(namespace, key, "what is no checkpoint")
    with pytest.raises(DecodeError):
        saver.get_tuple({"configurable": {"thread_id": "old", "checkpoint_ns": ""}})
    assert saver.threads() == ["new", "old"]
    with freeze_time(NOW, real_asyncio=True):
        assert saver.prune_idle(older_than=2 * DAY) == ["old"]
    assert saver.threads() == ["new"]


def test_idle_threads_are_removed_and_the_others_stay(saver: SwarmStateSaver) -> None:
    for number in range(150):
        put(saver, f"old{number}", id_of(3 * DAY + number))
    put(saver, "resumed", id_of(3 * DAY))
    put(saver, "resumed", id_of(DAY))
    put(saver, "new", id_of(5))
    with freeze_time(NOW, real_asyncio=True):
        gone = saver.prune_idle(older_than=2 * DAY)
        assert sorted(gone) == sorted(f"old{number}" for number in range(150))
        assert saver.threads() == ["new", "resumed"]
        assert saver.prune_idle(older_than=2 * DAY) == []


async def test_an_id_without_a_time_leaves_it_to_the_timestamp(saver: SwarmStateSaver) -> None:
    put(saver, "old", "1", "2026-04-01T12:00:00+00:00")
    put(saver, "zulu", "1", "2026-04-01T12:00:00Z")
    put(saver, "new", "2", "2026-05-01T11:00:00+00:00")
    put(saver, "unknown", "3", "yesterday")
    put(saver, "random", str(uuid.uuid4()), "yesterday")
    with freeze_time(NOW, real_asyncio=True):
        assert sorted(await saver.aprune_idle(older_than=DAY)) == ["old", "zulu"]
    assert sorted(saver.threads()) == ["new", "random", "unknown"]


def test_a_thread_that_is_written_to_meanwhile_stays(make_store: Callable[..., StoreLike]) -> None:
    class Busy(JsonPlusSerializer):
        """Has another worker write to the thread while its age is found out."""

        def loads_typed(self, data: tuple[str, bytes]) -> Any:
            if not self.done:
                self.done = True
                put(other, "old", "2", "2026-05-01T11:59:00+00:00")
            return super().loads_typed(data)

        done = False

    store = make_store()
    other = SwarmStateSaver(store)
    put(other, "old", "1", "2026-01-01T12:00:00+00:00")
    put(other, "older", "1", "2025-01-01T12:00:00+00:00")
    with freeze_time(NOW, real_asyncio=True):
        assert SwarmStateSaver(store, serde=Busy()).prune_idle(older_than=DAY) == ["older"]
    assert other.threads() == ["old"]


def test_real_checkpoints_tell_their_age(saver: SwarmStateSaver) -> None:
    config: Any = {"configurable": {"thread_id": "real", "checkpoint_ns": ""}}
    saver.put(config, empty_checkpoint(), {"source": "loop"}, {})
    assert saver.prune_idle(older_than=3600) == []
    with freeze_time(datetime.now(timezone.utc).replace(year=2100), real_asyncio=True):
        assert saver.prune_idle(older_than=3600) == ["real"]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"limit": -1}, ArgumentValueError),
        ({"limit": "1"}, ArgumentTypeError),
        ({"metadata": [1]}, ArgumentTypeError),
    ],
    ids=repr,
)
def test_arguments_that_mean_nothing_are_refused(arguments: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        SwarmStateSaver().threads(**arguments)


@pytest.mark.parametrize("older_than", [-1, float("nan"), None, "1"], ids=repr)
def test_an_age_that_means_nothing_removes_nothing(older_than: Any) -> None:
    saver = SwarmStateSaver()
    put(saver, "t", id_of(0))
    with pytest.raises((ArgumentTypeError, ArgumentValueError), match="older_than"):
        saver.prune_idle(older_than=older_than)
    assert saver.threads() == ["t"]
