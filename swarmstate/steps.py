"""Operations written once and driven twice.

An operation that may have to wait is a generator: it yields whatever its driver takes (a batch of
commands for a server, say), is sent what came back, and returns its result. A driver runs it to its
end, blocking, or awaits it. :func:`blocking` and :func:`awaited` make the methods of the two
classes that users see from one step::

    class Things:
        def count(self) -> Steps[int]:
            replies = yield Batch([("HLEN", "things")])
            return replies[0]

    @introduced
    class Store:
        count = blocking(Things.count)

    @introduced
    class AsyncStore:
        count = awaited(Things.count)
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Coroutine, Generator
from types import GeneratorType
from typing import Any, Concatenate, ParamSpec, Protocol, TypeAlias, TypeVar, cast

from swarmstate.errors import ArgumentTypeError
from swarmstate.shown import shown

__all__ = [
    "Driven",
    "Driver",
    "InlineDriver",
    "Outcome",
    "Steps",
    "ThreadDriver",
    "awaited",
    "blocking",
    "calls_of",
    "finish",
    "introduced",
    "named",
    "raised_stop",
    "then",
]

P = ParamSpec("P")
T = TypeVar("T")
U = TypeVar("U")
C = TypeVar("C", bound=type)

Steps: TypeAlias = Generator[Any, Any, T]
"""An operation in progress: yields what its driver takes, is sent what came back, returns its
result."""

Outcome: TypeAlias = Steps[T] | T
"""Steps, or the result at once where nothing has to be waited for."""


class Driver(Protocol):
    """Runs steps."""

    def run(self, steps: Steps[T]) -> T:
        """Run steps to their end, blocking, and return their result."""
        ...

    async def arun(self, steps: Steps[T]) -> T:
        """Run steps to their end without blocking the event loop, and return their result."""
        ...


class Driven(Protocol):
    """An object whose methods are steps that a driver runs, so that both ways are open to others.

    Attributes:
        steps: has a method for each operation, which returns its steps.
        driver: runs them.
    """

    @property
    def steps(self) -> Any:
        """The operations."""
        ...

    @property
    def driver(self) -> Driver:
        """What runs them."""
        ...


def raised_stop(error: RuntimeError) -> StopIteration | None:
    """Return the StopIteration that a function of the caller's has raised inside steps, if any.

    A generator cannot let it pass (PEP 479): Python makes a RuntimeError of it there. One that was
    made in a generator of the caller's own is the caller's.
    """
    stop = error.__cause__
    frames = error.__traceback__
    if not isinstance(stop, StopIteration) or frames is None:
        return None
    while frames.tb_next is not None:
        frames = frames.tb_next
    module = str(frames.tb_frame.f_globals.get("__name__", ""))
    return stop if module.partition(".")[0] == __name__.partition(".")[0] else None


def finish(outcome: Outcome[T]) -> Steps[T]:
    """Go on with an operation from within another, by ``yield from``, whatever it returned."""
    if isinstance(outcome, GeneratorType):
        result: T = yield from outcome
        return result
    return cast("T", outcome)


def then(outcome: Outcome[T], go_on: Callable[..., Outcome[U]], /, *more: Any) -> Outcome[U]:
    """Return ``go_on(result, *more)`` of what an operation returns: at once where it did so.

    An operation that is written with this makes no steps where none are needed.
    """
    if isinstance(outcome, GeneratorType):
        return _then(outcome, go_on, more)
    return go_on(outcome, *more)


def _then(steps: Steps[T], go_on: Callable[..., Outcome[U]], more: tuple[Any, ...]) -> Steps[U]:
    result = yield from steps
    return (yield from finish(go_on(result, *more)))


class InlineDriver:
    """Runs steps that never wait: both ways are the same, without a thread or a task switch."""

    def run(self, steps: Steps[T]) -> T:
        """Run steps to their end and return their result."""
        try:
            next(steps)
        except StopIteration as stop:
            result: T = stop.value
            return result
        except RuntimeError as error:
            stopped = raised_stop(error)
            if stopped is None:
                raise
        else:
            steps.close()
            raise RuntimeError("an operation that never waits waited for something")
        raise stopped

    async def arun(self, steps: Steps[T]) -> T:
        """Run steps to their end and return their result."""
        return self.run(steps)


class ThreadDriver(InlineDriver):
    """Runs steps that never wait for a driver, but may block: awaited, in a thread of their own."""

    async def arun(self, steps: Steps[T]) -> T:
        """Run steps to their end in a thread and return their result."""
        return await asyncio.to_thread(self.run, steps)


def calls_of(store: Any) -> tuple[Any, Driver]:
    """Return whose methods to call for a store's operations, and what runs what they return.

    A method returns steps or its result at once: go on with ``yield from finish(...)``. For a store
    that offers its steps and a driver, these; for the in-memory store, itself, and nothing ever
    waits; any other store may block, and is called in a thread where the caller awaits.

    Raises:
        ArgumentTypeError: this is not a store that can be used both ways.
    """
    from swarmstate._core import Store

    steps, driver = getattr(store, "steps", None), getattr(store, "driver", None)
    if steps is not None and driver is not None:
        return steps, driver
    if not hasattr(type(store), "set_many") or inspect.iscoroutinefunction(store.set_many):
        raise ArgumentTypeError(
            "store must be a swarmstate store whose methods block, or one with steps and a driver, "
            f"not {type(store).__name__} ({shown(store)})"
        )
    return store, InlineDriver() if isinstance(store, Store) else ThreadDriver()


def named(name: str, steps: Steps[T]) -> Steps[T]:
    """Return steps under the name of the operation that they are: errors of a store tell it."""
    steps.__name__ = name  # type: ignore[attr-defined]
    return steps


def blocking(step: Callable[Concatenate[Any, P], Steps[T]]) -> Callable[Concatenate[Driven, P], T]:
    """Return the method that runs a step and returns its result."""

    @functools.wraps(step)
    def method(self: Driven, /, *args: P.args, **kwargs: P.kwargs) -> T:
        steps = step(self.steps, *args, **kwargs)
        # As named() does: another call would be a thirtieth of reading a value from a file.
        steps.__name__ = method.__name__  # type: ignore[attr-defined]
        return self.driver.run(steps)

    return method


def awaited(
    step: Callable[Concatenate[Any, P], Steps[T]],
) -> Callable[Concatenate[Driven, P], Coroutine[Any, Any, T]]:
    """Return the coroutine method that runs a step and returns its result."""

    @functools.wraps(step)
    async def method(self: Driven, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.driver.arun(named(method.__name__, step(self.steps, *args, **kwargs)))

    return method


def introduced(cls: C) -> C:
    """Make methods from :func:`blocking` and :func:`awaited` introduce themselves as the class's.

    Their names, module and signature are then those of methods written out in the class: what
    ``help()`` and :func:`inspect.signature` show has no trace of steps.
    """
    for name, method in vars(cls).items():
        step = getattr(method, "__wrapped__", None)
        if step is None:
            continue
        signature = inspect.signature(step)
        returned = signature.return_annotation
        if isinstance(returned, str):
            returned = returned.removeprefix("Steps[").removesuffix("]")
        method.__signature__ = signature.replace(return_annotation=returned)
        method.__annotations__ = {**step.__annotations__, "return": returned}
        method.__name__ = name
        method.__qualname__ = f"{cls.__qualname__}.{name}"
        method.__module__ = cls.__module__
        # Python's own errors about arguments name the function that was called.
        step.__qualname__ = name
        del method.__wrapped__
    return cls
