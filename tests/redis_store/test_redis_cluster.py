"""A cluster whose slots move and whose nodes change places while it is written to."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis
from servers import Cluster, cluster, wait_until

from swarmstate.backends.redis import AsyncRedisStore, RedisStore
from swarmstate.backends.redis.transport.topology import slot_of
from swarmstate.errors import StoreUnavailable

Make = Callable[..., RedisStore]


@pytest.fixture(scope="module")
def nodes() -> Iterator[Cluster]:
    with cluster(replicas=1) as started:
        yield started


class Writer:
    """Writes numbers that grow, and remembers the last one that was acknowledged."""

    def __init__(self, store: RedisStore, namespace: str) -> None:
        self.store = store
        self.namespace = namespace
        self.acknowledged: dict[str, int] = {}
        self.errors: list[BaseException] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def _work(self) -> None:
        number = 0
        try:
            while not self._stop.is_set():
                number += 1
                key = f"k{number % 50}"
                try:
                    if number % 3:
                        self.store.set(self.namespace, key, number)
                    else:
                        self.store.set_many(
                            [(self.namespace, key, number), (self.namespace, "twin", number)]
                        )
                except StoreUnavailable:
                    # Not acknowledged: the old number or the new one may be there.
                    continue
                self.acknowledged[key] = number
        except BaseException as error:
            self.errors.append(error)

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def written(self) -> int:
        return max(self.acknowledged.values(), default=0)

    def check(self) -> None:
        assert self.errors == []
        for key, number in self.acknowledged.items():
            assert self.store.get(self.namespace, key) >= number


@contextmanager
def writers(make: Make, nodes: Cluster, namespaces: list[str]) -> Iterator[list[Writer]]:
    """Write to namespaces inside a ``with`` block, and check afterwards that nothing is lost."""
    made = [Writer(make(nodes.url), namespace) for namespace in namespaces]
    for writer in made:
        writer.__enter__()
    try:
        yield made
        # Writing goes on after what happened, too.
        before = [writer.written for writer in made]
        wait_until(
            lambda: all(w.written > b + 20 or w.errors for w, b in zip(made, before, strict=True))
        )
    finally:
        for writer in made:
            writer.__exit__()
    for writer in made:
        writer.check()


def test_slots_are_computed_as_the_cluster_does(nodes: Cluster) -> None:
    names = ["", "a", "app:n", "{t}", "a{t}b", "{}", "{}{t}", "a{", "}{", "{{t}}", "é", "日{本}"]
    with nodes.nodes[0].client() as client:
        for name in names:
            assert slot_of(name.encode()) == client.execute_command("CLUSTER KEYSLOT", name)


def primary_of(nodes: Cluster, slot: int) -> int:
    """Return the port of the node that serves a slot."""
    with nodes.nodes[0].client() as client:
        ranges = client.cluster("SLOTS")
    return next(int(primary[1]) for start, end, primary, *_ in ranges if start <= slot <= end)


def test_moving_slots_during_writes_loses_nothing(nodes: Cluster, make: Make, prefix: str) -> None:
    namespaces = [f"moving{number}" for number in range(4)]
    slots = [slot_of(f"{prefix}:{namespace}".encode()) for namespace in namespaces]
    with writers(make, nodes, namespaces) as made:
        wait_until(lambda: all(writer.written > 20 for writer in made))
        for slot in slots:
            move(nodes, slot)
        move(nodes, slots[0])
    store = make(nodes.url)
    assert sorted(store.namespaces()) == sorted(namespaces)
    taken = store.snapshot()
    store.clear()
    store.restore(taken)
    assert len(store) == len(taken)


def move(nodes: Cluster, slot: int) -> None:
    """Move a slot to another primary, key by key, as an operator's tool does."""
    clients = {node.port: node.client() for node in nodes.nodes[:3]}
    try:
        source = primary_of(nodes, slot)
        target = next(port for port in clients if port != source)
        ids = {
            port: client.execute_command("CLUSTER MYID").decode()
            for port, client in clients.items()
        }
        clients[target].execute_command("CLUSTER SETSLOT", slot, "IMPORTING", ids[source])
        clients[source].execute_command("CLUSTER SETSLOT", slot, "MIGRATING", ids[target])
        while keys := clients[source].execute_command("CLUSTER GETKEYSINSLOT", slot, 10):
            clients[source].execute_command(
                *("MIGRATE", "127.0.0.1", target, "", 0, 5000, "KEYS"), *keys
            )
        for port in (target, source, *clients):
            clients[port].execute_command("CLUSTER SETSLOT", slot, "NODE", ids[target])
    finally:
        for client in clients.values():
            client.close()


def test_a_slot_that_is_half_moved_is_read_and_written(
    nodes: Cluster, make: Make, prefix: str
) -> None:
    store = make(nodes.url)
    store.set("half", "k", 1)
    slot = slot_of(f"{prefix}:half".encode())
    store.set_many([("half", f"k{number}", number) for number in range(5)])
    source = primary_of(nodes, slot)
    target = next(node.port for node in nodes.nodes[:3] if node.port != source)
    with redis.Redis(port=source) as giver, redis.Redis(port=target) as taker:
        ids = [each.execute_command("CLUSTER MYID").decode() for each in (giver, taker)]
        taker.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", ids[0])
        giver.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", ids[1])
        keys = giver.execute_command("CLUSTER GETKEYSINSLOT", slot, 10)
        giver.execute_command("MIGRATE", "127.0.0.1", target, "", 0, 5000, "KEYS", *keys)
        try:
            # Every call is asked to go to the other node, transactions and scripts included.
            assert store.get("half", "k3") == 3
            store.set_many([("half", "k", 10), ("half", "l", 11)])
            assert store.update("half", "k", lambda value: value + 1) == 11
            assert store.delete_many([("half", "k1"), ("half", "k2")]) == 2
            assert sorted(store.keys("half")) == ["k", "k0", "k3", "k4", "l"]
            assert store.namespaces() == ["half"]
            assert len(store) == 5
            assert len(store.snapshot()) == 5
        finally:
            for each in (taker, giver):
                each.execute_command("CLUSTER SETSLOT", slot, "NODE", ids[1])
        assert store.get("half", "l") == 11


def test_a_failover_during_writes_loses_nothing(nodes: Cluster, make: Make, prefix: str) -> None:
    replica = nodes.nodes[3]
    with replica.client() as client, nodes.nodes[0].client() as primary:
        # Namespaces in slots of the node that is replaced.
        namespaces = [
            name
            for name in map("over{}".format, range(40))
            if slot_of(f"{prefix}:{name}".encode()) < 5461
        ][:3]
        with writers(make, nodes, namespaces) as made:
            wait_until(lambda: all(writer.written > 50 for writer in made))
            client.execute_command("CLUSTER FAILOVER")
            wait_until(lambda: client.info("replication")["role"] == "master")
        wait_until(lambda: primary.info("replication").get("master_link_status") == "up")
        primary.execute_command("CLUSTER FAILOVER")
        wait_until(lambda: primary.info("replication")["role"] == "master")


async def test_awaited_calls_follow_a_failover(nodes: Cluster, prefix: str) -> None:
    async with AsyncRedisStore(nodes.url, prefix=prefix) as store:
        await asyncio.gather(*[store.set(f"n{i}", "k", i) for i in range(60)])
        replica = nodes.nodes[3]
        with replica.client() as client, nodes.nodes[0].client() as primary:
            wait_until(lambda: client.info("replication").get("master_link_status") == "up")
            client.execute_command("CLUSTER FAILOVER")
            wait_until(lambda: client.info("replication")["role"] == "master")
            assert await asyncio.gather(*[store.get(f"n{i}", "k") for i in range(60)]) == list(
                range(60)
            )
            await asyncio.gather(*[store.set(f"n{i}", "k", -i) for i in range(60)])
            assert await store.count() == 60
            wait_until(lambda: primary.info("replication").get("master_link_status") == "up")
            primary.execute_command("CLUSTER FAILOVER")
            wait_until(lambda: primary.info("replication")["role"] == "master")


def test_a_batch_over_many_slots_takes_one_trip_per_node(nodes: Cluster, make: Make) -> None:
    from proxies import Proxy

    proxies = [Proxy(node.port) for node in nodes.nodes[:3]]
    try:
        ports = {node.port: proxy for node, proxy in zip(nodes.nodes, proxies, strict=False)}

        def through(address: tuple[str, int]) -> tuple[str, int]:
            host, port = address
            return host, ports[port].port if port in ports else port

        client = redis.RedisCluster(
            host="127.0.0.1", port=nodes.nodes[0].port, address_remap=through
        )
        store = make(client=client)
        items = [(f"n{number}", "k", number) for number in range(200)]
        store.set_many(items)
        taken = store.snapshot()
        marker = store.steps.marker

        def trips(call: Callable[[], Any], before: Callable[[], Any] = int) -> list[int]:
            # The least of three: on a busy machine a batch comes in pieces, some of them answered.
            counts = []
            for _ in range(3):
                before()
                # The marker is kept warm once a second, which may take a trip more: not now.
                marker.due_to_reads = marker.due_to_writes = math.inf
                for proxy in proxies:
                    proxy.trips = 0
                call()
                counts.append([proxy.trips for proxy in proxies])
            return min(counts, key=sum)

        pairs = [item[:2] for item in items]
        assert trips(lambda: store.set_many(items)) == [1, 1, 1]
        assert trips(lambda: store.get_many(pairs)) == [1, 1, 1]
        assert trips(lambda: store.delete_many(pairs), lambda: store.set_many(items)) == [1, 1, 1]
        store.set_many(items)
        assert trips(store.namespaces) == [1, 1, 1]
        assert max(trips(lambda: len(store))) <= 2
        assert max(trips(store.snapshot)) <= 2
        assert max(trips(lambda: store.restore(taken))) <= 3
        assert max(trips(store.clear, lambda: store.restore(taken))) <= 2
        assert len(store) == 0
        client.close()
    finally:
        for proxy in proxies:
            proxy.close()


def test_the_marker_is_there_before_the_first_write_of_a_store(
    nodes: Cluster, make: Make, prefix: str
) -> None:
    primaries = nodes.nodes[:3]
    home = slot_of(f"!{prefix}:\0store".encode())
    with redis.RedisCluster(host="127.0.0.1", port=primaries[0].port) as client:
        at = client.get_node_from_key(f"!{prefix}:\0store").port
        mute = next(node for node in nodes.nodes if node.port == at)
        other = next(
            name
            for name in map("n{}".format, range(100))
            if client.get_node_from_key(f"{prefix}:{name}").port != at
        )
        assert slot_of(f"{prefix}:{other}".encode()) != home
        store = make(nodes.url, timeout=0.5, retries=0)
        store.get(other, "k")
        with mute.client() as direct:
            direct.execute_command("CLIENT", "PAUSE", "1500", "WRITE")
            with pytest.raises(StoreUnavailable):
                store.set(other, "k", 1)
            assert not client.exists(f"{prefix}:{other}")
            direct.execute_command("CLIENT", "UNPAUSE")
        store.set(other, "k", 1)
        assert client.exists(f"!{prefix}:\0store")


def test_a_batch_that_one_node_fails_says_so_and_the_rest_of_it_stays(
    nodes: Cluster, make: Make, prefix: str
) -> None:
    store = make(nodes.url, timeout=0.5, retries=0)
    items = [(f"n{number}", "k", number) for number in range(60)]
    store.set_many(items)
    failing = nodes.nodes[1]
    with failing.client() as direct:
        direct.execute_command("CLIENT", "PAUSE", "3000", "WRITE")
        with pytest.raises(
            StoreUnavailable, match=r"set_many\(\) failed on .* for a part of the call"
        ):
            store.set_many([(name, key, -value - 1) for name, key, value in items])
        values = make(nodes.url).get_many([item[:2] for item in items])
        direct.execute_command("CLIENT", "UNPAUSE")
    assert 0 < sum(value < 0 for value in values) < 60


def test_a_cluster_that_is_absent_is_an_error_in_bounded_time() -> None:
    with RedisStore("redis+cluster://127.0.0.1:1", retries=1) as store:
        for call in (lambda: store.get("n", "k"), store.namespaces, store.snapshot):
            with pytest.raises(StoreUnavailable, match=r"the cluster at 127\.0\.0\.1:1"):
                call()


def test_what_is_enumerated_while_its_slot_moves_is_complete(
    nodes: Cluster, make: Make, prefix: str
) -> None:
    store = make(nodes.url)
    store.set_many([(f"n{number}", "k", number) for number in range(20)])
    together = [f"{{{prefix}}}{number}" for number in range(200)]
    store.set_many([(namespace, "k", 1) for namespace in together])
    everything = sorted(store.namespaces())
    assert len(everything) == 220
    slot = slot_of(prefix.encode())
    stop = threading.Event()
    moves = []

    def keep_moving() -> None:
        while not stop.is_set():
            move(nodes, slot)
            moves.append(1)

    thread = threading.Thread(target=keep_moving)
    thread.start()
    try:
        while len(moves) < 10:
            assert sorted(store.namespaces()) == everything
            assert len(store.snapshot()) == len(store) == len(everything)
    finally:
        stop.set()
        thread.join()


def test_namespaces_of_one_slot_are_written_as_one_where_another_program_keeps_a_key(
    nodes: Cluster, make: Make, prefix: str
) -> None:
    store = make(nodes.url, prefix=f"{{{prefix}}}")
    store.set("a", "k", 1)
    with redis.RedisCluster(host="127.0.0.1", port=nodes.nodes[0].port) as client:
        client.set(f"{{{prefix}}}:theirs", "theirs")
        with pytest.raises(ValueError, match="another program keeps a string"):
            store.set_many([("a", "k", 2), ("theirs", "k", 2), ("z", "k", 2)])
        assert client.get(f"{{{prefix}}}:theirs") == b"theirs"
    assert store.get_many([("a", "k"), ("z", "k")]) == [1, None]
