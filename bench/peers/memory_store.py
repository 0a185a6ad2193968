"""What is measured of the in-memory store."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from measuring import Measure, Run, loop, once

SMALL = {"step": 3, "role": "assistant", "done": False, "score": 0.5}
CHAT = {
    "messages": [
        {
            "role": "user" if number % 2 else "assistant",
            "content": f"This is message {number} of a conversation about an order. " * 2,
            "id": f"message-{number}",
            "tokens": 17 + number,
        }
        for number in range(20)
    ],
    "step": 12,
    "next": "billing",
}
BATCH = [("jobs", f"job-{number}", {**SMALL, "step": number}) for number in range(50)]
KEYS = 100_000


def set_one(store_class: Any, codec: str, value: Any) -> Run:
    store = store_class(codec=codec)
    return loop("set('ns', 'key', value)", set=store.set, value=value)


def get_one(store_class: Any, codec: str, value: Any) -> Run:
    store = store_class(codec=codec)
    store.set("ns", "key", value)
    return loop("get('ns', 'key')", get=store.get)


def contains(store_class: Any, codec: str) -> Run:
    store = store_class(codec=codec)
    store.set("ns", "key", 1)
    return loop("contains('ns', 'key')", contains=store.contains)


def set_many(store_class: Any, codec: str) -> Run:
    return loop("set_many(batch)", set_many=store_class(codec=codec).set_many, batch=BATCH)


def get_many(store_class: Any, codec: str) -> Run:
    store = store_class(codec=codec)
    store.set_many(BATCH)
    pairs = [item[:2] for item in BATCH]
    return loop("get_many(pairs)", get_many=store.get_many, pairs=pairs)


def insert(store_class: Any, codec: str, namespaces: int) -> Run:
    names = [(f"ns{number % namespaces}", f"key{number}", number) for number in range(KEYS)]

    def fill(store: Any) -> None:
        put = store.set
        for namespace, key, value in names:
            put(namespace, key, value)

    return once(lambda: store_class(codec=codec), fill)


def unchanged_snapshot(store_class: Any, codec: str) -> Run:
    return loop("snapshot()", snapshot=filled(store_class, codec, 1000).snapshot)


def set_and_snapshot(store_class: Any, codec: str, kept: int | None) -> Run:
    def prepare() -> Any:
        store = store_class(codec=codec, max_history=kept)
        store.set_many([("jobs", f"job-{number}", SMALL) for number in range(1000)])
        return store

    names = [f"job-{number % 1000}" for number in range(20_000)]

    def steps(store: Any) -> None:
        put, snapshot = store.set, store.snapshot
        for name in names:
            put("jobs", name, SMALL)
            snapshot()

    return once(prepare, steps)


def filled(store_class: Any, codec: str, keys: int = KEYS) -> Any:
    store = store_class(codec=codec)
    store.set_many([("big", f"key{number}", number) for number in range(keys)])
    return store


def diff_of_ten(store_class: Any, codec: str) -> Run:
    store = filled(store_class, codec)
    base = store.snapshot()
    for number in range(10):
        store.set("big", f"key{number}", "changed")
    target = store.snapshot()
    return loop("diff(base)", diff=target.diff, base=base)


def diff_across_a_thousand(store_class: Any, codec: str) -> Run:
    store = filled(store_class, codec)
    held = [store.snapshot()]
    for number in range(1000):
        store.set("big", f"key{number % 50}", number)
        held.append(store.snapshot())
    return loop("diff(base)", diff=held[-1].diff, base=held[0], held=held)


def restore_after_ten(store_class: Any, codec: str) -> Run:
    store = filled(store_class, codec)
    snapshot = store.snapshot()
    names = [f"key{number}" for number in range(10)]

    def change() -> Any:
        for name in names:
            store.set("big", name, "changed")
        return store

    return once(change, lambda store: store.restore(snapshot), 300, time.perf_counter)


def restore_after_clear(store_class: Any, codec: str) -> Run:
    store = filled(store_class, codec)
    snapshot = store.snapshot()

    def clear() -> Any:
        store.clear()
        return store

    return once(clear, lambda store: store.restore(snapshot), 300, time.perf_counter)


def keys(store_class: Any, codec: str) -> Run:
    return loop("keys('big')", keys=filled(store_class, codec).keys)


@contextmanager
def busy_thread() -> Iterator[None]:
    """A thread that never stops computing, in Python rather than inside calls of C functions."""
    stop = False

    def compute() -> None:
        number = 0
        while not stop:
            number += 1

    thread = threading.Thread(target=compute)
    thread.start()
    try:
        yield
    finally:
        stop = True
        thread.join()


def beside_a_busy_thread(store_class: Any, codec: str, method: str) -> Run:
    store = store_class(codec=codec)
    store.set("ns", "key", SMALL)
    statement = "set('ns', 'key', value)" if method == "set" else "get('ns', 'key')"
    # A store that lets go of the interpreter in a call waits for it 5 ms each time.
    run = loop(statement, time.perf_counter, 0.2, set=store.set, get=store.get, value=SMALL)

    def timed() -> float:
        with busy_thread():
            return run()

    return timed


MEASURES = [
    Measure("set a small dict", 2.2, set_one, arguments=(SMALL,)),
    Measure("get a small dict", 2.1, get_one, arguments=(SMALL,)),
    Measure("set a small dict, default codec", 1.2, set_one, "msgpack", (SMALL,)),
    Measure("get a small dict, default codec", 1.2, get_one, "msgpack", (SMALL,)),
    Measure("set a chat of 20 messages", 3.2, set_one, arguments=(CHAT,)),
    Measure("get a chat of 20 messages", 1.7, get_one, arguments=(CHAT,)),
    Measure("contains", 5, contains),
    Measure("set_many of 50 small dicts", 2.2, set_many),
    Measure("get_many of 50 small dicts", 1.7, get_many),
    Measure("insert 100,000 ints in 1 namespace", 2, insert, arguments=(1,)),
    Measure("insert 100,000 ints in 1,000 namespaces", 2, insert, arguments=(1000,)),
    Measure("snapshot with nothing changed", 5, unchanged_snapshot),
    Measure("set + snapshot, none kept", 2.5, set_and_snapshot, arguments=(0,)),
    Measure("set + snapshot, the last 100 kept", 7, set_and_snapshot, arguments=(100,)),
    Measure("set + snapshot, all of 20,000 kept", 8, set_and_snapshot, arguments=(None,)),
    Measure("diff of 10 changes in 100,000 keys", 1000, diff_of_ten),
    Measure("diff across 1,000 held snapshots, 100,000 keys", 100, diff_across_a_thousand),
    Measure("restore after 10 changes, 100,000 keys", 7, restore_after_ten),
    Measure("restore after clear(), 100,000 keys", 2, restore_after_clear),
    Measure("keys() of a namespace of 100,000", 20, keys),
    Measure("set beside a busy thread", 8, beside_a_busy_thread, arguments=("set",)),
    Measure("get beside a busy thread", 8, beside_a_busy_thread, arguments=("get",)),
]
