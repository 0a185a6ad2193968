"""An asynchronous store behind the interface of a blocking one: one suite describes both."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from swarmstate.protocols import StoreLike


def _run(coroutine: Any) -> Any:
    """Run a coroutine on an event loop of its own, and in a thread of its own if need be."""

    def run() -> Any:
        loop = asyncio.new_event_loop()
        try:
            return loop.run_until_complete(coroutine)
        finally:
            loop.close()

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return run()
    # A hook of a test calls the store while it encodes: a loop cannot run inside another.
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(run).result()


def _blocking(attribute: Any) -> Any:
    """Return a method that awaits; anything else as it is."""
    if not inspect.iscoroutinefunction(attribute):
        return attribute
    method: Callable[..., Any] = attribute
    return lambda *args, **kwargs: _run(method(*args, **kwargs))


class Awaited:
    """Awaits every method of a store, from any thread."""

    def __init__(self, store: Any) -> None:
        self._store = store
        # Not __getattr__: from Python 3.12 on, isinstance() with a protocol does not ask it.
        for name in dir(store):
            if not name.startswith("_"):
                setattr(self, name, _blocking(getattr(store, name)))
        self.scratch = lambda: Awaited(store.scratch())

    def __len__(self) -> int:
        return int(_run(self._store.count()))

    def __contains__(self, namespace: object) -> bool:
        return bool(_run(self._store.has_namespace(namespace)))

    def __enter__(self) -> Awaited:
        _run(self._store.__aenter__())
        return self

    def __exit__(self, *error: Any) -> None:
        _run(self._store.__aexit__(*error))


def awaited(store: Any) -> StoreLike:
    """Return a store whose methods are awaited for its caller."""
    made: Any = Awaited(store)
    return made
