"""The packages that we are measured against, installed afresh for one run.

What is not a dependency of the project goes into a scratch folder that ends with the process. The
Rust package that is also called swarmstate is unpacked as `swarmstate_rust`, so that both can be
measured in one process: its modules import each other relatively.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
import tempfile
import zipfile
from functools import cache
from pathlib import Path
from types import ModuleType

RUST = "swarmstate==0.11.0"
RUST_NAME = "swarmstate_rust"

_kept: list[tempfile.TemporaryDirectory[str]] = []


def scratch() -> Path:
    """Return a new folder that goes when the process ends."""
    _kept.append(tempfile.TemporaryDirectory(prefix="swarmstate-peers-"))
    return Path(_kept[-1].name)


def pip(*arguments: str) -> None:
    """Run pip; what it prints is shown when it fails."""
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}")


def install(*requirements: str) -> None:
    """Install packages into a folder on the path, behind what is installed already."""
    folder = str(scratch())
    pip("install", "--target", folder, *requirements)
    sys.path.append(folder)


@cache
def rust_folder() -> Path:
    """Download and unpack the Rust package; return the folder to put on the path."""
    folder = scratch()
    pip("download", "--no-deps", "--dest", str(folder), RUST)
    (wheel,) = folder.glob("swarmstate-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "unpacked")
    (folder / "unpacked" / "swarmstate").rename(folder / "unpacked" / RUST_NAME)
    return folder / "unpacked"


def rust(module: str = "", folder: Path | None = None) -> ModuleType:
    """Return the Rust package, or a module of it such as ``"backends.redis"``."""
    where = str(folder or rust_folder())
    if where not in sys.path:
        sys.path.append(where)
    return importlib.import_module(f"{RUST_NAME}.{module}" if module else RUST_NAME)
