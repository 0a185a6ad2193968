"""What processes do to one log, and to one head, at the same time; run by spawned processes."""

from __future__ import annotations

from typing import Any

from swarmstate import ABSENT
from swarmstate.backends.redis import RedisStore

ROUNDS = 40


def append(url: str, prefix: str, name: int, barrier: Any, out: Any) -> None:
    written: list[Any] = []
    with RedisStore(url, prefix=prefix) as store:
        barrier.wait()
        for step in range(ROUNDS):
            (key,) = store.append("log", [[name, step]])
            assert not written or key > written[-1][0]
            written.append((key, [name, step]))
    out.put(written)


def commit(url: str, prefix: str, name: int, barrier: Any, out: Any) -> None:
    won = 0
    with RedisStore(url, prefix=prefix) as store:
        barrier.wait()
        for _ in range(ROUNDS):
            head = store.get("{x}", "head", 0)
            items = [("{x}", "head", head + 1), ("log{x}", str(head), name)]
            expect = {("{x}", "head"): head or ABSENT, ("log{x}", str(head)): ABSENT}
            won += store.commit(items, expect=expect)
    out.put(won)


def commit_until_killed(url: str, prefix: str, ready: Any) -> None:
    with RedisStore(url, prefix=prefix) as store:
        while True:
            head = store.get("{x}", "head", 0)
            items = [("{x}", "head", head + 1), ("log{x}", str(head), "x" * 2000)]
            store.commit(items, expect={("{x}", "head"): head or ABSENT})
            ready.set()
