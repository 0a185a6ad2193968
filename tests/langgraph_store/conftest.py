"""Long-term memories over stores of each kind, called both ways."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from embeddings import embed
from stores import making, of

from swarmstate.integrations.langgraph import SwarmStateStore
from swarmstate.protocols import StoreLike


class Awaited:
    """Calls the methods of a memory that have an ``a`` in front, each on a loop of its own."""

    def __init__(self, memory: SwarmStateStore) -> None:
        self._memory = memory

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._memory, f"a{name}")
        return lambda *args, **kwargs: asyncio.run(method(*args, **kwargs))


@pytest.fixture(params=of("saver"))
def make_store(request: pytest.FixtureRequest) -> Iterator[Callable[..., StoreLike]]:
    """Make stores of one kind, each empty."""
    yield from making(request)


@pytest.fixture
def codec() -> str:
    """One is enough for most: items are encoded as every value is."""
    return "msgpack"


@pytest.fixture
def store(make_store: Callable[..., StoreLike], codec: str) -> StoreLike:
    """An empty store of every kind."""
    return make_store(codec=codec)


@pytest.fixture(params=["blocking", "awaited"])
def make(request: pytest.FixtureRequest, store: StoreLike) -> Callable[..., Any]:
    """Make memories over one store, called one way or the other."""

    def build(**options: Any) -> Any:
        memory = SwarmStateStore(store, **options)
        return memory if request.param == "blocking" else Awaited(memory)

    return build


@pytest.fixture
def memory(make: Callable[..., Any]) -> Any:
    """An empty memory."""
    return make()


@pytest.fixture
def index() -> Any:
    """How items are indexed: by their field ``text``, in 16 dimensions."""
    return {"dims": 16, "embed": embed, "fields": ["text"]}
