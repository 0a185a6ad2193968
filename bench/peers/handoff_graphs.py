"""What is measured of handoff graphs: routing over few and many edges, and adding edges."""

from __future__ import annotations

from typing import Any

from measuring import Measure, Run, loop, once

STATE = {
    "category": "other",
    "priority": 0,
    "tags": ["new"],
    "user": {"id": "u-17", "plan": {"tier": "free"}},
}
SIMPLE = "category == 'c{number}'"
RICH = "priority > {number} and user.plan.tier == 't{number}' or 'tag{number}' in tags"
LONG = "(priority >= 3 or vip) and not closed and status != 'open' and 'urgent' in tags"
NODES = [f"agent-{number}" for number in range(500)]


def route(graph_class: Any, _: str, when: str, edges: int, to: int | None) -> Run:
    """Ask for the edge of this index, or, if None, for one that no condition leads to."""
    graph = graph_class()
    for number in range(edges):
        graph.add_edge("here", f"agent-{number}", when=when.format(number=number))
    state: dict[str, Any] = {**STATE}
    if to is not None:
        state |= {"category": f"c{to}", "tags": ["new", f"tag{to}"]}
    assert graph.route("here", state) == (None if to is None else f"agent-{to}")
    return loop("route('here', state)", route=graph.route, state=state)


def add_edges(graph_class: Any, _: str, when: str | None) -> Run:
    """Add one edge to each of many nodes, all from one."""
    edges = [(node, when and when.format(number=number)) for number, node in enumerate(NODES)]

    def add(graph: Any) -> None:
        add_edge = graph.add_edge
        for node, condition in edges:
            add_edge("here", node, condition)

    return once(graph_class, add)


def add_chain(graph_class: Any, _: str) -> Run:
    """Join pairs into a chain: half of the edges need a search for a cycle."""

    def add(graph: Any) -> None:
        add_edge = graph.add_edge
        for first in (0, 1):
            for number in range(first, 99, 2):
                add_edge(NODES[number], NODES[number + 1])

    return once(graph_class, add)


MEASURES = [
    *(
        Measure(
            f"route: {kind} condition, {edges:,} edges, {which} match",
            1.0,
            route,
            arguments=(when, edges, to),
        )
        for kind, when in (("simple", SIMPLE), ("rich", RICH))
        for edges in (10, 1000)
        for which, to in (("first", 0), ("last", edges - 1), ("no", None))
    ),
    Measure("500 times add_edge: no condition", 1.0, add_edges, arguments=(None,)),
    Measure("500 times add_edge: simple condition", 1.0, add_edges, arguments=(SIMPLE,)),
    Measure("500 times add_edge: rich condition", 1.0, add_edges, arguments=(RICH,)),
    Measure("500 times add_edge: long condition", 1.0, add_edges, arguments=(LONG,)),
    Measure("add_edge: a chain of 100 in two rounds", 1.0, add_chain),
]
