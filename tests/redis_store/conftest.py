"""Servers and stores for the tests of the Redis store."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from proxies import Proxy
from servers import Server, running

from swarmstate.backends.redis import RedisStore

_prefixes = itertools.count()


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A private Valkey that the tests of a session share; each takes a prefix of its own."""
    with running() as started:
        yield started


@pytest.fixture
def prefix() -> str:
    return f"t{next(_prefixes)}"


@pytest.fixture
def raw(server: Server) -> Iterator[redis.Redis]:
    """A plain client, for looking at the server from outside."""
    with server.client() as client:
        yield client


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    """A way to the server that counts and breaks."""
    with Proxy(server.port) as made:
        yield made


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
