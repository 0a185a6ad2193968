"""The savers that are measured: ours over both stores, and what its users would use otherwise.

Those that are not dependencies of the project are installed for the run; see `packages`.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import itertools
import pickle
import platform
import re
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import packages
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer

from swarmstate import Store
from swarmstate.backends.redis import RedisStore
from swarmstate.integrations.langgraph import SwarmStateSaver

OTHERS = (
    "langgraph-checkpoint-sqlite",
    "langgraph-checkpoint-aws[valkey]",
    "langgraph-checkpoint-hotkv==1.0.0",
)
ZSTD = "ours, zstd"
HOTKV = "HotKV"
_numbers = itertools.count()


def install() -> None:
    """Put the other savers on the path."""
    packages.install(*OTHERS)


def versions() -> str:
    """Return what is measured, and on what."""
    names = ["swarmstate", "langgraph", "langgraph-checkpoint"]
    names += [re.split(r"[\[=]", name)[0] for name in OTHERS]
    names += ["redis", "valkey"]
    found = [f"{name} {importlib.metadata.version(name)}" for name in names]
    return f"Python {platform.python_version()}; Rust package: {packages.RUST}\n{', '.join(found)}"


def on_redis(url: str, stack: ExitStack) -> dict[str, Callable[[], Any]]:
    """Return a maker for each saver over a server; the first is the baseline."""
    rust_saver = packages.rust("integrations.langgraph").SwarmStateSaver
    rust_store = packages.rust("backends.redis").RedisStore
    aws = importlib.import_module("langgraph_checkpoint_aws")
    valkey = importlib.import_module("valkey")
    hotkv = importlib.import_module("langgraph.checkpoint.hotkv").HotKVSaver

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
        HOTKV: lambda: stack.enter_context(hotkv.from_conn_string(url, prefix=prefix())),
        "sqlite (WAL)": sqlite,
        "InMemorySaver": InMemorySaver,
    }


def compressed(url: str) -> Callable[[], Any]:
    """Return a maker for our saver with the codec that compresses."""
    return lambda: SwarmStateSaver(RedisStore(url, prefix="compressed", codec="zstd"))


def in_memory(serde: Any = None) -> dict[str, Callable[[], Any]]:
    """Return a maker for each saver in memory; the first is the baseline."""
    return {
        "InMemorySaver": lambda: InMemorySaver(serde=serde),
        "ours": lambda: SwarmStateSaver(Store(codec="ormsgpack"), serde=serde),
    }


class Pickled:
    """A serializer of a user's own."""

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        return "pickled", pickle.dumps(obj)

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        return pickle.loads(data[1])


class Cipher:
    """As much as is needed to measure what lies around an encryption."""

    def encrypt(self, plaintext: bytes) -> tuple[str, bytes]:
        return "reversed", plaintext[::-1]

    def decrypt(self, ciphername: str, ciphertext: bytes) -> bytes:
        return ciphertext[::-1]


SERDES: dict[str, Callable[[], Any]] = {
    "pickle": Pickled,
    "encrypted": lambda: EncryptedSerializer(Cipher()),
}
"""Serializers of a user's, for which nothing is written in C."""
