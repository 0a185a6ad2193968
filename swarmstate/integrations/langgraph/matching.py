"""Which items a search means, and which namespaces a listing: filters and match conditions."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import repeat, takewhile
from typing import Any, TypeAlias

from langgraph.store.base import ListNamespacesOp, MatchCondition

from swarmstate.arguments import check_count, shown
from swarmstate.errors import ArgumentTypeError, ArgumentValueError
from swarmstate.items.format import name_of

__all__ = [
    "Matcher",
    "check_filter",
    "columns_of",
    "field_tests",
    "matcher",
    "prefix_of",
    "select_namespaces",
]

Matcher: TypeAlias = Callable[[Mapping[str, Any]], bool]

_MISSING: Any = object()
_NUMBERS = (int, float)
_PLAIN_NUMBERS = {int, float}
_ROWS = (list, tuple)


Test: TypeAlias = Callable[[Any], bool]
Column: TypeAlias = Callable[[Sequence[Any]], Iterable[bool]]


def _same(operand: Any) -> Test:
    """Return what tells whether a value is equal to an operand."""
    return lambda value: bool(value == operand)


class _Ordered:
    """Orders numbers, and texts that are none; others do not match."""

    def __init__(self, compare: Callable[[Any, Any], bool], operand: Any) -> None:
        self._compare = compare
        self._operand = operand
        self._is_number = isinstance(operand, _NUMBERS)

    def __call__(self, value: Any) -> bool:
        operand = self._operand
        if self._is_number and isinstance(value, _NUMBERS):
            return self._compare(value, operand)
        try:
            return self._compare(float(value), float(operand))
        except (TypeError, ValueError, OverflowError):
            both = isinstance(value, str) and isinstance(operand, str)
            return both and self._compare(value, operand)

    def column(self, values: Sequence[Any]) -> Iterable[bool]:
        """Return what is to be said of each of many values."""
        if self._is_number and {*map(type, values)} <= _PLAIN_NUMBERS:
            # In a sixth of the time.
            return map(self._compare, values, repeat(self._operand))
        return map(self, values)


_OPERATORS: dict[str, Callable[[Any], Test]] = {
    "$eq": _same,
    "$ne": lambda operand: lambda value: bool(value != operand),
    "$gt": partial(_Ordered, operator.gt),
    "$gte": partial(_Ordered, operator.ge),
    "$lt": partial(_Ordered, operator.lt),
    "$lte": partial(_Ordered, operator.le),
}
_ORDERING = ("$gt", "$gte", "$lt", "$lte")


def check_filter(filter: Any) -> None:
    """Raise for a filter that can have no meaning.

    Raises:
        ArgumentTypeError: it is no mapping of texts, or something is compared to what has no order.
        ArgumentValueError: an operator is unknown, or stands among field names.
    """
    if filter is None:
        return
    if not isinstance(filter, Mapping):
        raise ArgumentValueError(
            f"filter must be None or a dict, not {type(filter).__name__} ({shown(filter)})"
        )
    for key, wanted in filter.items():
        if not isinstance(key, str):
            raise ArgumentValueError(
                f"filter must have str keys, not {type(key).__name__} ({shown(key)})"
            )
        if key.startswith("$"):
            raise ArgumentValueError(
                f"filter must name fields on the outside, not operators such as {shown(key)}: "
                f"{{'field': {{{shown(key)}: ...}}}}"
            )
        _check_wanted(wanted)


def _check_wanted(wanted: Any) -> None:
    if isinstance(wanted, list | tuple):
        for each in wanted:
            _check_wanted(each)
    if not isinstance(wanted, Mapping):
        return
    if not any(isinstance(key, str) and key.startswith("$") for key in wanted):
        for each in wanted.values():
            _check_wanted(each)
        return
    for name, operand in wanted.items():
        if name not in _OPERATORS:
            raise ArgumentValueError(
                f"filter has the unknown operator {shown(name)}; there are "
                f"{', '.join(_OPERATORS)}, which do not mix with field names"
            )
        if name in _ORDERING and not isinstance(operand, str):
            try:
                float(operand)
            except (TypeError, ValueError, OverflowError):
                raise ArgumentValueError(
                    f"filter must compare by {name} with a number or a str, not "
                    f"{type(operand).__name__} ({shown(operand)})"
                ) from None


def field_tests(filter: Mapping[str, Any] | None) -> list[tuple[str, Test]]:
    """Return field, and what tells whether it fits, for each field of a checked filter.

    A field that is missing is None.
    """
    return [(key, _test(wanted)) for key, wanted in (filter or {}).items()]


def matcher(tests: Sequence[tuple[str, Test]]) -> Matcher | None:
    """Return what tells whether an item's value fits; None where every one does."""
    if not tests:
        return None

    def fits(value: Mapping[str, Any]) -> bool:
        # Every item of a search comes here: a generator or another call would take twice as long.
        for key, test in tests:
            found = value.get(key, _MISSING)
            if not test(_by_path(value, key) if found is _MISSING else found):
                return False
        return True

    return fits


def columns_of(tests: Sequence[tuple[str, Test]]) -> dict[str, Column] | None:
    """Return what tells the same of a field of many values; None for what looks deeper."""
    columns: dict[str, Column] = {}
    for key, test in tests:
        if "." in key:
            return None
        columns[key] = test.column if isinstance(test, _Ordered) else partial(map, test)
    return columns


def _by_path(value: Mapping[str, Any], path: str) -> Any:
    """Return what is at a path whose steps are parted by points, or None."""
    found: Any = value
    for step in path.split("."):
        found = found.get(step) if isinstance(found, Mapping) else None
    return found


def _test(wanted: Any) -> Test:
    """Return what tells whether a field is what a filter wants of it."""
    if isinstance(wanted, Mapping):
        if any(isinstance(key, str) and key.startswith("$") for key in wanted):
            bound = [_OPERATORS[name](operand) for name, operand in wanted.items()]
            return bound[0] if len(bound) == 1 else lambda value: all(test(value) for test in bound)
        tests = [(key, _test(each)) for key, each in wanted.items()]
        return lambda value: (
            isinstance(value, Mapping) and all(test(value.get(key)) for key, test in tests)
        )
    if isinstance(wanted, list | tuple):
        each_test = [_test(each) for each in wanted]
        return lambda value: (
            isinstance(value, _ROWS)
            and len(value) == len(each_test)
            and all(test(each) for test, each in zip(each_test, value, strict=True))
        )
    return _same(wanted)


def select_namespaces(
    op: ListNamespacesOp, namespaces: Sequence[tuple[str, ...]]
) -> list[tuple[str, ...]]:
    """Return what a listing asks for of all namespaces, sorted.

    Raises:
        ArgumentTypeError, ArgumentValueError: it asks for what can have no meaning.
    """
    check_count("limit", op.limit, 0)
    check_count("offset", op.offset, 0)
    check_count("max_depth", op.max_depth, 0, optional=True)
    tests = [_condition(condition) for condition in op.match_conditions or ()]
    found = namespaces
    for test in tests:
        found = [*filter(test, found)]
    if op.max_depth is not None:
        found = [*{each[: op.max_depth] for each in found}]
    return sorted(found)[op.offset : op.offset + op.limit]


def prefix_of(op: ListNamespacesOp) -> str:
    """Return what the names of all namespaces that a checked listing asks for start with."""
    longest = ""
    for kind, path in op.match_conditions or ():
        if kind == "prefix":
            fixed = [*takewhile(lambda label: label != "*", path)]
            longest = max(longest, name_of(tuple(fixed)), key=len)
    return longest


def _condition(condition: MatchCondition) -> Callable[[tuple[str, ...]], bool]:
    """Return what tells whether a namespace meets a condition."""
    kind, path = condition
    if kind not in ("prefix", "suffix"):
        raise ArgumentValueError(f"match_type must be 'prefix' or 'suffix', not {shown(kind)}")
    if not isinstance(path, tuple | list):
        raise ArgumentTypeError(
            f"the path of a match condition must be a tuple of str, not {type(path).__name__} "
            f"({shown(path)})"
        )
    path = tuple(path)
    count = len(path)
    if not count:
        return lambda namespace: True
    part = slice(count) if kind == "prefix" else slice(-count, None)
    if "*" not in path:
        return lambda namespace: namespace[part] == path
    return lambda namespace: (
        len(namespace) >= count
        and all(wanted in ("*", label) for label, wanted in zip(namespace[part], path, strict=True))
    )
