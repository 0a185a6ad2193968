"""Servers and stores for the tests of the Redis store."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from servers import Server

from swarmstate.backends.redis import RedisStore

_prefixes = itertools.count()


@pytest.fixture
def prefix() -> str:
    return f"t{next(_prefixes)}"


@pytest.fixture
def make(server: Server, prefix: str) -> Iterator[Callable[..., RedisStore]]:
    """Make stores, of one prefix if nothing else is said; all are closed at the end."""
    stores: list[RedisStore] = []

    def build(url: str = server.url, **options: Any) -> RedisStore:
        options.setdefault("prefix", prefix)
        stores.append(RedisStore(url, **options))
        return stores[-1]

    yield build
    for store in stores:
        store.close()


@pytest.fixture
def store(make: Callable[..., RedisStore]) -> RedisStore:
    return make()
