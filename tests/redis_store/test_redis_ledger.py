"""Processes that write while their servers are harmed; afterwards what was acknowledged is there.

A few seconds for each kind of harm, or as many as ``SWARMSTATE_TEST_SECONDS`` says.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import ledger
import pytest
import redis
from moving import MovingSlot
from proxies import Proxy
from servers import Cluster, Server, cluster, running, wait_until

from swarmstate.backends.redis.transport.topology import slot_of

spawn = multiprocessing.get_context("spawn")

# Without this, a replica waits five seconds for others.
SOON = ("--repl-diskless-sync-delay", "0")
DURABLE = ("--appendonly", "yes", "--appendfsync", "always")


class Writers:
    """Processes of every kind, writing."""

    def __init__(self, url: str, prefix: str) -> None:
        self._stop = spawn.Event()
        self._acks = spawn.Value("q", 0)
        self._out: Any = spawn.Queue()
        kinds = (ledger.blocking, ledger.awaited, ledger.graph)
        self._processes = [
            spawn.Process(
                target=kind, args=(url, prefix, kind.__name__, self._stop, self._acks, self._out)
            )
            for kind in kinds
        ]
        for process in self._processes:
            process.start()

    def go_on(self, writes: int = 50) -> None:
        """Wait until so many more writes were acknowledged."""
        before = self._acks.value
        wait_until(lambda: self._acks.value >= before + writes, 60)

    def check(self) -> None:
        """Stop writing, and compare."""
        self._stop.set()
        reports = [self._out.get(timeout=120) for _ in range(4 + 8 + 1)]
        for process in self._processes:
            process.join(60)
        assert [process.exitcode for process in self._processes] == [0, 0, 0]
        assert [problem for _, _, wrong in reports for problem in wrong] == []
        assert all(acknowledged for acknowledged, _, _ in reports)

    def end(self) -> None:
        self._stop.set()
        for process in self._processes:
            process.kill()


@contextlib.contextmanager
def writing(url: str, prefix: str) -> Iterator[Writers]:
    writers = Writers(url, prefix)
    try:
        writers.go_on()
        yield writers
        writers.go_on()
        writers.check()
    finally:
        writers.end()


def again(harm: Callable[[random.Random], None], writers: Writers) -> None:
    """Do harm as long as was asked for, and at least twice."""
    chance = random.Random(7)
    end = time.monotonic() + ledger.SECONDS
    times = 0
    while times < 2 or time.monotonic() < end:
        harm(chance)
        writers.go_on()
        times += 1


def pause(seconds: float) -> None:
    """Let harm last."""
    threading.Event().wait(seconds)


def test_servers_that_are_killed_lose_no_acknowledged_write(prefix: str) -> None:
    with running("valkey", *DURABLE) as server, writing(server.url, prefix) as writers:

        def harm(chance: random.Random) -> None:
            server.stop()
            pause(chance.uniform(0, 0.3))
            server.start()

        again(harm, writers)


def test_servers_that_stand_still_lose_no_acknowledged_write(prefix: str) -> None:
    with running() as server, writing(server.url, prefix) as writers:

        def harm(chance: random.Random) -> None:
            assert server.process is not None
            os.kill(server.process.pid, signal.SIGSTOP)
            # Longer than some calls wait, and shorter than others.
            pause(chance.uniform(0.3, 1.6))
            os.kill(server.process.pid, signal.SIGCONT)

        again(harm, writers)


def test_a_network_that_drops_and_delays_loses_no_acknowledged_write(prefix: str) -> None:
    with (
        running() as server,
        Proxy(server.port) as proxy,
        writing(proxy.url, prefix) as writers,
    ):

        def harm(chance: random.Random) -> None:
            kind = chance.randrange(5)
            if kind == 0:
                proxy.drop()
            elif kind == 1:
                proxy.cut_requests_after(chance.randrange(2000))
            elif kind == 2:
                proxy.cut_replies_after(chance.randrange(500))
            else:
                # It arrives after its call has given it up, and after what came then.
                proxy.hold_request()
                proxy.held.wait(30)
                if kind == 3:
                    proxy.drop_clients()
                writers.go_on(20)
                pause(chance.uniform(0, 0.8))
                proxy.release()

        again(harm, writers)


def test_a_primary_that_hands_over_loses_no_acknowledged_write(prefix: str) -> None:
    with (
        running("valkey", *SOON) as one,
        running("valkey", *SOON) as other,
        Proxy(one.port) as proxy,
    ):
        servers = [one, other]
        with other.client() as client:
            client.execute_command("REPLICAOF", "127.0.0.1", one.port)
            wait_until(lambda: client.info("replication")["master_link_status"] == "up")
        with writing(proxy.url, prefix) as writers:

            def harm(_: random.Random) -> None:
                old, new = servers
                _hand_over(old, new)
                proxy.lead_to(new.port)
                servers.reverse()

            again(harm, writers)


def _hand_over(old: Server, new: Server) -> None:
    with old.client() as before, new.client() as after:
        before.execute_command("FAILOVER", "TO", "127.0.0.1", new.port)
        wait_until(lambda: after.info("replication")["role"] == "master")
        wait_until(lambda: before.info("replication").get("master_link_status") == "up")


@pytest.fixture(scope="module")
def nodes() -> Iterator[Cluster]:
    with cluster(replicas=1) as started:
        yield started


def test_a_cluster_that_moves_slots_and_fails_over_loses_no_acknowledged_write(
    nodes: Cluster, prefix: str
) -> None:
    with writing(nodes.url, prefix) as writers:

        def harm(chance: random.Random) -> None:
            if chance.randrange(3):
                slots = sorted({slot_of(key) for key in _keys(nodes)})
                for slot in chance.sample(slots, min(3, len(slots))):
                    moving = MovingSlot(nodes.nodes[0].port, slot)
                    moving.begin()
                    for key in moving.left():
                        # It may be gone, or may have been moved by its own last write.
                        with contextlib.suppress(redis.ResponseError):
                            moving.move(key)
                    while moving.left():
                        for key in moving.left():
                            moving.move(key)
                    moving.end()
            else:
                replica = nodes.nodes[3]
                with replica.client() as client:
                    if client.info("replication")["role"] == "slave":
                        client.execute_command("CLUSTER", "FAILOVER")
                        wait_until(lambda: client.info("replication")["role"] == "master")

        again(harm, writers)


def _keys(nodes: Cluster) -> Iterator[bytes]:
    for node in nodes.nodes:
        with node.client() as client:
            if client.info("replication")["role"] == "master":
                yield from client.scan_iter(count=1000)
