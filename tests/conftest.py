"""Fixtures that every test may use: a server, a store of each kind, a codec of each name."""

from __future__ import annotations

import dataclasses
import gc
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest
from stores import CODECS, STORES, making, of

from swarmstate.protocols import StoreLike

if TYPE_CHECKING:
    import redis
    from built import Distributions
    from proxies import Proxy
    from servers import Server


def pytest_collection_finish() -> None:
    """Keep what was imported out of the collections that tests ask for, which then are quick."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    """A real server: a private Valkey, or the one that the environment names."""
    # Imported here, so that the tests of the memory store also run without a Redis client.
    from servers import chosen_url

    with chosen_url() as url:
        yield url


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A private Valkey, which tests may flush; each takes a prefix of its own."""
    from servers import running

    with running() as started:
        yield started


@pytest.fixture
def raw(server: Server) -> Iterator[redis.Redis]:
    """A plain client, for looking at the private server from outside."""
    with server.client() as client:
        yield client


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    """A way to the private server that counts and breaks."""
    from proxies import Proxy

    with Proxy(server.port) as made:
        yield made


@pytest.fixture(scope="session")
def cluster_url() -> Iterator[str]:
    """A real cluster of three servers."""
    from servers import cluster

    with cluster() as started:
        yield started.url


@pytest.fixture(scope="session")
def no_scripts_url(server: Server) -> str:
    """The private server, for a user who may not run scripts."""
    from rights import user

    with server.client() as client:
        return user(server, client, "~*", "+@all", "-eval", "-evalsha")


@pytest.fixture(scope="session")
def limited_url() -> Iterator[str]:
    """A server's URL for a user with only the rights that docs/redis.md asks for."""
    from rights import SCRIPTS, STORE, limited
    from servers import running

    with running() as server, server.client() as client:
        yield limited(server, client, "test*", [*STORE, *SCRIPTS])


@pytest.fixture(scope="session")
def redis_6_url() -> Iterator[str]:
    """Redis 6.2."""
    yield from _other("redis-6.2")


@pytest.fixture(scope="session")
def redis_7_url() -> Iterator[str]:
    """Redis 7.0."""
    yield from _other("redis-7.0")


def _other(kind: str) -> Iterator[str]:
    from servers import running

    with running(kind) as server:
        yield server.url


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the codecs that a kind of store is not tested with."""

    def wanted(item: pytest.Item) -> bool:
        params = (
            item.callspec.params
            if isinstance(item, pytest.Function) and hasattr(item, "callspec")
            else {}
        )
        kind = STORES.get(params.get("make_store", ""))
        return kind is None or params.get("codec") in (None, *kind.codecs)

    items[:] = filter(wanted, items)


@pytest.fixture(params=CODECS)
def codec(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=of("interface"))
def make_store(request: pytest.FixtureRequest) -> Iterator[Callable[..., StoreLike]]:
    """Make stores of one kind, each empty."""
    yield from making(request)


@pytest.fixture
def store(make_store: Callable[..., StoreLike], codec: str) -> StoreLike:
    """An empty store: every kind, with every codec."""
    return make_store(codec=codec)


@pytest.fixture
def registered() -> Iterator[None]:
    """Forget at the end of a test which codecs it registered."""
    from swarmstate.codecs import registry

    before = {name: dataclasses.replace(entry) for name, entry in registry._entries.items()}
    yield
    registry._entries.clear()
    registry._entries.update(before)


@pytest.fixture(scope="session")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Distributions:
    """The sdist and the wheel, built once for all the workers of a run."""
    from built import build_once

    base = tmp_path_factory.getbasetemp()
    return build_once((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "built")
