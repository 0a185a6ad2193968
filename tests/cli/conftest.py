"""Places for the command: a file, a server, a cluster and a server that refuses scripts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from places import Where
from stores import STORES, making, of

from swarmstate.protocols import StoreLike


@pytest.fixture(params=[name for name in of("saver") if name != "memory"])
def make_place(request: pytest.FixtureRequest) -> Iterator[Callable[..., Where]]:
    """Make places of one kind, each empty."""
    server = STORES[request.param].server
    for make in making(request):

        def place(make: Callable[..., StoreLike] = make, **options: Any) -> Where:
            store: Any = make(**options)
            if server is None:
                return Where(store, f"sqlite:///{store.path}", None)
            return Where(store, request.getfixturevalue(server), store.prefix)

        yield place


@pytest.fixture
def place(make_place: Callable[..., Where]) -> Where:
    """An empty place."""
    return make_place()
