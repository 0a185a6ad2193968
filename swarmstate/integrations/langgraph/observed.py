"""Measuring a saver's operations; only imported by savers that are given a sink or a tracer."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from contextvars import ContextVar
from typing import Any, TypeVar

from langchain_core.runnables import RunnableConfig

from swarmstate.checkpoints.protocol import (
    NO_VALUES,
    Blob,
    CheckpointEngine,
    CheckpointName,
    CheckpointRecord,
    StoredCheckpoint,
    Surplus,
)
from swarmstate.observability import Metrics, MetricsSink, Tracer, recorder
from swarmstate.steps import Outcome, Steps, finish

__all__ = ["CountingEngine", "Observer"]

T = TypeVar("T")


class _Tally:
    """What one operation has moved so far."""

    __slots__ = ("bytes", "checkpoint_id", "round_trips")

    def __init__(self) -> None:
        self.bytes = self.round_trips = 0
        self.checkpoint_id = ""


# Steps run in the context of whoever called, awaited or not, so concurrent calls do not mix.
_current: ContextVar[_Tally | None] = ContextVar("swarmstate_tally", default=None)


class Observer:
    """Reports operations to a sink, a tracer, or both."""

    def __init__(self, metrics: Metrics | MetricsSink | None, tracer: Tracer | None) -> None:
        self._record = None if metrics is None else recorder(metrics)
        self._tracer = tracer

    @contextmanager
    def observing(
        self, operation: str, config: RunnableConfig | None
    ) -> Iterator[Callable[..., Steps[Any]]]:
        """Measure one operation; drive the steps that the function it gives makes of it."""
        tally = _Tally()
        attributes: dict[str, Any] = {"thread": "", "namespace": ""}
        # What is wrong with a config is the operation's to tell.
        with suppress(AttributeError, KeyError, TypeError):
            configurable: Any = config["configurable"]  # type: ignore[index]
            attributes["thread"] = str(configurable["thread_id"])
            attributes["namespace"] = configurable.get("checkpoint_ns") or ""
            tally.checkpoint_id = configurable.get("checkpoint_id") or ""
        span_of = self._tracer
        opened = (
            nullcontext()
            if span_of is None
            else span_of.start_as_current_span(f"swarmstate.checkpoint.{operation}")
        )

        def watched(step: Callable[..., Outcome[T]], /, *args: Any) -> Steps[T]:
            counted = _counted(_begun(step, args), tally)
            # By this name the errors of a store tell what failed.
            counted.__name__ = operation  # type: ignore[attr-defined]
            return counted

        token = _current.set(tally)
        try:
            with opened as span:
                started = time.perf_counter()
                try:
                    yield watched
                except BaseException as error:  # told, and raised again
                    attributes["error"] = type(error).__name__
                    raise
                finally:
                    seconds = time.perf_counter() - started
                    attributes["round_trips"] = tally.round_trips
                    attributes["bytes"] = tally.bytes
                    if span is not None:
                        # Once more under LangGraph's names, and which checkpoint it was.
                        named = {
                            "thread_id": attributes["thread"],
                            "checkpoint_ns": attributes["namespace"],
                            "checkpoint_id": tally.checkpoint_id,
                        }
                        for key, value in {**attributes, **named}.items():
                            span.set_attribute(f"swarmstate.{key}", value)
                    if self._record is not None:
                        self._record(operation, seconds, attributes)
        finally:
            _current.reset(token)


def _begun(step: Callable[..., Outcome[T]], args: tuple[Any, ...]) -> Steps[T]:
    """Return the steps of an operation that begins when they are driven."""
    return (yield from finish(step(*args)))


def _counted(steps: Steps[T], tally: _Tally) -> Steps[T]:
    """Pass everything through, counting what is waited for: each is one round trip."""
    try:
        request = next(steps)
        while True:
            tally.round_trips += 1
            try:
                reply = yield request
            except Exception as error:  # noqa: BLE001 (the driver's errors belong to the steps)
                request = steps.throw(error)
            else:
                request = steps.send(reply)
    except StopIteration as stop:
        result: T = stop.value
        # What was put or found tells its id, in a config or as a tuple with one.
        with suppress(AttributeError, KeyError, TypeError):
            found: Any = getattr(result, "config", result)
            tally.checkpoint_id = found["configurable"]["checkpoint_id"]
        return result


class CountingEngine:
    """An engine that adds up the serialised bytes which pass through it."""

    def __init__(self, inner: CheckpointEngine) -> None:
        self._inner = inner
        # What moves no values is not wrapped.
        self.list_ids = inner.list_ids
        self.delete = inner.delete
        self.delete_thread = inner.delete_thread
        self.copy_thread = inner.copy_thread
        self.threads = inner.threads
        self.spaces = inner.spaces
        self.surplus = inner.surplus
        self.inspect = inner.inspect
        self.release = inner.release
        self.run = inner.run
        self.arun = inner.arun

    def put(
        self,
        name: CheckpointName,
        record: CheckpointRecord,
        values: Mapping[str, Blob],
        inherited: Sequence[str],
        *,
        keep: int | None = None,
        caller: CheckpointName | None = None,
    ) -> Outcome[tuple[Surplus | None, list[str]]]:
        """Store a checkpoint."""
        _add(record.body, record.metadata, *values.values())
        return self._inner.put(name, record, values, inherited, keep=keep, caller=caller)

    def put_writes(
        self,
        name: CheckpointName,
        writes: Mapping[str, Any],
        values: Mapping[str, Blob] = NO_VALUES,
        inherited: Sequence[str] = (),
    ) -> Outcome[list[str]]:
        """Store pending writes."""
        _add(*values.values())
        pairs = [each[1:3] for each in writes.values() if type(each) is list]
        _add(*((tag, data) for tag, data in pairs if type(data) is not list))
        return self._inner.put_writes(name, writes, values, inherited)

    def get(self, name: CheckpointName) -> Steps[StoredCheckpoint | None]:
        """Return a checkpoint."""
        found = yield from finish(self._inner.get(name))
        _add_found([found])
        return found

    def load(
        self,
        names: Sequence[CheckpointName],
        *,
        channels: Collection[str] | None,
        writes: bool,
        most: int | None = None,
    ) -> Steps[list[StoredCheckpoint | None]]:
        """Return checkpoints."""
        found = yield from finish(
            self._inner.load(names, channels=channels, writes=writes, most=most)
        )
        _add_found(found)
        return found

    def ancestors(self, name: CheckpointName, limit: int) -> Steps[list[StoredCheckpoint]]:
        """Return a checkpoint and its ancestors."""
        found = yield from finish(self._inner.ancestors(name, limit))
        _add_found(found)
        return found


def _add(*blobs: Blob) -> None:
    tally = _current.get()
    if tally is not None:
        tally.bytes += sum(len(data) for _, data in blobs)


def _add_found(found: Sequence[StoredCheckpoint | None]) -> None:
    for one in found:
        if one is not None:
            record = one.record
            _add(record.body, record.metadata, *one.values.values())
            _add(*(write.value for write in one.writes))
