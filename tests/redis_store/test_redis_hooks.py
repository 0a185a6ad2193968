"""What functions of the caller's raise reaches the caller as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from proxies import Proxy
from servers import Server

from swarmstate.backends.redis import AsyncRedisStore, RedisStore
from swarmstate.errors import StoreUnavailable
from swarmstate.integrations.langgraph import SwarmStateSaver

Make = Callable[..., RedisStore]

MINE = [StopIteration("mine"), GeneratorExit("mine"), RuntimeError("mine"), KeyError("mine")]


def raising(error: BaseException) -> Callable[[Any], Any]:
    def hook(_: Any) -> Any:
        raise error

    return hook


@pytest.mark.parametrize("mine", MINE, ids=lambda error: type(error).__name__)
def test_an_error_of_a_hook_reaches_the_caller_as_itself(make: Make, mine: BaseException) -> None:
    store = make(default=raising(mine))

    def items() -> Iterator[tuple[str, str, Any]]:
        yield "n", "k", object()

    calls: list[Callable[[], Any]] = [
        lambda: store.set("n", "k", object()),
        lambda: store.set_many(items()),
        lambda: store.set_default("n", "k", object()),
        lambda: store.update("n", "k", raising(mine)),
        lambda: store.update("n", "k", lambda _: object()),
    ]
    for call in calls:
        with pytest.raises(type(mine)) as raised:
            call()
        assert raised.value is mine
    assert len(store) == 0


def test_an_error_that_python_made_in_a_generator_of_the_callers_stays_what_it_is(
    make: Make,
) -> None:
    def ending() -> Iterator[int]:
        yield next(iter(()))

    store = make()
    with pytest.raises(RuntimeError, match="generator raised StopIteration"):
        store.update("n", "k", lambda _: list(ending()))


async def test_a_stop_iteration_that_no_coroutine_can_raise_is_the_cause_of_what_it_raises(
    server: Server, prefix: str
) -> None:
    mine = StopIteration("mine")
    async with AsyncRedisStore(server.url, prefix=prefix) as store:
        with pytest.raises(RuntimeError) as raised:
            await store.update("n", "k", raising(mine))
        assert raised.value.__cause__ is mine


async def test_an_error_names_the_method_that_was_called(proxy: Proxy, prefix: str) -> None:
    config: Any = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}
    with RedisStore(proxy.url, prefix=prefix, retries=0) as store:
        saver = SwarmStateSaver(store)
        proxy.refuse()
        calls: dict[str, Callable[[], Any]] = {
            "len()": lambda: len(store),
            "in": lambda: "n" in store,
            "set_many()": lambda: store.set_many([("n", "k", 1)]),
            "list()": lambda: list(saver.list(config)),
            "get_tuple()": lambda: saver.get_tuple(config),
            "delete_thread()": lambda: saver.delete_thread("t"),
        }
        for name, call in calls.items():
            with pytest.raises(StoreUnavailable) as failure:
                call()
            assert str(failure.value).startswith(f"{name} failed on 127.0.0.1:{proxy.port}")
        with pytest.raises(StoreUnavailable, match=r"^list\(\) failed on"):
            [found async for found in saver.alist(config)]
    async with AsyncRedisStore(proxy.url, prefix=prefix, retries=0) as awaited:
        with pytest.raises(StoreUnavailable, match=r"^count\(\) failed on"):
            await awaited.count()
    proxy.refuse(False)
