"""What processes do to one log, and to one head, at the same time; run by spawned processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from preloaded import context

from swarmstate import ABSENT
from swarmstate.backends.opening import open_store
from swarmstate.backends.redis import RedisStore

ROUNDS = 20


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


def write_until_killed(url: str, options: dict[str, Any], told: Path, ready: Any) -> None:
    """Commit and append, and write into a file what was acknowledged: heads, then keys of a log."""
    with open_store(url, **options) as store, told.open("a", buffering=1) as out:
        while True:
            head = store.get("{x}", "head", 0)
            items = [("{x}", "head", head + 1), ("log{x}", str(head), "x" * 2000)]
            if store.commit(items, expect={("{x}", "head"): head or ABSENT}):
                out.write(f"{head}\n")
            out.writelines(f"{key}\n" for key in store.append("appended", ["x" * 2000]))
            ready.set()


def kill_writers(url: str, options: dict[str, Any], told: Path, times: int) -> None:
    """Kill one writer after the other, and look at the store after each."""
    with open_store(url, **options) as store:
        for _ in range(times):
            ready = context.Event()
            process = context.Process(target=write_until_killed, args=(url, options, told, ready))
            process.start()
            assert ready.wait(60)
            process.kill()
            process.join()
            head = store.get("{x}", "head")
            assert sorted(map(int, store.keys("log{x}"))) == list(range(head))
            lines = told.read_text().splitlines()
            assert max(int(line) for line in lines if len(line) < 16) < head
            assert {line for line in lines if len(line) == 16} <= set(store.keys("appended"))
            assert store.commit([("{x}", "head", head)], expect={("{x}", "head"): head})
