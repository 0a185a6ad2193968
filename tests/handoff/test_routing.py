"""The graph: its edges and their order, cycles, arguments, copies, threads."""

from __future__ import annotations

import copy
import gc
import itertools
import pickle
import random
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from enum import Enum
from types import MappingProxyType
from typing import Any

import pytest
from codec_values import EXAMPLES
from hypothesis import given, settings
from hypothesis import strategies as st

import swarmstate
from swarmstate import HandoffGraph
from swarmstate.errors import ArgumentTypeError, ArgumentValueError


def triage() -> HandoffGraph:
    graph = HandoffGraph()
    graph.add_edge("triage", "billing", when="category == 'billing'")
    graph.add_edge("triage", "vip", when="user.tier == 'gold'")
    graph.add_edge("triage", "human")
    graph.add_edge("triage", "never", when="true")
    return graph


@pytest.mark.parametrize(
    ("state", "to"),
    [
        ({"category": "billing", "user": {"tier": "gold"}}, "billing"),
        ({"category": "other", "user": {"tier": "gold"}}, "vip"),
        ({"category": "other"}, "human"),
        ({}, "human"),
        (None, "human"),
    ],
)
def test_the_first_edge_whose_condition_holds_wins(state: dict[str, Any] | None, to: str) -> None:
    assert triage().route("triage", state) == to


def test_nothing_follows_a_node_without_a_matching_edge_or_an_unknown_one() -> None:
    graph = triage()
    graph.add_edge("billing", "human", when="amount > 100")
    assert graph.route("billing", {"amount": 100}) is None
    assert graph.route("billing") is None
    assert graph.route("human", {}) is None
    assert graph.route("unknown", {}) is None
    assert not graph.has_node("unknown")


def test_a_graph_tells_what_is_in_it() -> None:
    graph = triage()
    graph.add_node("orphan")
    graph.add_node("orphan")
    graph.add_node("triage")
    assert graph.nodes() == ["billing", "human", "never", "orphan", "triage", "vip"]
    assert graph.edges("triage") == [
        ("billing", "category == 'billing'"),
        ("vip", "user.tier == 'gold'"),
        ("human", None),
        ("never", "true"),
    ]
    assert graph.edges("human") == graph.edges("unknown") == []
    assert len(graph) == 6
    assert "orphan" in graph
    assert "unknown" not in graph
    assert graph.has_node("human")
    assert not graph.has_node("unknown")
    assert graph.on_cycle == "error"
    assert graph.is_dag()
    assert repr(graph) == "HandoffGraph(nodes=6, edges=4, on_cycle='error')"
    assert repr(HandoffGraph("allow")) == "HandoffGraph(nodes=0, edges=0, on_cycle='allow')"


def test_what_is_given_out_is_not_the_graph_itself() -> None:
    graph = triage()
    graph.edges("triage").clear()
    graph.edges("unknown").append(("x", None))
    graph.nodes().clear()
    assert len(graph.edges("triage")) == 4
    assert graph.edges("unknown") == []
    assert len(graph) == 5


def test_edges_may_be_parallel() -> None:
    graph = HandoffGraph()
    for when in ("x == 1", "x == 2", "x == 2"):
        graph.add_edge("a", "b", when)
    assert graph.edges("a") == [("b", "x == 1"), ("b", "x == 2"), ("b", "x == 2")]
    assert graph.route("a", {"x": 2}) == "b"


def test_routing_does_not_change_the_state() -> None:
    state = {"user": {"tier": "gold"}, "items": [1, 2]}
    before = copy.deepcopy(state)
    graph = HandoffGraph()
    graph.add_edge("a", "b", when="missing.deep == 1 or 3 in items or user.x in user")
    assert graph.route("a", state) is None
    assert state == before


# --- Cycles --------------------------------------------------------------------------------------


def test_an_edge_that_closes_a_cycle_is_refused_with_the_cycle_and_changes_nothing() -> None:
    graph = HandoffGraph()
    for edge in (("a", "b"), ("b", "c"), ("b", "x"), ("c", "d"), ("a", "d")):
        graph.add_edge(*edge)
    nodes, edges = graph.nodes(), {node: graph.edges(node) for node in graph.nodes()}
    with pytest.raises(ArgumentValueError, match="'d' -> 'a' would close the cycle") as caught:
        graph.add_edge("d", "a", when="x == 1")
    text = str(caught.value)
    assert "cycle 'd' -> 'a' -> 'd';" in text or "cycle 'd' -> 'a' -> 'b' -> 'c' -> 'd';" in text
    with pytest.raises(ArgumentValueError, match=r"close the cycle 'x' -> 'b' -> 'x'"):
        graph.add_edge("x", "b")
    for node in ("a", "new"):
        with pytest.raises(ArgumentValueError, match=f"would close the cycle '{node}' -> '{node}'"):
            graph.add_edge(node, node)
    assert graph.nodes() == nodes
    assert {node: graph.edges(node) for node in nodes} == edges
    assert graph.is_dag()


def test_a_long_cycle_is_named_by_its_ends() -> None:
    graph = HandoffGraph()
    for number in range(50_000):
        graph.add_edge(f"n{number}", f"n{number + 1}")
    with pytest.raises(ArgumentValueError) as caught:
        graph.add_edge("n50000", "n0")
    assert "'n50000' -> 'n0' -> 'n1' -> 'n2' -> ... -> 'n49998'" in str(caught.value)
    assert len(str(caught.value)) < 300


def test_a_search_for_a_cycle_looks_at_each_node_once() -> None:
    graph = HandoffGraph()
    layers = [(f"left {number}", f"right {number}") for number in range(60)]
    for layer, following in itertools.pairwise(layers):
        for node in layer:
            for to in following:
                graph.add_edge(node, to)
    graph.add_node("start")
    for node in layers[0]:
        graph.add_edge("start", node)
    # There are 2**59 ways from the first layer to the last.
    graph.add_edge("before", "start")
    graph.add_edge("start", "after")
    for to in layers[-1]:
        with pytest.raises(ArgumentValueError, match="cycle"):
            graph.add_edge(to, "before")
    graph.add_edge("after", layers[0][0])
    assert graph.is_dag()


def test_cycles_are_accepted_where_they_are_allowed() -> None:
    graph = HandoffGraph(on_cycle="allow")
    assert graph.is_dag()
    graph.add_edge("a", "b")
    graph.add_edge("a", "b", when="x")
    graph.add_edge("b", "c")
    assert graph.is_dag()
    graph.add_edge("c", "a", when="again")
    assert not graph.is_dag()
    assert graph.route("c", {"again": True}) == "a"
    loop = HandoffGraph(on_cycle="allow")
    loop.add_edge("a", "a")
    assert not loop.is_dag()
    assert loop.route("a") == "a"


def reaches(edges: set[tuple[int, int]], start: int, end: int) -> bool:
    found = {start}
    while start != end and found:
        grown = found | {to for node, to in edges if node in found}
        if grown == found:
            break
        found = grown
    return end in found


@settings(max_examples=max(EXAMPLES // 10, 1), deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=20))
def test_exactly_the_edges_that_close_a_cycle_are_refused(pairs: list[tuple[int, int]]) -> None:
    strict, free = HandoffGraph(), HandoffGraph(on_cycle="allow")
    kept: set[tuple[int, int]] = set()
    cyclic = False
    for node, to in pairs:
        free.add_edge(str(node), str(to))
        if reaches(kept, to, node):
            with pytest.raises(ArgumentValueError, match="cycle"):
                strict.add_edge(str(node), str(to))
            cyclic = True
        else:
            strict.add_edge(str(node), str(to))
            kept.add((node, to))
        assert free.is_dag() is not cyclic
    assert strict.is_dag()
    assert strict.nodes() == sorted({str(node) for edge in kept for node in edge})


# --- Arguments -----------------------------------------------------------------------------------


class Agent(str, Enum):
    TRIAGE = "triage"
    BILLING = "billing"


def test_a_node_of_a_subclass_of_str_is_the_text_that_it_extends() -> None:
    graph = HandoffGraph(on_cycle=type("Text", (str,), {})("allow"))
    graph.add_edge(Agent.TRIAGE, Agent.BILLING, when=type("Text", (str,), {})("x == 1"))
    graph.add_node(Agent.BILLING)
    assert graph.nodes() == ["billing", "triage"]
    assert {type(name) for name in graph.nodes()} == {str}
    assert graph.route(Agent.TRIAGE, {"x": 1}) == graph.route("triage", {"x": 1}) == "billing"
    assert type(graph.route(Agent.TRIAGE, {"x": 1})) is str
    assert graph.edges(Agent.TRIAGE) == [("billing", "x == 1")]
    assert type(graph.edges("triage")[0][1]) is str
    assert Agent.TRIAGE in graph
    assert graph.has_node(Agent.BILLING)
    assert type(graph.on_cycle) is str


def test_any_text_is_a_node() -> None:
    graph = HandoffGraph()
    for name in ("", " ", "\0", "\ud800", "ü", "x" * 10_000):
        graph.add_edge(name, f"{name}!")
        assert graph.route(name) == f"{name}!"


WRONG: dict[str, tuple[Callable[[HandoffGraph], Any], str]] = {
    "on_cycle": (lambda _: HandoffGraph(on_cycle=1), "on_cycle must be a str, not int (1)"),  # type: ignore[arg-type]
    "add_node": (lambda graph: graph.add_node(None), "name must be a str, not NoneType (None)"),  # type: ignore[arg-type]
    "from_node": (lambda graph: graph.add_edge(1, "b"), "from_node must be a str, not int (1)"),  # type: ignore[arg-type]
    "to": (lambda graph: graph.add_edge("a", b"b"), "to must be a str, not bytes (b'b')"),  # type: ignore[arg-type]
    "when": (
        lambda graph: graph.add_edge("a", "b", lambda state: True),  # type: ignore[arg-type]
        "when must be a str or None, not function",
    ),
    "route": (lambda graph: graph.route(["a"]), "node must be a str, not list (['a'])"),  # type: ignore[arg-type]
    "state": (
        lambda graph: graph.route("a", [("x", 1)]),  # type: ignore[arg-type]
        "state must be a dict or None, not list",
    ),
    "mapping": (
        lambda graph: graph.route("unknown", MappingProxyType({})),  # type: ignore[arg-type]
        "state must be a dict or None, not mappingproxy",
    ),
    "edges": (lambda graph: graph.edges({}), "node must be a str, not dict ({})"),  # type: ignore[arg-type]
    "has_node": (lambda graph: graph.has_node(1.5), "node must be a str, not float (1.5)"),  # type: ignore[arg-type]
    "contains": (lambda graph: 5 in graph, "node must be a str, not int (5)"),
}


@pytest.mark.parametrize("name", WRONG)
def test_an_argument_of_the_wrong_type_is_named_and_changes_nothing(name: str) -> None:
    call, text = WRONG[name]
    graph = triage()
    with pytest.raises(ArgumentTypeError) as caught:
        call(graph)
    assert str(caught.value).startswith(text)
    assert len(graph) == 5


def test_a_refused_state_is_not_shown() -> None:
    with pytest.raises(ArgumentTypeError) as caught:
        HandoffGraph().route("a", ["secret"])  # type: ignore[arg-type]
    assert "secret" not in str(caught.value)


def test_another_way_to_treat_cycles_is_refused() -> None:
    for wrong in ("", "Error", "warn"):
        with pytest.raises(ArgumentValueError, match="on_cycle must be 'error' or 'allow', not"):
            HandoffGraph(on_cycle=wrong)


def test_arguments_have_the_names_of_the_rust_package() -> None:
    graph = HandoffGraph(on_cycle="error")
    graph.add_node(name="n")
    graph.add_edge(from_node="a", to="b", when="x == 1")
    assert graph.route(node="a", state={"x": 1}) == "b"
    assert graph.edges(node="a") == [("b", "x == 1")]
    assert graph.has_node(node="n")
    assert swarmstate.core_version() == swarmstate.__version__


# --- Copies, memory, threads ---------------------------------------------------------------------


class Own(HandoffGraph):
    """A subclass."""


COPIES: dict[str, Callable[[HandoffGraph], HandoffGraph]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    **{
        f"pickle {protocol}": lambda graph, protocol=protocol: pickle.loads(
            pickle.dumps(graph, protocol)
        )
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
    },
}


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("kind", [HandoffGraph, Own])
def test_a_copy_routes_alike_and_is_independent(way: str, kind: type[HandoffGraph]) -> None:
    graph = kind("allow")
    graph.add_node("orphan")
    graph.add_edge("z", "b", when="x == 1")
    graph.add_edge("b", "z")
    graph.add_edge("z", "c", when="x == 1")
    copied = COPIES[way](graph)
    assert type(copied) is kind
    assert (copied.nodes(), copied.on_cycle) == (graph.nodes(), "allow")
    assert [copied.edges(node) for node in copied.nodes()] == [
        graph.edges(node) for node in graph.nodes()
    ]
    assert copied.route("z", {"x": 1}) == "b"
    copied.add_edge("z", "d")
    assert graph.route("z", {"x": 2}) is None


def test_graphs_leave_no_memory_behind() -> None:
    import tracemalloc

    def work() -> None:
        graph = HandoffGraph("allow")
        for number in range(50):
            graph.add_edge(
                "a", f"b{number}", f"(x.y == {number} or not 'z' in x) and {number}.5 < z"
            )
            for wrong in ("x ==", "(x", f"'{number}"):
                with pytest.raises(ArgumentValueError):
                    graph.add_edge("a", "b", wrong)
        for _ in range(50):
            graph.route("a", {"x": {"y": 1, "z": [1]}, "z": 1e9})
        graph.is_dag()

    work()
    gc.collect()
    tracemalloc.start()
    try:
        work()
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(20):
            work()
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] - before < 20_000
    finally:
        tracemalloc.stop()


def add_in_any_order(graph: HandoffGraph, seed: int, together: threading.Barrier) -> int:
    """Try every edge between eight nodes; return how many were accepted."""
    pairs = [(f"n{i}", f"n{j}") for i in range(8) for j in range(8)]
    random.Random(seed).shuffle(pairs)
    together.wait()
    added = 0
    for node, to in pairs:
        with suppress(ArgumentValueError):
            graph.add_edge(node, to)
            added += 1
        graph.route(node)
    return added


def test_threads_that_add_edges_at_once_close_no_cycle() -> None:
    switching = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as threads:
            for first in range(0, 80, 4):
                graph, together = HandoffGraph(), threading.Barrier(4)
                work = [
                    threads.submit(add_in_any_order, graph, first + number, together)
                    for number in range(4)
                ]
                added = sum(one.result() for one in work)
                # A graph that does not refuse cycles finds none.
                free = HandoffGraph("allow")
                for node in graph.nodes():
                    for to, _ in graph.edges(node):
                        free.add_edge(node, to)
                assert free.is_dag()
                assert sum(len(graph.edges(node)) for node in graph.nodes()) == added
    finally:
        sys.setswitchinterval(switching)
