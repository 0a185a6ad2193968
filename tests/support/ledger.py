"""Programs that write while servers are harmed, and know what may be there afterwards.

Every actor has a namespace of its own, and does one thing at a time. What was acknowledged must be
there; what failed may be there until something later is acknowledged, and never again after that.
"""

from __future__ import annotations

import asyncio
import os
import random
import threading
from collections.abc import Awaitable, Callable
from typing import Any

from swarmstate.backends.redis import AsyncRedisStore, RedisStore
from swarmstate.errors import StoreUnavailable
from swarmstate.integrations.langgraph import SwarmStateSaver

SECONDS = float(os.environ.get("SWARMSTATE_TEST_SECONDS", "3"))
"""How long each kind of harm is done."""

KEYS = [f"k{number}" for number in range(4)]
_ABSENT = None


class Ledger:
    """What one actor has written.

    Attributes:
        namespace: where.
        wrong: what was found and may not be there.
        acknowledged: how many writes were.
        failed: how many were not.
    """

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self.wrong: list[str] = []
        self.acknowledged = self.failed = 0
        self._possible: dict[str, set[Any]] = {key: {_ABSENT} for key in KEYS}
        self._counted = (0, 0)

    def intend(self, values: dict[str, Any]) -> None:
        """Say what is about to be written."""
        for key, value in values.items():
            self._possible[key].add(value)

    def intend_count(self) -> None:
        """Say that the counter is about to go up by one."""
        least, most = self._counted
        self._counted = least, most + 1

    def acknowledge(self, values: dict[str, Any]) -> None:
        """Say that what was intended last has been written."""
        self.acknowledged += 1
        for key, value in values.items():
            self._possible[key] = {value}

    def acknowledge_count(self) -> None:
        """Say that the counter went up."""
        self.acknowledged += 1
        least, most = self._counted
        self._counted = least + 1, most

    def see(self, found: dict[str, Any], count: int) -> None:
        """Compare with what is there."""
        for key, possible in self._possible.items():
            if found.get(key) not in possible:
                self.wrong.append(f"{self.namespace} {key}: {found.get(key)!r}, not {possible}")
            # It can only change by what is still to come.
            elif self.failed == 0:
                assert len(possible) == 1
        least, most = self._counted
        if not least <= count <= most:
            self.wrong.append(f"{self.namespace}: counted {count}, not {least} to {most}")

    def report(self) -> tuple[int, int, list[str]]:
        """Return how many writes were acknowledged, how many failed, and what was wrong."""
        return self.acknowledged, self.failed, self.wrong


Do = Callable[..., Awaitable[Any]]


async def act(ledger: Ledger, do: Do, on: Callable[[], bool], chance: random.Random) -> None:
    """Write one thing after the other, and look at times."""
    namespace = ledger.namespace
    number = 0
    while on():
        number += 1
        one, other = chance.sample(KEYS, 2)
        what = chance.randrange(8)
        values: dict[str, Any] = {one: number}
        try:
            if what == 0:
                ledger.intend_count()
                await do("update", namespace, "count", _one_more, 0)
                ledger.acknowledge_count()
                continue
            if what == 1:
                found = dict(await do("items", namespace))
                ledger.see(found, found.get("count", 0))
                continue
            if what == 2:
                values = {one: _ABSENT}
                ledger.intend(values)
                await do("delete", namespace, one)
            elif what == 3:
                values = {one: number, other: -number}
                ledger.intend(values)
                await do("set_many", [(namespace, key, value) for key, value in values.items()])
            elif what == 4:
                ledger.intend(values)
                await do("update", namespace, one, lambda _, number=number: number)
            else:
                ledger.intend(values)
                await do("set", namespace, one, number)
            ledger.acknowledge(values)
        except (StoreUnavailable, asyncio.TimeoutError):
            ledger.failed += 1


def _one_more(value: int) -> int:
    return value + 1


async def settle(ledger: Ledger, do: Do) -> None:
    """Look at what is there in the end."""
    found = dict(await do("items", ledger.namespace))
    ledger.see(found, found.get("count", 0))


def blocking(url: str, prefix: str, name: str, stop: Any, acks: Any, out: Any) -> None:
    """Write from several threads, each call blocking."""
    store = RedisStore(url, prefix=prefix, timeout=0.4, retries=2, max_connections=3)
    patient = RedisStore(url, prefix=prefix, timeout=20)
    ledgers = [Ledger(f"{name}-{number}") for number in range(4)]

    async def do(method: str, *args: Any) -> Any:
        result = getattr(store, method)(*args)
        _count(acks)
        return result

    async def look(method: str, *args: Any) -> Any:
        return getattr(patient, method)(*args)

    def work(ledger: Ledger) -> None:
        asyncio.run(act(ledger, do, lambda: not stop.is_set(), random.Random(ledger.namespace)))

    threads = [threading.Thread(target=work, args=(ledger,)) for ledger in ledgers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for ledger in ledgers:
        asyncio.run(settle(ledger, look))
        out.put(ledger.report())


def awaited(url: str, prefix: str, name: str, stop: Any, acks: Any, out: Any) -> None:
    """Write from several tasks, some of whose calls are cancelled."""

    async def main() -> None:
        store = AsyncRedisStore(url, prefix=prefix, timeout=0.4, retries=2)
        ledgers = [Ledger(f"{name}-{number}") for number in range(8)]
        impatience = random.Random(name)

        async def do(method: str, *args: Any) -> Any:
            patience = impatience.choice((None, None, 0.0005, 0.3))
            result = await asyncio.wait_for(getattr(store, method)(*args), patience)
            _count(acks)
            return result

        await asyncio.gather(
            *[
                act(ledger, do, lambda: not stop.is_set(), random.Random(ledger.namespace))
                for ledger in ledgers
            ]
        )
        async with AsyncRedisStore(url, prefix=prefix, timeout=20) as patient:

            async def look(method: str, *args: Any) -> Any:
                return await getattr(patient, method)(*args)

            for ledger in ledgers:
                # What was cancelled last has until now to arrive, or never does.
                await _until_available(store)
                await settle(ledger, look)
                out.put(ledger.report())
        await store.close()

    asyncio.run(main())


async def _until_available(store: AsyncRedisStore) -> None:
    while True:
        try:
            await store.set("settled", "k", 1)
        except StoreUnavailable:
            continue
        return


def graph(url: str, prefix: str, name: str, stop: Any, acks: Any, out: Any) -> None:
    """Put checkpoints, as a graph does."""
    from threads import checkpoint, config

    saver = SwarmStateSaver(RedisStore(url, prefix=prefix, timeout=0.4, retries=2))
    patient = SwarmStateSaver(RedisStore(url, prefix=prefix, timeout=20))
    acknowledged: list[str] = []
    failed = 0
    number = 0
    while not stop.is_set():
        number += 1
        key = f"{number:08}"
        try:
            body = checkpoint({"x": key}, {"x": number}, key)
            where = saver.put(config(name), body, {"step": number}, {"x": key})
            saver.put_writes(where, [("x", number)], "task")
        except StoreUnavailable:
            failed += 1
        else:
            acknowledged.append(key)
            _count(acks)
    found = {one.checkpoint["id"]: one for one in patient.list(config(name))}
    wrong = [f"{name}: no checkpoint {key}" for key in acknowledged if key not in found]
    for key in acknowledged:
        one = found.get(key)
        if one is not None and (
            one.checkpoint["channel_values"] != {"x": int(key)}
            or one.pending_writes != [("task", "x", int(key))]
        ):
            wrong.append(f"{name}: {key} is {one}")
    out.put((len(acknowledged), failed, wrong))


def _count(acks: Any) -> None:
    with acks.get_lock():
        acks.value += 1
