"""Random sequences of saver calls leave exactly what InMemorySaver would hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langgraph.checkpoint.serde.types import ERROR, INTERRUPT, RESUME
from twin import TwinSaver, plain

from swarmstate.integrations.langgraph import SwarmStateSaver
from swarmstate.protocols import StoreLike

THREADS = ("a", "a:b", "", "}", "{t:a}", "*", "ü\u0000b", "7", "a" * 100)
NAMESPACES = ("", "b", "b:1|c", "1:b", "}x", "ß")
CHANNELS = ("messages", "x:1", "", "né", "branch:to:b", INTERRUPT, ERROR, RESUME)
values = st.one_of(st.none(), st.integers(0, 9), st.text(max_size=3), st.binary(max_size=3))
places = st.tuples(st.sampled_from(THREADS), st.sampled_from(NAMESPACES))
ids = st.integers(0, 12)
puts = st.tuples(
    st.just("put"),
    places,
    ids,
    st.none() | ids,
    st.dictionaries(st.sampled_from(CHANNELS), values, max_size=4),
    st.sets(st.sampled_from(CHANNELS), max_size=4),
    st.integers(0, 2),
)
writes = st.tuples(
    st.just("write"),
    places,
    ids,
    st.lists(st.tuples(st.sampled_from(CHANNELS), values), max_size=12),
    st.sampled_from(("t1", "t2", "1:t")),
    st.sampled_from(("", "~a", "b")),
)
others = st.tuples(st.just("delete"), st.sampled_from(THREADS))
moves = st.tuples(st.just("roll back"))
operations = st.lists(st.one_of(puts, puts, writes, writes, others, moves), max_size=25)


class Session:
    """Runs operations, keeping the channel versions that a graph would keep."""

    def __init__(self, saver: TwinSaver) -> None:
        self.saver = saver
        self.channels: dict[Any, dict[str, Any]] = {}
        self.saved: Any = None

    def put(self, place: Any, number: int, parent: Any, changed: Any, emptied: Any, n: int) -> None:
        thread, namespace = place
        before = self.channels.get((place, parent), {})
        channels = {name: pair for name, pair in before.items() if name not in emptied}
        versions = {name: pair[0] for name, pair in before.items()}
        new = {}
        for name in {*changed, *(emptied & before.keys())}:
            versions[name] = new[name] = self.saver.get_next_version(versions.get(name), None)
            if name in changed:
                channels[name] = (new[name], changed[name])
        self.channels[place, number] = {
            name: (version, channels.get(name, (None, None))[1])
            for name, version in versions.items()
            if name in channels
        }
        configurable = {"thread_id": thread, "checkpoint_ns": namespace}
        if parent is not None:
            configurable["checkpoint_id"] = f"{parent:04}"
        checkpoint = {
            "v": 2,
            "id": f"{number:04}",
            "ts": "now",
            "channel_values": {name: pair[1] for name, pair in channels.items()},
            "channel_versions": versions,
            "versions_seen": {},
            "updated_channels": None,
        }
        self.saver.put({"configurable": configurable}, checkpoint, {"step": n}, new)

    def write(self, place: Any, number: int, pairs: Any, task: str, path: str) -> None:
        configurable = {
            "thread_id": place[0],
            "checkpoint_ns": place[1],
            "checkpoint_id": f"{number:04}",
        }
        self.saver.put_writes({"configurable": configurable}, pairs, task, path)

    def check(self) -> None:
        saver = self.saver
        for thread in THREADS:
            saver.assert_same_history(thread)
            for namespace in NAMESPACES:
                config: Any = {"configurable": {"thread_id": thread, "checkpoint_ns": namespace}}
                saver.get_tuple(config)
                for options in (
                    {"filter": {"step": 1}},
                    {"limit": 2},
                    {"limit": 0},
                    {"limit": -1},
                    {"before": {"configurable": {"checkpoint_id": "0005"}}, "limit": 3},
                ):
                    list(saver.list(config, **options))
        whole = [plain(one) for one in saver.ours.list(None)]
        each = [
            plain(one)
            for thread in THREADS
            for one in saver.ours.list({"configurable": {"thread_id": thread}})
        ]
        assert len(whole) == len(each)
        assert all(one in each for one in whole)
        newest = [one.config["checkpoint_id"] for one in whole if one is not None]
        assert newest == sorted(newest, reverse=True)


@given(operations=operations)
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@pytest.mark.timeout(600)
def test_any_sequence_of_calls_is_answered_as_the_reference_saver_would(
    make_store: Callable[..., StoreLike], operations: Any
) -> None:
    store = make_store()
    session = Session(TwinSaver(SwarmStateSaver(store)))
    for name, *arguments in operations:
        if name == "put":
            session.put(*arguments)
        elif name == "write":
            session.write(*arguments)
        elif name == "delete":
            session.saver.delete_thread(*arguments)
        else:
            # Whatever a store derives from its hashes has to be rebuilt afterwards.
            store.restore(store.snapshot())
    session.check()
    for thread in THREADS:
        session.saver.delete_thread(thread)
    assert len(store) == 0
