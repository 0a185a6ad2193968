"""Read-modify-write across processes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
import redis
from rights import STORE, limited
from servers import Server

from swarmstate.backends.redis import RedisStore
from swarmstate.errors import AccessDenied

Make = Callable[..., RedisStore]

_ADDER = """
import sys
from swarmstate.backends.redis import RedisStore

store = RedisStore(sys.argv[1], prefix=sys.argv[2])
name = sys.argv[3]
store.get("shared", "n")
print("ready", flush=True)
sys.stdin.readline()
for number in range(1000):
    store.update("shared", "n", lambda value: value + 1, default=0)
    if number % 50 == 0:
        store.update("shared", "list", lambda value: [*value, [name, number]], default=[])
"""


def test_eight_processes_that_add_a_thousand_each_lose_nothing(
    server: Server, store: RedisStore, prefix: str
) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _ADDER, server.url, prefix, f"p{number}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(8)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=200)
        assert process.returncode == 0
    assert store.get("shared", "n") == 8000
    entries = store.get("shared", "list")
    for number in range(8):
        mine = [entry for name, entry in entries if name == f"p{number}"]
        assert mine == list(range(0, 1000, 50))


def test_a_writer_in_between_makes_the_function_run_again_with_the_new_value(
    make: Make,
) -> None:
    store, other = make(), make()
    seen = []

    def add(value: int) -> int:
        seen.append(value)
        if len(seen) < 3:
            other.set("n", "k", value + 10)
        return value + 1

    assert store.update("n", "k", add, default=0) == 21
    assert seen == [0, 10, 20]
    assert store.get("n", "k") == 21


def test_a_value_deleted_in_between_is_the_default_again(make: Make) -> None:
    store, other = make(), make()
    store.set("n", "k", 5)
    seen = []

    def add(value: int) -> int:
        seen.append(value)
        other.delete("n", "k")
        return value + 1

    assert store.update("n", "k", add, default=100) == 101
    assert seen == [5, 100]


def test_without_the_right_to_run_scripts_update_says_so_and_the_rest_works(
    server: Server, make: Make, raw: redis.Redis, prefix: str
) -> None:
    store = make(limited(server, raw, prefix, STORE))
    store.set_many([("a", "k", 1), ("b", "k", 2)])
    taken = store.snapshot()
    assert len(store) == len(taken) == 2
    assert store.delete_namespace("a") == 1
    store.restore(taken)
    assert sorted(store.namespaces()) == ["a", "b"]
    store.clear()
    assert len(store) == 0
    needed = r"update\(\) needs .* \(EVALSHA and EVAL\), and nothing was stored: .*NOPERM"
    with pytest.raises(AccessDenied, match=needed):
        store.update("n", "k", lambda value: 1)
    assert not store.contains("n", "k")
