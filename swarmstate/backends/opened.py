"""What the stores of every backend have in common: what they are made of, and how they end."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from swarmstate.errors import ArgumentTypeError
from swarmstate.protocols import SnapshotLike

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Awaited", "Blocking", "Opened"]


class _Ends:
    """A store that holds something until it is closed."""

    def _check_open(self) -> None:
        raise NotImplementedError

    def _close(self) -> None:
        raise NotImplementedError

    def __bool__(self) -> bool:
        """Return True, also for an empty store; O(1), and nothing is asked for."""
        return True


class Opened(_Ends):
    """A store of steps and a driver that runs them, whether they are blocking or awaited.

    Attributes:
        steps: has a method for each operation, which returns its steps.
        driver: runs them.
    """

    _found_again_by: ClassVar[str]  # the arguments that make another store of the same content

    steps: Any
    driver: Any
    _scratch: Self | None  # None until it is asked for; of a scratch store, itself

    @property
    def codec(self) -> str:
        """The name of the codec."""
        return str(self.steps.codec.name)

    @property
    def max_history(self) -> int | None:
        """How many snapshots :meth:`history` keeps: 0 none, n the last n, None all."""
        bound: int | None = self.steps.history.bound
        return bound

    def history(self) -> list[SnapshotLike]:
        """Return the kept snapshots, oldest first; from memory, never from the store."""
        self._check_open()
        kept: list[SnapshotLike] = self.steps.history.kept()
        return kept

    def clear_history(self) -> None:
        """Let go of the kept snapshots; the store itself is not touched."""
        self._check_open()
        self.steps.history.clear()

    def _apart(self, steps: type[Any]) -> Self:
        """Return the scratch store, of steps of this kind; it borrows the driver."""
        if self._scratch is None:
            made = object.__new__(type(self))
            vars(made).update(vars(self), steps=steps(self.steps), _scratch=made)
            self._scratch = made
        return self._scratch

    def _check_open(self) -> None:
        self.driver.check_open()

    def _close(self) -> None:
        if self._scratch is not self:
            self.driver.close()

    def __reduce__(self) -> NoReturn:
        raise ArgumentTypeError(
            f"{type(self).__name__} can be neither copied nor pickled, because it holds "
            f"connections: make another of the same {self._found_again_by}, which has the same "
            "content"
        )


class Blocking(_Ends):
    """How a store ends whose methods block."""

    _counterpart: ClassVar[str]  # the store whose methods are awaited

    def close(self) -> None:
        """Close what is the store's own, connections or a file; calling it again does nothing."""
        self._close()

    def __enter__(self) -> Self:
        """Return the store, which must be open."""
        self._check_open()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the store."""
        self.close()

    async def __aenter__(self) -> NoReturn:
        """Raise: this store is not awaited."""
        raise ArgumentTypeError(
            f"a {type(self).__name__} blocks: use `with`, or `async with {self._counterpart}`"
        )

    async def __aexit__(self, *exc: object) -> None:
        """Do nothing: never reached."""


class Awaited(_Ends):
    """How a store ends whose methods are awaited, and what cannot be."""

    async def close(self) -> None:
        """Close what is the store's own, connections or a file; calling it again does nothing.

        Calls that are under way are finished first.
        """
        await asyncio.to_thread(self._close)

    async def __aenter__(self) -> Self:
        """Return the store, which must be open."""
        self._check_open()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the store."""
        await self.close()

    def __enter__(self) -> NoReturn:
        """Raise: an awaited store needs ``async with``."""
        raise ArgumentTypeError(f"an {type(self).__name__} is awaited: use `async with`")

    def __exit__(self, *exc: object) -> None:
        """Do nothing: never reached."""

    def __len__(self) -> NoReturn:
        """Raise: counting has to be awaited."""
        raise ArgumentTypeError("len() cannot be awaited: use `await store.count()`")

    def __contains__(self, namespace: object) -> NoReturn:
        """Raise: looking has to be awaited."""
        raise ArgumentTypeError("`in` cannot be awaited: use `await store.has_namespace(...)`")
