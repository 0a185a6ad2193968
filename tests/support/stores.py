"""The table of stores: every suite that describes what all stores do takes them from here.

A backend adds one line to :data:`STORES`, and with it runs the store interface, the LangGraph saver
and whatever suite is added later.
"""

from __future__ import annotations

import atexit
import itertools
import secrets
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from servers import present

from swarmstate import AsyncStore, Store
from swarmstate.protocols import StoreLike

CODECS = ("msgpack", "ormsgpack")
# Several runs, and the workers of one, may share a server.
_run = secrets.token_hex(4)
_prefixes = itertools.count()
_folder = tempfile.TemporaryDirectory(prefix="swarmstate-stores-")
atexit.register(_folder.cleanup)


@dataclass(frozen=True)
class Kind:
    """How stores of one kind are made.

    Attributes:
        make: makes a store from the URL of its server and keyword arguments.
        server: the fixture that gives that URL, or None where no server is needed.
        codecs: with which codecs the interface is tested; a variant of a kind that is tested with
            all of them needs only one.
        suites: the suites that run on it: a variant that keeps checkpoints as another kind does
            need not run the saver's. What is about logs and commits runs where ``interface`` does,
            and where there is another way of doing them.
    """

    make: Callable[..., StoreLike]
    server: str | None = None
    codecs: tuple[str, ...] = CODECS
    suites: tuple[str, ...] = ("interface", "saver")


def _redis(url: str, **options: Any) -> StoreLike:
    from swarmstate.backends.redis import RedisStore

    options.setdefault("prefix", f"test{_run}-{next(_prefixes)}")
    return RedisStore(url, **options)


def _awaited_redis(url: str, **options: Any) -> StoreLike:
    from awaited import awaited

    from swarmstate.backends.redis import AsyncRedisStore

    options.setdefault("prefix", f"test{_run}-{next(_prefixes)}")
    return awaited(AsyncRedisStore(url, **options))


def _disk(**options: Any) -> StoreLike:
    from swarmstate.backends.disk import DiskStore

    return DiskStore(_file(), **options)


def _awaited_disk(**options: Any) -> StoreLike:
    from awaited import awaited

    from swarmstate.backends.disk import AsyncDiskStore

    return awaited(AsyncDiskStore(_file(), **options))


def _file() -> str:
    """Return where no file is yet, in a folder of the run."""
    return str(Path(_folder.name) / f"{next(_prefixes)}.db")


def _awaited_memory(**options: Any) -> StoreLike:
    from awaited import awaited

    return awaited(AsyncStore(**options))


STORES: dict[str, Kind] = {
    "memory": Kind(Store),
    "memory-awaited": Kind(_awaited_memory, codecs=("msgpack",), suites=("interface",)),
    "disk": Kind(_disk),
    "disk-awaited": Kind(_awaited_disk, codecs=("msgpack",), suites=("interface",)),
    "redis": Kind(_redis, "server_url"),
    "redis-awaited": Kind(_awaited_redis, "server_url", ("msgpack",), ("interface",)),
    "redis-cluster": Kind(_redis, "cluster_url", ("msgpack",)),
    "redis-no-scripts": Kind(_redis, "no_scripts_url", suites=("saver", "logs")),
    "redis-no-scripts-awaited": Kind(_awaited_redis, "no_scripts_url", ("msgpack",), ("logs",)),
    "redis-least-rights": Kind(_redis, "limited_url", ("msgpack",), ("interface",)),
    "redis-6.2": Kind(_redis, "redis_6_url", ("msgpack",), ("interface",)),
    "redis-7.0": Kind(_redis, "redis_7_url", ("msgpack",), ("interface",)),
}
# A server that this machine lacks is reported once, by the tests of the servers, not by each test.
for _binary in ("redis-6.2", "redis-7.0"):
    if not present(_binary):
        del STORES[_binary]


def of(suite: str) -> list[str]:
    """Return the names of the stores that a suite runs on."""
    wanted = {suite, "interface"} if suite == "logs" else {suite}
    return [name for name, kind in STORES.items() if wanted & set(kind.suites)]


def making(request: pytest.FixtureRequest) -> Iterator[Callable[..., StoreLike]]:
    """Give what makes stores of the kind that a fixture's parameter names; close all at the end."""
    kind = STORES[request.param]
    url = () if kind.server is None else (request.getfixturevalue(kind.server),)
    made: list[StoreLike] = []

    def make(**options: Any) -> StoreLike:
        made.append(kind.make(*url, **options))
        return made[-1]

    yield make
    for store in made:
        store.close()
