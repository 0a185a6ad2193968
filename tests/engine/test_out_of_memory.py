"""What is left when memory ends in the middle of a call: all of it, or nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

# Run in a process of its own: each allocation of a call fails in turn, until none is left to fail.
PROGRAM = """
import gc
import itertools
import sys

import _testcapi

from swarmstate import Store
from swarmstate.checkpoints.protocol import CheckpointName, CheckpointRecord

NAMES = [("a", f"k{n}") for n in range(5)] + [("b", "x")]
BATCH = [("a", f"k{n}", -n) for n in range(3, 30)] + [(f"new{n}", "x", n) for n in range(12)]
CALLS = {
    "set": lambda store: store.set("fresh", "key", 1),
    "set_many": lambda store: store.set_many([*BATCH, ("b", "x", 2), ("b", "x", 3)]),
    "set_default": lambda store: store.set_default("fresh", "key", 1),
    "commit": lambda store: store.commit(
        [*BATCH, ("b", "x", 2)], [("a", "k0"), ("a", "k1")], expect={("a", "k4"): 4}
    ),
    "append": lambda store: store.append("a", range(20)),
    "delete": lambda store: store.delete("a", "k4"),
    "delete_many": lambda store: store.delete_many(NAMES),
    "delete_namespace": lambda store: store.delete_namespace("a"),
    "clear": lambda store: store.clear(),
    "put": lambda store: engines[store].put(ORPHAN, RECORD, VALUES, ()),
    "put_writes": lambda store: engines[store].put_writes(OTHER, WRITES),
    "items": lambda store: store.items("a"),
    "tail": lambda store: logged.tail("log"),
    "get_many": lambda store: store.get_many(NAMES),
    "diff": lambda store: store.snapshot().diff(empty),
    "snapshot_keys": lambda store: store.snapshot().keys,
}
ORPHAN, OTHER = CheckpointName("thread", "", "1"), CheckpointName("another", "", "1")
NONE = ("null", b"")
RECORD = CheckpointRecord("0", {"x": "1", "d": "1"}, ["x"], ["d"], NONE, NONE)
VALUES = {"1:x:1": NONE, "1:y:1": NONE}
WRITES = {f"{n}:task": ["x", *NONE, ""] for n in range(3)}
engines = {}
empty = Store().snapshot()
logged = Store()
logged.append("log", range(20))


def content(store):
    return store.snapshot().values()


def prepared(recorded, indexed):
    store = Store()
    store.set_many([(*name, n) for n, name in enumerate(NAMES)])
    engines.clear()
    engines[store] = store.checkpoint_engine()
    engines[store].put_writes(ORPHAN, WRITES)  # for which no checkpoint has come
    if indexed:
        store.max_key("a")
    held = [] if recorded is None else [store.snapshot()]
    for n in range(recorded or 0):
        store.set("a", f"k{n}", "changed")
    return store, held


def failing_at(call, store, allocation):
    # CPython keeps the memory of small dicts that are gone; while these live, there is none of it.
    small = [{str(n): n} for n in range(200)]
    _testcapi.set_nomemory(allocation, allocation + 1)
    try:
        call(store)
    except MemoryError:
        return True
    finally:
        _testcapi.remove_mem_hooks()
    del small
    return False


def check_nothing_is_freed_twice():
    # What was freed twice is given out twice.
    fresh = [(n, n) for n in range(50)]
    assert len({id(one) for one in fresh}) == 50
    assert fresh == [(n, n) for n in range(50)]


gc.disable()
call = CALLS[sys.argv[1]]
failed = 0
for recorded, indexed in itertools.product((None, 0, 1, 3), (False, True)):
    store, held = prepared(recorded, indexed)
    before = content(store)
    call(store)
    after = content(store)
    for allocation in range(250):
        store, held = prepared(recorded, indexed)
        kept = [snapshot.values() for snapshot in held]
        ended = failing_at(call, store, allocation)
        failed += ended
        check_nothing_is_freed_twice()
        found = content(store)
        where = (recorded, indexed, allocation)
        assert found in ((before, after) if ended else (after,)), where
        assert [snapshot.values() for snapshot in held] == kept, where
        assert len(store) == sum(map(len, found.values())), where
        assert sorted(store.namespaces()) == sorted(found), where
        assert store.max_key("a") == max(found.get("a", ()), default=None), where
print(failed)
"""


# CPython 3.13.0 counts an entry that setdefault() had no memory for; no program survives that.
SOUND = """
import _testcapi

entries = {f"k{n}": n for n in range(5)}
_testcapi.set_nomemory(0, 1)
try:
    entries.setdefault("key", "value")
except MemoryError:
    pass
finally:
    _testcapi.remove_mem_hooks()
assert len(entries) == len(list(entries))
"""


@pytest.fixture(scope="module")
def sound() -> None:
    pytest.importorskip("_testcapi", reason="this CPython cannot make an allocation fail")
    if subprocess.run([sys.executable, "-c", SOUND], capture_output=True, timeout=60).returncode:
        pytest.skip("the dicts of this CPython do not survive the end of memory")


@pytest.mark.usefixtures("sound")
@pytest.mark.parametrize(
    "call",
    [
        *("set", "set_many", "set_default", "commit", "append"),
        *("delete", "delete_many", "delete_namespace", "clear"),
        *("put", "put_writes"),
        *("items", "tail", "get_many", "diff", "snapshot_keys"),
    ],
)
def test_a_call_that_runs_out_of_memory_has_done_all_or_nothing(call: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, call], capture_output=True, text=True, timeout=250
    )
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout) > 0
