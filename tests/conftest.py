"""Fixtures that every test may use: a server, a store of each kind, a codec of each name."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from stores import CODECS, STORES

from swarmstate.protocols import StoreLike

if TYPE_CHECKING:
    from built import Distributions


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    """A real server: a private Valkey, or the one that the environment names."""
    # Imported here, so that the tests of the memory store also run without a Redis client.
    from servers import external_url, running

    if url := external_url():
        yield url
        return
    with running() as server:
        yield server.url


@pytest.fixture(params=CODECS)
def codec(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=STORES)
def make_store(request: pytest.FixtureRequest) -> Iterator[Callable[..., StoreLike]]:
    """Build stores of one kind; all are closed at the end."""
    # The memory store needs no server, so none is started for it.
    url = "" if request.param == "memory" else request.getfixturevalue("server_url")
    made: list[StoreLike] = []

    def make(**options: Any) -> StoreLike:
        made.append(STORES[request.param](url, **options))
        return made[-1]

    yield make
    for store in made:
        store.close()


@pytest.fixture
def store(make_store: Callable[..., StoreLike], codec: str) -> StoreLike:
    """An empty store: every kind, with every codec."""
    return make_store(codec=codec)


@pytest.fixture(scope="session")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Distributions:
    """The sdist and the wheel, built once for all the workers of a run."""
    from built import build_once

    base = tmp_path_factory.getbasetemp()
    return build_once((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "built")
