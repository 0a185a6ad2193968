"""A server for the benchmarks: one private Valkey for the whole run, or the one you name."""

from collections.abc import Iterator

import pytest
from servers import chosen_url


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    """The server that SWARMSTATE_TEST_REDIS_URL names, or a private one."""
    with chosen_url() as url:
        yield url
