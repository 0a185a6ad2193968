"""A server loses single keys: it evicts, they expire, another program removes one.

Whatever is lost, a read gives the whole checkpoint, none, or a DecodeError that names what is
missing.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.channels import DeltaChannel
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt
from threads import checkpoint, config, grow

from swarmstate.checkpoints import names
from swarmstate.checkpoints.format import mark_of_writes
from swarmstate.errors import DecodeError, InvalidArgumentError
from swarmstate.integrations.langgraph import SwarmStateSaver
from swarmstate.protocols import StoreLike

MakeStore = Callable[..., StoreLike]
ALL: Any = {"configurable": {"thread_id": "thread"}}
HERE = names("thread", "")


def joined(state: list[str] | None, writes: list[list[str]]) -> list[str]:
    return [*(state or ()), *(each for write in writes for each in write)]


class Plain(TypedDict, total=False):
    log: Annotated[list[str], operator.add]


class Rebuilt(TypedDict, total=False):
    log: Annotated[list[str], DeltaChannel(joined, snapshot_frequency=1000)]


class SometimesRebuilt(TypedDict, total=False):
    log: Annotated[list[str], DeltaChannel(joined, snapshot_frequency=2)]


def graph(state: Any, saver: SwarmStateSaver) -> Any:
    """A fan-out to a subgraph, and to a node that asks a question."""
    inner: StateGraph[Any] = StateGraph(Plain)
    inner.add_node("deep", lambda state: {"log": ["deep"]})
    inner.add_edge(START, "deep")
    outer: StateGraph[Any] = StateGraph(state)
    outer.add_node("first", lambda state: {"log": ["first"]})
    sub = inner.compile(checkpointer=True)
    outer.add_node("inner", lambda state: {"log": sub.invoke({"log": ["in"]})["log"][-1:]})
    outer.add_node("ask", lambda state: {"log": [interrupt("really?")]})
    outer.add_node("last", lambda state: {"log": ["last"]})
    outer.add_edge(START, "first")
    for node in ("inner", "ask"):
        outer.add_edge("first", node)
        outer.add_edge(node, "last")
    outer.add_edge("last", END)
    return outer.compile(checkpointer=saver)


class Damaged:
    """A thread that can be brought back whole, and lose one namespace of the store."""

    def __init__(self, store: StoreLike, state: Any) -> None:
        self.store = store
        self.saver = SwarmStateSaver(store)
        self.graph = graph(state, self.saver)
        self.graph.invoke({"log": ["one"]}, ALL, durability="sync")
        self.graph.invoke(Command(resume="yes"), ALL, durability="sync")
        self.graph.invoke({"log": ["two"]}, ALL, durability="sync")
        self.whole = store.snapshot()
        self.lost: tuple[str | None, ...] = ()
        self.parts = sorted(store.namespaces())
        self.tuples = list(self.saver.list(ALL))
        self.calls: dict[str, Callable[[], Any]] = {
            "get_tuple": lambda: self.saver.get_tuple(ALL),
            "list": lambda: list(self.saver.list(ALL)),
            "get_state": self._state,
            "resume": lambda: self._invoke(Command(resume="yes")),
            "a new input": lambda: self._invoke({"log": ["three"]}),
        }
        for number, one in enumerate(self.tuples):
            self.calls[f"history of {number}"] = lambda one=one: self._history(one.config)
            self.calls[f"get_tuple of {number}"] = lambda one=one: self.saver.get_tuple(one.config)
        self.answers = {name: self.answer(name, None) for name in self.calls}

    def _state(self) -> Any:
        found = self.graph.get_state(ALL)
        if found.created_at is None:
            return None
        return found.values, found.next, [each.value for each in found.interrupts]

    def _invoke(self, given: Any) -> Any:
        return self.graph.invoke(given, ALL, durability="sync")["log"]

    def _history(self, where: Any) -> Any:
        return self.saver.get_delta_channel_history(config=where, channels=["log"])["log"]

    def lose(self, part: str | None) -> None:
        self.store.restore(self.whole)
        # What is derived comes back, as it would have been there.
        self.saver.get_tuple(ALL)
        list(self.saver.list(ALL))
        if part is not None:
            assert self.store.delete_namespace(part)

    def answer(self, name: str, part: str | None) -> Any:
        if self.lost != (part,):
            self.lose(part)
        # What writes is followed by a new thread.
        self.lost = () if name in ("resume", "a new input") else (part,)
        return self.calls[name]()


STATES = [Plain, Rebuilt, SometimesRebuilt]


@pytest.mark.parametrize("state", STATES)
def test_whatever_is_lost_every_answer_is_whole_absent_or_an_error(
    make_store: MakeStore, state: Any
) -> None:
    thread = Damaged(make_store(), state)
    assert len(thread.parts) > 12
    assert thread.answers["get_state"][2] == ["really?"]
    assert thread.answers["resume"] == [
        *("one", "first", "yes", "deep", "last", "two", "first", "yes", "deep", "last")
    ]
    refused = {}
    for part in thread.parts:
        absent = part in (HERE.thread, HERE.checkpoints)
        for name in thread.calls:
            try:
                answer = thread.answer(name, part)
            except DecodeError as error:
                refused[part] = str(error)
                continue
            whole = answer == thread.answers[name]
            if name == "list":
                assert all(one in thread.tuples for one in answer), (part, name)
            elif name.startswith("history"):
                where = name.replace("history", "get_tuple")
                assert whole or thread.answer(where, part) is None, (part, name)
            elif name in ("a new input", "resume"):
                # Of a thread that is absent, a run starts anew.
                anew = ["three"] * (name == "a new input") + ["first", "deep"]
                assert answer == (anew if absent else thread.answers[name]), (part, name)
            else:
                assert whole or answer is None, (part, name)
    # The values, and every namespace of writes, of the graph and of its subgraph.
    assert len(refused) > len(thread.parts) - 6
    assert all("of thread 'thread'" in text for text in refused.values())


@pytest.mark.parametrize("state", STATES)
def test_of_half_a_thread_all_that_can_be_named_is_deleted(
    make_store: MakeStore, state: Any
) -> None:
    thread = Damaged(make_store(), state)
    for part in thread.parts:
        thread.lose(part)
        thread.saver.delete_thread("thread")
        left = thread.store.namespaces()
        if part == HERE.thread:
            # Which subgraphs there were is not written anywhere else.
            assert all(":inner" in each for each in left)
        elif part in (HERE.checkpoints, names("thread", "inner").checkpoints):
            assert all(each.startswith("langgraph:writes:") for each in left)
        else:
            assert left == []
        assert thread.saver.get_tuple(ALL) is None
        assert list(thread.saver.list(ALL)) == []


def test_writes_that_follow_lost_ones_do_not_pass_for_all_of_them(make_store: MakeStore) -> None:
    saver = SwarmStateSaver(make_store())
    last = grow(saver, 2, writes=2)
    here = HERE.writes + last["configurable"]["checkpoint_id"]
    assert saver.store.delete_namespace(here) == 2
    saver.put_writes(last, [("x", 1)], "a later task")
    with pytest.raises(DecodeError, match=r"pending writes .* are missing"):
        saver.get_tuple(last)
    with pytest.raises(DecodeError, match=r"pending writes .* are missing"):
        list(saver.list(config()))
    # The thread goes on: what comes after it is whole.
    following = saver.put(last, checkpoint({}, {}), {}, {})
    found = saver.get_tuple(config())
    assert found is not None
    assert found.config == following


def test_a_delta_channel_whose_ancestors_were_lost_in_a_running_graph_is_an_error(
    make_store: MakeStore,
) -> None:
    saver = SwarmStateSaver(make_store())
    metadata: Any = {"counters_since_delta_snapshot": {"x": [1, 1]}}
    where = config()
    for number in range(3):
        body = checkpoint({"x": str(number)}, {}, f"{number:04}")
        where = saver.put(where, body, metadata, {"x": str(number)})
        saver.put_writes(where, [("x", number)], "task")
        if number == 1:
            saver.store.delete_namespace(HERE.checkpoints)
    for call in (where, config()):
        with pytest.raises(DecodeError, match=r"0001.* is missing"):
            saver.get_delta_channel_history(config=call, channels=["x"])
    # Another channel does not need it, nor is what was removed on purpose missed.
    assert saver.get_delta_channel_history(config=where, channels=["y"]) == {"y": {"writes": []}}
    saver.delete_thread("thread")
    where = config()
    for number, run in enumerate("abc"):
        body = checkpoint({"x": str(number)}, {}, f"{number:04}")
        where = saver.put(where, body, {**metadata, "run_id": run}, {"x": str(number)})
        saver.put_writes(where, [("x", number)], "task")
    saver.delete_for_runs(["a"])
    found = saver.get_delta_channel_history(config=where, channels=["x"])
    assert [value for _, _, value in found["x"]["writes"]] == [1]


def test_the_value_that_a_delta_channel_starts_from_is_missed(make_store: MakeStore) -> None:
    saver = SwarmStateSaver(make_store())
    metadata: Any = {"counters_since_delta_snapshot": {"x": [1, 1]}}
    first = saver.put(config(), checkpoint({"x": "1"}, {"x": "seed"}, "0001"), {}, {"x": "1"})
    last = saver.put(first, checkpoint({"x": "2"}, {}, "0002"), metadata, {"x": "2"})
    found = saver.get_delta_channel_history(config=last, channels=["x"])
    assert found == {"x": {"writes": [], "seed": "seed"}}
    assert saver.store.delete_namespace(HERE.values)
    with pytest.raises(DecodeError, match="'x' of checkpoint '0001'"):
        saver.get_delta_channel_history(config=last, channels=["x"])


def test_a_mark_of_writes_is_never_taken_for_a_checkpoint(make_store: MakeStore) -> None:
    store = make_store()
    saver = SwarmStateSaver(store, max_checkpoints_per_thread=2)
    saver.put_writes(config(checkpoint_id="0005"), [("x", "early")], "task")
    mark = mark_of_writes("0005")
    assert store.keys(HERE.checkpoints) == [mark]
    assert saver.get_tuple(config()) is None
    assert saver.get_tuple(config(checkpoint_id=mark)) is None
    assert list(saver.list(config())) == []
    assert list(saver.list(config(), limit=3)) == []
    with pytest.raises(InvalidArgumentError, match="NUL"):
        saver.put(config(), checkpoint({}, {}, mark), {}, {})
    with pytest.raises(InvalidArgumentError, match="NUL"):
        saver.put_writes(config(checkpoint_id=mark), [("x", 1)], "task")
    for number in range(1, 7):
        where = saver.put(config(), checkpoint({}, {}, f"{number:04}"), {}, {})
        saver.put_writes(where, [("x", number)], "task")
    ids = [one.checkpoint["id"] for one in saver.list(config())]
    assert ids == ["0006", "0005"]
    assert [one.checkpoint["id"] for one in saver.list(config(), limit=5)] == ids
    saver.copy_thread("thread", "copy")
    there = names("copy", "").checkpoints
    assert sorted(store.keys(there)) == sorted([*ids, *map(mark_of_writes, ids)])
    saver.prune(["thread"])
    assert sorted(store.keys(HERE.checkpoints)) == [mark_of_writes("0006"), "0006"]
    saver.delete_thread("copy")
    saver.delete_thread("thread")
    assert store.namespaces() == []


def test_ids_that_start_with_other_control_characters_keep_their_places(
    make_store: MakeStore,
) -> None:
    saver = SwarmStateSaver(make_store())
    ids = ["\0", "\0a", "\0x", "\0z", "\1", "5"]
    for number, checkpoint_id in enumerate(ids):
        where = saver.put(config(), checkpoint({}, {}, checkpoint_id), {}, {})
        saver.put_writes(where, [("x", number)], "task")
        latest = saver.get_tuple(config())
        assert latest is not None
        assert latest.config == where
    for limit in (None, 1, 3, 5, 6, 9):
        found = [one.checkpoint["id"] for one in saver.list(config(), limit=limit)]
        assert found == ids[::-1][:limit]
    for number, before in enumerate(ids):
        found = [
            one.checkpoint["id"]
            for one in saver.list(config(), before=config(checkpoint_id=before), limit=4)
        ]
        assert found == ids[:number][::-1][:4]


def test_a_thread_without_marks_reads_as_before(make_store: MakeStore) -> None:
    saver = SwarmStateSaver(make_store())
    grow(saver, 3, writes=2)
    before = list(saver.list(config()))
    for key in saver.store.keys(HERE.checkpoints):
        if key.startswith("\0"):
            saver.store.delete(HERE.checkpoints, key)
    assert list(saver.list(config())) == before
    assert saver.get_tuple(config()) == before[0]
    saver.put_writes(before[0].config, [("x", 1)], "another")
    saver.prune(["thread"])
    (found,) = saver.list(config())
    assert len(found.pending_writes or ()) == 3
    saver.delete_thread("thread")
    assert saver.store.namespaces() == []
