"""Every kind of client, given or made from a URL, and every kind of server."""

from __future__ import annotations

import copy
import inspect
import pickle
import ssl
import sys
import threading
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import valkey
from proxies import Proxy
from redis._parsers import _HiredisParser, _RESP2Parser, _RESP3Parser
from servers import (
    BINARIES,
    Cluster,
    Sentinel,
    Server,
    certificate,
    cluster,
    present,
    running,
    wait_until,
)

from swarmstate.backends.redis import AsyncRedisStore, RedisStore
from swarmstate.backends.redis.transport.clock import monotonic
from swarmstate.errors import (
    AccessDenied,
    ArgumentTypeError,
    ArgumentValueError,
    InvalidArgumentError,
    StoreUnavailable,
)

Make = Callable[..., RedisStore]


def exercise(store: RedisStore) -> None:
    """Use what differs between clients: transactions, scripts, maps, big values, enumerations."""
    store.clear()
    store.set_many([("a", "k", {"v": 1}), ("b", "k", "x" * 200_000), ("c", "", None)])
    assert store.get_many([("a", "k"), ("b", "k"), ("c", ""), ("d", "k")]) == [
        {"v": 1},
        "x" * 200_000,
        None,
        None,
    ]
    assert store.items("a") == [("k", {"v": 1})]
    assert store.update("a", "n", lambda value: value + 1, default=1) == 2
    taken = store.snapshot()
    assert len(taken) == len(store) == 4
    assert store.delete_namespace("a") == 2
    store.restore(taken)
    assert sorted(store.namespaces()) == ["a", "b", "c"]
    store.clear()
    assert len(store) == 0


def test_replies_are_read_by_the_parser_that_a_connection_has_now(store: RedisStore) -> None:
    store.set("n", "k", 1)
    node = store.driver._topology.primaries()[0]
    connection = node.acquire(monotonic() + 5)
    # Some versions of the library do this as they connect to a cluster.
    connection.disconnect()
    connection.set_parser(type(connection._parser))
    node.release(connection)
    assert store.get("n", "k") == 1
    assert node.acquire(monotonic() + 5) is connection
    node.release(connection)


@pytest.fixture(scope="module")
def nodes() -> Iterator[Cluster]:
    with cluster() as started:
        yield started


@pytest.mark.parametrize(
    ("protocol", "parser"),
    [(2, _HiredisParser), (2, _RESP2Parser), (3, _HiredisParser), (3, _RESP3Parser)],
)
def test_a_redis_client_of_either_protocol_with_or_without_hiredis(
    server: Server, make: Make, parser: type, protocol: int
) -> None:
    pool = redis.ConnectionPool(port=server.port, protocol=protocol, parser_class=parser)
    client = redis.Redis(connection_pool=pool)
    exercise(make(client=client))
    assert client.ping(), "a borrowed client still works"
    client.close()


@pytest.mark.parametrize("protocol", [2, 3])
def test_a_valkey_client(server: Server, make: Make, protocol: int) -> None:
    with valkey.Valkey(port=server.port, protocol=protocol) as client:
        exercise(make(client=client))


def test_a_client_of_a_subclass(server: Server, make: Make) -> None:
    class Ours(redis.Redis):
        pass

    with Ours(port=server.port) as client:
        exercise(make(client=client))


def test_a_client_that_encodes_text_otherwise_changes_no_name(
    server: Server, make: Make, raw: redis.Redis, prefix: str
) -> None:
    with redis.Redis(port=server.port, encoding="latin-1") as client:
        make(client=client).set("é", "ü", 1)
    assert raw.hkeys(f"{prefix}:é".encode()) == ["ü".encode()]


def test_the_master_behind_a_sentinel_also_after_a_failover(prefix: str) -> None:
    from redis.sentinel import Sentinel as Client

    with (
        running() as primary,
        running("valkey", "--replicaof", f"127.0.0.1 {primary.port}") as other,
    ):
        watcher = Sentinel(primary=primary.port)
        try:
            watcher.start()
            with watcher.client() as asked, other.client() as replica:
                wait_until(lambda: replica.info("replication")["master_link_status"] == "up")
                wait_until(lambda: len(asked.execute_command("SENTINEL", "REPLICAS", "main")) == 1)
                client = Client([("127.0.0.1", watcher.port)]).master_for("main")
                store = RedisStore(client=client, prefix=prefix)
                exercise(store)
                store.set("n", "k", "before")
                wait_until(lambda: replica.hexists(f"{prefix}:n", "k"))
                wait_until(lambda: _fails_over(asked))
                wait_until(
                    lambda: (
                        replica.info("replication")["role"] == "master"
                        and _master(asked) == other.port
                    )
                )
                assert store.get("n", "k") == "before"
                store.set("n", "k", "after")
                assert replica.hexists(f"{prefix}:n", "k")
                store.close()
                client.close()
        finally:
            watcher.remove()


def _fails_over(sentinel: redis.Redis) -> bool:
    """Whether it begins to fail over; not before it has seen the replica at work."""
    try:
        sentinel.execute_command("SENTINEL", "FAILOVER", "main")
    except redis.ResponseError as refused:
        assert "NOGOODSLAVE" in str(refused)  # noqa: PT017 (the other outcome is no error)
        return False
    return True


def _master(sentinel: redis.Redis) -> int:
    _, port = sentinel.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main")
    return int(port)


@pytest.mark.parametrize("kind", [redis.RedisCluster, valkey.ValkeyCluster])
def test_a_cluster_client(nodes: Cluster, make: Make, kind: Callable[..., Any]) -> None:
    client = kind(host="127.0.0.1", port=nodes.nodes[0].port)
    exercise(make(client=client))
    assert client.ping(target_nodes="all")
    client.close()


def test_a_url_of_a_cluster(nodes: Cluster, make: Make) -> None:
    exercise(make(nodes.url))
    exercise(make(nodes.url.replace("redis", "valkey")))


def test_a_valkey_url(server: Server, make: Make) -> None:
    exercise(make(server.url.replace("redis://", "valkey://")))


def test_a_unix_socket(make: Make, tmp_path: Path) -> None:
    with running("valkey", "--unixsocket", str(tmp_path / "s")):
        store = make(f"unix://{tmp_path}/s")
        exercise(store)
        assert str(tmp_path) in repr(store)


def test_a_password_and_a_database(make: Make, prefix: str) -> None:
    with running() as locked:
        with locked.client() as client:
            client.config_set("requirepass", "secret")
        url = f"redis://:secret@127.0.0.1:{locked.port}/3"
        exercise(make(url))
        make(url).set("n", "k", 1)
        with redis.Redis(port=locked.port, db=3, password="secret") as client:
            assert client.exists(f"{prefix}:n")
        wrong = make(url.replace("secret", "wrong"), retries=0)
        with pytest.raises(AccessDenied, match="get") as denied:
            wrong.get("n", "k")
        assert "wrong" not in str(denied.value)


def test_tls_with_a_certificate_that_is_checked(server: Server, make: Make, tmp_path: Path) -> None:
    path, key = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path, key)
    with Proxy(server.port, tls=context) as proxy:
        url = f"rediss://127.0.0.1:{proxy.port}/0"
        exercise(make(f"{url}?ssl_ca_certs={path}"))
        assert proxy.connections > 0
        with pytest.raises(StoreUnavailable, match="certificate"):
            make(url, retries=0).get("n", "k")


@pytest.mark.parametrize("kind", BINARIES)
def test_every_server_that_is_supported(kind: str, make: Make) -> None:
    if not present(kind):
        pytest.skip(f"there is no {kind} server on this machine")
    with running(kind) as server:
        exercise(make(server.url))
        scriptless = make(server.url)
        scriptless.steps._scripting = False
        exercise(scriptless)


@pytest.mark.parametrize("kind", [redis.Redis, valkey.Valkey])
def test_a_client_that_decodes_responses_is_refused_at_once(
    server: Server, kind: Callable[..., Any]
) -> None:
    client = kind(port=server.port, decode_responses=True)
    with pytest.raises(InvalidArgumentError, match="without decode_responses=True"):
        RedisStore(client=client)
    client.close()


def test_a_cluster_client_that_decodes_responses_is_refused_at_once(nodes: Cluster) -> None:
    client = redis.RedisCluster(host="127.0.0.1", port=nodes.nodes[0].port, decode_responses=True)
    with pytest.raises(InvalidArgumentError, match="without decode_responses=True"):
        RedisStore(client=client)
    client.close()


@pytest.mark.parametrize(
    ("client", "why"),
    [
        (object(), "client must be a redis.Redis"),
        ("redis://localhost", r"a URL goes first, without a keyword: RedisStore\("),
        (redis.ConnectionPool(), r"client=redis\.Redis\(connection_pool=pool\)"),
        (redis.sentinel.Sentinel([]), r"client=sentinel\.master_for\(name\)"),
        (redis.Redis, "client must be a redis.Redis"),
        (redis.asyncio.Redis(), "must be a synchronous client"),
    ],
)
def test_what_is_no_client_is_refused_at_once(client: object, why: str) -> None:
    with pytest.raises(InvalidArgumentError, match=why):
        RedisStore(client=client)


class Prefixing(redis.Redis):  # type: ignore[misc]
    """Puts a prefix before keys, as clients of message queues do."""

    def execute_command(self, *args: Any, **options: Any) -> Any:
        return super().execute_command(args[0], *(f"p:{arg}" for arg in args[1:]), **options)


class PrefixingPipelines(redis.Redis):  # type: ignore[misc]
    def pipeline(self, *args: Any, **options: Any) -> Any:
        return super().pipeline(*args, **options)


class PrefixingCluster(redis.RedisCluster):  # type: ignore[misc]
    def execute_command(self, *args: Any, **options: Any) -> Any:
        return super().execute_command(*args, **options)


class PrefixingValkey(valkey.Valkey):  # type: ignore[misc]
    def parse_response(self, *args: Any, **options: Any) -> Any:
        return super().parse_response(*args, **options)


class Rewriter:
    def pack(self, *args: Any) -> list[bytes]:
        raise NotImplementedError


class PackingConnection(redis.Connection):  # type: ignore[misc]
    def pack_command(self, *args: Any) -> Any:
        return super().pack_command(*args)


def patched() -> redis.Redis:
    client = redis.Redis()
    client.execute_command = lambda *args, **options: None
    return client


@pytest.mark.parametrize(
    ("make_client", "bypassed"),
    [
        (Prefixing, "Prefixing.execute_command()"),
        (PrefixingPipelines, "PrefixingPipelines.pipeline()"),
        (PrefixingValkey, "PrefixingValkey.parse_response()"),
        (patched, "execute_command() of this client"),
        (
            lambda: redis.Redis(
                connection_pool=redis.ConnectionPool(connection_class=PackingConnection)
            ),
            "PackingConnection.pack_command()",
        ),
        (
            lambda: redis.Redis(connection_pool=redis.ConnectionPool(command_packer=Rewriter())),
            "command_packer",
        ),
    ],
)
def test_a_client_that_changes_commands_is_refused_because_it_would_be_bypassed(
    make_client: Callable[[], Any], bypassed: str
) -> None:
    for kind in (RedisStore, AsyncRedisStore):
        with make_client() as client, pytest.raises(ArgumentValueError) as refused:
            kind(client=client)
        assert bypassed in str(refused.value)
        assert "would be bypassed" in str(refused.value)


def test_a_cluster_client_that_changes_commands_is_refused(nodes: Cluster) -> None:
    client = PrefixingCluster(host="127.0.0.1", port=nodes.nodes[0].port)
    with pytest.raises(ArgumentValueError, match=r"PrefixingCluster\.execute_command\(\)"):
        RedisStore(client=client)
    client.close()


def test_what_watches_the_library_itself_is_no_reason_to_refuse_a_client(
    server: Server, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = redis.Redis.execute_command

    def traced(self: redis.Redis, *args: Any, **options: Any) -> Any:
        return run(self, *args, **options)

    monkeypatch.setattr(redis.Redis, "execute_command", traced)
    with redis.Redis(port=server.port) as client:
        make(client=client).set("n", "k", 1)
        assert make(client=client).get("n", "k") == 1


def test_a_pipeline_is_not_taken_for_its_client(server: Server) -> None:
    with redis.Redis(port=server.port) as client, valkey.Valkey(port=server.port) as other:
        for pipeline in (client.pipeline(), other.pipeline()):
            with pytest.raises(ArgumentTypeError, match="not a pipeline"):
                RedisStore(client=pipeline)


@pytest.mark.parametrize(
    ("arguments", "keywords", "why"),
    [
        ((), {"host": "localhost", "port": 6379}, "does not take host=, port=: put them into"),
        ((), {"password": "hunter2"}, "does not take password=: put them into the URL"),
        ((), {"db": 1}, "does not take db="),
        (("localhost", 6379), {}, "does not take more than one argument by position"),
        ((), {"max_conections": 3}, "does not take max_conections=; its arguments: url, client"),
    ],
)
def test_arguments_that_there_are_not_are_refused_in_words_of_the_class(
    arguments: tuple[Any, ...], keywords: dict[str, Any], why: str
) -> None:
    for kind in (RedisStore, AsyncRedisStore):
        with pytest.raises(ArgumentTypeError) as refused:
            kind(*arguments, **keywords)
        assert str(refused.value).startswith(f"{kind.__name__} {why}")
        assert "hunter2" not in str(refused.value)


def test_the_signature_of_a_store_names_its_arguments() -> None:
    for kind in (RedisStore, AsyncRedisStore):
        names = list(inspect.signature(kind).parameters)
        assert names[:3] == ["url", "client", "prefix"]
        assert names[-1] == "max_connections"


@pytest.mark.parametrize("kind", [RedisStore, AsyncRedisStore])
def test_a_store_is_neither_copied_nor_pickled(server: Server, kind: type, prefix: str) -> None:
    store = kind(server.url, prefix=prefix)
    for attempt in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match=f"{kind.__name__} can be neither copied nor pickled"):
            attempt(store)
    store.driver.close()


@pytest.mark.parametrize(
    "url",
    ["", "localhost:6379", "http://localhost", "redis:/x", "redis://h:port/0", None, 5]
    + [
        f"{scheme}://localhost/?{query}"
        for scheme in ("redis", "redis+cluster", "unix")
        for query in ("nonsense=1", "socket_timeout=never", "decode_responses=1")
    ],
)
def test_a_url_that_is_none_is_refused_at_once(url: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="url"):
        RedisStore(url)


def test_a_refused_url_does_not_show_its_password() -> None:
    with pytest.raises(InvalidArgumentError) as refused:
        RedisStore("htttp://me:hunter2@localhost:6379")
    assert "hunter2" not in str(refused.value)
    assert "me:***@localhost" in str(refused.value)


@pytest.mark.parametrize(
    "options",
    [
        {"timeout": 0},
        {"timeout": None},
        {"timeout": float("inf")},
        {"retries": -1},
        {"retries": 1.5},
        {"max_connections": 0},
        {"ttl": 0},
        {"ttl": "1"},
        {"ttl": True},
        {"ttl": float("nan")},
    ],
)
def test_an_option_that_cannot_be_is_refused_at_once(options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(InvalidArgumentError, match=f"{name} must be"):
        RedisStore(**options)


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (None, "needs the client library redis: pip install redis"),
        ({"__version__": "4.6.0", "RedisError": OSError}, "redis 5.0.1 or newer, and 4.6.0 is"),
        ({"__file__": "/home/me/redis.py"}, "is found first: /home/me/redis.py"),
    ],
)
def test_a_library_that_is_missing_is_told_from_one_that_is_too_old(
    monkeypatch: pytest.MonkeyPatch, found: dict[str, Any] | None, why: str
) -> None:
    module = None
    if found is not None:
        module = types.ModuleType("redis")
        vars(module).update(found)
    monkeypatch.setitem(sys.modules, "redis", module)
    for kind in (RedisStore, AsyncRedisStore):
        with pytest.raises(ImportError) as missing:
            kind("redis://localhost")
        assert why in str(missing.value)
        assert missing.value.name == "redis"


def test_making_a_store_connects_to_nothing() -> None:
    for url in ("redis://127.0.0.1:1", "redis+cluster://127.0.0.1:1", "unix:///nowhere"):
        RedisStore(url).close()
        AsyncRedisStore(url)


def test_a_store_closes_its_own_connections(server: Server, raw: redis.Redis, make: Make) -> None:
    before = len(raw.client_list())
    store = make()
    store.set("n", "k", 1)
    assert len(raw.client_list()) == before + 1
    store.close()
    wait_until(lambda: len(raw.client_list()) == before)
    with make() as again:
        again.set("n", "k", 1)
    wait_until(lambda: len(raw.client_list()) == before)


def test_threads_share_a_bounded_number_of_connections(proxy: Proxy, make: Make) -> None:
    store = make(proxy.url, max_connections=3)
    errors: list[BaseException] = []

    def work() -> None:
        try:
            for number in range(30):
                store.set("n", f"k{number}", number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert proxy.most_open <= 3
