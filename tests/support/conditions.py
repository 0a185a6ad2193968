"""Conditions of a handoff graph as hypothesis makes them: their text, and what they mean.

The meaning is told by a plain recursive function over the made tree, which shares nothing with the
package: no parser, no code that evaluates.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

NAMES = ("a", "b", "kind", "user", "größe", "_x1")
TEXTS = ("", "a", "b", "ab", "billing", "it's", 'say "x"', "tab\tline\n", "\\", "ü")
INTS = (0, 1, 2, -3, 10)
FLOATS = (0.0, 1.0, -3.0, 0.5, 1e5)
SIGNS = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True)
class Literal:
    value: Any
    text: str


@dataclass(frozen=True)
class Path:
    names: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    left: Any
    sign: str
    right: Any


@dataclass(frozen=True)
class Not:
    inner: Any


@dataclass(frozen=True)
class Logic:
    word: str
    parts: tuple[Any, ...]


def text_of(node: Any, level: int = 0) -> str:
    """Write a condition with as few parentheses as possible.

    Level 0 takes everything, 1 what stands between ``or``, 2 between ``and``, 3 beside a sign.
    """
    match node:
        case Literal():
            return node.text
        case Path():
            return ".".join(node.names)
        case Comparison():
            written = f"{text_of(node.left, 3)} {node.sign} {text_of(node.right, 3)}"
            return written if level < 3 else f"({written})"
        case Not():
            written = f"not {text_of(node.inner, 2)}"
            return written if level < 3 else f"({written})"
        case Logic("or"):
            written = " or ".join(text_of(part, 1) for part in node.parts)
            return written if level < 1 else f"({written})"
        case Logic():
            written = " and ".join(text_of(part, 2) for part in node.parts)
            return written if level < 2 else f"({written})"
    raise AssertionError(node)


def holds(node: Any, state: dict[str, Any]) -> bool:
    """Whether a condition holds."""
    return bool(value(node, state))


def value(node: Any, state: dict[str, Any]) -> Any:
    match node:
        case Literal():
            return node.value
        case Path():
            found: Any = state
            for name in node.names:
                found = found.get(name) if isinstance(found, dict) else None
            return found
        case Not():
            return not holds(node.inner, state)
        case Logic("or"):
            return any(holds(part, state) for part in node.parts)
        case Logic():
            return all(holds(part, state) for part in node.parts)
        case Comparison():
            left, right = value(node.left, state), value(node.right, state)
            if node.sign == "==":
                return equal(left, right)
            if node.sign == "!=":
                return not equal(left, right)
            if node.sign == "in":
                if isinstance(right, str):
                    return isinstance(left, str) and left in right
                return isinstance(right, (list, tuple, dict, set)) and any(
                    equal(item, left) for item in right
                )
            if kind(left) == kind(right) and kind(left) in ("number", "text"):
                return SIGNS[node.sign](left, right)
            return False
    raise AssertionError(node)


def kind(one: Any) -> str:
    kinds = {
        type(None): "null",
        bool: "bool",
        int: "number",
        float: "number",
        str: "text",
        bytes: "bytes",
        list: "list",
        tuple: "list",
        dict: "dict",
    }
    return kinds.get(type(one), "other")


def equal(left: Any, right: Any) -> bool:
    if kind(left) != kind(right) or kind(left) == "other":
        return False
    if kind(left) == "list":
        return len(left) == len(right) and all(map(equal, left, right))
    if kind(left) == "dict":
        pairs = [[item for other, item in right.items() if equal(key, other)] for key in left]
        return len(left) == len(right) and all(
            len(found) == 1 and equal(item, found[0])
            for item, found in zip(left.values(), pairs, strict=True)
        )
    return bool(left == right)


def literal(one: Any) -> Literal:
    if isinstance(one, str):
        escaped = one.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")
        return Literal(one, f"'{escaped}'")
    if one is None:
        return Literal(one, "null")
    return Literal(one, str(one).lower())


paths = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map(lambda n: Path(tuple(n)))
short_paths = st.sampled_from(NAMES).map(lambda name: Path((name,)))
scalars = st.sampled_from([None, True, False]) | st.sampled_from([*INTS, *FLOATS, *TEXTS])
literals = scalars.map(literal)
operands = short_paths | literals | paths


def _grown(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    parts = st.lists(inner, min_size=2, max_size=3).map(tuple)
    return (
        st.builds(Comparison, inner, st.sampled_from([*SIGNS, "==", "!=", "in"]), inner)
        | st.builds(Not, inner)
        | st.builds(Logic, st.sampled_from(["and", "or"]), parts)
    )


comparisons = st.builds(Comparison, operands, st.sampled_from([*SIGNS, "==", "!=", "in"]), operands)
conditions = st.recursive(comparisons | operands, _grown, max_leaves=8)


def states(items: st.SearchStrategy[Any], keys: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """States with these items, and these keys besides names, in the containers below the top."""
    contents = st.recursive(
        items,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.lists(inner, max_size=3).map(tuple)
            | st.dictionaries(st.sampled_from(NAMES) | keys, inner, max_size=3)
        ),
        max_leaves=6,
    )
    return st.dictionaries(st.sampled_from(NAMES), scalars | contents, max_size=len(NAMES))
