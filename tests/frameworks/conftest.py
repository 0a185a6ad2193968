"""Stores of every kind, for the sessions of other frameworks."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from swarmstate import AsyncStore, Store

KINDS = (
    *("memory", "memory-awaited", "foreign", "disk", "disk-awaited"),
    *("redis", "redis-awaited", "redis-no-scripts", "redis-cluster"),
)
_prefixes = itertools.count()


class Foreign:
    """A store that blocks and that nobody here knows: it offers its methods, and nothing else."""

    def __init__(self) -> None:
        self._store = Store()


for _name in dir(Store):
    if not _name.startswith("_") and callable(getattr(Store, _name)):

        def _method(self: Foreign, *args: Any, _name: str = _name, **options: Any) -> Any:
            return getattr(self._store, _name)(*args, **options)

        setattr(Foreign, _name, _method)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def store(kind: str, request: pytest.FixtureRequest) -> Iterator[Any]:
    """An empty store."""
    if kind in ("memory", "memory-awaited", "foreign"):
        yield {"memory": Store, "memory-awaited": AsyncStore, "foreign": Foreign}[kind]()
        return
    store: Any
    if kind in ("disk", "disk-awaited"):
        from swarmstate.backends.disk import AsyncDiskStore, DiskStore

        path = request.getfixturevalue("tmp_path") / "sessions.db"
        store = (DiskStore if kind == "disk" else AsyncDiskStore)(path)
        yield store
        store.driver.close()
        return
    from swarmstate.backends.redis import AsyncRedisStore, RedisStore

    server = {"redis-no-scripts": "no_scripts_url", "redis-cluster": "cluster_url"}
    url = request.getfixturevalue(server.get(kind, "server_url"))
    made = AsyncRedisStore if kind == "redis-awaited" else RedisStore
    store = made(url, prefix=f"frameworks{next(_prefixes)}-{id(request)}")
    yield store
    store.driver.close()


def blocking(store: Any) -> Any:
    """Return a store of the same content whose methods block, to look into it."""
    from swarmstate.backends.disk import AsyncDiskStore, DiskStore
    from swarmstate.backends.redis import AsyncRedisStore, RedisStore

    if isinstance(store, Foreign | AsyncStore):
        return store._store
    for awaited, kind in ((AsyncRedisStore, RedisStore), (AsyncDiskStore, DiskStore)):
        if isinstance(store, awaited):
            seen: Any = object.__new__(kind)
            vars(seen).update(vars(store))
            return seen
    return store


@pytest.fixture
def seen(store: Any) -> Any:
    return blocking(store)
