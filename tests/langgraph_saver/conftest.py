"""Stores for the tests of the saver: one of each way to keep checkpoints."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from servers import Server

from swarmstate import Store
from swarmstate.backends.redis import RedisStore
from swarmstate.protocols import StoreLike

_prefixes = itertools.count()


@pytest.fixture(scope="session")
def no_scripts_url(server: Server) -> str:
    """The server, for a user who may not run scripts."""
    with server.client() as client:
        client.execute_command(
            *("ACL", "SETUSER", "plain", "on", ">secret", "~*", "+@all", "-eval", "-evalsha")
        )
    return f"redis://plain:secret@127.0.0.1:{server.port}/0"


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


@pytest.fixture(params=["memory", "redis", "redis without scripts", "cluster"])
def make_store(request: pytest.FixtureRequest) -> Callable[..., StoreLike]:
    """Make stores of one kind, each empty."""
    if request.param == "memory":
        return Store
    if request.param == "cluster":
        url = request.getfixturevalue("cluster_url")
    elif request.param == "redis":
        url = request.getfixturevalue("server").url
    else:
        url = request.getfixturevalue("no_scripts_url")
    make = request.getfixturevalue("make_redis")
    return lambda **options: make(url, **{"prefix": f"saver{next(_prefixes)}", **options})
