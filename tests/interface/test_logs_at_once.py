"""Commits, appends and pops of many threads at the same moment."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from swarmstate import ABSENT
from swarmstate.protocols import LogStore

THREADS = 6
ROUNDS = 15


def together(work: Callable[[int], Any]) -> list[Any]:
    """Run work in threads that begin at the same moment; return what each returned."""
    barrier = threading.Barrier(THREADS)
    results: list[Any] = [None] * THREADS

    def run(number: int) -> None:
        barrier.wait()
        try:
            results[number] = work(number)
        except BaseException as error:
            results[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


def test_no_append_is_lost_and_keys_are_unique_and_increase(logs: LogStore) -> None:
    def work(number: int) -> list[tuple[str, Any]]:
        mine = []
        for step in range(ROUNDS):
            values = [[number, step, part] for part in range(1 + step % 3)]
            keys = logs.append("log", values)
            # In one piece: nothing of others lies between.
            assert [int(key) - int(keys[0]) for key in keys] == list(range(len(keys)))
            mine += zip(keys, values, strict=True)
        assert [key for key, _ in mine] == sorted(key for key, _ in mine)
        return mine

    written = [entry for mine in together(work) for entry in mine]
    assert len({key for key, _ in written}) == len(written)
    assert logs.tail("log") == sorted(written)


def test_every_entry_is_popped_by_one(logs: LogStore) -> None:
    keys = logs.append("log", range(THREADS * ROUNDS))

    def work(number: int) -> list[Any]:
        mine = []
        while (entry := logs.pop("log")) is not None:
            mine.append(entry)
        assert mine == sorted(mine, reverse=True)
        return mine

    popped = [entry for mine in together(work) for entry in mine]
    assert sorted(popped) == list(zip(keys, range(len(keys)), strict=True))


def test_of_commits_that_expect_the_same_one_wins(logs: LogStore) -> None:
    for step in range(ROUNDS):
        before: Any = step - 1 if step else ABSENT

        def work(number: int, step: int = step, before: Any = before) -> bool:
            return logs.commit(
                [("{x}", "head", step), ("log{x}", str(step), number)],
                expect={("{x}", "head"): before},
            )

        won = together(work)
        assert won.count(True) == 1
        assert logs.get("log{x}", str(step)) == won.index(True)
    assert logs.get("{x}", "head") == ROUNDS - 1


def test_a_commit_is_never_seen_half(logs: LogStore) -> None:
    pairs = [("a{x}", "k"), ("b{x}", "k")]
    logs.commit([(*pair, 0) for pair in pairs])

    def work(number: int) -> None:
        for _ in range(ROUNDS):
            one, other = logs.get_many(pairs)
            assert one == other
            expect = dict.fromkeys(pairs, one)
            logs.commit([(*pair, one + 1) for pair in pairs], expect=expect)

    together(work)
    assert logs.get_many(pairs)[0] >= ROUNDS
