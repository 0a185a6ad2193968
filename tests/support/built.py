"""The distributions, built from a clean copy of the sources, and a scratch environment for them."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from documents import ROOT

# What is made by building, testing and version control is no source.
_NOT_SOURCES = shutil.ignore_patterns(
    ".git", ".venv*", "build", "dist", "*.egg-info", "*.so", "__pycache__", ".*_cache",
    ".hypothesis", ".benchmarks", "site",
)  # fmt: skip


STRICT = (
    *("-W", "error"),
    # langsmith, which LangGraph imports, on Python 3.14.
    *("-W", "ignore:'asyncio.iscoroutinefunction' is deprecated:DeprecationWarning"),
)
"""Arguments of an interpreter for which every warning is an error, but for those of others."""


def execute(*command: str | Path, cwd: Path, stdin: str = "", patience: float = 280) -> str:
    """Run a command and return what it printed; a failure shows all of it."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        # A pytest or make that is started from a test is not a part of this run.
        env={
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PYTEST_", "MAKE", "MFLAGS"))
        },
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=patience,
    )
    if done.returncode:
        raise AssertionError(f"{' '.join(map(str, command))}\n{done.stdout}")
    return done.stdout


@dataclass(frozen=True)
class Distributions:
    """An sdist, and the wheel that was built from it."""

    sdist: Path
    wheel: Path


def copy_sources(to: Path) -> Path:
    """Copy the sources without anything that was made from them; return the copy."""
    shutil.copytree(ROOT, to, ignore=_NOT_SOURCES)
    return to


def build_once(directory: Path, original: Path | None = None) -> Distributions:
    """Build the sdist from a copy of the sources, and the wheel from that sdist.

    Whoever comes later, in this process or another, waits and gets what was built.
    """
    directory.mkdir(exist_ok=True)
    finished = directory / "dist"
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not finished.exists():
            scratch = Path(tempfile.mkdtemp(dir=directory))
            sources = scratch / "sources"
            if original is None:
                copy_sources(sources)
            else:
                shutil.copytree(original, sources)
            # Without isolation: the build requirements are installed here already.
            command = (sys.executable, "-m", "build", "--no-isolation", "--outdir")
            if original is None:
                # What the tests ask of it does not depend on how fast it is: a fifth of the time.
                command = ("env", "CFLAGS=-O0", *command)
            # The test's own timeout is shorter, unless it asks for more.
            execute(*command, scratch / "dist", sources, cwd=scratch, patience=1800)
            (scratch / "dist").rename(finished)
    (sdist,) = finished.glob("*.tar.gz")
    (wheel,) = finished.glob("*.whl")
    return Distributions(sdist, wheel)


@dataclass(frozen=True)
class Environment:
    """A virtual environment that has nothing of the checkout."""

    directory: Path
    wheel: Path

    @property
    def python(self) -> Path:
        return self.directory / "bin" / "python"

    @classmethod
    def create(cls, directory: Path, wheel: Path) -> Environment:
        """Make the environment, with the wheel and what it requires."""
        # Without a pip of its own, which takes seconds to be put there.
        execute(sys.executable, "-m", "venv", "--without-pip", directory, cwd=directory.parent)
        made = cls(directory, wheel)
        made.install()
        return made

    def install(self, extras: str = "", *beside: str) -> None:
        """Install the wheel with these extras, separated by commas, and what goes beside it."""
        self.pip(f"{self.wheel}[{extras}]" if extras else str(self.wheel), *beside)

    def pip(self, *requirements: str) -> None:
        """Install what the requirements name."""
        execute(
            *(sys.executable, "-m", "pip", "--python", self.python),
            *("install", "--quiet", "--no-compile"),
            *requirements,
            cwd=self.directory,
        )

    def run(self, *arguments: str | Path, cwd: Path) -> str:
        """Run the environment's Python somewhere outside the checkout."""
        return execute(self.python, "-I", *arguments, cwd=cwd)
