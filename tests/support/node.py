"""Packages of Node, for programs in another language."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest


def installed(name: str, *packages: str) -> Path:
    """Return a folder with packages, installed once for this user, or skip the test."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("node and npm are not on this machine")
    folder = Path(tempfile.gettempdir()) / f"swarmstate-node-{name}-{os.getuid()}"
    if not (folder / "node_modules").is_dir():
        # In a folder of our own first: two test processes may come here at once.
        mine = Path(tempfile.mkdtemp(prefix="swarmstate-node-"))
        install = [npm, "install", "--no-audit", "--no-fund", "--prefix", str(mine), *packages]
        try:
            done = subprocess.run(install, capture_output=True, text=True, timeout=120)
            failure = done.stderr[-300:] if done.returncode else ""
        except subprocess.TimeoutExpired:
            failure = "npm took longer than two minutes"
        if failure:
            shutil.rmtree(mine)
            pytest.skip(f"{' and '.join(packages)} cannot be installed from npm: {failure}")
        try:
            mine.rename(folder)
        except OSError:  # another process was faster
            shutil.rmtree(mine)
    return folder
