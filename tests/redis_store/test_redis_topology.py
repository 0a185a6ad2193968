"""How the nodes of a cluster are found, and which errors of a server are not worth another try."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis
import valkey
from servers import Cluster, Server, cluster, running, wait_until

from swarmstate.backends.redis import RedisStore
from swarmstate.backends.redis.transport import topology
from swarmstate.backends.redis.transport.clock import monotonic
from swarmstate.backends.redis.transport.deadlines import Shared
from swarmstate.backends.redis.transport.topology import Node, denied, slot_of
from swarmstate.errors import StoreUnavailable

Make = Callable[..., RedisStore]


@pytest.fixture(scope="module")
def nodes() -> Iterator[Cluster]:
    with cluster() as started:
        yield started


@pytest.fixture(params=["url", "redis", "valkey"])
def store(request: pytest.FixtureRequest, nodes: Cluster, make: Make) -> Iterator[RedisStore]:
    """A store over a cluster, from a URL or a client."""
    if request.param == "url":
        yield make(nodes.url)
        return
    kind = redis.RedisCluster if request.param == "redis" else valkey.ValkeyCluster
    client = kind(host="127.0.0.1", port=nodes.nodes[0].port)
    yield make(client=client)
    client.close()


@contextmanager
def frozen(server: Server) -> Iterator[None]:
    """Let a server neither answer nor go, inside a ``with`` block."""
    assert server.process is not None
    os.kill(server.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.process.pid, signal.SIGCONT)


def soon(seconds: float = 20.0) -> float:
    return monotonic() + seconds


def test_the_map_of_a_cluster_is_learnt_without_a_node_that_does_not_answer(
    store: RedisStore, nodes: Cluster
) -> None:
    store.set("n", "k", 1)
    found = store.driver._topology
    found.refresh()
    for silent in nodes.nodes:
        with frozen(silent):
            for _ in range(3):
                # The silent node would hold this up for all of its timeout, and longer.
                found.refresh(monotonic() + 4)
    assert [node.address for node in found.primaries()] == sorted(
        f"127.0.0.1:{node.port}" for node in nodes.nodes
    )


def test_where_no_node_answers_the_deadline_ends_the_search(nodes: Cluster, make: Make) -> None:
    silent = nodes.nodes[0]
    store = make(f"redis+cluster://127.0.0.1:{silent.port}", timeout=60)
    with frozen(silent), pytest.raises(TimeoutError, match="no node told which one serves what"):
        store.driver._topology.refresh(monotonic() + 0.2)
    store.set("n", "k", 1)


def test_many_threads_learn_a_new_map_together() -> None:
    begun, end = threading.Event(), threading.Event()
    times = []

    def work() -> int:
        times.append(monotonic())
        begun.set()
        end.wait()
        return len(times)

    shared = Shared(work)
    assert shared.join(monotonic() + 0.01) is None, "it goes on"
    begun.wait()
    outcomes: list[Any] = []
    threads = [
        threading.Thread(target=lambda: outcomes.append(shared.join(soon()))) for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    (flight,) = shared._flights.values()
    wait_until(lambda: len(flight.waiting) == 17)
    end.set()
    for thread in threads:
        thread.join()
    assert {outcome.value for outcome in outcomes} == {1}
    again = shared.join(soon())
    assert again is not None
    assert again.value == 2, "later callers want what is true later"


def test_work_that_fails_tells_all_who_wait_for_it() -> None:
    def work() -> None:
        raise LookupError("a fault")

    outcome = Shared(work).join(soon())
    assert outcome is not None
    assert repr(outcome.error) == "LookupError('a fault')"


def test_a_server_that_is_not_part_of_a_cluster_is_told(server: Server, make: Make) -> None:
    store = make(server.url.replace("redis", "redis+cluster").removesuffix("/0"), retries=0)
    with pytest.raises(StoreUnavailable, match="cluster support disabled"):
        store.get("n", "k")


def test_a_node_that_is_not_in_the_map_yet_is_found_by_a_redirect(
    store: RedisStore, nodes: Cluster
) -> None:
    with running() as newcomer:
        found = store.driver._topology
        node = found.find("127.0.0.1", newcomer.port)
        assert node is not None
        connection = node.acquire(soon())
        connection.send_command("PING")
        assert connection.read_response() == b"PONG"
        node.release(connection)
        assert found.find("127.0.0.1", newcomer.port) is node
    assert found.find("", 0) is None


def test_slots_are_served_by_the_nodes_that_the_cluster_names(
    store: RedisStore, nodes: Cluster
) -> None:
    with nodes.nodes[0].client() as client:
        ranges = client.execute_command("CLUSTER SLOTS")
    found = store.driver._topology
    for refreshed in (False, True):
        if refreshed:
            found.refresh()
        for start, end, primary, *_ in ranges:
            for slot in (start, end):
                assert found.node(slot).address == f"127.0.0.1:{primary[1]}"
    assert found.node(None) is found.node(0)


def test_addresses_that_a_client_maps_are_mapped_in_new_maps_too(
    nodes: Cluster, make: Make
) -> None:
    client = redis.RedisCluster(
        host="127.0.0.1",
        port=nodes.nodes[0].port,
        address_remap=lambda address: ("localhost", address[1]),
    )
    store = make(client=client)
    store.set("n", "k", 1)
    store.driver._topology.refresh()
    assert store.get("n", "k") == 1
    expected = sorted(f"localhost:{node.port}" for node in nodes.nodes)
    assert [node.address for node in store.driver._topology.primaries()] == expected
    assert store.driver._topology.find("127.0.0.1", nodes.nodes[0].port).address in expected
    client.close()


def test_a_slot_that_nobody_serves_is_told(make: Make) -> None:
    options = ("--cluster-enabled", "yes", "--cluster-require-full-coverage", "no")
    with running("valkey", *options) as alone, alone.client() as client:
        client.execute_command("CLUSTER ADDSLOTSRANGE", 0, slot_of(b"swarm:served"))
        store = make(f"redis+cluster://127.0.0.1:{alone.port}", prefix="swarm", retries=0)
        wait_until(
            lambda: client.execute_command("CLUSTER INFO")["cluster_state"] == "ok", seconds=20
        )
        slot = slot_of(b"swarm:served")
        assert store.driver._topology.node(slot).address == f"127.0.0.1:{alone.port}"
        with pytest.raises(ConnectionError, match=f"no node serves slot {slot + 1}"):
            store.driver._topology.node(slot + 1)


# Refusals ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def locked() -> Iterator[Server]:
    with running() as started, started.client() as client:
        client.execute_command("ACL", "SETUSER", "reader", "on", ">pw", "~*", "-@all", "+get")
        client.config_set("requirepass", "secret")
        yield started


def refusal(node: Node) -> Exception:
    with pytest.raises((redis.RedisError, OSError)) as refused:
        node.fresh(soon())
    return refused.value


@pytest.mark.parametrize(
    "login",
    [
        ":wrong@{}",
        "nobody:secret@{}",
        "secret@{}",
        "reader:pw@{}/3",
        ":secret@{}/99",
    ],
)
@pytest.mark.parametrize("protocol", [2, 3])
def test_a_server_that_does_not_let_us_in_is_told_from_one_that_cannot_be_reached(
    locked: Server, make: Make, login: str, protocol: int
) -> None:
    url = f"redis://{login.format(f'127.0.0.1:{locked.port}')}?protocol={protocol}"
    store = make(url)
    error = refusal(store.driver._topology.node(None))
    assert isinstance(error, store.driver._topology.failures)
    assert denied(error), repr(error)


def test_a_password_where_none_is_needed_is_a_refusal(server: Server, make: Make) -> None:
    assert denied(refusal(make(f"redis://:pw@127.0.0.1:{server.port}").driver._topology.node(None)))


def test_a_command_without_the_login_that_it_needs_is_a_refusal(locked: Server, make: Make) -> None:
    node = make(f"redis://127.0.0.1:{locked.port}").driver._topology.node(None)
    connection = node.fresh(soon())
    connection.send_command("PING")
    with pytest.raises(redis.AuthenticationError) as refused:
        connection.read_response()
    assert denied(refused.value)


def test_a_cluster_that_does_not_let_us_in_is_a_refusal(locked: Server, make: Make) -> None:
    found = make(f"redis+cluster://:wrong@127.0.0.1:{locked.port}").driver._topology
    with pytest.raises(found.failures) as refused:
        found.refresh()
    assert denied(refused.value)


def test_what_passes_is_not_a_refusal(server: Server, make: Make, raw: redis.Redis) -> None:
    unreachable = make("redis://127.0.0.1:1").driver._topology.node(None)
    assert not denied(refusal(unreachable))
    most = raw.config_get("maxclients")["maxclients"]
    raw.config_set("maxclients", 1)
    try:
        full = refusal(make(f"{server.url[:-1]}1").driver._topology.node(None))
    finally:
        raw.config_set("maxclients", most)
    assert "max number of clients" in str(full)
    assert not denied(full)
    for passing in (
        redis.exceptions.BusyLoadingError("Redis is loading the dataset in memory"),
        redis.exceptions.ReadOnlyError("You can't write against a read only replica."),
        redis.exceptions.ResponseError("BUSY Redis is busy running a script."),
        redis.exceptions.ResponseError("MASTERDOWN Link with MASTER is down"),
        valkey.exceptions.ResponseError("NOREPLICAS Not enough good replicas to write."),
        valkey.exceptions.ConnectionError("Connection refused"),
        TimeoutError("connecting to the server took longer than 5 s"),
    ):
        assert not denied(passing), passing
    assert topology.failures_of("valkey")[0] is valkey.exceptions.ValkeyError
