"""The same conditions and graphs in the Rust package of the same name, and here.

Where they differ on purpose, this package is the more exact one, and the cases below leave it out:
ints and floats compare exactly (there as 64-bit floats), in lists as elsewhere; dicts are equal in
any order; numbers may have an exponent or more than 64 bits; 64 levels may be nested (there about
12); values that msgpack cannot hold are accepted in a state, and a state that is not a dict is not.
"""

from __future__ import annotations

from typing import Any

import packages
import pytest
from codec_values import EXAMPLES
from conditions import NAMES, TEXTS, conditions, states, text_of
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from swarmstate import HandoffGraph

pytestmark = pytest.mark.index

# Of a dict in a container at most one key, so that its order does not matter.
STATES = states(st.sampled_from([*TEXTS, None, True, False, b"x"]), st.sampled_from(NAMES)).filter(
    lambda state: all(map(same_there, state.values()))
)


def same_there(value: Any) -> bool:
    """Whether a value means the same in both packages."""
    if isinstance(value, dict):
        return len(value) < 2 and all(map(same_there, value.values()))
    return not isinstance(value, (list, tuple)) or all(map(same_there, value))


@pytest.fixture(scope="module")
def theirs() -> Any:
    return packages.rust().HandoffGraph


def outcome(kind: Any, condition: str, state: dict[str, Any]) -> str | None:
    graph = kind()
    try:
        graph.add_edge("here", "there", when=condition)
    except ValueError:
        assert len(graph) == 0
        return "refused"
    found: str | None = graph.route("here", state)
    return found


@settings(max_examples=max(EXAMPLES // 4, 1), deadline=None)
@given(condition=conditions, state=STATES)
def test_conditions_hold_for_the_same_states(
    theirs: Any, condition: Any, state: dict[str, Any]
) -> None:
    text = text_of(condition)
    expected = outcome(theirs, text, state)
    assume(expected != "refused")  # nested too deeply for it
    assert outcome(HandoffGraph, text, state) == expected


WORDS = [
    "x",
    "y",
    "x.y",
    "'a'",
    '"it\'s"',
    "'",
    "1",
    "-2.5",
    "true",
    "False",
    "null",
    "none",
    "None",
]
WORDS += ["in", "and", "or", "not", "(", ")", "==", "!=", "<", "<=", ">", ">=", "=", "!", ".", "-"]
WORDS += ["TRUE", "1and", "é", "'\\n'", "'\\'", ",", "[", "#", "_"]


@settings(max_examples=max(EXAMPLES // 4, 1), deadline=None)
@given(
    words=st.lists(st.sampled_from(WORDS), max_size=7),
    between=st.sampled_from(["", " ", "\n"]),
    x=st.sampled_from([0, 1, "a", None, True, {"y": 1}]),
)
def test_the_same_texts_are_conditions(theirs: Any, words: list[str], between: str, x: Any) -> None:
    text = between.join(words)
    state = {"x": x, "y": "a", "é": 1}
    assert outcome(HandoffGraph, text, state) == outcome(theirs, text, state)


def closes_a_cycle(graph: Any, edge: tuple[str, str, str | None]) -> bool:
    """Add an edge; return whether it was refused."""
    try:
        graph.add_edge(*edge)
    except ValueError as error:
        return "cycle" in str(error)
    return False


@settings(max_examples=max(EXAMPLES // 10, 1), deadline=None)
@given(
    edges=st.lists(
        st.tuples(
            st.sampled_from("abcde"),
            st.sampled_from("abcde"),
            st.sampled_from([None, "x", "not x"]),
        ),
        max_size=12,
    ),
    on_cycle=st.sampled_from(["error", "allow"]),
)
def test_graphs_are_built_and_read_alike(theirs: Any, edges: list[Any], on_cycle: str) -> None:
    ours, peer = HandoffGraph(on_cycle), theirs(on_cycle)
    for edge in edges:
        assert closes_a_cycle(ours, edge) == closes_a_cycle(peer, edge)
    assert ours.nodes() == peer.nodes()
    assert len(ours) == len(peer)
    assert ours.is_dag() == peer.is_dag()
    assert ours.on_cycle == peer.on_cycle
    assert repr(ours) == repr(peer)
    for node in "abcdef":
        assert ours.edges(node) == peer.edges(node)
        assert ours.has_node(node) == peer.has_node(node) == (node in ours) == (node in peer)
        for x in (True, False):
            assert ours.route(node, {"x": x}) == peer.route(node, {"x": x})
