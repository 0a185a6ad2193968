"""Long lists are stored and sent in segments: what was there before is not sent again."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from segments import held_and_needed
from threads import checkpoint, config
from twin import plain

from swarmstate.integrations.langgraph import SwarmStateSaver, lists
from swarmstate.protocols import StoreLike

MakeStore = Callable[..., StoreLike]


@pytest.fixture
def short_lists() -> Iterator[None]:
    """Cut every list, so that short ones show what long ones do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lists, "LEAST_BYTES", 1)
        patch.setattr(lists, "_ASKED_BYTES", 20)
        yield


# Deterministic and short, but no two alike unless they are meant to be.
elements = st.one_of(
    st.integers(0, 30),
    st.builds(lambda n: {"n": n}, st.integers(0, 30)),
    st.builds(lambda n: HumanMessage(f"{n}", id=f"{n}"), st.integers(0, 30)),
)
changes = st.one_of(
    st.tuples(st.just("append"), st.lists(elements, min_size=1, max_size=6)),
    st.tuples(st.just("mutate"), st.integers(0, 40)),
    st.tuples(st.just("remove"), st.integers(0, 40)),
    st.tuples(st.just("reverse")),
    st.tuples(st.just("nothing")),
)
puts = st.tuples(st.just("put"), st.integers(0, 8), st.integers(0, 2), changes)
operations = st.one_of(
    puts,
    puts,
    puts,
    st.tuples(st.just("mutate silently"), st.integers(0, 2), st.integers(0, 40)),
    st.tuples(st.just("write"), st.integers(0, 8), st.integers(0, 2), st.booleans(), elements),
    st.tuples(st.just("write early"), st.integers(0, 2), elements),
    st.tuples(st.just("forget")),
    st.tuples(st.just("other saver")),
    st.tuples(st.just("prune")),
    st.tuples(st.just("delete run"), st.integers(0, 8)),
    st.tuples(st.just("copy")),
    st.tuples(st.just("roll back")),
)


class Session:
    """Does everything on our saver and on InMemorySaver, as graphs would on three lists."""

    channels = ("a", "b", "c")

    def __init__(self, store: StoreLike, limit: int | None, cached: int) -> None:
        self.store = store
        self.savers = [
            SwarmStateSaver(
                store, max_checkpoints_per_thread=limit, list_cache_bytes=cached if n == 0 else 0
            )
            for n in range(2)
        ]
        self.saver = self.savers[0]
        self.reference = InMemorySaver()
        self.limit = limit
        self.ids: list[str] = []
        self.early: set[str] = set()
        self.content: dict[str, Any] = {}
        self.number = 0

    def next_id(self) -> str:
        return f"{self.number + 1:04}"

    def put(self, back: int, channel: int, change: Any) -> None:
        parent = self.ids[-1 - back % len(self.ids)] if self.ids else None
        values, versions = self.content.get(parent or "", ({}, {}))
        values = {key: list(value) for key, value in values.items()}
        versions = dict(versions)
        name = self.channels[channel]
        changed = self.changed(values.get(name, []), *change)
        new = {}
        if changed is not None:
            values[name] = changed
            new[name] = versions[name] = self.saver.get_next_version(versions.get(name), None)  # type: ignore[arg-type]
        self.number += 1
        made = f"{self.number:04}"
        body = checkpoint(versions, values, made)
        metadata: Any = {"run_id": f"run{self.number % 4}", "step": self.number}
        where = config("thread", "", parent)
        for each in (self.saver, self.reference):
            each.put(where, body, metadata, dict(new))
        self.content[made] = (values, versions)
        self.ids.append(made)
        if self.limit is not None:
            del self.ids[: -self.limit]

    @staticmethod
    def changed(before: list[Any], kind: str, *given: Any) -> list[Any] | None:
        after = [*before]
        if kind == "append":
            return after + copy.deepcopy(given[0])
        if kind == "nothing" or not before:
            return None
        if kind == "mutate":
            # The object itself, which earlier checkpoints of the caller hold too.
            Session.mutate(after, given[0])
        elif kind == "remove":
            del after[given[0] % len(after)]
        else:
            after.reverse()
        return after

    @staticmethod
    def mutate(values: list[Any], at: int) -> None:
        if values:
            at %= len(values)
            if isinstance(values[at], dict):
                values[at]["n"] += 100
            elif isinstance(values[at], HumanMessage):
                values[at].content += "!"
            else:
                values[at] += 100

    def mutate_silently(self, channel: int, at: int) -> None:
        """Change a list that the next put inherits; what was stored first counts."""
        if self.ids:
            self.mutate(self.content[self.ids[-1]][0].get(self.channels[channel], []), at)

    def write(self, back: int, channel: int, whole: bool, element: Any) -> None:
        if self.ids:
            made = self.ids[-1 - back % len(self.ids)]
            name = self.channels[channel]
            value = [*self.content[made][0].get(name, []), element] if whole else [element]
            self.put_writes(made, name, value)

    def write_early(self, channel: int, element: Any) -> None:
        self.put_writes(self.next_id(), self.channels[channel], [element, element])

    def put_writes(self, made: str, name: str, value: Any) -> None:
        for each in (self.saver, self.reference):
            each.put_writes(
                config("thread", "", made), [(name, value), ("x", 1)], f"task{len(value) % 3}"
            )

    def forget(self) -> None:
        self.saver._lists = lists.ListCache(self.saver._lists.most)

    def other_saver(self) -> None:
        self.saver = self.savers[self.saver is self.savers[0]]

    def prune(self) -> None:
        self.saver.prune(["thread"])
        self.ids = self.ids[-1:]

    def delete_run(self, run: int) -> None:
        run %= 4
        self.saver.delete_for_runs([f"run{run}"])
        self.ids = [each for each in self.ids if int(each) % 4 != run]

    def copy(self) -> None:
        self.saver.delete_thread("copy")
        self.saver.copy_thread("thread", "copy")
        self.check("copy")

    def roll_back(self) -> None:
        self.store.restore(self.store.snapshot())

    def check(self, thread: str = "thread") -> None:
        found = list(self.saver.list(config(thread, "")))
        assert [one.checkpoint["id"] for one in found] == self.ids[::-1]
        for one in found:
            same = self.reference.get_tuple(config("thread", "", one.checkpoint["id"]))
            assert same is not None
            ours, theirs = plain(one), plain(same)
            assert ours is not None
            assert theirs is not None
            assert ours.checkpoint == theirs.checkpoint
            assert ours.pending_writes == theirs.pending_writes
            assert ours.metadata == theirs.metadata
            again = self.saver.get_tuple(config(thread, "", one.checkpoint["id"]))
            assert plain(again) == ours
        held, needed = held_and_needed(self.store)
        assert needed - held == set()
        assert held - needed == set()


@given(
    limit=st.none() | st.integers(1, 4),
    cached=st.sampled_from((0, 3000, 1 << 20)),
    steps=st.lists(operations, max_size=30),
)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("short_lists")
def test_any_sequence_is_answered_as_the_reference_saver_would_and_leaves_no_segment_over(
    make_store: MakeStore, limit: int | None, cached: int, steps: Any
) -> None:
    session = Session(make_store(), limit, cached)
    for name, *arguments in steps:
        getattr(session, name.replace(" ", "_"))(*arguments)
    session.check()
    session.saver.delete_thread("thread")
    session.saver.delete_thread("copy")
    assert len(session.store) == 0
