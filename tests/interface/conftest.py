"""What the suites of logs and commits run on: every store, and the other ways of doing them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from stores import making, of

from swarmstate.protocols import LogStore


@pytest.fixture(params=of("logs"))
def make_log_store(request: pytest.FixtureRequest) -> Iterator[Callable[..., LogStore]]:
    """Make stores of one kind, each empty."""
    yield from making(request)  # type: ignore[misc]


@pytest.fixture
def logs(make_log_store: Callable[..., LogStore]) -> LogStore:
    """An empty store, of every kind."""
    return make_log_store()
