"""The savers that are measured: ours over both stores, and what its users would use otherwise.

Those that are not dependencies of the project are installed for the run; see `packages`.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import itertools
import platform
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import packages
from langgraph.checkpoint.memory import InMemorySaver

from swarmstate import Store
from swarmstate.backends.redis import RedisStore
from swarmstate.integrations.langgraph import SwarmStateSaver

OTHERS = ("langgraph-checkpoint-sqlite", "langgraph-checkpoint-aws[valkey]")
_numbers = itertools.count()


def install() -> None:
    """Put the other savers on the path."""
    packages.install(*OTHERS)


def versions() -> str:
    """Return what is measured, and on what."""
    names = ["swarmstate", "langgraph", "langgraph-checkpoint"]
    names += [name.partition("[")[0] for name in OTHERS]
    names += ["redis", "valkey"]
    found = [f"{name} {importlib.metadata.version(name)}" for name in names]
    return f"Python {platform.python_version()}; Rust package: {packages.RUST}\n{', '.join(found)}"


def on_redis(url: str, stack: ExitStack) -> dict[str, Callable[[], Any]]:
    """Return a maker for each saver over a server; the first is the baseline."""
    rust_saver = packages.rust("integrations.langgraph").SwarmStateSaver
    rust_store = packages.rust("backends.redis").RedisStore
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
