"""The rights that docs/redis.md asks for are enough, and are those that the suites run with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import redis
from rights import CLUSTER, FENCES, LARGE, SAVER, SCRIPTS, STORE, limited
from servers import Server, cluster

from swarmstate.backends.redis import RedisStore
from swarmstate.errors import AccessDenied

Make = Callable[..., RedisStore]

PAGE = Path(__file__).parents[2] / "docs" / "redis.md"
ROWS = {
    "every store": STORE,
    "`update`; fewer round trips elsewhere": SCRIPTS,
    "calls over [the limits of a server](#limits-of-servers)": LARGE,
    "the LangGraph checkpointer": SAVER,
    "closing the connection of a request that was given up": FENCES,
    "a cluster": CLUSTER,
}


@pytest.mark.skipif(not PAGE.exists(), reason="the documents are not with these tests")
@pytest.mark.parametrize("row", ROWS)
def test_the_page_lists_what_the_suites_are_allowed(row: str) -> None:
    lines = PAGE.read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(f"| {row} | `"))
    listed = line.split("`")[-2].lower().replace("\\|", "|").split()
    assert sorted(listed) == sorted(ROWS[row])


def test_a_user_of_a_cluster_needs_no_more_than_is_listed(prefix: str) -> None:
    with cluster() as nodes:
        for node in nodes.nodes:
            with node.client() as client:
                url = limited(node, client, prefix, [*STORE, *SCRIPTS, *CLUSTER], "node")
        with RedisStore(url.replace("redis://", "redis+cluster://"), prefix=prefix) as store:
            store.set_many([(f"n{number}", "k", number) for number in range(30)])
            assert store.update("n1", "k", lambda value: value + 1) == 2
            taken = store.snapshot()
            store.clear()
            store.restore(taken)
            assert len(store) == 30


def test_a_user_cannot_reach_beyond_its_prefix(
    server: Server, make: Make, raw: redis.Redis, prefix: str
) -> None:
    url = limited(server, raw, f"{prefix}-mine", [*STORE, *SCRIPTS])
    store = make(url, prefix=f"{prefix}-other")
    with pytest.raises(AccessDenied, match="NOPERM"):
        store.set("n", "k", 1)
    make(url, prefix=f"{prefix}-mine").set("n", "k", 1)
