"""Which items a search means, and which namespaces a listing: filters and match conditions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from langgraph.store.base import ListNamespacesOp, MatchCondition

from swarmstate.arguments import check_count, shown
from swarmstate.errors import ArgumentTypeError, ArgumentValueError

__all__ = ["check_filter", "matches", "select_namespaces"]

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


def matches(value: Mapping[str, Any], filter: Mapping[str, Any] | None) -> bool:
    """Return whether an item's value fits a checked filter. A field that is missing is None."""
    return not filter or all(_fits(_field(value, key), wanted) for key, wanted in filter.items())


def _field(value: Mapping[str, Any], key: str) -> Any:
    """Return a field by its name, or else, where that has points, by its path."""
    found = value.get(key, _MISSING)
    if found is _MISSING and "." in key:
        found = value
        for step in key.split("."):
            found = found.get(step) if isinstance(found, Mapping) else None
    return None if found is _MISSING else found


def _fits(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, Mapping):
        if any(isinstance(key, str) and key.startswith("$") for key in wanted):
            return all(_OPERATORS[name](value, operand) for name, operand in wanted.items())
        return isinstance(value, Mapping) and all(
            _fits(value.get(key), each) for key, each in wanted.items()
        )
    if isinstance(wanted, list | tuple):
        return (
            isinstance(value, list | tuple)
            and len(value) == len(wanted)
            and all(map(_fits, value, wanted))
        )
    return bool(value == wanted)


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
    conditions = op.match_conditions or ()
    for condition in conditions:
        _check_condition(condition)
    found = [each for each in namespaces if all(_under(each, one) for one in conditions)]
    if op.max_depth is not None:
        found = list({each[: op.max_depth] for each in found})
    found.sort()
    return found[op.offset : op.offset + op.limit]


def _check_condition(condition: MatchCondition) -> None:
    if condition.match_type not in ("prefix", "suffix"):
        raise ArgumentValueError(
            f"match_type must be 'prefix' or 'suffix', not {shown(condition.match_type)}"
        )
    if not isinstance(condition.path, tuple | list):
        raise ArgumentTypeError(
            f"the path of a match condition must be a tuple of str, not "
            f"{type(condition.path).__name__} ({shown(condition.path)})"
        )


def _under(namespace: tuple[str, ...], condition: MatchCondition) -> bool:
    path = condition.path
    if len(namespace) < len(path):
        return False
    start = 0 if condition.match_type == "prefix" else len(namespace) - len(path)
    return all(
        wanted in ("*", label) for label, wanted in zip(namespace[start:], path, strict=False)
    )
