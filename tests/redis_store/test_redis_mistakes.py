"""Typical mistakes get the way out, and errors name what the user called."""

from __future__ import annotations

import asyncio
import copy
import inspect
import pickle
import re
from collections.abc import Callable

import pytest
import redis
from proxies import Proxy
from servers import Server

from swarmstate.backends.redis import AsyncRedisStore, RedisStore
from swarmstate.errors import ArgumentTypeError, ArgumentValueError, DecodeError, StoreUnavailable

Make = Callable[..., RedisStore]

KINDS = [RedisStore, AsyncRedisStore]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("arguments", [{"host": "localhost"}, {"port": 6379, "db": 1}], ids=str)
def test_arguments_of_a_client_are_refused_with_where_they_go(
    kind: type, arguments: dict[str, object]
) -> None:
    with pytest.raises(ArgumentTypeError) as refused:
        kind(**arguments)
    assert str(refused.value).startswith(f"{kind.__name__} does not take ")
    assert all(f"{name}=" in str(refused.value) for name in arguments)
    assert f"{kind.__name__}('redis://" in str(refused.value)
    assert "__init__" not in str(refused.value)


@pytest.mark.parametrize("kind", KINDS)
def test_more_positional_arguments_than_one_are_refused_with_where_they_go(kind: type) -> None:
    with pytest.raises(ArgumentTypeError, match=rf"^{kind.__name__} does not .*'redis://"):
        kind("localhost", 6379)


def test_the_signature_is_that_of_the_documents() -> None:
    parameters = inspect.signature(RedisStore).parameters
    assert list(parameters)[:3] == ["url", "client", "prefix"]
    assert parameters["ttl"].default is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_time_to_renew_needs_a_time(kind: type) -> None:
    with pytest.raises(ArgumentValueError, match="ttl_on_read=True needs a ttl"):
        kind(ttl_on_read=True)


@pytest.mark.parametrize("kind", KINDS)
def test_a_store_is_true_and_is_not_asked(kind: type, proxy: Proxy) -> None:
    store = kind(proxy.url)
    with proxy.counted():
        assert store
        assert repr(store).startswith(f"<{kind.__name__} prefix='swarmstate'")
    assert proxy.trips == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_store_is_neither_copied_nor_pickled(kind: type, way: Callable[[object], object]) -> None:
    store = kind()
    with pytest.raises(TypeError, match=rf"{kind.__name__} can be neither copied nor pickled"):
        way(store)


def test_what_an_awaited_store_cannot_do_says_what_it_can() -> None:
    store = AsyncRedisStore()
    with pytest.raises(ArgumentTypeError, match=r"await store\.count\(\)"):
        len(store)
    with pytest.raises(ArgumentTypeError, match=r"await store\.has_namespace\("):
        assert "n" in store
    with pytest.raises(ArgumentTypeError, match="use `async with`"), store:
        pass


async def test_a_store_that_blocks_says_which_one_can_be_awaited() -> None:
    with pytest.raises(ArgumentTypeError, match="AsyncRedisStore"):
        async with RedisStore():
            pass


def test_an_error_names_the_method_that_was_called(make: Make) -> None:
    store = make("redis://127.0.0.1:1/0", retries=0)
    for call, name in (
        (lambda: len(store), "len()"),
        (lambda: "n" in store, "in"),
        (store.snapshot, "snapshot()"),
        (lambda: store.update("n", "k", lambda value: value), "update()"),
    ):
        with pytest.raises(StoreUnavailable, match=rf"^{re.escape(name)} failed"):
            call()

    async def awaited() -> None:
        async with AsyncRedisStore("redis://127.0.0.1:1/0", retries=0) as other:
            await other.count()

    with pytest.raises(StoreUnavailable, match=r"^count\(\) failed"):
        asyncio.run(awaited())


@pytest.mark.parametrize("kind", KINDS)
def test_missing_arguments_are_told_of_the_method_that_was_called(kind: type) -> None:
    async def mistaken() -> None:
        await kind().set("n")

    with pytest.raises(TypeError, match=r"^set\(\) missing 2 required positional arguments"):
        asyncio.run(mistaken())


def test_bytes_that_are_no_value_are_told_with_their_namespace_and_key(
    make: Make, raw: redis.Redis, prefix: str
) -> None:
    store = make()
    raw.hset(f"{prefix}:bad:space", mapping={"broken": b"\xc1", "good": b"\x01"})
    for read in (
        lambda: store.get("bad:space", "broken"),
        lambda: store.get_many([("bad:space", "good"), ("bad:space", "broken")]),
        lambda: store.get_many([("n", "k"), ("bad:space", "broken")]),
        lambda: store.items("bad:space"),
        lambda: store.update("bad:space", "broken", lambda value: value),
    ):
        with pytest.raises(DecodeError, match=r"key 'broken' of namespace 'bad:space': "):
            read()
    raw.hset(f"{prefix}:bad:space", b"\xff", b"\x01")
    for names in (
        lambda: store.keys("bad:space"),
        lambda: store.items("bad:space"),
        store.snapshot,
        lambda: store.max_key("bad:space"),
    ):
        with pytest.raises(DecodeError, match=r"namespace 'bad:space'"):
            names()


def test_a_function_that_writes_its_own_key_ends_in_an_error(server: Server, make: Make) -> None:
    store = make()
    calls = []

    def selfish(value: object) -> int:
        calls.append(value)
        store.set("n", "k", len(calls))
        return -1

    with pytest.raises(StoreUnavailable, match="'k' in 'n' gave way to other writers 1000 times"):
        store.update("n", "k", selfish)
    assert len(calls) == 1000
    assert store.get("n", "k") == 1000
