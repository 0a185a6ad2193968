"""What a saver tells about its work, and that it does nothing for it when nobody asks."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from threads import config, grow, ready

from swarmstate.errors import StoreUnavailable
from swarmstate.integrations.langgraph import SwarmStateSaver
from swarmstate.observability import (
    InMemoryMetrics,
    OpenTelemetryMetrics,
    OpenTelemetryTracer,
)
from swarmstate.protocols import StoreLike

OPERATIONS = ["get_tuple", "list", "put", "put_writes"]


class Spans:
    """A tracer that keeps what it was told."""

    def __init__(self) -> None:
        self.kept: list[tuple[str, dict[str, Any]]] = []

    @contextmanager
    def start_as_current_span(self, name: str) -> Iterator[Any]:
        attributes: dict[str, Any] = {}
        self.kept.append((name, attributes))

        class Span:
            def set_attribute(self, key: str, value: Any) -> None:
                attributes[key] = value

        yield Span()


def use(saver: SwarmStateSaver) -> str:
    """Do everything that is told of; return the id of the last checkpoint."""
    last = grow(saver, 3)
    saver.put_writes(last, [("x", "y" * 1000)], "task")
    saver.get_tuple(config())
    list(saver.list(config()))
    return str(last["configurable"]["checkpoint_id"])


def test_every_operation_is_told_with_thread_namespace_trips_and_bytes(
    make_store: Callable[..., StoreLike], request: pytest.FixtureRequest
) -> None:
    metrics, tracer = InMemoryMetrics(), Spans()
    store = make_store()
    saver = SwarmStateSaver(store, metrics=metrics, tracer=tracer)
    newest = use(saver)
    assert metrics.operations() == OPERATIONS
    assert [name for name, _ in tracer.kept[-3:]] == [
        "swarmstate.checkpoint.put_writes",
        "swarmstate.checkpoint.get_tuple",
        "swarmstate.checkpoint.list",
    ]
    told = [attributes.get("swarmstate.checkpoint_id") for _, attributes in tracer.kept]
    # Of the last put, the writes for it, and the get that found it; a list is of many.
    assert told[-4:] == [newest, newest, newest, ""]
    for _, attributes in tracer.kept:
        assert attributes["swarmstate.thread"] == "thread"
        assert attributes["swarmstate.namespace"] == ""
        assert attributes["swarmstate.thread_id"] == "thread"
        assert attributes["swarmstate.checkpoint_ns"] == ""
    found = tracer.kept[-2][1]
    assert found["swarmstate.bytes"] > 1000
    trips = found["swarmstate.round_trips"]
    assert trips == 0 if "memory" in request.node.name else 1 <= trips <= 3
    puts = metrics.summary("put")
    assert puts.count == 3
    assert puts.errors == 0
    assert puts.bytes > 0
    assert 0 < puts.p50 <= puts.p95 <= puts.p99 <= puts.max


async def test_awaited_operations_are_told_too(make_store: Callable[..., StoreLike]) -> None:
    import asyncio

    metrics, tracer = InMemoryMetrics(), Spans()
    saver = SwarmStateSaver(make_store(), metrics=metrics, tracer=tracer)
    last = grow(saver, 1)
    await asyncio.gather(
        *(saver.aput_writes(last, [("x", "y" * size)], f"task{size}") for size in range(20))
    )
    told = [
        attributes for name, attributes in tracer.kept if name == "swarmstate.checkpoint.put_writes"
    ]
    # Concurrent calls do not mix: each tells its own bytes.
    assert len({attributes["swarmstate.bytes"] for attributes in told}) == 20


def test_a_failure_is_told_by_name() -> None:
    metrics, tracer = InMemoryMetrics(), Spans()
    saver = SwarmStateSaver(metrics=metrics, tracer=tracer)
    saver.store.close()
    with pytest.raises(StoreUnavailable):
        saver.get_tuple(config())
    assert metrics.summary("get_tuple").errors == 1
    assert tracer.kept[0][1]["swarmstate.error"] == "StoreUnavailable"


def test_percentiles_are_of_the_last_durations() -> None:
    metrics = InMemoryMetrics(keep=100)
    for number in range(1000):
        metrics.record("put", number / 1000, {})
    summary = metrics.summary("put")
    assert summary.count == 1000
    assert (summary.p50, summary.p95, summary.p99, summary.max) == (0.949, 0.994, 0.998, 0.999)
    metrics.reset()
    assert metrics.summary("put").count == 0
    with pytest.raises(ValueError, match="keep"):
        InMemoryMetrics(keep=0)


def test_open_telemetry_is_fed() -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    reader = InMemoryMetricReader()
    meters = MeterProvider(metric_readers=[reader])
    saver = SwarmStateSaver(
        metrics=OpenTelemetryMetrics(meters.get_meter("test")),
        tracer=OpenTelemetryTracer(provider.get_tracer("test")),
    )
    use(saver)
    spans = {span.name: dict(span.attributes or {}) for span in exporter.get_finished_spans()}
    assert set(spans) == {f"swarmstate.checkpoint.{name}" for name in OPERATIONS}
    assert spans["swarmstate.checkpoint.put"]["swarmstate.thread"] == "thread"
    data: Any = reader.get_metrics_data()
    told = {
        metric.name
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }
    assert told == {f"swarmstate.operation.{part}" for part in ("duration", "round_trips", "bytes")}
    meters.shutdown()
    provider.shutdown()
    # Without an argument the global providers are used.
    OpenTelemetryMetrics().record("put", 0.1, {"error": "ValueError"})
    with OpenTelemetryTracer().start_as_current_span("x") as span:
        span.set_attribute("a", 1)


def test_nothing_is_allocated_for_it_when_it_is_not_used() -> None:
    saver = SwarmStateSaver()
    last = grow(saver, 1)
    put = ready(saver, last)

    def use() -> None:
        put()
        saver.get_tuple(config())
        saver.put_writes(last, [("x", 1)], "task")
        list(saver.list(config()))

    use()  # what Python itself keeps for code that runs often is not meant
    use()
    tracemalloc.start()
    try:
        use()
        taken = tracemalloc.take_snapshot()
    finally:
        tracemalloc.stop()
    files = {trace.filename for stat in taken.statistics("filename") for trace in stat.traceback}
    assert not any(name.endswith(("/observability.py", "/observed.py")) for name in files)
