"""The Rust package that is also called swarmstate, under a name of its own.

Its wheel is downloaded afresh into a scratch folder and unpacked as `swarmstate_rust`, so that both
packages can be measured in one process. Its modules import each other relatively.
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

REQUIREMENT = "swarmstate==0.11.0"
NAME = "swarmstate_rust"


@cache
def folder() -> Path:
    """Download and unpack the wheel; the folder goes when the process ends."""
    scratch = tempfile.TemporaryDirectory(prefix="swarmstate-peer-")
    _kept.append(scratch)
    root = Path(scratch.name)
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet"]
    subprocess.run([*command, "--no-deps", "--dest", str(root), REQUIREMENT], check=True)
    (wheel,) = root.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(root / "unpacked")
    (root / "unpacked" / "swarmstate").rename(root / "unpacked" / NAME)
    return root / "unpacked"


_kept: list[tempfile.TemporaryDirectory[str]] = []


def load(module: str = "", path: Path | None = None) -> ModuleType:
    """Return the package, or a module of it such as ``"backends.redis"``."""
    where = str(path or folder())
    if where not in sys.path:
        sys.path.append(where)
    return importlib.import_module(f"{NAME}.{module}" if module else NAME)
