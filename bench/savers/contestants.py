"""The savers that are measured: ours over both stores, and what its users would use otherwise.

Those that are not dependencies of the project are installed into a scratch folder for the run. The
Rust package has our name, so its wheel is unpacked as `swarmstate_rust`.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import itertools
import platform
import sqlite3
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from langgraph.checkpoint.memory import InMemorySaver

from swarmstate import Store
from swarmstate.backends.redis import RedisStore
from swarmstate.integrations.langgraph import SwarmStateSaver

RUST = "swarmstate==0.11.0"
OTHERS = ("langgraph-checkpoint-sqlite", "langgraph-checkpoint-aws[valkey]")
_numbers = itertools.count()


def pip(*arguments: str) -> None:
    """Run pip; what it prints is shown when it fails."""
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}")


def install(scratch: Path) -> None:
    """Put the other savers on the path, behind what is installed already."""
    pip("download", "--no-deps", "--dest", str(scratch), RUST)
    (wheel,) = scratch.glob("swarmstate-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(scratch / "rust")
    (scratch / "rust" / "swarmstate").rename(scratch / "rust" / "swarmstate_rust")
    pip("install", "--target", str(scratch / "others"), *OTHERS)
    sys.path += [str(scratch / "rust"), str(scratch / "others")]


def versions() -> str:
    """Return what is measured, and on what."""
    names = ["swarmstate", "langgraph", "langgraph-checkpoint"]
    names += [name.partition("[")[0] for name in OTHERS]
    names += ["redis", "valkey"]
    found = [f"{name} {importlib.metadata.version(name)}" for name in names]
    return f"Python {platform.python_version()}; Rust package: {RUST}\n{', '.join(found)}"


def on_redis(url: str, stack: ExitStack) -> dict[str, Callable[[], Any]]:
    """Return a maker for each saver over a server; the first is the baseline."""
    rust_saver = importlib.import_module("swarmstate_rust.integrations.langgraph").SwarmStateSaver
    rust_store = importlib.import_module("swarmstate_rust.backends.redis").RedisStore
    aws = importlib.import_module("langgraph_checkpoint_aws")
    valkey = importlib.import_module("valkey")

    def prefix() -> str:
        return f"bench{next(_numbers)}"

    def sqlite() -> Any:
        saver = importlib.import_module("langgraph.checkpoint.sqlite").SqliteSaver
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        connection = sqlite3.connect(f"{folder}/db", check_same_thread=False)
        stack.callback(connection.close)
        connection.execute("PRAGMA synchronous=NORMAL")
        made = saver(connection)
        made.setup()
        return made

    return {
        "Rust package": lambda: rust_saver(rust_store(url, prefix=prefix())),
        "ours": lambda: SwarmStateSaver(RedisStore(url, prefix=prefix(), codec="ormsgpack")),
        "aws ValkeySaver": lambda: aws.ValkeySaver(valkey.Valkey.from_url(url)),
        "sqlite (WAL)": sqlite,
        "InMemorySaver": InMemorySaver,
    }


def in_memory() -> dict[str, Callable[[], Any]]:
    """Return a maker for each saver in memory; the first is the baseline."""
    return {
        "InMemorySaver": InMemorySaver,
        "ours": lambda: SwarmStateSaver(Store(codec="ormsgpack")),
    }
