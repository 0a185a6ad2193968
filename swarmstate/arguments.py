"""What stores accept as arguments, checked the same way by all of them.

Errors name the argument, what was given, and what would be accepted.
"""

from __future__ import annotations

from collections.abc import Iterator
from inspect import getattr_static
from typing import Any, NoReturn, cast

from swarmstate.errors import ArgumentTypeError, ArgumentValueError, WireFormatError
from swarmstate.protocols import Pair, SnapshotLike
from swarmstate.shown import shown

__all__ = [
    "check_callable",
    "check_count",
    "check_default",
    "check_item",
    "check_key",
    "check_max_history",
    "check_method",
    "check_namespace",
    "check_number",
    "check_pair",
    "check_prefix",
    "check_seconds",
    "check_snapshot",
    "iterate",
    "milliseconds",
    "shown",
]

RESERVED = "\0"


def _refuse_type(what: str, value: object, accepted: str) -> NoReturn:
    raise ArgumentTypeError(
        f"{what} must be {accepted}, not {type(value).__name__} ({shown(value)})"
    )


def _check_name(what: str, value: object) -> str:
    if not isinstance(value, str):
        _refuse_type(what, value, "a str")
    # A subclass may lie about equality and hash: only the base is kept.
    name = value if type(value) is str else str.__str__(value)
    if not name.isascii():
        try:
            name.encode("utf-8")
        except UnicodeEncodeError as error:
            raise ArgumentValueError(
                f"{what} must be text that UTF-8 can hold, not {shown(name)}: "
                f"lone surrogate at index {error.start}"
            ) from None
    return name


def check_key(value: object) -> str:
    """Return a key as a plain ``str``, or raise."""
    return _check_name("key", value)


def check_namespace(value: object) -> str:
    """Return a namespace as a plain ``str``, or raise; NUL at its start is reserved."""
    name = _check_name("namespace", value)
    if name.startswith(RESERVED):
        raise ArgumentValueError(
            f"namespace {shown(name)} is reserved: a namespace must not start with NUL"
        )
    return name


def check_prefix(value: object) -> str | None:
    """Return a filter prefix as a plain ``str`` or None, or raise."""
    return None if value is None else _check_name("prefix", value)


def iterate(what: str, value: Any, accepted: str) -> Iterator[Any]:
    """Return an iterator over a batch, or raise with what the batch must hold."""
    if isinstance(value, (str, bytes)):
        _refuse_type(what, value, accepted)
    try:
        iterator: Iterator[Any] = iter(value)
    except TypeError:
        _refuse_type(what, value, accepted)
    return iterator


def check_pair(value: Any, index: int) -> Pair:
    """Return entry ``index`` of a batch as a checked (namespace, key) pair, or raise."""
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        _refuse_type(f"pairs[{index}]", value, "a (namespace, key) pair")
    return check_namespace(value[0]), check_key(value[1])


def check_item(value: Any, index: int) -> tuple[str, str, Any]:
    """Return entry ``index`` of a batch as a checked (namespace, key, value) triple, or raise."""
    if not isinstance(value, (tuple, list)) or len(value) != 3:
        _refuse_type(f"items[{index}]", value, "a (namespace, key, value) triple")
    return check_namespace(value[0]), check_key(value[1]), value[2]


def check_max_history(value: object) -> int | None:
    """Return a history bound: None, or an int >= 0; or raise."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        _refuse_type("max_history", value, "None or an int >= 0")
    if value < 0:
        raise ArgumentValueError(f"max_history must be None or an int >= 0, not {shown(value)}")
    return int.__pos__(value)


def check_callable(what: str, value: object) -> None:
    """Raise unless ``value`` can be called."""
    if not callable(value):
        _refuse_type(what, value, "callable")


def check_default(value: object) -> None:
    """Raise unless ``value`` is a ``default=`` hook or None."""
    if value is not None and not callable(value):
        _refuse_type("default", value, "None or a function of one value")


def check_snapshot(value: object, wire: str, what: str = "snapshot") -> SnapshotLike:
    """Return a snapshot of wire format ``wire``, or raise; ``what`` the argument is called."""
    # Not isinstance(value, SnapshotLike): before Python 3.12 that evaluates every property,
    # `state` and `keys` included, which costs O(store).
    if any(getattr_static(value, name, None) is None for name in ("wire", "state")):
        _refuse_type(what, value, "a snapshot taken by a store")
    snapshot = cast("SnapshotLike", value)
    if snapshot.wire != wire:
        raise WireFormatError(
            f"{what} has values of wire format {shown(snapshot.wire)}, not {shown(wire)}: take it "
            "from a store whose codec has the same wire format"
        )
    return snapshot


def check_number(what: str, value: Any, least: float, unit: str = "seconds") -> None:
    """Raise unless ``value`` is a finite int or float of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        _refuse_type(what, value, f"a number of {unit}")
    if not least <= value < float("inf"):
        raise ArgumentValueError(f"{what} must be at least {least} {unit}, not {shown(value)}")


def check_count(what: str, value: Any, least: int, *, optional: bool = False) -> None:
    """Raise unless ``value`` is an int of at least ``least``, or, if optional, None."""
    if optional and value is None:
        return
    accepted = f"None or an int >= {least}" if optional else f"an int >= {least}"
    if isinstance(value, bool) or not isinstance(value, int):
        _refuse_type(what, value, accepted)
    if value < least:
        raise ArgumentValueError(f"{what} must be {accepted}, not {shown(value)}")


def milliseconds(ttl: Any) -> int | None:
    """Return a time to live, given in seconds, in milliseconds; or raise. None stays None."""
    if ttl is None:
        return None
    if isinstance(ttl, bool) or not isinstance(ttl, (int, float)):
        _refuse_type("ttl", ttl, "None or seconds as an int or float")
    return int(check_seconds("ttl", ttl) * 1000)


def check_seconds(what: str, value: Any) -> float:
    """Return how long something lives, in seconds, or raise."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        _refuse_type(what, value, "a number of seconds")
    if not 0.001 <= value <= 10**10:
        raise ArgumentValueError(
            f"{what} must be between 0.001 and 10**10 seconds, not {shown(value)}"
        )
    return float(value)


def check_method(what: str, value: object, method: str) -> None:
    """Raise unless ``value`` is None or has a method of this name."""
    if value is not None and not callable(getattr(value, method, None)):
        _refuse_type(what, value, f"None or have a method {method}()")
