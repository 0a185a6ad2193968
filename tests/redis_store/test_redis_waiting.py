"""Who gets a connection when, until when it is waited for, and what cannot take one away."""

from __future__ import annotations

import select
import socket
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
import valkey
from proxies import Proxy
from rights import user
from servers import Server, wait_until

from swarmstate.backends.redis import RedisStore
from swarmstate.backends.redis.transport import stock as stock_module
from swarmstate.backends.redis.transport.clock import monotonic
from swarmstate.backends.redis.transport.pool import identity
from swarmstate.backends.redis.transport.stock import Stock, _Waiter
from swarmstate.backends.redis.transport.topology import Node
from swarmstate.errors import StoreUnavailable

Make = Callable[..., RedisStore]


class Thing:
    """Something of which there is a bounded number."""


def soon(seconds: float = 20.0) -> float:
    return monotonic() + seconds


def node_of(store: RedisStore) -> Node:
    return store.driver._topology.node(None)


def waiting(stock: Stock[Any]) -> int:
    return len(stock.line)


class Caller(threading.Thread):
    """Waits for a thing and keeps it until told to give it back."""

    def __init__(self, stock: Stock[Thing], deadline: float, order: list[Caller]) -> None:
        super().__init__(daemon=True)
        self._stock = stock
        self._deadline = deadline
        self._order = order
        self.may_go = threading.Event()
        self.got: Thing | None = None

    def run(self) -> None:
        self.got = self._stock.wait(self._deadline)
        self._order.append(self)
        if self.got is not None:
            self.may_go.wait()
            self._stock.release(self.got)


def line_up(stock: Stock[Thing], count: int) -> tuple[list[Caller], list[Caller]]:
    """Start callers one after the other; return them, and a list of those that were served."""
    served: list[Caller] = []
    callers = [Caller(stock, soon(), served) for _ in range(count)]
    before = waiting(stock)
    for number, caller in enumerate(callers, 1):
        caller.start()
        wait_until(lambda number=number: waiting(stock) == before + number)
    return callers, served


def test_things_are_handed_out_in_the_order_in_which_callers_came(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Nobody looks by themselves.
    monkeypatch.setattr(stock_module, "_FIRST_LOOKS_SECONDS", 1000)
    monkeypatch.setattr(stock_module, "_OTHERS_LOOK_SECONDS", 1000)
    stock = Stock(Thing, 2)
    held = [stock.take(), stock.take()]
    assert stock.take() is None
    callers, served = line_up(stock, 12)
    for caller in callers:
        caller.may_go.set()
    stock.release(held[0])
    for caller in callers:
        caller.join()
    assert served == callers
    stock.release(held[1])


def test_whoever_comes_now_does_not_go_past_those_who_wait() -> None:
    stock = Stock(Thing, 1)
    held = stock.take()
    (caller,), served = line_up(stock, 1)
    # Given back as by an interrupted caller, who woke nobody.
    stock.idle.append(held)
    assert stock.take() is None, "it is for the one who waits"
    caller.may_go.set()
    caller.join()
    assert served == [caller]
    assert caller.got is held


def test_a_thing_that_was_lost_makes_room_for_another() -> None:
    stock = Stock(Thing, 1)
    lost = stock.take()
    (caller,), _ = line_up(stock, 1)
    gone = weakref.ref(lost)
    del lost
    assert gone() is None
    caller.may_go.set()
    caller.join()
    assert caller.got is not None
    assert stock.take() is not None


def test_whoever_waited_in_vain_leaves_nothing_behind() -> None:
    stock = Stock(Thing, 1)
    held = stock.take()
    assert stock.wait(monotonic() + 0.01) is None
    assert stock.wait(monotonic() - 1) is None
    assert waiting(stock) == 0
    stock.release(held)
    assert stock.take() is held


def test_a_place_whose_owner_was_interrupted_is_passed_over() -> None:
    stock = Stock(Thing, 1)
    held = stock.take()
    # Twice: so that they could not leave the line, and somebody keeps the traceback.
    gone: _Waiter[Thing] = _Waiter()
    stock.line.append(weakref.ref(gone))
    # And once more, so that nothing is left of them.
    stock.line.append(weakref.ref(_Waiter()))
    (caller,), _ = line_up(stock, 1)
    caller.may_go.set()
    stock.release(held)
    caller.join()
    assert caller.got is held
    assert stock.take() is held


def test_a_caller_whose_place_was_taken_in_vain_is_served_all_the_same() -> None:
    stock = Stock(Thing, 1)
    held = stock.take()
    caller = Caller(stock, soon(1000), [])
    caller.may_go.set()
    caller.start()
    wait_until(lambda: waiting(stock) == 1)
    # As by somebody who was interrupted before they could hand over what they had.
    stock.line.popleft()
    stock.release(held)
    caller.join(60)
    assert caller.got is held


def test_callers_who_give_up_all_the_time_neither_lose_nor_multiply_things() -> None:
    stock = Stock(Thing, 3)
    used: set[int] = set()
    errors: list[str] = []
    served = [0] * 12

    def work(number: int) -> None:
        end = time.monotonic() + 1
        while time.monotonic() < end:
            thing = stock.take() or stock.wait(monotonic() + 0.0003 * (number % 4))
            if thing is None:
                continue
            if id(thing) in used:
                errors.append("a thing was handed out twice")
            used.add(id(thing))
            if len(used) > 3:
                errors.append("there were more things than there may be")
            used.discard(id(thing))
            stock.release(thing)
            served[number] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert sum(served) > 100
    assert waiting(stock) == 0
    all_there = [stock.take() for _ in range(3)]
    assert None not in all_there
    assert stock.take() is None


def test_a_kept_interrupt_does_not_keep_the_connection(
    server: Server, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = node_of(make(max_connections=1))
    connection = node.acquire(soon())
    node.release(connection)

    def interrupted(*_: Any, **__: Any) -> bool:
        raise KeyboardInterrupt

    # As when a signal comes while the idle connection is looked at.
    monkeypatch.setattr(connection, "can_read", interrupted)
    with pytest.raises(KeyboardInterrupt) as kept:
        node.acquire(soon())
    monkeypatch.undo()
    again = node.acquire(soon())
    assert again is connection
    assert kept.value.__traceback__ is not None
    node.release(again)


# Deadlines ---------------------------------------------------------------------------------------


def test_a_call_that_waits_for_a_connection_ends_also_under_a_frozen_clock(
    server: Server, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make(max_connections=1, timeout=0.2, retries=0)
    store.set("n", "k", 1)
    held = node_of(store).acquire(soon())
    monkeypatch.setattr(time, "monotonic", lambda: 0.0)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    with pytest.raises(StoreUnavailable, match="all 1 connections were in use for"):
        store.get("n", "k")
    node_of(store).release(held)
    assert store.get("n", "k") == 1


def test_threads_beyond_the_bound_are_all_served(server: Server, make: Make) -> None:
    store = make(max_connections=2)
    store.set("n", "k", 1)
    counts = [0] * 16
    errors: list[BaseException] = []
    stop = threading.Event()

    def work(number: int) -> None:
        try:
            while not stop.is_set():
                store.get("n", "k")
                counts[number] += 1
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    wait_until(lambda: bool(errors) or sum(counts) > 1600)
    stop.set()
    for thread in threads:
        thread.join()
    assert errors == []
    assert min(counts) > max(counts) / 4, "nobody pushed in"


@pytest.fixture
def never() -> Iterator[Callable[..., Any]]:
    """A function that does not return as long as the test runs."""
    end = threading.Event()

    def wait(*_: Any, **__: Any) -> Any:
        end.wait()
        raise OSError("the test is over")

    yield wait
    end.set()


def test_the_resolution_of_a_name_counts_against_the_deadline(
    server: Server, make: Make, monkeypatch: pytest.MonkeyPatch, never: Callable[..., Any]
) -> None:
    store = make(f"redis://localhost:{server.port}/0", timeout=0.1, retries=0)
    monkeypatch.setattr(socket, "getaddrinfo", never)
    with pytest.raises(StoreUnavailable, match="connecting to the server took longer than"):
        store.get("n", "k")


def test_a_server_that_does_not_answer_the_login_counts_against_the_deadline(
    proxy: Proxy, make: Make
) -> None:
    proxy.swallow()
    # The library itself would wait for much longer.
    node = node_of(make(f"redis://:secret@127.0.0.1:{proxy.port}/0", timeout=60))
    with pytest.raises(TimeoutError, match="connecting to the server took longer than"):
        node.acquire(monotonic() + 0.1)
    with pytest.raises(TimeoutError, match="connecting to the server took longer than"):
        node.fresh(monotonic() + 0.1)
    proxy.swallow(False)


def test_a_connection_that_comes_after_the_deadline_is_used_by_the_next_call(
    server: Server, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = node_of(make(f"redis://localhost:{server.port}/0", max_connections=1))
    resolve = socket.getaddrinfo
    may_resolve = threading.Event()

    def slowly(*args: Any) -> Any:
        may_resolve.wait()
        return resolve(*args)

    monkeypatch.setattr(socket, "getaddrinfo", slowly)
    with pytest.raises(TimeoutError, match="connecting"):
        node.acquire(monotonic() + 0.01)
    with pytest.raises(TimeoutError, match="all 1 connections were in use"):
        node.acquire(monotonic() + 0.01)
    may_resolve.set()
    connection = node.acquire(soon())
    node.release(connection)
    assert node.acquire(soon()) is connection
    node.release(connection)


# Pools of a user's client ------------------------------------------------------------------------

POOLS: dict[str, Callable[[int], Any]] = {
    "redis": lambda port: redis.ConnectionPool(port=port, max_connections=2),
    "redis-blocking": lambda port: redis.BlockingConnectionPool(
        port=port, max_connections=2, timeout=None
    ),
    "valkey": lambda port: valkey.ConnectionPool(port=port, max_connections=2),
    "valkey-blocking": lambda port: valkey.BlockingConnectionPool(
        port=port, max_connections=2, timeout=None
    ),
}


@pytest.fixture(params=POOLS)
def client(request: pytest.FixtureRequest, server: Server) -> Iterator[Any]:
    """A client that has at most two connections."""
    pool = POOLS[request.param](server.port)
    kind = valkey.Valkey if request.param.startswith("valkey") else redis.Redis
    with kind(connection_pool=pool) as made:
        yield made
    pool.disconnect()


def taken(client: Any) -> Any:
    """Take a connection as a user's own code does."""
    with warnings.catch_warnings():
        # Newer versions warn about what the oldest ones need.
        warnings.simplefilter("ignore", DeprecationWarning)
        return client.connection_pool.get_connection("GET")


def test_threads_share_a_client_that_has_few_connections(
    client: Any, make: Make, raw: redis.Redis
) -> None:
    before = len(raw.client_list())
    store = make(client=client)
    store.set("n", "k", 1)
    errors: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(50):
                assert store.get("n", "k") == 1
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(raw.client_list()) - before <= 2
    assert client.ping()


def test_what_others_take_out_of_a_shared_pool_is_waited_for_until_the_deadline(
    client: Any, make: Make
) -> None:
    store = make(client=client, timeout=0.2, retries=0)
    patient = make(client=client)
    store.set("n", "k", 1)
    held = [taken(client), taken(client)]
    with pytest.raises(
        StoreUnavailable, match="all 2 connections of the client's pool were in use"
    ):
        store.get("n", "k")
    answers: list[Any] = []
    threads = [
        threading.Thread(target=lambda: answers.append(patient.get("n", "k"))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for connection in held:
        client.connection_pool.release(connection)
    for thread in threads:
        thread.join()
    assert answers == [1] * 4


def test_a_client_whose_server_does_not_answer_is_not_waited_for_as_long_as_it_would_wait(
    proxy: Proxy, make: Make
) -> None:
    for pool in (
        redis.ConnectionPool(port=proxy.port, socket_timeout=60),
        valkey.ConnectionPool(port=proxy.port, socket_timeout=60),
    ):
        kind = redis.Redis if isinstance(pool, redis.ConnectionPool) else valkey.Valkey
        node = node_of(make(client=kind(connection_pool=pool)))
        connection = node.acquire(soon())
        node.release(connection)
        proxy.drop()
        assert select.select([connection._sock], [], [], 20)[0]
        proxy.swallow()
        with pytest.raises(TimeoutError, match="connecting to the server took longer than"):
            node.acquire(monotonic() + 0.1)
        proxy.swallow(False)
        pool.disconnect()


# What is known of a connection -------------------------------------------------------------------


@pytest.fixture(params=["url", "client"])
def node(request: pytest.FixtureRequest, server: Server, make: Make) -> Iterator[Node]:
    """The server behind a store's own connections, or behind a client's."""
    client = redis.Redis(port=server.port) if request.param == "client" else None
    yield node_of(make(client=client))
    if client is not None:
        client.close()


def test_a_connection_knows_how_the_server_calls_it(node: Node, raw: redis.Redis) -> None:
    connection = node.acquire(soon())
    known = identity(connection)
    assert known is not None
    (listed,) = [each for each in raw.client_list() if each["id"] == str(known.id)]
    assert listed["addr"] == known.address
    node.release(connection)
    assert identity(node.acquire(soon())) == known
    # Over the same object, but not the same connection any more.
    connection.disconnect()
    assert identity(connection) is None
    node.release(connection)
    again = node.acquire(soon())
    assert again is connection
    assert identity(again) not in (None, known)
    assert raw.client_kill_filter(_id=str(identity(again).id), addr=identity(again).address) == 1
    node.release(again)


def test_a_connection_of_a_user_who_may_not_ask_works_unknown(
    server: Server, make: Make, raw: redis.Redis
) -> None:
    store = make(user(server, raw, "~*", "-@all", "+hget"))
    assert store.get("n", "k") is None
    connection = node_of(store).acquire(soon())
    assert identity(connection) is None
    node_of(store).release(connection)


def test_after_idle_connections_were_dropped_the_next_one_is_new(node: Node) -> None:
    first, second = node.acquire(soon()), node.acquire(soon())
    before = {identity(first), identity(second)}
    node.release(first)
    node.release(second)
    node.drop_idle()
    third = node.acquire(soon())
    assert identity(third) not in before
    node.release(third)


def test_idle_connections_of_a_blocking_pool_are_dropped_and_no_others(
    server: Server, make: Make
) -> None:
    pool = redis.BlockingConnectionPool(port=server.port, max_connections=3)
    node = node_of(make(client=redis.Redis(connection_pool=pool)))
    used, idle = node.acquire(soon()), node.acquire(soon())
    before = identity(used), identity(idle)
    node.release(idle)
    node.drop_idle()
    assert identity(used) == before[0]
    assert identity(idle) is None
    node.release(used)
    assert pool.pool.qsize() == 3
    pool.disconnect()


def test_a_fresh_connection_comes_on_top_of_the_bound(server: Server, make: Make) -> None:
    node = node_of(make(max_connections=1))
    held = node.acquire(soon())
    extra = node.fresh(soon())
    extra.send_command("PING")
    assert extra.read_response() == b"PONG"
    extra.disconnect()
    node.release(held)
