"""Which items a search means, and which namespaces a listing: filters and match conditions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from langgraph.store.base import ListNamespacesOp, MatchCondition

from swarmstate.arguments import check_count, shown
from swarmstate.errors import ArgumentTypeError, ArgumentValueError

__all__ = ["Matcher", "check_filter", "matcher", "select_namespaces"]

Matcher: TypeAlias = Callable[[Mapping[str, Any]], bool]

_MISSING: Any = object()


def _compared(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    """Return an operator that orders numbers, and texts that are none; others do not match."""

    def matched(value: Any, operand: Any) -> bool:
        if isinstance(value, int | float) and isinstance(operand, int | float):
            return compare(value, operand)
        try:
            return compare(float(value), float(operand))
        except (TypeError, ValueError, OverflowError):
            both = isinstance(value, str) and isinstance(operand, str)
            return both and compare(value, operand)

    return matched


_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "$eq": lambda value, operand: bool(value == operand),
    "$ne": lambda value, operand: bool(value != operand),
    "$gt": _compared(lambda value, operand: value > operand),
    "$gte": _compared(lambda value, operand: value >= operand),
    "$lt": _compared(lambda value, operand: value < operand),
    "$lte": _compared(lambda value, operand: value <= operand),
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


def matcher(filter: Mapping[str, Any] | None) -> Matcher | None:
    """Return what tells whether an item's value fits a checked filter; None where every one does.

    A field that is missing is None.
    """
    if not filter:
        return None
    wanted = [(key, _test(each)) for key, each in filter.items()]

    def fits(value: Mapping[str, Any]) -> bool:
        for key, test in wanted:  # noqa: SIM110 (a generator for each item takes twice as long)
            if not test(_field(value, key)):
                return False
        return True

    return fits


def _field(value: Mapping[str, Any], key: str) -> Any:
    """Return a field by its name, or else, where that has points, by its path."""
    found = value.get(key, _MISSING)
    if found is _MISSING and "." in key:
        found = value
        for step in key.split("."):
            found = found.get(step) if isinstance(found, Mapping) else None
    return None if found is _MISSING else found


def _test(wanted: Any) -> Callable[[Any], bool]:
    """Return what tells whether a field is what a filter wants of it."""
    if isinstance(wanted, Mapping):
        if any(isinstance(key, str) and key.startswith("$") for key in wanted):
            operators = [(_OPERATORS[name], operand) for name, operand in wanted.items()]
            return lambda value: all(matches(value, operand) for matches, operand in operators)
        tests = [(key, _test(each)) for key, each in wanted.items()]
        return lambda value: (
            isinstance(value, Mapping) and all(test(value.get(key)) for key, test in tests)
        )
    if isinstance(wanted, list | tuple):
        each_test = [_test(each) for each in wanted]
        return lambda value: (
            isinstance(value, list | tuple)
            and len(value) == len(each_test)
            and all(test(each) for test, each in zip(each_test, value, strict=True))
        )
    return lambda value: bool(value == wanted)


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
