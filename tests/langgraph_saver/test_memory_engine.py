"""The in-memory store's own engine leaves and answers what the engine over any store does."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from langgraph.checkpoint.serde.types import ERROR, INTERRUPT, RESUME
from threads import checkpoint

from swarmstate import Store
from swarmstate.checkpoints.format import names, thread_namespace
from swarmstate.checkpoints.generic import GenericEngine
from swarmstate.checkpoints.memory import MemoryEngine
from swarmstate.checkpoints.protocol import CheckpointName, StoredCheckpoint
from swarmstate.errors import ArgumentTypeError, ArgumentValueError, StoreUnavailable
from swarmstate.integrations.langgraph import SwarmStateSaver

ROUNDS = 200
# Few of each, so that operations meet.
THREADS = ("a", "{t:ü}")
SPACES = ("", "n:1", "n:1|m:2")
IDS = tuple(f"{number:02}" for number in range(4))
CHANNELS = ("x", "y", "né", "delta", INTERRUPT, ERROR, RESUME)
threads, spaces, ids = st.sampled_from(THREADS), st.sampled_from(SPACES), st.sampled_from(IDS)
places = st.tuples(threads, spaces, ids)
# Long enough to be stored in segments, some of which they have in common.
LISTS = [[f"{number}" * 400 for number in range(most)] for most in (11, 12, 17)]
LISTS.append(LISTS[1][3:])
values = st.one_of(
    st.none(),
    st.integers(0, 3),
    st.binary(max_size=3),
    st.text(max_size=2),
    st.sampled_from(LISTS),
)
channels = st.sampled_from(CHANNELS)
contents = st.dictionaries(channels, values, max_size=3)
parts = st.sampled_from(("thread", "checkpoints", "values", "orphans", "writes"))
puts = st.tuples(
    st.just("put"),
    places,
    st.none() | ids,
    contents,  # the values of its channels
    st.sets(channels),  # which of them are new
    st.sets(channels),  # which others it has a version of
    st.integers(0, 2),  # the generation of its versions
    st.booleans(),  # whether it was called from another namespace
)
writes = st.tuples(
    st.just("write"),
    places,
    st.lists(st.tuples(channels, values), max_size=3),
    st.sampled_from(("t1", "1:t")),
)
others = st.one_of(
    st.tuples(st.just("get"), threads, spaces, st.just("") | ids),
    st.tuples(
        st.just("list_ids"),
        st.lists(threads, max_size=3, unique=True),
        st.none() | spaces,
        st.none() | ids,
        st.none() | st.integers(0, 5),
    ),
    st.tuples(
        st.just("load"), st.lists(places, max_size=4), st.none() | st.sets(channels), st.booleans()
    ),
    st.tuples(st.just("ancestors"), places, st.integers(1, 4)),
    st.tuples(st.just("delete"), places, st.none() | ids),
    st.tuples(st.just("delete_thread"), threads),
    st.tuples(st.just("copy_thread"), threads, threads),
    st.tuples(st.just("prune"), threads, st.sampled_from(("keep_latest", "delete"))),
    st.tuples(st.just("delete_for_runs"), st.integers(0, 2)),
    st.tuples(st.just("lose"), places, parts),
    st.tuples(
        st.just("damage"), places, parts, st.sampled_from(("", "00", "1x:0", "0:t1")), values
    ),
    st.tuples(st.just("snapshot")),
    st.tuples(st.just("restore")),
    st.tuples(st.just("clear")),
)
# Most of what happens are writes, so that the rest has something to do with.
rounds = st.lists(st.tuples(st.one_of(puts, writes), st.one_of(puts, writes), others), max_size=12)


@pytest.fixture
def frequent_switches() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


class Plain(Store):
    """A store whose threads are kept by the engine over any store."""


class Session:
    """Does the same with one store, and returns what it answers."""

    def __init__(self, store: Store, keep: int | None) -> None:
        self.store = store
        self.saver = SwarmStateSaver(store, max_checkpoints_per_thread=keep)
        self.unlimited = SwarmStateSaver(store)
        self.engine: Any = store.checkpoint_engine()
        self.held: list[Any] = []

    def put(
        self, name: Any, parent: Any, content: Any, new: Any, others: Any, age: int, called: bool
    ) -> Any:
        thread, space, checkpoint_id = name
        versions = {channel: f"{age}.{channel}" for channel in {*content, *others}}
        checkpoint: Any = {
            "v": 2,
            "id": checkpoint_id,
            "ts": "now",
            "channel_values": content,
            "channel_versions": versions,
            "versions_seen": {},
            "updated_channels": None,
        }
        above = {"": IDS[age]} if called else {}
        metadata: Any = {"step": age, "run_id": str(age), "parents": above}
        if "delta" in others:
            metadata["counters_since_delta_snapshot"] = {"delta": 1}
        configurable = {"thread_id": thread, "checkpoint_ns": space, "checkpoint_id": parent}
        fresh: Any = {channel: versions[channel] for channel in versions if channel in new}
        saver = self.unlimited if age == 2 else self.saver
        return saver.put({"configurable": configurable}, checkpoint, metadata, fresh)

    def write(self, name: Any, pairs: Any, task: str) -> Any:
        keys = ("thread_id", "checkpoint_ns", "checkpoint_id")
        return self.saver.put_writes(
            {"configurable": dict(zip(keys, name, strict=True))}, pairs, task
        )

    def get(self, *name: str) -> Any:
        return self.engine.get(CheckpointName(*name))

    def list_ids(self, *arguments: Any) -> Any:
        return self.engine.list_ids(*arguments)

    def load(self, several: Any, wanted: Any, pending: bool) -> Any:
        found = [CheckpointName(*name) for name in several]
        return self.engine.load(found, channels=wanted, writes=pending)

    def ancestors(self, name: Any, limit: int) -> Any:
        return self.engine.ancestors(CheckpointName(*name), limit)

    def delete(self, name: Any, before: str | None) -> Any:
        return self.engine.delete(name[0], name[1], [name[2]], orphans_before=before)

    def delete_thread(self, thread: str) -> Any:
        return self.saver.delete_thread(thread)

    def copy_thread(self, source: str, target: str) -> Any:
        return self.saver.copy_thread(source, target)

    def prune(self, thread: str, strategy: str) -> Any:
        return self.saver.prune([thread], strategy=strategy)

    def delete_for_runs(self, run: int) -> Any:
        return self.saver.delete_for_runs([str(run)])

    def lose(self, name: Any, part: str) -> Any:
        """A foreign hand removes one of the namespaces."""
        return self.store.delete_namespace(self._namespace(name, part))

    def damage(self, name: Any, part: str, key: str, value: Any) -> Any:
        """A foreign hand writes something that is not what should be there."""
        return self.store.set(self._namespace(name, part), key, value)

    def _namespace(self, name: Any, part: str) -> str:
        found: str = getattr(names(name[0], name[1]), part)
        return found + name[2] if part == "writes" else found

    def snapshot(self) -> None:
        self.held.append(self.store.snapshot())

    def restore(self) -> None:
        if self.held:
            self.store.restore(self.held[0])

    def clear(self) -> None:
        self.store.clear()

    def answer(self, operation: Any) -> Any:
        try:
            found = getattr(self, operation[0])(*operation[1:])
        except Exception as error:  # whatever it is: the other store must raise the same
            return type(error), str(error)
        if isinstance(found, StoredCheckpoint):
            return type(found), _plain(found)
        if isinstance(found, list):
            return [(type(one), _plain(one)) for one in found]
        return found


def _plain(found: Any) -> Any:
    """A checkpoint without the order of its writes that have one place, which no store keeps."""
    if not isinstance(found, StoredCheckpoint):
        return found
    return found._replace(writes=sorted(found.writes, key=repr))


PLACE = ("a", "", "01")
LOST_WRITES = [
    ("write", PLACE, [("x", 1)], "t1"),
    ("lose", PLACE, "writes"),
    ("write", PLACE, [("y", 1)], "t1"),
    ("put", PLACE, None, {"x": 1}, {"x"}, set(), 0, False),
    ("get", *PLACE),
]
UNLISTED = [
    ("write", PLACE, [("x", 1)], "t1"),
    ("put", PLACE, None, {"x": 1}, {"x"}, set(), 0, False),
    ("lose", PLACE, "thread"),
    ("put", ("a", "", "02"), "01", {"x": 1}, set(), {"delta"}, 0, False),
    ("write", PLACE, [("y", 1)], "t1"),
    ("list_ids", ["a"], None, None, None),
]
NO_RECORD = [
    ("put", PLACE, None, {}, set(), set(), 0, False),
    ("damage", PLACE, "checkpoints", "", None),
    ("load", [("a", "", "")], None, False),
    ("delete_for_runs", 1),
]


@settings(max_examples=120, deadline=None)
@example(operations=NO_RECORD, keep=None, codec="msgpack")
@example(operations=LOST_WRITES, keep=None, codec="msgpack")
@example(operations=UNLISTED, keep=2, codec="msgpack")
@given(
    operations=rounds.map(lambda several: [one for each in several for one in each]),
    keep=st.none() | st.integers(1, 3),
    codec=st.sampled_from(("msgpack", "ormsgpack")),
)
def test_random_sequences_leave_and_answer_what_the_engine_over_any_store_does(
    operations: Any, keep: int | None, codec: str
) -> None:
    ours, reference = Session(Store(codec=codec), keep), Session(Plain(codec=codec), keep)
    assert type(ours.engine) is MemoryEngine
    assert type(reference.engine) is GenericEngine
    for one in operations:
        assert ours.answer(one) == reference.answer(one), one
        content = ours.store.snapshot()
        assert content.values() == reference.store.snapshot().values(), one
        assert len(content) == len(ours.store)
    for held, expected in zip(ours.held, reference.held, strict=True):
        assert held.values() == expected.values()
        assert ours.store.snapshot().diff(held) == reference.store.snapshot().diff(expected)


@settings(max_examples=80, deadline=None)
@given(
    calls=st.lists(
        st.tuples(st.sampled_from(("put", "put", "put", "delete", "ask")), st.integers(0, 60)),
        max_size=80,
    ),
    marked=st.booleans(),
    before=st.none() | st.integers(0, 60),
    limit=st.integers(0, 70),
)
def test_the_newest_ids_are_found_in_whatever_order_they_came_and_went(
    calls: Any, marked: bool, before: int | None, limit: int
) -> None:
    store = Store()
    engine: Any = store.checkpoint_engine()
    where = names("t", "")
    store.set(where.thread, "", 1)
    for call, number in calls:
        key = f"{number:02}"
        if call == "put":
            store.set(where.checkpoints, key, 1)
            if marked:
                store.set(where.checkpoints, f"\0w{key}", 1)
        elif call == "delete":
            store.delete(where.checkpoints, key)
        else:
            store.max_key(where.checkpoints)  # from here on the order is kept
    bound = None if before is None else f"{before:02}"
    ids = sorted(key for key in store.keys(where.checkpoints) if key[0] != "\0")
    expected = [key for key in reversed(ids) if bound is None or key < bound]
    assert [name.id for name in engine.list_ids(["t"], "", bound, limit)] == expected[:limit]
    assert [name.id for name in engine.list_ids(["t"], "", bound, None)] == expected


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"ttl": 5}, ArgumentValueError),
        ({"ttl_on_read": True}, ArgumentValueError),
        ({"ttl": "5"}, ArgumentTypeError),
        ({"ttl": 0}, ArgumentValueError),
    ],
)
def test_nothing_expires_in_memory_and_a_ttl_is_refused(
    options: dict[str, Any], error: type[Exception]
) -> None:
    store = Store()
    with pytest.raises(error, match="ttl") as ours:
        store.checkpoint_engine(**options)
    with pytest.raises(error) as savers:
        SwarmStateSaver(store, **options)
    assert str(ours.value) == str(savers.value)


def test_the_methods_of_a_subclass_are_called() -> None:
    written: list[str] = []

    class Watched(Store):
        def set_many(self, items: Any) -> None:
            items = list(items)
            written.extend(namespace for namespace, _, _ in items)
            super().set_many(items)

    session = Session(Watched(), None)
    session.put(("t", "", "01"), None, {"x": 1}, {"x"}, set(), 0, False)
    assert thread_namespace("t") in written


def test_a_closed_store_is_unavailable() -> None:
    store = Store()
    session = Session(store, None)
    calls: list[Callable[[], Any]] = [
        lambda: session.put(("t", "", "01"), None, {"x": 1}, {"x"}, set(), 0, False),
        lambda: session.write(("t", "", "01"), [("x", 1)], "task"),
        lambda: session.get("t", "", ""),
        lambda: session.list_ids(["t"], None, None, None),
        lambda: session.load([("t", "", "01")], None, True),
    ]
    store.close()
    for call in calls:
        with pytest.raises(StoreUnavailable):
            call()


def test_what_one_thread_inherits_another_does_not_remove(
    frequent_switches: None,
) -> None:
    store = Store()
    saver = SwarmStateSaver(store)
    engine: Any = store.checkpoint_engine()
    together = threading.Barrier(2, timeout=60)
    config: Any = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}

    def remove() -> None:
        for number in range(ROUNDS):
            together.wait()
            engine.delete("t", "", [f"{number:04}a"])

    remover = threading.Thread(target=remove)
    remover.start()
    for number in range(ROUNDS):
        # The second one inherits what only the first one refers to, which goes at this moment.
        versions = {"x": f"{number}"}
        first = checkpoint(versions, {"x": number}, f"{number:04}a")
        second = checkpoint(versions, {"x": number}, f"{number:04}b")
        saver.put(config, first, {}, versions)
        together.wait()
        saver.put_writes(saver.put(config, second, {}, {}), [("x", number)], "task")
    remover.join()
    found = [
        one for one in saver.list(config) if one.config["configurable"]["checkpoint_id"][-1] == "b"
    ]
    assert [one.checkpoint["channel_values"]["x"] for one in found] == [*reversed(range(ROUNDS))]
    assert all(one.pending_writes for one in found)
