"""A store that only reads: whatever could change something is refused before it is sent."""

from __future__ import annotations

from typing import Any, TypeVar

from swarmstate.backends.redis.commands import Batch, CommandDenied
from swarmstate.backends.redis.store import RedisStore
from swarmstate.steps import Steps, named

__all__ = ["only_reading"]

T = TypeVar("T")


def only_reading(store: RedisStore) -> RedisStore:
    """Let a store do nothing but read from now on, and return it.

    To the logic of the store, and to that of a checkpointer over it, this is a server whose user
    may neither write nor run scripts: it answers from the hashes, puts nothing right that is
    derived, and raises :class:`~swarmstate.errors.AccessDenied` where it would have to write.
    """
    driver: Any = _ReadingDriver(store.driver)
    store.driver = driver
    return store


class _ReadingDriver:
    """Runs steps, and refuses them every batch that is not certain to change nothing."""

    def __init__(self, driver: Any) -> None:
        self._driver = driver

    def __getattr__(self, name: str) -> Any:
        return getattr(self._driver, name)

    def run(self, steps: Steps[T]) -> T:
        result: T = self._driver.run(_guarded(steps))
        return result

    async def arun(self, steps: Steps[T]) -> T:
        result: T = await self._driver.arun(_guarded(steps))
        return result


def _guarded(steps: Steps[T]) -> Steps[T]:
    return named(getattr(steps, "__name__", "call"), _only_reads(steps))


def _only_reads(steps: Steps[T]) -> Steps[T]:
    try:
        batch = next(steps)
        while True:
            if not batch.reads:
                batch = steps.throw(_refusal(batch))
                continue
            try:
                replies = yield batch
            except Exception as error:  # noqa: BLE001 (it is for the steps)
                batch = steps.throw(error)
            else:
                batch = steps.send(replies)
    except StopIteration as stop:
        result: T = stop.value
        return result
    finally:
        steps.close()


def _refusal(batch: Batch) -> CommandDenied:
    names = [command[0] if isinstance(command[0], str) else "EVALSHA" for command in batch.commands]
    name = next((each for each in names if not Batch([(each,)]).reads), "EVALSHA")
    return CommandDenied(
        "NOPERM", name, f"this store only reads, and may not run the '{name.lower()}' command"
    )
