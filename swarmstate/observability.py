"""What a saver did and how long it took: metrics sinks and tracers.

A saver is given either or both, and pays nothing without::

    from swarmstate.observability import InMemoryMetrics

    metrics = InMemoryMetrics()
    saver = SwarmStateSaver(store, metrics=metrics)
    ...
    metrics.summary("put").p99

Every operation carries the same attributes: ``thread``, ``namespace``, ``round_trips`` (0 in
memory), ``bytes`` (of the serialised values that were written and read) and, if it failed,
``error``, the name of what was raised. Sinks and tracers are plain protocols; anything with these
methods will do.

A sink may instead have the ``record`` of the Rust package of the same name, see
:class:`MetricsSink`. All sinks here take both.
"""

from __future__ import annotations

import inspect
import os
import statistics
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, overload, runtime_checkable
from weakref import WeakSet

from swarmstate.arguments import check_count, shown
from swarmstate.errors import ArgumentTypeError

__all__ = [
    "InMemoryMetrics",
    "Metrics",
    "MetricsSink",
    "NullMetrics",
    "OpenTelemetryMetrics",
    "OpenTelemetryTracer",
    "Span",
    "Summary",
    "Tracer",
    "get_tracer",
    "recorder",
]

Record = Callable[[str, float, Mapping[str, Any]], None]


class Metrics(Protocol):
    """Where durations are recorded. Called from any thread, after each operation."""

    def record(self, operation: str, seconds: float, attributes: Mapping[str, Any]) -> None:
        """Take note of one operation; must not raise."""
        ...


@runtime_checkable
class MetricsSink(Protocol):
    """Where durations are recorded, in the form of the Rust package of the same name."""

    def record(self, op: str, duration_s: float, *, thread_id: str, ok: bool) -> None:
        """Take note of one operation on a thread, which succeeded or did not; must not raise."""
        ...


def recorder(sink: Metrics | MetricsSink) -> Record:
    """Return a function that tells a sink of an operation, whichever form its ``record`` has.

    Raises:
        ArgumentTypeError: ``sink.record`` takes neither form.
    """
    record: Any = sink.record
    try:
        signature = inspect.signature(record)
    except (TypeError, ValueError):  # of what is compiled, it may not be known
        return record  # type: ignore[no-any-return]

    def told_by_keyword(operation: str, seconds: float, attributes: Mapping[str, Any]) -> None:
        thread = attributes.get("thread", "")
        record(operation, seconds, thread_id=thread, ok="error" not in attributes)

    by_keyword = _takes(signature, "", 0.0, thread_id="", ok=True)
    by_position = _takes(signature, "", 0.0, {})
    names = signature.parameters
    if by_keyword and "attributes" not in names and ("thread_id" in names or not by_position):
        return told_by_keyword
    if by_position:
        return record  # type: ignore[no-any-return]
    raise ArgumentTypeError(
        "metrics must have a method record(operation, seconds, attributes) or "
        f"record(op, duration_s, *, thread_id, ok), not record{signature} ({shown(sink)})"
    )


def _takes(signature: inspect.Signature, *arguments: Any, **named: Any) -> bool:
    try:
        signature.bind(*arguments, **named)
    except TypeError:
        return False
    return True


class NullMetrics:
    """A sink that keeps nothing."""

    def record(
        self,
        operation: str,
        seconds: float,
        attributes: Mapping[str, Any] | None = None,
        *,
        thread_id: str = "",
        ok: bool = True,
    ) -> None:
        """Do nothing."""


class Span(Protocol):
    """One operation in progress."""

    def set_attribute(self, key: str, value: Any) -> Any:
        """Attach an attribute."""
        ...


class Tracer(Protocol):
    """Where spans are made. An OpenTelemetry ``Tracer`` is one."""

    def start_as_current_span(self, name: str) -> AbstractContextManager[Span]:
        """Return a context manager that is one span long."""
        ...


@dataclass(frozen=True, slots=True)
class Summary:
    """What is known of one operation. Times in seconds."""

    count: int
    """How often it was done, ever."""
    errors: int
    round_trips: int
    bytes: int
    mean: float
    """This and what follows: of the last operations that the sink kept."""
    p50: float
    p95: float
    p99: float
    max: float


class _Kept:
    __slots__ = ("bytes", "count", "errors", "round_trips", "seconds")

    def __init__(self, keep: int) -> None:
        self.count = self.errors = self.round_trips = self.bytes = 0
        self.seconds: deque[float] = deque(maxlen=keep)


class InMemoryMetrics:
    """A sink that keeps the last durations of each operation and gives percentiles.

    Args:
        keep: How many durations to keep for each operation; 8 bytes and a float each.

    Raises:
        ArgumentTypeError: ``keep`` is not an int.
        ArgumentValueError: ``keep`` is below 1.
    """

    def __init__(self, keep: int = 10_000) -> None:
        check_count("keep", keep, 1)
        self._keep = keep
        self._kept: dict[str, _Kept] = {}
        self._lock = threading.Lock()
        _in_memory.add(self)

    def record(
        self,
        operation: str,
        seconds: float,
        attributes: Mapping[str, Any] | None = None,
        *,
        thread_id: str = "",
        ok: bool = True,
    ) -> None:
        """Take note of one operation.

        Args:
            operation: Its name.
            seconds: How long it took.
            attributes: What else is known of it, see :mod:`swarmstate.observability`.
            thread_id: Not kept.
            ok: False counts as an error, as does an attribute ``error``.
        """
        attributes = attributes or {}
        with self._lock:
            kept = self._kept.get(operation)
            if kept is None:
                kept = self._kept[operation] = _Kept(self._keep)
            kept.count += 1
            kept.errors += not ok or "error" in attributes
            kept.round_trips += attributes.get("round_trips", 0)
            kept.bytes += attributes.get("bytes", 0)
            kept.seconds.append(seconds)

    def operations(self) -> list[str]:
        """Return the names of the operations seen so far, sorted."""
        with self._lock:
            return sorted(self._kept)

    @overload
    def summary(self) -> dict[str, dict[str, float]]: ...
    @overload
    def summary(self, operation: str) -> Summary: ...
    def summary(self, operation: str | None = None) -> Summary | dict[str, dict[str, float]]:
        """Return what is known of an operation; all zero if it was never seen. O(n log n).

        Without an argument, return that of all as the Rust package does, times in milliseconds:
        ``{operation: {"count", "errors", "mean_ms", "p50_ms", "p99_ms"}}``.
        """
        if operation is None:
            with self._lock:
                taken = {
                    name: (kept.count, kept.errors, sorted(kept.seconds))
                    for name, kept in self._kept.items()
                }
            return {name: _in_milliseconds(*of_one) for name, of_one in taken.items()}
        with self._lock:
            kept = self._kept.get(operation) or _Kept(1)
            ordered = sorted(kept.seconds)
            counts = (kept.count, kept.errors, kept.round_trips, kept.bytes)
        if not ordered:
            return Summary(*counts, 0.0, 0.0, 0.0, 0.0, 0.0)
        mean = sum(ordered) / len(ordered)
        parts = (_percentile(ordered, part) for part in (50, 95, 99, 100))
        return Summary(*counts, mean, *parts)

    def reset(self) -> None:
        """Forget everything."""
        with self._lock:
            self._kept.clear()


# A thread that records while another forks would leave its lock locked in the child for good.
_in_memory: WeakSet[InMemoryMetrics] = WeakSet()


def _unlock_in_child() -> None:
    for metrics in _in_memory:
        metrics._lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unlock_in_child)


def _in_milliseconds(count: int, errors: int, ordered: list[float]) -> dict[str, float]:
    # Unlike in a `Summary`, the middle of two is between them, and a rank is rounded, not raised.
    rank = max(round(0.99 * len(ordered)), 1)
    times = {
        "mean_ms": statistics.fmean(ordered),
        "p50_ms": statistics.median(ordered),
        "p99_ms": ordered[rank - 1],
    }
    told = {name: round(seconds * 1000, 5) for name, seconds in times.items()}
    return {"count": count, "errors": errors, **told}


def _percentile(ordered: list[float], percent: int) -> float:
    """Return the least value that at least ``percent`` of all do not exceed (nearest rank)."""
    rank = -(-percent * len(ordered) // 100)
    return ordered[max(rank, 1) - 1]


class OpenTelemetryMetrics:
    """A sink that feeds OpenTelemetry: a histogram of seconds, counters of round trips and bytes.

    Thread ids are not recorded: every distinct value would be a time series of its own.

    Args:
        meter: An OpenTelemetry ``Meter``; the global provider's if omitted.

    Raises:
        ImportError: ``meter`` is omitted and OpenTelemetry is not installed.
    """

    def __init__(self, meter: Any = None) -> None:
        if meter is None:
            meter = _opentelemetry().metrics.get_meter("swarmstate")
        self._seconds = meter.create_histogram(
            "swarmstate.operation.duration", unit="s", description="How long operations took"
        )
        self._round_trips = meter.create_counter(
            "swarmstate.operation.round_trips", description="Round trips to the server"
        )
        self._bytes = meter.create_counter(
            "swarmstate.operation.bytes", unit="By", description="Serialised bytes moved"
        )

    def record(
        self,
        operation: str,
        seconds: float,
        attributes: Mapping[str, Any] | None = None,
        *,
        thread_id: str = "",
        ok: bool = True,
    ) -> None:
        """Take note of one operation; a failure without a name is labelled ``"unknown"``."""
        attributes = attributes or {}
        labels = {"operation": operation}
        if not ok or "error" in attributes:
            labels["error"] = attributes.get("error", "unknown")
        self._seconds.record(seconds, labels)
        self._round_trips.add(attributes.get("round_trips", 0), labels)
        self._bytes.add(attributes.get("bytes", 0), labels)


class OpenTelemetryTracer:
    """A tracer that makes OpenTelemetry spans.

    Args:
        tracer: An OpenTelemetry ``Tracer``; the global provider's if omitted.

    Raises:
        ImportError: ``tracer`` is omitted and OpenTelemetry is not installed.
    """

    def __init__(self, tracer: Any = None) -> None:
        self._tracer: Any = (
            _opentelemetry().trace.get_tracer("swarmstate") if tracer is None else tracer
        )

    def start_as_current_span(self, name: str) -> AbstractContextManager[Span]:
        """Return a context manager that is one span long."""
        span: AbstractContextManager[Span] = self._tracer.start_as_current_span(name)
        return span


def get_tracer(name: str = "swarmstate") -> Any:
    """Return an OpenTelemetry ``Tracer`` of the global provider, to give to a saver.

    Raises:
        ImportError: OpenTelemetry is not installed.
    """
    return _opentelemetry().trace.get_tracer(name)


def _opentelemetry() -> Any:
    try:
        from importlib import import_module

        import_module("opentelemetry.metrics")
        import_module("opentelemetry.trace")
        return import_module("opentelemetry")
    except ImportError as error:
        raise ImportError(
            "OpenTelemetry is not installed: pip install opentelemetry-api, or pass a meter or "
            "tracer of your own"
        ) from error
