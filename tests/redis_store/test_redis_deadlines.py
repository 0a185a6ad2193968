"""How long a call waits, for what, and by which clock."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from proxies import Proxy
from servers import Server, running, wait_until

from swarmstate.backends.redis import AsyncRedisStore, RedisStore
from swarmstate.errors import StoreUnavailable

Make = Callable[..., RedisStore]


# The time of a call ------------------------------------------------------------------------------


def test_the_time_of_a_call_is_that_of_all_its_round_trips(proxy: Proxy, make: Make) -> None:
    store = make(proxy.url, timeout=1.0, retries=0)
    patient = make(proxy.url, timeout=3.0, retries=0)
    for each in (store, patient):
        each.set("n", "k", 1)
    proxy.slow_down(0.6)
    # Each of the two would be in time.
    with pytest.raises(StoreUnavailable, match=r"update\(\) failed"):
        store.update("n", "k", lambda value: value + 1)
    assert patient.update("n", "k", lambda value: value + 1) in (2, 3)


async def test_the_time_of_an_awaited_call_is_that_of_all_its_round_trips(
    proxy: Proxy, prefix: str
) -> None:
    async with AsyncRedisStore(proxy.url, prefix=prefix, timeout=1.0, retries=0) as store:
        await store.set("n", "k", 1)
        proxy.slow_down(0.6)
        with pytest.raises(StoreUnavailable, match=r"update\(\) failed"):
            await store.update("n", "k", lambda value: value + 1)


def test_what_a_function_of_the_callers_takes_is_not_the_calls_time(
    proxy: Proxy, make: Make
) -> None:
    store = make(proxy.url, timeout=2.0, retries=0)
    store.set("n", "k", 0)
    proxy.slow_down(0.5)

    def slowly(value: Any) -> Any:
        time.sleep(1.2)
        return value + 1

    assert store.update("n", "k", slowly) == 1


@pytest.mark.parametrize("hiredis", [True, False])
def test_a_reply_that_keeps_arriving_is_awaited_and_asked_for_once(
    proxy: Proxy, make: Make, hiredis: bool
) -> None:
    with _client(proxy.port, hiredis) as client:
        store = make(client=client, timeout=0.4, retries=0)
        value = "x" * 100_000
        store.set("n", "k", value)
        proxy.slow_down(0.15, pieces=8)
        with proxy.counted() as commands:
            assert store.get("n", "k") == value
        assert commands["HGET"] == 1


@pytest.mark.parametrize("hiredis", [True, False])
def test_a_reply_that_stops_arriving_is_asked_for_again(
    proxy: Proxy, make: Make, hiredis: bool
) -> None:
    with _client(proxy.port, hiredis) as client:
        store = make(client=client, timeout=0.3, retries=1)
        value = "x" * 100_000
        store.set("n", "k", value)
        proxy.hold_reply_after(50_000)
        with proxy.counted() as commands:
            assert store.get("n", "k") == value
        assert commands["HGET"] == 2


@contextlib.contextmanager
def _client(port: int, hiredis: bool) -> Iterator[redis.Redis]:
    from redis._parsers import _HiredisParser, _RESP2Parser

    parser = _HiredisParser if hiredis else _RESP2Parser
    pool = redis.ConnectionPool(port=port, protocol=2, parser_class=parser, socket_timeout=30)
    with redis.Redis(connection_pool=pool) as client:
        yield client


# A server that does not answer, and then does -----------------------------------------------------


@contextlib.contextmanager
def frozen(server: Server) -> Iterator[None]:
    """Stop a server's process without ending it, until it has been asked twice to answer."""
    assert server.process is not None
    os.kill(server.process.pid, signal.SIGSTOP)
    before = _connections(server.port)

    def resume() -> None:
        wait_until(lambda: _connections(server.port) > before)
        assert server.process is not None
        os.kill(server.process.pid, signal.SIGCONT)

    thread = threading.Thread(target=resume)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def _connections(port: int) -> int:
    """Return how many connections there are to a port, those included that wait to be accepted."""
    with open("/proc/net/tcp") as table:
        addresses = [line.split()[1:3] for line in table][1:]
    return sum(remote.endswith(f":{port:04X}") for _, remote in addresses)


@pytest.mark.skipif(not os.path.exists("/proc/net/tcp"), reason="needs Linux")
@pytest.mark.parametrize("how", ["blocking", "awaited"])
def test_a_request_that_a_server_has_not_come_to_yet_is_not_sent_again(
    prefix: str, how: str
) -> None:
    with running() as server, RedisStore(server.url, prefix=prefix, timeout=0.3, retries=30) as st:
        ast = AsyncRedisStore(server.url, prefix=prefix, timeout=0.3, retries=30)
        loop = asyncio.new_event_loop()

        def run(name: str, *args: Any) -> Any:
            if how == "awaited":
                return loop.run_until_complete(getattr(ast, name)(*args))
            return getattr(st, name)(*args)

        run("set_many", [("n", f"k{i}", i) for i in range(50)])
        run("snapshot")
        with server.client() as client:
            client.config_resetstat()
            with frozen(server):
                assert len(run("snapshot")) == 50
            with frozen(server):
                # It may not be sent twice, and need not be.
                assert run("delete", "n", "k1") is True
            stats = client.info("commandstats")
        calls = {name: stat["calls"] for name, stat in stats.items()}
        assert calls.get("cmdstat_evalsha", 0) + calls.get("cmdstat_eval", 0) == 1
        assert calls["cmdstat_hdel"] == 1
        loop.run_until_complete(ast.close())
        loop.close()


# Whose error it is --------------------------------------------------------------------------------


class Alarm:
    """Raises an error in a handler of a signal, on top of whatever the main thread does then."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __call__(self, *_: object) -> None:
        self._strike()

    def _strike(self) -> None:
        raise self.error

    def __enter__(self) -> Callable[[], None]:
        self._before = signal.signal(signal.SIGUSR1, self)
        main = threading.get_ident()
        return lambda: signal.pthread_kill(main, signal.SIGUSR1)

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGUSR1, self._before)


ERRORS = [
    TimeoutError("mine"),
    TimeoutError(),
    ConnectionResetError("mine"),
    OSError(5, "mine"),
    redis.exceptions.TimeoutError("mine"),
    redis.exceptions.ConnectionError("mine"),
    StoreUnavailable("mine"),
]


@pytest.mark.parametrize(
    ("error", "borrowed"),
    [*((error, False) for error in ERRORS), (TimeoutError("mine"), True)],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_an_error_of_a_signal_handler_reaches_the_caller_as_itself_and_nothing_is_repeated(
    proxy: Proxy, make: Make, error: BaseException, borrowed: bool
) -> None:
    client = redis.Redis(port=proxy.port) if borrowed else None
    # Nothing else ends the wait: a signal that comes right before it is not lost, except in a
    # client of the caller's, which waits as Python does.
    store = make(proxy.url, client=client, timeout=20 if borrowed else 10_000)
    store.set("n", "k", 1)
    with Alarm(error) as strike, proxy.counted() as commands:
        proxy.hold_request()
        proxy.when_held(strike)
        try:
            # What is being handled meanwhile has nothing to do with it.
            raise LookupError("before")
        except LookupError:
            with pytest.raises(type(error)) as raised:
                store.get("n", "k")
    assert raised.value is error
    assert commands["HGET"] == 1
    proxy.release()
    assert store.get("n", "k") == 1
    if client is not None:
        client.close()


def test_a_timeout_while_another_error_is_handled_is_the_networks(proxy: Proxy, make: Make) -> None:
    store = make(proxy.url, timeout=0.2, retries=1)
    store.set("n", "k", 1)
    try:
        raise TimeoutError("of the caller's, and over")
    except TimeoutError:
        proxy.hold_request()
        assert store.get("n", "k") == 1
    proxy.release()


def test_an_error_of_a_signal_handler_between_two_attempts_ends_the_call(
    proxy: Proxy, make: Make
) -> None:
    store = make(proxy.url, retries=10**6)
    proxy.refuse()
    with Alarm(TimeoutError("mine")) as strike:
        threading.Timer(0.2, strike).start()
        with pytest.raises(TimeoutError, match="mine"):
            store.get("n", "k")
    proxy.refuse(False)
    assert store.get("n", "k") is None


def test_signals_that_keep_coming_do_not_begin_the_time_again(proxy: Proxy, make: Make) -> None:
    store = make(proxy.url, timeout=0.5, retries=0)
    store.set("n", "k", 1)
    shots = 0

    def shot(*_: object) -> None:
        nonlocal shots
        shots += 1
        if shots == 1000:
            raise AssertionError("the call goes on and on")

    before = signal.signal(signal.SIGALRM, shot)
    proxy.hold_request()
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
        with pytest.raises(StoreUnavailable, match="no answer within"):
            store.get("n", "k")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    proxy.release()
    assert store.get("n", "k") == 1


# Whose clock it is --------------------------------------------------------------------------------


@pytest.fixture
def stopped_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop the time, as freezegun does: every reference to its functions in every module."""
    fakes: dict[Any, Any] = {
        time.monotonic: lambda: 1.0,
        time.time: lambda: 1.0,
        time.perf_counter: lambda: 1.0,
        time.sleep: lambda _: None,
        random.uniform: lambda low, high: 0.0,
        random.random: lambda: 0.0,
    }
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in ("swarmstate", "time", "random"):
            for attribute, value in list(vars(module).items()):
                with contextlib.suppress(TypeError):
                    if value in fakes:
                        monkeypatch.setattr(module, attribute, fakes[value])


def test_a_call_ends_while_the_clock_of_a_test_stands_still(
    proxy: Proxy, make: Make, stopped_clock: None
) -> None:
    store = make(proxy.url, timeout=0.1, retries=2)
    store.set("n", "k", 1)
    proxy.swallow()
    with pytest.raises(StoreUnavailable, match=r"get\(\) failed"):
        store.get("n", "k")
    proxy.swallow(False)
    assert store.get("n", "k") == 1


def test_an_awaited_call_ends_while_the_clock_of_a_test_stands_still(
    proxy: Proxy, prefix: str, stopped_clock: None
) -> None:
    store = AsyncRedisStore(proxy.url, prefix=prefix, timeout=0.1, retries=2)

    async def calls() -> None:
        await store.set("n", "k", 1)
        proxy.swallow()
        with pytest.raises(StoreUnavailable, match=r"get\(\) failed"):
            await store.get("n", "k")
        proxy.swallow(False)
        assert await store.get("n", "k") == 1
        await store.close()

    asyncio.run(calls())
