"""What the first operations of a program cost: set, get and snapshot, in memory and in Redis."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from stores import CODECS, STORES, Kind

from swarmstate.protocols import StoreLike

SMALL = {"id": 17, "name": "Ada", "score": 0.5, "tags": ["agent", "billing"]}
KEYS = 1_000

Benchmark = Callable[..., Any]


@pytest.fixture(params=["memory", "redis"])
def kind(request: pytest.FixtureRequest) -> Kind:
    return STORES[request.param]


@pytest.fixture(params=CODECS)
def store(kind: Kind, request: pytest.FixtureRequest) -> Iterator[StoreLike]:
    """A store that holds a thousand small values."""
    url = () if kind.server is None else (request.getfixturevalue(kind.server),)
    with kind.make(*url, codec=request.param) as made:
        made.set_many([("users", f"{number:04}", SMALL) for number in range(KEYS)])
        yield made
        made.clear()


@pytest.mark.benchmark(group="set a small dict")
def test_set(benchmark: Benchmark, store: StoreLike) -> None:
    benchmark(store.set, "users", "0500", SMALL)


@pytest.mark.benchmark(group="get a small dict")
def test_get(benchmark: Benchmark, store: StoreLike) -> None:
    assert benchmark(store.get, "users", "0500") == SMALL


@pytest.mark.benchmark(group="snapshot of 1,000 keys after one set")
def test_snapshot_after_a_change(benchmark: Benchmark, store: StoreLike) -> None:
    def change_and_snapshot() -> None:
        store.set("users", "0500", SMALL)
        store.snapshot()

    benchmark(change_and_snapshot)
