"""What the tests of the Redis store take for granted about their servers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from servers import Server, wait_until

TESTS = Path(__file__).parents[1]
PATH = {"PYTHONPATH": os.pathsep.join([str(TESTS / "support"), str(TESTS.parent / "examples")])}


def test_a_server_starts_elsewhere_when_somebody_else_answers_at_its_port(server: Server) -> None:
    late = Server(port=server.port)
    try:
        late.start()
        assert late.port != server.port
        with late.client() as client:
            assert late.process is not None
            assert client.info("server")["process_id"] == late.process.pid
    finally:
        late.remove()


_KILLED = """
import os, shutil, signal, sys
from servers import Server
server = Server()
server.start()
print(server.port, server.process.pid, flush=True)
shutil.rmtree(server.directory)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_server_ends_with_the_tests_that_were_killed() -> None:
    killed = subprocess.run(
        [sys.executable, "-c", _KILLED],
        env={**os.environ, **PATH},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert killed.returncode < 0, killed.stderr
    pid = Path("/proc", killed.stdout.split()[1])

    def ended() -> bool:
        # Without anybody to collect it, it stays on as a zombie.
        return not pid.exists() or "Z" in (pid / "stat").read_text().rpartition(")")[2]

    wait_until(ended)


_PREFIX = """
from stores import STORES
print(STORES["redis"].make("redis://localhost").prefix)
"""


def test_runs_that_share_a_server_have_prefixes_of_their_own() -> None:
    prefixes = {
        subprocess.run(
            [sys.executable, "-c", _PREFIX],
            env={**os.environ, **PATH},
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        ).stdout
        for _ in range(2)
    }
    assert len(prefixes) == 2
