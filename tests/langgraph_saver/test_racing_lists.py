"""Puts, writes, limits and deletions of one thread at the same time lose no segment."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Event
from typing import Any

import pytest
from segments import held_and_needed
from threads import checkpoint, config

from swarmstate import _checkpoints
from swarmstate.errors import StoreUnavailable
from swarmstate.integrations.langgraph import SwarmStateSaver
from swarmstate.protocols import StoreLike


@pytest.mark.parametrize("limit", [None, 2])
def test_no_segment_is_lost_or_left_over_while_others_put_write_and_remove(
    make_store: Callable[..., StoreLike], monkeypatch: pytest.MonkeyPatch, limit: int | None
) -> None:
    monkeypatch.setattr(_checkpoints, "LEAST_BYTES", 1)
    store = make_store()
    saver = SwarmStateSaver(store)
    numbers = itertools.count(1)
    done = Event()
    latest = [config("thread", "", "0000")]

    def puts(seed: int) -> None:
        chance = random.Random(seed)
        own = SwarmStateSaver(store, max_checkpoints_per_thread=limit)
        values: list[int] = []
        version = where = None
        for _ in range(20):
            values = [*values[: chance.choice([1, 99])], chance.randrange(5)]
            version = own.get_next_version(version, None)
            body = checkpoint({"a": version}, {"a": values}, f"{next(numbers):04}")
            metadata: Any = {"run_id": f"run{chance.randrange(3)}"}
            where = own.put(where or config(), body, metadata, {"a": version})
            latest[0] = where

    def writes(seed: int) -> None:
        chance = random.Random(seed)
        own = SwarmStateSaver(store, list_cache_bytes=chance.choice([0, 1 << 20]))
        while not done.is_set():
            value = [chance.randrange(5) for _ in range(chance.randrange(1, 9))]
            own.put_writes(latest[0], [("a", value), ("b", value)], f"task{chance.randrange(3)}")

    def removes(seed: int) -> None:
        chance = random.Random(seed)
        while not done.is_set():
            with suppress(StoreUnavailable):  # others were faster, again and again
                saver.delete_for_runs([f"run{chance.randrange(3)}"])
                saver.prune(["thread"])

    def reads(seed: int) -> None:
        # Without scripts, what is needed again is put back a moment after it was removed.
        engine: Any = saver._engine
        while not done.is_set() and getattr(engine, "scripting", True):
            list(saver.list(config()))

    with ThreadPoolExecutor(6) as pool:
        others = [pool.submit(work, seed) for seed, work in enumerate((writes, removes, reads), 9)]
        try:
            for one in [pool.submit(puts, seed) for seed in range(2)]:
                one.result()
        finally:
            done.set()
        for one in others:
            one.result()
    held, needed = held_and_needed(store)
    assert needed - held == set()
    list(saver.list(config()))
    saver.prune(["thread"])
    held, needed = held_and_needed(store)
    assert needed - held == set()
    assert held - needed == set()
