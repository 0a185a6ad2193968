"""Names that run together, or mean something to a server, never lead to another thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from threads import checkpoint, config

from swarmstate.integrations.langgraph import SwarmStateSaver
from swarmstate.protocols import StoreLike

# Thread, checkpoint namespace, checkpoint id: alike where they are joined by what is between them.
ALIKE = [
    [("a:b", "c", "1"), ("a", "b:c", "1"), ("a", "b", "c:1"), ("a", "b:c:1", "1")],
    [("a}:b", "", "1"), ("a", "b}:", "1"), ("a", "b}", ":1")],
    [("a", "1:b", "c"), ("a", "1", "bc"), ("a", "", "1:1bc"), ("a", "b", "1c")],
    [("", "", "1"), ("", "1", "1"), ("}", "", "1"), ("{}", "", "1"), ("{t:}", "", "1")],
    [("*", "", "1"), ("?", "", "1"), ("[ab]", "", "1"), ("a", "", "1"), ("\\*", "", "1")],
    [("é", "", "1"), ("e\u0301", "", "1"), ("É", "", "1")],
    [("a\0b", "", "1"), ("a", "\0b", "1"), ("a", "", "\0b1")],
]


def put(saver: SwarmStateSaver, place: tuple[str, str, str]) -> None:
    thread, namespace, checkpoint_id = place
    body = checkpoint({"place": "1"}, {"place": place}, checkpoint_id)
    stored = saver.put(config(thread, namespace), body, {}, {"place": "1"})
    saver.put_writes(stored, [("place", place)], "task")


def held(saver: SwarmStateSaver, place: tuple[str, str, str]) -> Any:
    found = saver.get_tuple(config(*place))
    if found is None:
        return None
    ((_, _, written),) = found.pending_writes or ()
    assert tuple(written) == tuple(found.checkpoint["channel_values"]["place"])
    return tuple(written)


@pytest.mark.parametrize("places", ALIKE)
def test_each_place_holds_its_own(make_store: Callable[..., StoreLike], places: Any) -> None:
    saver = SwarmStateSaver(make_store())
    for number, place in enumerate(places):
        assert held(saver, place) is None
        put(saver, place)
        assert [held(saver, other) for other in places[: number + 1]] == places[: number + 1]
    assert sorted(saver.threads()) == sorted({thread for thread, _, _ in places})
    for thread in saver.threads():
        own = {place for place in places if place[0] == thread}
        found = [one.config["configurable"] for one in saver.list(config_of_thread(thread))]
        names = {(c["thread_id"], c["checkpoint_ns"], c["checkpoint_id"]) for c in found}
        assert names == own


@pytest.mark.parametrize("places", ALIKE)
def test_what_removes_or_copies_one_thread_leaves_the_others(
    make_store: Callable[..., StoreLike], places: Any
) -> None:
    store = make_store()
    saver = SwarmStateSaver(store)
    for place in places:
        put(saver, place)
    left = list(places)
    for thread in saver.threads():
        saver.prune([thread])
        saver.copy_thread(thread, "copy")
        saver.delete_thread("copy")
        saver.delete_thread(thread)
        gone = [place for place in left if place[0] == thread]
        left = [place for place in left if place[0] != thread]
        assert [held(saver, place) for place in gone] == [None] * len(gone)
        # Pruning left the newest of each namespace.
        assert all(held(saver, place) == place for place in left)
    assert len(store) == 0


def config_of_thread(thread: str) -> Any:
    return {"configurable": {"thread_id": thread}}
