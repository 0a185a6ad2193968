"""What it costs to take a connection out of a pool, ours or the client library's, and use it.

``PYTHONPATH=bench:tests/support:examples python bench/test_connections.py`` prints the ratios as a
table; ``make bench BENCH=bench/test_connections.py`` gives the times.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis
from measuring import Row, in_turns, loop, table
from servers import chosen_url

from swarmstate.backends.redis import RedisStore


class Library:
    """The client library's own pool, with the connections of one of ours."""

    def __init__(self, ours: Any) -> None:
        self._pool = redis.ConnectionPool(
            connection_class=ours._kind, max_connections=ours._size, **ours._options
        )
        # Newer versions warn about what the oldest ones need.
        self._names = ("GET",) if redis.__version__ < "5.3" else ()

    def acquire(self, deadline: float) -> Any:
        connection = self._pool.get_connection(*self._names)
        # Replies are read the same way, so that only the pools differ.
        connection.swarmstate_direct = True
        return connection

    def release(self, connection: Any) -> None:
        self._pool.release(connection)

    def close(self) -> None:
        self._pool.disconnect()


@contextmanager
def opened(url: str, side: str) -> Iterator[RedisStore]:
    """A store with one value, over either pool."""
    with RedisStore(url, prefix=f"pool-{side}") as store:
        node = store.driver._topology.node(None)
        if side == "library":
            library = Library(node._pool)
            node._pool, node.release = library, library.release
        store.set("n", "k", 1)
        yield store
        store.clear()


def main() -> int:
    """Print the table."""
    print(f"redis {redis.__version__}; a ratio is the library's time over ours\n")
    with chosen_url() as url, opened(url, "ours") as ours, opened(url, "library") as other:
        runs = {
            side: loop(lambda store=store: store.get("n", "k"), length=0.05)
            for side, store in (("ours", ours), ("library", other))
        }
        times = in_turns(runs)
        rows = [Row("get over a connection of the pool", *times.values(), least=1.0)]
        return 1 if table(rows, other="library") else 0


@pytest.mark.benchmark(group="get over a connection of the pool")
@pytest.mark.parametrize("side", ["ours", "library"])
def test_get(benchmark: Callable[..., Any], server_url: str, side: str) -> None:
    with opened(server_url, side) as store:
        assert benchmark(store.get, "n", "k") == 1


if __name__ == "__main__":
    sys.exit(main())
