"""LangGraph's own conformance suite, on every store and codec."""

from __future__ import annotations

from collections.abc import AsyncIterator

from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.conformance.capabilities import Capability, DetectedCapabilities

from swarmstate.integrations.langgraph import SwarmStateSaver
from swarmstate.protocols import StoreLike


async def test_every_capability_of_the_conformance_suite_is_offered_and_passes(
    store: StoreLike,
) -> None:
    @checkpointer_test(name="SwarmStateSaver")
    async def saver() -> AsyncIterator[SwarmStateSaver]:
        yield SwarmStateSaver(store)

    # The suite skips what a saver does not override, so the set is asserted first.
    detected = DetectedCapabilities.from_instance(SwarmStateSaver(store)).detected
    assert detected == frozenset(Capability)
    report = await validate(saver)
    failures = {name: result.failures for name, result in report.results.items() if result.failures}
    assert not failures
    assert all(result.passed for result in report.results.values())
