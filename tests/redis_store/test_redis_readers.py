"""Every read works where nothing can be written: on a replica, and for a user who may only read."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import pytest
from reads import CONTENT, READS
from servers import BINARIES, Server, present, running, wait_until

from swarmstate.backends.redis import RedisStore
from swarmstate.errors import AccessDenied


@pytest.fixture(scope="module", params=[kind for kind in BINARIES if present(kind)])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[Server, Server]]:
    """A server of each kind and a replica of it, with some state."""
    with running(request.param) as primary:
        with primary.client() as client:
            client.execute_command("ACL", "SETUSER", "reader", "on", "nopass", "~app:*", "+@read")
            client.execute_command(
                *("ACL", "SETUSER", "scripter", "on", "nopass", "~app:*", "~!app:*"),
                *("+@read", "+@scripting", "+@transaction"),
            )
        with RedisStore(primary.url, prefix="app") as store:
            store.set_many(CONTENT)
        with RedisStore(primary.url, prefix="app:nested") as nested:
            nested.set("n", "k", 5)
        with running(request.param) as replica:
            with replica.client() as client:
                client.execute_command("REPLICAOF", "127.0.0.1", primary.port)
                wait_until(lambda: client.exists("!app:nested:\0store") == 1)
            yield primary, replica


@pytest.fixture(params=["replica", "reader", "scripter"])
def url(request: pytest.FixtureRequest, pair: tuple[Server, Server]) -> str:
    primary, replica = pair
    if request.param == "replica":
        return replica.url
    return f"redis://{request.param}:x@127.0.0.1:{primary.port}/0"


@pytest.mark.parametrize("read", READS)
def test_a_read_needs_no_right_to_write(url: str, read: str) -> None:
    call, expected = READS[read]
    with RedisStore(url, prefix="app") as store, warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            assert call(store) == expected


def test_a_time_that_reads_may_not_restart_is_warned_of_once_and_the_reads_go_on(url: str) -> None:
    with RedisStore(url, prefix="app", ttl=100, ttl_on_read=True, retries=0) as store:
        with pytest.warns(RuntimeWarning, match="namespaces of prefix 'app' do not expire"):
            assert store.get("a", "k") == 1
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for call, expected in READS.values():
                assert call(store) == expected


def test_what_a_reader_may_not_write_is_an_access_that_is_denied(
    pair: tuple[Server, Server],
) -> None:
    primary, _ = pair
    url = f"redis://scripter:x@127.0.0.1:{primary.port}/0"
    with RedisStore(url, prefix="app") as store:
        for write in (
            lambda: store.set("a", "k", 9),
            lambda: store.delete("a", "k"),
            lambda: store.delete_many([("a", "k"), ("b", "k")]),
            lambda: store.delete_namespace("a"),
            lambda: store.set_many([("a", "k", 9), ("b", "k", 9)]),
            lambda: store.update("a", "k", lambda value: 9),
            lambda: store.clear(),
        ):
            with pytest.raises(AccessDenied):
                write()
        assert store.get_many([("a", "k"), ("b", "k")]) == [1, 2]
        assert len(store) == 4
