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
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

__all__ = [
    "InMemoryMetrics",
    "Metrics",
    "OpenTelemetryMetrics",
    "OpenTelemetryTracer",
    "Span",
    "Summary",
    "Tracer",
]


class Metrics(Protocol):
    """Where durations are recorded. Called from any thread, after each operation."""

    def record(self, operation: str, seconds: float, attributes: Mapping[str, Any]) -> None:
        """Take note of one operation; must not raise."""
        ...


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
    """

    def __init__(self, keep: int = 10_000) -> None:
        if isinstance(keep, bool) or not isinstance(keep, int) or keep < 1:
            from swarmstate.arguments import shown
            from swarmstate.errors import ArgumentValueError

            raise ArgumentValueError(f"keep must be an int >= 1, not {shown(keep)}")
        self._keep = keep
        self._kept: dict[str, _Kept] = {}
        self._lock = threading.Lock()

    def record(self, operation: str, seconds: float, attributes: Mapping[str, Any]) -> None:
        """Take note of one operation."""
        with self._lock:
            kept = self._kept.get(operation)
            if kept is None:
                kept = self._kept[operation] = _Kept(self._keep)
            kept.count += 1
            kept.errors += "error" in attributes
            kept.round_trips += attributes.get("round_trips", 0)
            kept.bytes += attributes.get("bytes", 0)
            kept.seconds.append(seconds)

    def operations(self) -> list[str]:
        """Return the names of the operations seen so far, sorted."""
        with self._lock:
            return sorted(self._kept)

    def summary(self, operation: str) -> Summary:
        """Return what is known of an operation; all zero if it was never seen. O(n log n)."""
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

    def record(self, operation: str, seconds: float, attributes: Mapping[str, Any]) -> None:
        """Take note of one operation."""
        labels = {"operation": operation}
        if "error" in attributes:
            labels["error"] = attributes["error"]
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
