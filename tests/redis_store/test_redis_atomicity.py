"""Snapshots are one moment, restores are all or nothing."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import redis
from servers import Server

from swarmstate.backends.redis import RedisStore

Make = Callable[..., RedisStore]

# Large enough to go out, and to come in, in many pieces.
PAD = "x" * 4000
OLD = {f"old{i}": {f"k{j}": ["old", i, j, PAD] for j in range(3)} for i in range(40)}
NEW = {f"new{i}": {f"k{j}": ["new", i, j, PAD] for j in range(4)} for i in range(30)}
for _shared in ("both", "a:b", ""):
    OLD[_shared] = {"side": ["old"], "gone": [1]}
    NEW[_shared] = {"side": ["new"]}


def fill(store: RedisStore, state: dict[str, dict[str, list[object]]]) -> None:
    store.clear()
    store.set_many([(n, k, v) for n, content in state.items() for k, v in content.items()])


@contextmanager
def meanwhile(*works: Callable[[], None]) -> Iterator[None]:
    """Repeat works in threads of their own inside a ``with`` block; their errors come out."""
    stop = threading.Event()
    errors: list[BaseException] = []

    def repeat(work: Callable[[], None]) -> None:
        try:
            while not stop.is_set():
                work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=repeat, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    if errors:
        raise errors[0]


@pytest.fixture(params=["with scripts", "without scripts"])
def scripting(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "with scripts")


def without_scripts(store: RedisStore, scripting: bool) -> RedisStore:
    store.steps._scripting = scripting
    return store


def test_a_snapshot_holds_each_token_exactly_once_while_they_move_between_namespaces(
    store: RedisStore, server: Server, scripting: bool
) -> None:
    without_scripts(store, scripting)
    names = [f"place{i}" for i in range(8)]
    tokens = ["red", "blue"]
    for token in tokens:
        store.set(names[0], token, 1)

    def mover(token: str) -> Callable[[], None]:
        client = server.client()
        at = [names[0]]

        def move() -> None:
            there = random.choice(names)
            with client.pipeline(transaction=True) as pipe:
                pipe.hdel(f"{store.prefix}:{at[0]}", token)
                pipe.hset(f"{store.prefix}:{there}", token, b"\x01")
                pipe.execute()
            at[0] = there

        return move

    places = set()
    with meanwhile(*map(mover, tokens)):
        for _ in range(400 if scripting else 200):
            taken = store.snapshot()
            assert sorted(key for _, key in taken.keys) == sorted(tokens)
            places.update(taken.keys)
            assert len(store) == len(tokens)
    assert len(places) > len(tokens), "the tokens moved while snapshots were taken"


def test_snapshots_and_batches_never_show_half_of_a_set_many(make: Make) -> None:
    store, other = make(), make()
    pairs = [("a", "k"), ("b", "k"), ("c", "k")]
    round_number = iter(range(10**9))

    def write() -> None:
        value = next(round_number)
        other.set_many([(namespace, key, value) for namespace, key in pairs])

    write()
    with meanwhile(write):
        for _ in range(1000):
            assert len(set(store.get_many(pairs))) == 1
            taken = store.snapshot()
            assert len({taken.get(*pair) for pair in pairs}) == 1


def test_readers_see_the_old_or_the_new_state_while_restores_go_on(
    make: Make, scripting: bool
) -> None:
    store, reader = without_scripts(make(), scripting), make()
    fill(store, NEW)
    new = store.snapshot()
    fill(store, OLD)
    old = store.snapshot()
    sides = [("both", "side"), ("a:b", "side"), ("", "side")]
    seen = set()

    def read() -> None:
        values = reader.get_many(sides)
        assert values in ([["old"]] * 3, [["new"]] * 3)
        seen.add(values[0][0])
        assert len(reader) in (len(old), len(new))
        assert len(reader.namespaces()) in (len(OLD), len(NEW))

    with meanwhile(read):
        for _ in range(100):
            store.restore(new)
            store.restore(old)
    assert seen == {"old", "new"}


_RESTORER = """
import os, random, signal, sys, time
from swarmstate.backends.redis import RedisStore

url, prefix, scripting = sys.argv[1], sys.argv[2], sys.argv[3] == "True"
first = RedisStore(url, prefix=prefix + "-old").snapshot()
second = RedisStore(url, prefix=prefix + "-new").snapshot()

def child(ready):
    store = RedisStore(url, prefix=prefix)
    store.steps._scripting = scripting
    store.get("both", "side")
    os.write(ready, b"r")
    while True:
        store.restore(second)
        store.restore(first)

# One process that imports everything once and forks before it has a thread or a connection of its
# own; every line that comes in is the number of microseconds after which to kill a child.
for line in sys.stdin:
    readable, ready = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            child(ready)
        finally:
            os._exit(1)
    os.read(readable, 1)
    end = time.perf_counter() + int(line) / 1e6
    while time.perf_counter() < end:
        pass
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    os.close(readable)
    os.close(ready)
    print(os.WTERMSIG(status), flush=True)
"""


def content(raw: redis.Redis, prefix: str) -> dict[bytes, dict[bytes, bytes]]:
    """Return everything under a prefix at one moment, read without the store's code."""
    script = """
    local out = {}
    for _, key in ipairs(redis.call('KEYS', ARGV[1] .. ':*')) do
      if redis.call('TYPE', key).ok == 'hash' then
        out[#out + 1] = key:sub(#ARGV[1] + 2)
        out[#out + 1] = redis.call('HGETALL', key)
      else
        out[#out + 1] = key:sub(#ARGV[1] + 2)
        out[#out + 1] = {}
      end
    end
    return out
    """
    flat = raw.eval(script, 0, prefix)
    return {
        name: dict(zip(fields[::2], fields[1::2], strict=True))
        for name, fields in zip(flat[::2], flat[1::2], strict=True)
    }


@pytest.mark.parametrize(("scripting", "kills"), [(True, 200), (False, 50)])
def test_a_restore_that_is_killed_leaves_the_old_state_or_the_new_one(
    make: Make, raw: redis.Redis, server: Server, prefix: str, scripting: bool, kills: int
) -> None:
    fill(make(prefix=f"{prefix}-old"), OLD)
    fill(make(prefix=f"{prefix}-new"), NEW)
    old, new = content(raw, f"{prefix}-old"), content(raw, f"{prefix}-new")
    fill(make(), OLD)
    outcomes = []
    arguments = [sys.executable, "-c", _RESTORER, server.url, prefix, str(scripting)]
    with subprocess.Popen(
        arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as restorer:
        assert restorer.stdin is not None
        assert restorer.stdout is not None
        for _ in range(kills):
            # Long enough for the second of two restores, which takes longer without scripts.
            longest = 20_000 if scripting else 100_000
            print(random.randrange(longest), file=restorer.stdin, flush=True)
            assert restorer.stdout.readline() == "9\n"
            found = content(raw, prefix)
            assert found in (old, new)
            outcomes.append(found == new)
        restorer.stdin.close()
        assert restorer.wait() == 0
    assert set(outcomes) == {True, False}


def test_restore_and_clear_remove_what_is_derived_and_keep_the_marker(
    make: Make, raw: redis.Redis, prefix: str, scripting: bool
) -> None:
    store = without_scripts(make(), scripting)
    store.set("a", "k", 1)
    taken = store.snapshot()
    for undo in (store.clear, lambda: store.restore(taken)):
        raw.zadd(f"!{prefix}:\0index:a", {"k": 0})
        raw.set(f"!{prefix}:\0", "derived")
        undo()
        assert raw.keys(f"!{prefix}:*") == [f"!{prefix}:\0store".encode()]


def test_a_restore_refuses_to_overwrite_another_programs_key_and_changes_nothing(
    make: Make, raw: redis.Redis, prefix: str
) -> None:
    store = make()
    store.set_many([("a", "k", 1), ("taken", "k", 1)])
    taken = store.snapshot()
    store.clear()
    store.set("b", "k", 2)
    raw.set(f"{prefix}:taken", "theirs")
    with pytest.raises(ValueError, match="keeps a string at the key"):
        store.restore(taken)
    assert store.namespaces() == ["b"]
    assert raw.get(f"{prefix}:taken") == b"theirs"


ITEMS = [("a", "k", 1), ("b", "k", 2), ("theirs", "k", 3), ("z", "k", 4)]


@pytest.mark.parametrize("options", [{}, {"ttl": 100}], ids=str)
def test_a_batch_that_meets_another_programs_key_writes_nothing(
    make: Make, raw: redis.Redis, prefix: str, scripting: bool, options: dict[str, int]
) -> None:
    store = without_scripts(make(**options), scripting)
    store.set("a", "old", 0)
    raw.set(f"{prefix}:theirs", "theirs")
    with pytest.raises(ValueError, match="another program"):
        store.set_many(ITEMS)
    assert store.items("a") == [("old", 0)]
    assert store.namespaces() == ["a"]
    assert raw.get(f"{prefix}:theirs") == b"theirs"


def test_neither_a_batch_nor_a_restore_is_ever_half_done_while_another_program_takes_keys(
    make: Make, raw: redis.Redis, server: Server, prefix: str
) -> None:
    store = make()
    store.set_many(ITEMS)
    taken = store.snapshot()
    new = [(namespace, key, value + 10) for namespace, key, value in ITEMS]
    other = server.client()

    def come_and_go() -> None:
        other.set(f"{prefix}:theirs", "theirs")
        other.delete(f"{prefix}:theirs")

    outcomes = set()
    with meanwhile(come_and_go):
        for write in (lambda: store.set_many(new), lambda: store.restore(taken)) * 300:
            before = content(raw, prefix)
            try:
                write()
            except ValueError:
                after = content(raw, prefix)
                before.pop(b"theirs", None)
                after.pop(b"theirs", None)
                assert after == before
                outcomes.add("refused")
            else:
                outcomes.add("done")
    assert outcomes == {"refused", "done"}
