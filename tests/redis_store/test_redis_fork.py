"""Children that are forked while threads of their parent use the same store."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis
import valkey
from forking import SECONDS, child
from servers import Cluster, Server, cluster

from swarmstate.backends.redis import RedisStore
from swarmstate.backends.redis.transport.clock import monotonic
from swarmstate.backends.redis.transport.pool import identity

Make = Callable[..., RedisStore]

# Newer versions of Python warn about what is tested here.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

CHILDREN = 8


@pytest.fixture(scope="module")
def nodes() -> Iterator[Cluster]:
    with cluster() as started:
        yield started


KINDS = (
    *("url", "client", "blocking client", "valkey client"),
    *("cluster url", "cluster client", "valkey cluster client"),
)


@pytest.fixture(params=KINDS)
def store(
    request: pytest.FixtureRequest, server: Server, nodes: Cluster, make: Make
) -> Iterator[RedisStore]:
    """A store over each kind of connections."""
    kind, port, first = request.param, server.port, nodes.nodes[0].port
    if kind == "url":
        yield make()
        return
    if kind == "cluster url":
        yield make(nodes.url)
        return
    clients: dict[str, Callable[[], Any]] = {
        "client": lambda: redis.Redis(port=port),
        "blocking client": lambda: redis.Redis(
            connection_pool=redis.BlockingConnectionPool(port=port, max_connections=3)
        ),
        "valkey client": lambda: valkey.Valkey(port=port),
        "cluster client": lambda: redis.RedisCluster(host="127.0.0.1", port=first),
        "valkey cluster client": lambda: valkey.ValkeyCluster(host="127.0.0.1", port=first),
    }
    client = clients[kind]()
    yield make(client=client)
    client.close()


@contextmanager
def busy(work: Callable[[], Any]) -> Iterator[list[BaseException]]:
    """Let threads work inside a ``with`` block, that change places often; yields their errors."""
    stop = threading.Event()
    errors: list[BaseException] = []

    def loop() -> None:
        try:
            while not stop.is_set():
                work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=loop) for _ in range(2)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        yield errors
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        sys.setswitchinterval(interval)


def test_a_child_is_not_held_up_by_what_threads_of_its_parent_held(store: RedisStore) -> None:
    store.set_many([(f"n{number}", "k", number) for number in range(5)])

    def work() -> None:
        store.driver._topology.refresh()
        assert store.get("n1", "k") == 1
        store.snapshot()

    with busy(work) as errors:
        statuses = {child(work) for _ in range(CHILDREN)}
    assert errors == []
    assert statuses == {0}


def test_a_child_talks_over_connections_of_its_own(store: RedisStore) -> None:
    store.set("n", "k", 1)
    node = store.driver._topology.primaries()[0]
    held, idle = [node.acquire(monotonic() + SECONDS) for _ in range(2)]
    known = {identity(held), identity(idle)}
    assert None not in known
    node.release(idle)

    def work() -> None:
        # What the child inherited is closed here, and nowhere else.
        node.release(held)
        own = node.acquire(monotonic() + SECONDS)
        assert identity(own) not in {None, *known}
        node.release(own)
        assert store.get("n", "k") == 1
        store.set("n", "child", 2)
        store.close()

    assert child(work) == 0
    assert {identity(held), identity(idle)} == known
    held.send_command("PING")
    assert held.read_response() in (b"PONG", "PONG")
    node.release(held)
    assert store.get_many([("n", "k"), ("n", "child")]) == [1, 2]
