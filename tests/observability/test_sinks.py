"""Metrics sinks and tracers in the form of the Rust package of the same name, and in ours."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from typing import Any
from unittest.mock import MagicMock

import pytest
from built import execute
from documents import ROOT
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from threads import config, grow

from swarmstate.errors import ArgumentTypeError, ArgumentValueError, StoreUnavailable
from swarmstate.integrations.langgraph import SwarmStateSaver
from swarmstate.observability import (
    InMemoryMetrics,
    MetricsSink,
    NullMetrics,
    OpenTelemetryMetrics,
    get_tracer,
    recorder,
)

# --- Sinks of other forms ------------------------------------------------------------------------


class Kept:
    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []


class ByKeyword(Kept):
    def record(self, op: str, duration_s: float, *, thread_id: str, ok: bool) -> None:
        self.told.append((op, duration_s, thread_id, ok))


class WithDefaults(Kept):
    def record(self, op: str, duration_s: float, thread_id: str = "", ok: bool = True) -> None:
        self.told.append((op, duration_s, thread_id, ok))


class AnyKeyword(Kept):
    def record(self, op: str, duration_s: float, **more: Any) -> None:
        assert set(more) == {"thread_id", "ok"}
        self.told.append((op, duration_s, more["thread_id"], more["ok"]))


class ByPosition(Kept):
    def record(self, operation: str, seconds: float, attributes: Mapping[str, Any]) -> None:
        self.told.append((operation, seconds, attributes["thread"], "error" not in attributes))


class Anything(Kept):
    def record(self, *arguments: Any, **more: Any) -> None:
        operation, seconds, attributes = arguments
        assert not more
        self.told.append((operation, seconds, attributes["thread"], "error" not in attributes))


class Both(Kept):
    def record(
        self,
        operation: str,
        seconds: float,
        attributes: Mapping[str, Any] | None = None,
        *,
        thread_id: str = "",
        ok: bool = True,
    ) -> None:
        assert attributes is not None
        self.told.append((operation, seconds, attributes["thread"], "error" not in attributes))


SINKS = [ByKeyword, WithDefaults, AnyKeyword, ByPosition, Anything, Both]


@pytest.mark.parametrize("kind", SINKS)
def test_a_sink_is_told_of_every_operation_whichever_form_it_has(kind: Callable[[], Any]) -> None:
    sink = kind()
    saver = SwarmStateSaver(metrics=sink)
    last = grow(saver, 1)
    saver.get_tuple(last)
    saver.store.close()
    with pytest.raises(StoreUnavailable):
        saver.get_tuple(config())
    assert [(op, thread, ok) for op, _, thread, ok in sink.told] == [
        ("get_tuple", "thread", True),
        ("put", "thread", True),
        ("get_tuple", "thread", True),
        ("get_tuple", "thread", False),
    ]
    assert all(seconds > 0 for _, seconds, _, _ in sink.told)


async def test_a_sink_that_takes_keywords_is_told_of_awaited_operations() -> None:
    sink = ByKeyword()
    saver = SwarmStateSaver(metrics=sink)
    await saver.aget_tuple(config())
    assert [(op, thread, ok) for op, _, thread, ok in sink.told] == [("get_tuple", "thread", True)]


def test_a_subclass_of_a_sink_may_change_its_form() -> None:
    class Own(InMemoryMetrics):
        def record(self, op: str, duration_s: float, *, thread_id: str, ok: bool) -> None:  # type: ignore[override]
            super().record(f"own.{op}", duration_s, thread_id=thread_id, ok=ok)

    metrics = Own()
    SwarmStateSaver(metrics=metrics).get_tuple(config())
    assert metrics.operations() == ["own.get_tuple"]


def test_a_sink_whose_form_cannot_be_known_is_told_by_position() -> None:
    mocked = MagicMock()
    recorder(mocked)("put", 0.5, {"thread": "t"})
    mocked.record.assert_called_once_with("put", 0.5, {"thread": "t"})


@pytest.mark.parametrize(
    "record",
    [
        lambda operation: None,
        lambda operation, seconds, attributes, more: None,
        lambda op, duration_s, *, thread_id: None,
        lambda op, duration_s, *, thread_id, ok, more: None,
    ],
)
def test_a_sink_of_another_form_is_refused_when_the_saver_is_made(record: Any) -> None:
    sink = MagicMock(spec=["record"])
    sink.record = record
    with pytest.raises(ArgumentTypeError, match=r"record\(operation, seconds, attributes\) or"):
        SwarmStateSaver(metrics=sink)


def test_what_has_a_method_record_is_a_metrics_sink() -> None:
    sinks = (NullMetrics(), InMemoryMetrics(), ByKeyword())
    assert all(isinstance(sink, MetricsSink) for sink in sinks)
    assert not isinstance(object(), MetricsSink)


def test_null_metrics_take_both_forms_and_keep_nothing() -> None:
    metrics = NullMetrics()
    metrics.record("put", 0.1, thread_id="t", ok=False)
    metrics.record("put", 0.1, {"thread": "t"})
    assert vars(metrics) == {}
    SwarmStateSaver(metrics=metrics).get_tuple(config())


# --- What is kept in memory ----------------------------------------------------------------------


def test_summary_without_an_operation_has_all_of_them_in_milliseconds() -> None:
    metrics = InMemoryMetrics()
    assert metrics.summary() == {}
    for milliseconds in (1, 2, 3, 4):
        metrics.record("put", milliseconds / 1000, thread_id="t", ok=milliseconds != 3)
    metrics.record("get_tuple", 0.0123456789, {"error": "ValueError"})
    metrics.record("list", 0.5, {})
    one = {"mean_ms": 12.34568, "p50_ms": 12.34568, "p99_ms": 12.34568}
    assert metrics.summary() == {
        "put": {"count": 4, "errors": 1, "mean_ms": 2.5, "p50_ms": 2.5, "p99_ms": 4.0},
        "get_tuple": {"count": 1, "errors": 1, **one},
        "list": {"count": 1, "errors": 0, "mean_ms": 500.0, "p50_ms": 500.0, "p99_ms": 500.0},
    }
    assert metrics.summary("put").errors == 1
    assert metrics.summary("put").p50 == 0.002
    metrics.reset()
    assert metrics.summary() == {}


def test_a_failure_counts_once_in_whichever_form_it_is_told() -> None:
    metrics = InMemoryMetrics()
    metrics.record("put", 0.1, {"error": "ValueError"}, ok=False)
    metrics.record("put", 0.1, {"error": "ValueError"})
    metrics.record("put", 0.1, ok=False)
    metrics.record("put", 0.1)
    assert (metrics.summary("put").count, metrics.summary("put").errors) == (4, 3)


def test_the_number_of_kept_durations_is_checked() -> None:
    for wrong in (0, -1):
        with pytest.raises(ArgumentValueError, match="keep must be an int >= 1"):
            InMemoryMetrics(keep=wrong)
    for kind in (True, 1.5, "1", None):
        with pytest.raises(ArgumentTypeError, match="keep must be an int >= 1"):
            InMemoryMetrics(keep=kind)  # type: ignore[arg-type]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_can_record_though_its_parent_was_forked_while_it_recorded() -> None:
    code = """if True:
        import os, signal, sys
        sys.path.insert(0, sys.argv[1])
        from swarmstate.observability import InMemoryMetrics
        metrics = InMemoryMetrics()
        metrics.record("put", 0.1)
        metrics._lock.acquire()  # as another thread would
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            metrics.record("put", 0.1)
            os._exit(metrics.summary("put").count)
        metrics._lock.release()
        metrics.record("put", 0.1)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    assert execute(sys.executable, "-c", code, ROOT, cwd=ROOT).strip() == "2"


# --- OpenTelemetry -------------------------------------------------------------------------------


def test_open_telemetry_metrics_take_both_forms() -> None:
    reader = InMemoryMetricReader()
    meters = MeterProvider(metric_readers=[reader])
    metrics = OpenTelemetryMetrics(meters.get_meter("test"))
    metrics.record("put", 0.1, thread_id="t", ok=True)
    metrics.record("put", 0.1, thread_id="t", ok=False)
    metrics.record("put", 0.1, {"error": "ValueError", "bytes": 3})
    data: Any = reader.get_metrics_data()
    (durations,) = (
        metric
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == "swarmstate.operation.duration"
    )
    labels = [dict(point.attributes) for point in durations.data.data_points]
    assert labels == [
        {"operation": "put"},
        {"operation": "put", "error": "unknown"},
        {"operation": "put", "error": "ValueError"},
    ]
    meters.shutdown()


def test_get_tracer_gives_a_tracer_that_a_saver_takes() -> None:
    for tracer in (get_tracer(), get_tracer("mine")):
        saver = SwarmStateSaver(metrics=InMemoryMetrics(), tracer=tracer)
        assert saver.get_tuple(config()) is None
        with tracer.start_as_current_span("x") as span:
            span.set_attribute("a", 1)
