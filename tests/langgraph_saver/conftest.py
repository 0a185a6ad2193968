"""Stores for the tests of the saver."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from servers import Server
from stores import making, of

from swarmstate.backends.redis import RedisStore
from swarmstate.protocols import StoreLike

_prefixes = itertools.count()


@pytest.fixture
def prefix() -> str:
    return f"saver{next(_prefixes)}"


@pytest.fixture
def make_redis(server: Server, prefix: str) -> Iterator[Callable[..., RedisStore]]:
    """Make Redis stores, of one prefix if nothing else is said."""
    made: list[RedisStore] = []

    def make(url: str = server.url, **options: Any) -> RedisStore:
        options.setdefault("prefix", prefix)
        made.append(RedisStore(url, **options))
        return made[-1]

    yield make
    for store in made:
        store.close()


@pytest.fixture(params=of("saver"))
def make_store(request: pytest.FixtureRequest) -> Iterator[Callable[..., StoreLike]]:
    """Make stores of one kind, each empty."""
    yield from making(request)
