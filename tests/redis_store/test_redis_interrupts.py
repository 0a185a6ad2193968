"""Calls that are interrupted, or whose store is closed, at any line of theirs."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import FrameType
from typing import Any

import pytest
import redis
from interrupting import at_line, interrupt
from servers import Cluster, Server, cluster

from swarmstate.backends.redis import AsyncRedisStore, RedisStore
from swarmstate.backends.redis.transport.clock import monotonic
from swarmstate.errors import StoreUnavailable

Make = Callable[..., RedisStore]


@pytest.mark.parametrize("borrowed", [False, True])
def test_an_interrupt_at_any_line_loses_no_connection_and_mixes_up_no_replies(
    server: Server, prefix: str, borrowed: bool
) -> None:
    client = redis.Redis(port=server.port, protocol=2) if borrowed else None
    store = RedisStore(
        server.url, client=client, prefix=prefix, max_connections=1, timeout=5, retries=0
    )
    store.set_many([("n", "k", 1), ("n", "other", 2)])
    number = 0
    reached = True
    while reached:
        number += 1
        reached, outcome = at_line(
            "redis", number, interrupt, lambda: store.get_many([("n", "k"), ("m", "k")])
        )
        assert outcome is KeyboardInterrupt or not reached
        # One connection is all there is: losing it would be an error here.
        assert store.get("n", "other") == 2
    assert number > 60
    store.close()
    if client is not None:
        client.close()


def at_opcode(number: int, work: Callable[[], Any]) -> bool:
    """Interrupt some work at a step of the interpreter's in the Redis store; tell if it came."""
    steps = 0

    def enter(frame: FrameType, event: str, argument: Any) -> Any:
        if "backends/redis" not in frame.f_code.co_filename:
            return None
        frame.f_trace_opcodes = True
        return step

    def step(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal steps
        if event == "opcode":
            steps += 1
            if steps == number:
                raise KeyboardInterrupt
        return step

    before = sys.gettrace()
    gc.disable()  # Finalizers of stores of other tests have steps in the Redis store, too.
    sys.settrace(enter)
    try:
        work()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
        gc.enable()
    return False


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="tracing no longer stops at every step")
@pytest.mark.parametrize("waits", [False, True])
def test_an_interrupt_at_any_step_of_the_interpreter_loses_no_connection(
    server: Server, prefix: str, waits: bool
) -> None:
    store = RedisStore(server.url, prefix=prefix, max_connections=1, timeout=20, retries=0)
    store.set("n", "k", 1)
    node = store.driver._topology.node(None)

    def work() -> None:
        if waits:
            # Given back while the call waits for it.
            held = node.acquire(monotonic() + 20)
            threading.Timer(0.001, node.release, [held]).start()
            del held
        assert store.get("n", "k") == 1

    number = 1
    while at_opcode(number, work):
        # One connection is all there is: losing it would be an error here.
        assert store.get("n", "k") == 1
        number += 3 if waits else 1
    assert number > 100
    store.close()


# A connection that is lost as it is closed is closed by the interpreter, which says so.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_interrupts_in_quick_succession_lose_no_connection(server: Server, prefix: str) -> None:
    store = RedisStore(server.url, prefix=prefix, max_connections=2, timeout=20, retries=0)
    store.set("n", "k", 1)

    shots = 0

    def interrupted(_: int, frame: FrameType | None) -> None:
        nonlocal shots
        # Only the call is interrupted, and twice at most.
        while frame is not None and frame.f_code is not call.__code__:
            frame = frame.f_back
        if frame is not None:
            shots += 1
            if shots == 1:
                # The second one comes while the first is dealt with.
                signal.setitimer(signal.ITIMER_REAL, 5e-6 * (1 + number % 7))
            raise KeyboardInterrupt

    def call() -> None:
        store.get("n", "k")

    before = signal.signal(signal.SIGALRM, interrupted)
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    interrupts = twice = 0
    try:
        for number in range(4000):
            shots = 0
            signal.setitimer(signal.ITIMER_REAL, 5e-6 + 4e-4 * (number % 100) / 100)
            # The other one is what some versions of the library make of an interrupt.
            with suppress(KeyboardInterrupt, UnboundLocalError):
                call()
            interrupts += shots
            twice += shots == 2
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        gc.collect()
        sys.unraisablehook = hook
    assert interrupts > 1000
    assert twice > 20
    node = store.driver._topology.node(None)
    both = [node.acquire(monotonic() + 20) for _ in range(2)]
    for connection in both:
        node.release(connection)
    assert store.get("n", "k") == 1
    store.close()


def test_closing_at_any_line_of_an_awaited_call_leaves_nobody_waiting(
    server: Server, prefix: str
) -> None:
    async def call(store: AsyncRedisStore) -> Any:
        return await asyncio.wait_for(store.get("n", "k", "none"), 20)

    number = 0
    reached = True
    while reached:
        number += 1
        store = AsyncRedisStore(server.url, prefix=prefix)
        closing = threading.Thread(target=store.driver.close)

        def close(closing: threading.Thread = closing) -> None:
            closing.start()
            # In vain where the call holds a lock.
            closing.join(0.05)

        reached, outcome = at_line(
            "redis", number, close, lambda store=store: asyncio.run(call(store))
        )
        assert outcome in ("none", StoreUnavailable)
        if reached:
            closing.join()
        store.driver.close()
    assert number > 20
    assert "swarmstate-redis" not in {thread.name for thread in threading.enumerate()}


@pytest.fixture(scope="module")
def nodes() -> Iterator[Cluster]:
    with cluster() as started:
        yield started


class Moody(redis.RedisCluster):  # type: ignore[misc]
    """A client with a fault of its own."""

    moody = False

    def get_primaries(self) -> Any:
        if self.moody:
            raise LookupError("a fault of the client")
        return super().get_primaries()


async def test_an_unforeseen_error_reaches_its_caller_and_nobody_else(
    nodes: Cluster, prefix: str
) -> None:
    client = Moody(host="127.0.0.1", port=nodes.nodes[0].port)
    async with AsyncRedisStore(client=client, prefix=prefix, timeout=20) as store:
        await store.set("n", "k", 1)
        client.moody = True
        with pytest.raises(LookupError, match="a fault of the client"):
            await asyncio.wait_for(store.namespaces(), 20)
        client.moody = False
        assert await asyncio.wait_for(store.get("n", "k"), 20) == 1
        assert await store.namespaces() == ["n"]
    client.close()


def test_the_checkpoints_of_a_store_work_when_nobody_holds_the_store(
    server: Server, prefix: str
) -> None:
    engine = RedisStore(server.url, prefix=prefix).checkpoint_engine()
    engine.run(engine.copy_thread("one", "two"))
