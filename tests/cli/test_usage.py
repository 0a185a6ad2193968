"""How the command is called, and what it says when it is called wrongly."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest
from places import good, run
from servers import Server
from stores import STORES

import swarmstate
from swarmstate.backends.disk import DiskStore
from swarmstate.cli.app import cli

SECRETS = ("geheim", "hidden%2Fword", "pa55")


def process(*arguments: str, code: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command, or other code, in a process of its own."""
    how = ["-c", code] if code is not None else ["-m", "swarmstate"]
    root = str(Path(swarmstate.__file__).parent.parent)
    return subprocess.run(
        [sys.executable, *how, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=root,
        check=False,
    )


def test_it_runs_as_a_module(tmp_path: Path) -> None:
    with DiskStore(tmp_path / "a.db") as store:
        store.set("n", "k\u20ac", 1)
    done = process("keys", "n", "--url", f"sqlite:///{tmp_path}/a.db")
    assert (done.returncode, done.stdout) == (0, "k\u20ac\n")
    done = process("--version")
    assert done.stdout.strip().endswith(swarmstate.__version__)


@pytest.mark.parametrize("library", ["click", "rich"])
def test_without_its_libraries_it_says_what_to_install(library: str) -> None:
    code = f"import sys; sys.modules[{library!r}] = None; from swarmstate.cli import main; main()"
    done = process(code=code)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "pip install click rich" in done.stderr
    assert "swarmstate[" not in done.stderr
    assert done.stderr.count("\n") == 1


def test_neither_a_driver_nor_a_framework_is_imported_before_it_is_needed(tmp_path: Path) -> None:
    with DiskStore(tmp_path / "a.db") as store:
        store.set("n", "k", 1)
    code = (
        "import sys; from swarmstate.cli.app import cli\n"
        f"cli(['get', 'n', 'k', '--url', 'sqlite:///{tmp_path}/a.db'], standalone_mode=False)\n"
        "print(sorted({'redis', 'langgraph', 'langchain_core', 'numpy'} & set(sys.modules)))"
    )
    done = process(code=code)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


def test_every_command_has_json_and_help() -> None:
    assert isinstance(cli, click.Group)
    for name, command in cli.commands.items():
        assert "--json" in {option for each in command.params for option in each.opts}, name
        assert command.help, name
        assert good(name, "--help").startswith(f"Usage: swarmstate {name}")


def test_what_destroys_takes_yes() -> None:
    assert isinstance(cli, click.Group)
    asking = {
        name
        for name, command in cli.commands.items()
        if "--yes" in {option for each in command.params for option in each.opts}
    }
    assert asking == {"delete", "prune", "export", "snapshot", "import", "restore"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["threads", "--url", "redis://user:geheim@127.0.0.1:1/0"],
        ["threads", "--url", "redis://:geheim@127.0.0.1:1/0?ssl_password=pa55"],
        ["threads", "--url", "mysql://user:geheim@host/db"],
        ["threads", "--url", "redis://user:ge/heim@geheim@host"],
        ["threads", "redis://user:geheim@127.0.0.1:1/0"],
        ["redis://user:geheim@127.0.0.1:1/0"],
        ["--redis://user:geheim@127.0.0.1:1/0"],
        ["doctor", "redis://user:hidden%2Fword@127.0.0.1:1/0"],
        ["doctor", "redis://user:geheim@127.0.0.1:1/0", "--json"],
        ["doctor", "redis://127.0.0.1:1/0?password=geheim"],
        ["doctor", "a", "redis://user:geheim@127.0.0.1:1/0"],
        ["copy", "redis://user:geheim@127.0.0.1:1/0", "redis://user:pa55@127.0.0.1:2/0"],
        ["copy", "a", "b", "redis://user:geheim@127.0.0.1:1/0"],
        ["import", "redis://user:geheim@127.0.0.1:1/0", "--url", "sqlite:///x.db"],
        ["prune", "--keep", "redis://user:geheim@127.0.0.1:1/0", "--url", "sqlite:///x.db"],
        ["prune", "--idle", "redis://user:geheim@127.0.0.1:1/0", "--url", "sqlite:///x.db"],
        ["watch", "--url", "sqlite://user:geheim@host/x.db"],
    ],
)
def test_no_password_is_ever_shown(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code in (1, 2)
    assert "Traceback" not in result.output
    for secret in SECRETS:
        assert secret not in result.output


def test_a_wrong_password_is_said_in_one_line_without_it(server: Server) -> None:
    result = run("threads", "--url", f"redis://nobody:geheim@127.0.0.1:{server.port}/0")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    assert "geheim" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["threads"], "give --url, or set the variable SWARMSTATE_URL"),
        (["threads", "--url", "state.db"], "it is sqlite:///state.db"),
        (["threads", "--url", "sqlite:///x.db?prefix=a"], "options are keywords"),
        (["threads", "--url", "redis://h/0?prefix=a"], "use the keyword prefix"),
        (["threads", "--url", "memory://"], "memory:// is a new, empty store here"),
        (["nothing"], "No such command 'nothing'"),
        (["show", "--url", "sqlite:///x.db"], "Missing argument 'THREAD'"),
        (["threads", "--codec", "nothing", "--url", "sqlite:///x.db"], "unknown codec 'nothing'"),
        (["copy", "memory://", "memory://"], "memory:// is a new, empty store here"),
        (["diff", "t", "a", "--url", "sqlite:///x.db"], "Missing argument 'B'"),
    ],
)
def test_wrong_usage_is_said_in_one_line(arguments: list[str], message: str) -> None:
    result = run(*arguments)
    assert result.exit_code in (1, 2)
    assert message in result.stderr
    assert result.stdout == ""


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("redis", "valkey"):
        monkeypatch.setitem(sys.modules, name, None)
    result = run("threads", "--url", "redis://localhost:1/0")
    assert result.exit_code == 1
    assert "pip install" in result.stderr
    assert "swarmstate[" not in result.stderr


def test_a_name_that_begins_with_a_dash_comes_after_two_dashes(tmp_path: Path) -> None:
    with DiskStore(tmp_path / "a.db") as store:
        store.set("-n", "-k", [1])
    where = ["--url", f"sqlite:///{tmp_path}/a.db", "--json"]
    assert json.loads(good("get", *where, "--", "-n", "-k"))["value"] == [1]


def test_every_scheme_of_the_stores_is_understood() -> None:
    assert {"disk", "redis", "redis-cluster"} <= STORES.keys()
    for scheme in ("redis", "rediss", "valkey", "valkeys", "redis+cluster"):
        result = run("threads", "--url", f"{scheme}://127.0.0.1:1", "--timeout", "0.5")
        assert result.exit_code == 1, scheme
        assert "127.0.0.1:1" in result.stderr
