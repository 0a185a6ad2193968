r"""Routing between agents by rules instead of by a model: deterministic, and in microseconds.

::

    graph = HandoffGraph()
    graph.add_edge("triage", "billing", when="category == 'billing' and amount > 100")
    graph.add_edge("triage", "human")
    graph.route("triage", {"category": "billing", "amount": 250})  # -> 'billing'

A condition is written in a small language of its own, never in Python. It is parsed once, when its
edge is added, and it can only read the state that it is given:

=============  =============================================================================
literals       ``'text'``, ``"text"``, ``12``, ``-1.5e3``, ``true``, ``false``, ``null``
paths          ``category``, ``user.plan.tier``: keys of the state and of the dicts in it
comparisons    ``==  !=  <  <=  >  >=  in``, each between two values
logic          ``and``, ``or``, ``not``, ``( )``, with at most 64 levels of ``not`` and ``( )``
=============  =============================================================================

In a string, a backslash takes the next character as it is, but ``\n`` is a line feed and ``\t`` a
tab. A path that leads nowhere is ``null``. A value alone holds as it does in Python: not if it is
``0``, ``null``, ``false`` or empty.

Numbers compare with numbers, and strings with strings, by code point. ``==`` also compares null,
booleans, bytes, lists (a tuple counts as one) and dicts, each with its own kind only, so ``true``
is not ``1``. ``in`` looks for a part of a string, an item of a list, tuple or set, or a key of a
dict. All other comparisons are false, and ``!=`` true; none is an error.

A value of a subclass counts as the built-in value that it extends. A value of any other type is
true, equals nothing and contains nothing. No method of a value is called.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, NoReturn, cast

from swarmstate._handoff import Condition, connect, first, parse
from swarmstate.arguments import shown
from swarmstate.errors import ArgumentTypeError, ArgumentValueError

__all__ = ["HandoffGraph"]

_Edge = tuple[str, "str | None", "Condition | None"]

_NO_STATE: dict[str, Any] = {}


class HandoffGraph:
    """A graph of agents, or other nodes, and of rules that say who follows whom.

    Any thread may add edges and ask for routes at any time. A graph can be copied and pickled.

    Args:
        on_cycle: What happens to an edge that closes a cycle, which includes one from a node to
            itself: ``"error"`` refuses it, ``"allow"`` adds it.

    Raises:
        ArgumentTypeError: ``on_cycle`` is not a str.
        ArgumentValueError: ``on_cycle`` is another str.
    """

    __slots__ = ("__weakref__", "_edges", "_entered", "_on_cycle")

    def __init__(self, on_cycle: str = "error") -> None:
        self._on_cycle = _text("on_cycle", on_cycle)
        if self._on_cycle not in ("error", "allow"):
            raise ArgumentValueError(f"on_cycle must be 'error' or 'allow', not {shown(on_cycle)}")
        self._edges: dict[str, list[_Edge]] = {}
        self._entered: set[str] = set()

    @property
    def on_cycle(self) -> str:
        """What happens to an edge that closes a cycle: ``"error"`` or ``"allow"``."""
        return self._on_cycle

    def add_node(self, name: str) -> None:
        """Add a node without edges; nothing happens if it is there. O(1).

        Raises:
            ArgumentTypeError: ``name`` is not a str.
        """
        self._edges.setdefault(_text("name", name), [])

    def add_edge(self, from_node: str, to: str, when: str | None = None) -> None:
        """Add an edge behind the others of its node, and both nodes if they are new.

        O(length of the condition), and with ``on_cycle="error"`` the search for a cycle: O(1) where
        nothing leads to ``from_node`` yet or nothing leaves ``to``, else O(what ``to`` leads to).

        Args:
            from_node: Where the edge begins.
            to: Where it leads.
            when: The condition on which it is taken, see :mod:`swarmstate.handoff`; None: always.

        Raises:
            ArgumentTypeError: a node is not a str, or ``when`` neither a str nor None.
            ArgumentValueError: ``when`` is not a condition (the text says where and why), or the
                edge closes a cycle (the text names it). The graph is unchanged.
        """
        if type(from_node) is not str:
            from_node = _text("from_node", from_node)
        if type(to) is not str:
            to = _text("to", to)
        condition = None
        if when is not None:
            if type(when) is not str:
                when = _text("when", when, "a str or None")
            try:
                condition = parse(when)
            except ArgumentValueError as error:
                ends = f"{shown(from_node)} -> {shown(to)}"
                raise ArgumentValueError(f"edge {ends}: {error}") from None
        edge = (to, when, condition)
        cycle = connect(self._edges, self._entered, from_node, edge, self._on_cycle == "error")
        if cycle is not None:
            _refuse(from_node, to, cycle)

    # A mapping to type checkers, because to them a TypedDict is not a dict[str, Any].
    def route(self, node: str, state: Mapping[str, Any] | None = None) -> str | None:
        """Return where to go from a node: the first of its edges whose condition holds decides.

        Edges are tried in the order in which they were added. O(edges of the node), whatever the
        size of the state, of which only the values that a condition names are looked at.

        Args:
            node: Where to go from.
            state: A dict that the conditions are about; None is an empty one.

        Returns:
            The node that the edge leads to; None if no condition holds or ``node`` is unknown.

        Raises:
            ArgumentTypeError: ``node`` is not a str, or ``state`` neither a dict nor None.
        """
        if type(node) is not str:
            node = _text("node", node)
        if state is None:
            state = _NO_STATE
        elif type(state) is not dict and not issubclass(type(state), dict):
            # Without the value: what is in a state is nobody else's business.
            raise ArgumentTypeError(f"state must be a dict or None, not {type(state).__name__}")
        edges = self._edges.get(node)
        return None if edges is None else first(edges, state)

    def nodes(self) -> list[str]:
        """Return all nodes, sorted. O(n log n)."""
        return sorted(self._edges)

    def edges(self, node: str) -> list[tuple[str, str | None]]:
        """Return the edges of a node in order, each as (to, when); none if it is unknown. O(edges).

        Raises:
            ArgumentTypeError: ``node`` is not a str.
        """
        return [(to, when) for to, when, _ in self._edges.get(_text("node", node), ())]

    def has_node(self, node: str) -> bool:
        """Return whether the node is in the graph. O(1).

        Raises:
            ArgumentTypeError: ``node`` is not a str.
        """
        return _text("node", node) in self._edges

    def is_dag(self) -> bool:
        """Return whether the graph has no cycle. O(1) with ``on_cycle="error"``, else O(edges)."""
        if self._on_cycle == "error":
            return True
        graph = dict(self._edges)  # of what other threads add from here on, some counts
        targets = {node: [edge[0] for edge in graph[node] if edge[0] in graph] for node in graph}
        entries = Counter(to for edges in targets.values() for to in edges)
        # Nodes that nothing leads to are taken away as long as there are any (Kahn's algorithm).
        free = [node for node in targets if not entries[node]]
        for node in free:
            for to in targets[node]:
                entries[to] -= 1
                if not entries[to]:
                    free.append(to)
        return len(free) == len(targets)

    def __len__(self) -> int:
        return len(self._edges)

    def __contains__(self, node: object) -> bool:
        return _text("node", node) in self._edges

    def __repr__(self) -> str:
        edges = sum(map(len, [*self._edges.values()]))
        return f"HandoffGraph(nodes={len(self)}, edges={edges}, on_cycle={self._on_cycle!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        contents = [(node, self.edges(node)) for node in [*self._edges]]
        return _rebuilt, (type(self), self._on_cycle, contents)


def _rebuilt(
    kind: type[HandoffGraph],
    on_cycle: str,
    contents: list[tuple[str, list[tuple[str, str | None]]]],
) -> HandoffGraph:
    graph = kind(on_cycle)
    for node, edges in contents:
        graph.add_node(node)
        for to, when in edges:
            graph.add_edge(node, to, when)
    return graph


def _text(what: str, value: object, accepted: str = "a str") -> str:
    """Return an argument as a plain str, or raise."""
    kind = type(value)
    if issubclass(kind, str):
        return str.__str__(cast("str", value))
    raise ArgumentTypeError(f"{what} must be {accepted}, not {kind.__name__} ({shown(value)})")


def _refuse(from_node: str, to: str, cycle: list[str]) -> NoReturn:
    names = [shown(node) for node in cycle]
    if len(names) > 8:
        names[4:-3] = ["..."]
    raise ArgumentValueError(
        f"edge {shown(from_node)} -> {shown(to)} would close the cycle {' -> '.join(names)}; "
        "HandoffGraph(on_cycle='allow') accepts cycles"
    )
