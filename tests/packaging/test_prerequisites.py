"""What ``make`` does on a machine that lacks venv, headers or a compiler: get it, or say so."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from documents import ROOT

VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"

# Stands for a Python without venv until the system package is installed.
PYTHON = """#!/bin/sh
case "$*" in *ensurepip*) [ -e {installed} ]; exit ;; esac
exec {python} "$@"
"""
APT_GET = """#!/bin/sh
echo "apt-get $*" >>{log}
case "$1" in install) touch {installed} ;; esac
"""
SUDO = """#!/bin/sh
echo "sudo $*" >>{log}
shift
[ -z "$*" ] || "$@"
"""
ID = "#!/bin/sh\necho {uid}\n"


class Machine:
    """A PATH that holds only what a test puts there."""

    def __init__(self, directory: Path) -> None:
        self.bin = directory / "bin"
        self.bin.mkdir()
        self.log = directory / "log"
        self.log.touch()
        self.names = {
            "installed": directory / "installed",
            "log": self.log,
            "python": sys.executable,
            "uid": "1000",
        }
        for tool in ("bash", "sh", "touch", "true", "cc"):
            found = shutil.which(tool)
            assert found, f"this test needs {tool}"
            (self.bin / tool).symlink_to(found)
        self.has("python3", PYTHON)
        self.has("valkey-server", "#!/bin/sh\n")
        self.has("id", ID)

    def has(self, name: str, script: str, **names: str) -> None:
        """Put a command there."""
        file = self.bin / name
        file.write_text(script.format(**{**self.names, **names}))
        file.chmod(0o755)

    def lacks(self, name: str) -> None:
        """Take a command away."""
        (self.bin / name).unlink()

    def check(self) -> subprocess.CompletedProcess[str]:
        """Run the check."""
        return subprocess.run(
            [self.bin / "bash", ROOT / ".ci/prerequisites", "python3"],
            env={"PATH": str(self.bin)},
            capture_output=True,
            text=True,
            timeout=60,
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_nothing_is_done_where_nothing_is_missing(machine: Machine) -> None:
    machine.has("python3", '#!/bin/sh\nexec {python} "$@"\n')
    done = machine.check()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_without_apt_the_missing_package_is_named(machine: Machine) -> None:
    done = machine.check()
    assert done.returncode == 1
    assert done.stderr.startswith("error: install what is missing")
    assert f"apt-get install {VERSION}-venv" in done.stderr


def test_without_a_compiler_it_is_named_too(machine: Machine) -> None:
    machine.lacks("cc")
    assert f"apt-get install {VERSION}-venv gcc libc6-dev" in machine.check().stderr


def test_a_server_is_asked_for_where_the_package_index_has_none(machine: Machine) -> None:
    machine.lacks("valkey-server")
    for version, missing in (("(3, 13)", False), ("(3, 14)", True)):
        told = '#!/bin/sh\ncase "$*" in *"(3, 14)"*) exec {python} -c "'
        told += f'import sys; sys.exit({version} >= (3, 14))" ;; esac\nexec {{python}} "$@"\n'
        machine.has("python3", told)
        assert ("apt-get install valkey-server" in machine.check().stderr) is missing


def test_root_gets_what_is_missing(machine: Machine) -> None:
    machine.has("id", ID, uid="0")
    machine.has("apt-get", APT_GET)
    done = machine.check()
    assert done.returncode == 0, done.stderr
    assert f"--no-install-recommends {VERSION}-venv" in machine.log.read_text()


def test_sudo_is_used_where_it_asks_for_no_password(machine: Machine) -> None:
    machine.has("apt-get", APT_GET)
    machine.has("sudo", SUDO)
    assert machine.check().returncode == 0
    assert "sudo -n apt-get install" in machine.log.read_text()


def test_a_user_without_rights_is_told_and_nothing_is_tried(machine: Machine) -> None:
    machine.has("apt-get", APT_GET)
    done = machine.check()
    assert done.returncode == 1
    assert f"apt-get install {VERSION}-venv" in done.stderr
    assert machine.log.read_text() == ""


def test_an_installation_that_does_not_help_is_an_error(machine: Machine) -> None:
    machine.has("id", ID, uid="0")
    machine.has("apt-get", "#!/bin/sh\n")
    done = machine.check()
    assert done.returncode == 1
    assert f"still missing after apt-get install: {VERSION}-venv" in done.stderr


def test_an_old_python_is_refused(machine: Machine) -> None:
    machine.has("python3", '#!/bin/sh\n[ "$1" = -V ] && echo "Python 3.8.1"\nexit 1\n')
    done = machine.check()
    assert done.returncode == 1
    assert "Python 3.10 or newer is needed, and python3 is Python 3.8.1" in done.stderr


def test_no_python_at_all_is_an_error(machine: Machine) -> None:
    machine.lacks("python3")
    assert "there is no python3 here" in machine.check().stderr
