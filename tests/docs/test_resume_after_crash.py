"""The example does what it claims, and leaves no process behind however it ends."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from built import STRICT
from documents import ROOT
from programs import run_here
from servers import free_port

from swarmstate.backends.disk import DiskStore

EXAMPLE = ROOT / "examples/resume_after_crash.py"
_MARK = "SWARMSTATE_TEST_EXAMPLE"

Start = Callable[..., "subprocess.Popen[str]"]


def marked(value: str) -> list[psutil.Process]:
    """Return every running process that inherited this mark in its environment."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(_MARK) == value and process.status() != "zombie":
                found.append(process)
    return found


@pytest.fixture
def start() -> Iterator[Start]:
    """Start the example; at the end of the test none of its processes may be left."""
    mark = uuid.uuid4().hex
    started: list[subprocess.Popen[str]] = []

    def run(*arguments: str) -> subprocess.Popen[str]:
        started.append(
            subprocess.Popen(
                [sys.executable, "-u", *STRICT, str(EXAMPLE), *arguments],
                env={**os.environ, _MARK: mark},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
                # Also where this suite itself runs in the background, with Ctrl-C switched off.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            )
        )
        return started[-1]

    yield run
    for process in started:
        with process:
            process.wait(timeout=60)
    # A process whose parent was killed ends by itself, a moment later.
    _, left = psutil.wait_procs(marked(mark), timeout=20)
    for process in left:
        process.kill()
    assert not left


@pytest.mark.parametrize("where", ["file", "named file", "server"])
def test_every_claim_holds(start: Start, tmp_path: Path, where: str) -> None:
    options = {"file": (), "named file": ("--store", f"sqlite:///{tmp_path}/state.db")}
    example = start(*options.get(where, ("--server",)))
    printed, _ = example.communicate(timeout=120)
    assert example.returncode == 0, printed
    for claim in (
        "ended by SIGKILL",
        "all four tickets were open",
        "every ticket went on with the very step it had come to",
        "every ticket is resolved",
        "each charge was refunded exactly once",
        "keys of the store are in memory",
        "LangGraph finds ticket-3 in the copy as well",
        "after the rollback nothing differs",
    ):
        assert f"{claim}\n" in printed, printed
    assert "  added [('resolved', 'ticket-5')]" in printed
    assert ", removed [('resolved', 'ticket-1')]" in printed
    assert ", changed [('refunds', 'charge-17')]\n" in printed
    assert printed.splitlines()[-1].startswith("Done in ")


@pytest.mark.parametrize(
    ("number", "options"), [(signal.SIGINT, ()), (signal.SIGTERM, ("--server",))]
)
def test_a_signal_stops_everything_in_order(
    start: Start, number: signal.Signals, options: tuple[str, ...]
) -> None:
    example = start(*options)
    assert example.stdout is not None
    # A worker and the server are running when the trace of the first worker appears.
    for line in example.stdout:
        if line.startswith("1. "):
            break
    example.send_signal(number)
    printed, _ = example.communicate(timeout=60)
    assert example.returncode == 1, printed
    assert printed.splitlines()[-1] == "stopped"


@pytest.mark.parametrize("options", [(), ("--server",)])
def test_nothing_survives_the_death_of_the_program(start: Start, options: tuple[str, ...]) -> None:
    example = start(*options)
    assert example.stdout is not None
    for line in example.stdout:
        if line.startswith("1. "):
            break
    example.kill()


def test_a_server_that_is_not_there_is_named(start: Start) -> None:
    port = free_port()
    example = start("--store", f"redis://127.0.0.1:{port}/0")
    printed, _ = example.communicate(timeout=120)
    assert example.returncode == 1
    assert f"127.0.0.1:{port}" in printed.splitlines()[-1]


def test_a_file_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "mine.db"
    with DiskStore(path) as store:
        store.set("mine", "k", 1)
    with pytest.raises(SystemExit, match="holds 1 keys"):
        run_here("resume_after_crash", "--store", f"sqlite:///{path}", cwd=tmp_path)
    with DiskStore(path) as store:
        assert store.get("mine", "k") == 1


@pytest.mark.parametrize("url", ["memory://", "postgres://h/db", "state.db"])
def test_a_url_that_does_not_fit_is_told_so(tmp_path: Path, url: str) -> None:
    with pytest.raises(SystemExit, match=r"file|sqlite://"):
        run_here("resume_after_crash", "--store", url, cwd=tmp_path)
