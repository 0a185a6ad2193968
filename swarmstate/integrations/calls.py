"""A store's operations, awaited, whatever kind of store it is; awaited integrations use these."""

from __future__ import annotations

from typing import Any

from swarmstate.arguments import shown
from swarmstate.errors import ArgumentTypeError, ArgumentValueError
from swarmstate.steps import Steps, calls_of, finish, named

__all__ = ["Calls", "part"]

LOGS = ("commit", "append", "tail", "pop")


class Calls:
    """Awaits the operations of a store.

    A store of ours is never waited for in the event loop, whether its own methods block or are
    awaited; a third-party one that blocks is called in a thread.

    Args:
        store: the store.
        needed: what it must offer beyond a :class:`~swarmstate.protocols.StoreLike`.

    Raises:
        ArgumentTypeError: this is not a store, or it lacks a method.
    """

    def __init__(self, store: Any, *needed: str) -> None:
        self._target, self._driver = calls_of(store)
        missing = [name for name in needed if not self.offers(name)]
        if missing:
            raise ArgumentTypeError(
                f"store must be a LogStore: {shown(store)} has no {', '.join(missing)}"
            )

    def offers(self, method: str) -> bool:
        """Return whether the store has a method."""
        return callable(getattr(self._target, method, None))

    async def __call__(self, method: str, *args: Any, **options: Any) -> Any:
        """Carry out one operation of the store."""

        def steps() -> Steps[Any]:
            return (yield from finish(getattr(self._target, method)(*args, **options)))

        return await self._driver.arun(named(method, steps()))

    def check_ttl(self, ttl: float | None) -> float | None:
        """Return a time to live in seconds, or raise where the store cannot expire."""
        if ttl is None:
            return None
        if isinstance(ttl, bool) or not isinstance(ttl, (int, float)):
            raise ArgumentTypeError(f"ttl must be None or a number of seconds, not {shown(ttl)}")
        if not 0.001 <= ttl <= 10**10:
            raise ArgumentValueError(
                f"ttl must be between 0.001 and 10**10 seconds, not {shown(ttl)}"
            )
        if not self.offers("expire"):
            raise ArgumentValueError(
                f"ttl needs a store that lets namespaces expire, which this one does not: {ttl}"
            )
        return ttl


def part(*names: str) -> str:
    """Return names as one part of a namespace: no two lists of names give the same.

    They are as they are but for ``%``, ``:`` and braces, which are written as in URLs, so that the
    part can stand in a hash tag.
    """
    return ":".join(
        name.replace("%", "%25").replace(":", "%3A").replace("{", "%7B").replace("}", "%7D")
        for name in names
    )
