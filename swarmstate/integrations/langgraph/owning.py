"""What the saver, the long-term memory and the cache share: whose the store is, and copies.

Programs that were written for other savers and stores open them by a URL, enter them, call
``setup()`` and copy the graph that holds them. All of that works here, with one line changed.
"""

from __future__ import annotations

import asyncio
import copy
import inspect
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

from swarmstate.errors import ArgumentTypeError
from swarmstate.protocols import StoreLike

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Owner"]


class Owner:
    """A part of LangGraph's persistence over a store, which it owns if it has opened it.

    Attributes:
        store: The store.
    """

    store: StoreLike
    _owned = False

    @classmethod
    def from_conn_string(cls, url: str, /, **options: Any) -> Self:
        """Open the store that a URL names, and return one of these over it, which owns it.

        It can be used at once, or in ``with`` or ``async with``: leaving closes the store.

        Args:
            url: As :func:`swarmstate.open_store` takes it, such as ``"sqlite:///agents.db"``,
                ``"redis://localhost:6379/0"`` or ``"memory://"``.
            options: Arguments of this class; all others are the store's, such as ``prefix``.

        Raises:
            ArgumentTypeError, ArgumentValueError: there is no such store, or no such option.
        """
        from swarmstate import open_store

        own = inspect.signature(cls).parameters.keys() - {"store"}
        mine = {name: options.pop(name) for name in own & options.keys()}
        store: StoreLike = open_store(url, **options)
        make: Any = cls
        try:
            made: Self = make(store, **mine)
        except BaseException:  # raised again: nobody else would close the store
            store.close()
            raise
        made._owned = True
        return made

    def setup(self) -> None:
        """Do nothing: a store needs no preparation. For programs that call it."""

    async def asetup(self) -> None:
        """Do nothing, as :meth:`setup`."""

    def __enter__(self) -> Self:
        """Return it."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the store, if it was opened by :meth:`from_conn_string`; else leave it open."""
        if self._owned:
            self.store.close()

    async def __aenter__(self) -> Self:
        """Return it."""
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the store as :meth:`__exit__` does, without blocking the event loop."""
        await asyncio.to_thread(self.__exit__, exc_type, exc, traceback)

    def _attach(self, store: StoreLike) -> None:
        """Go on with another store, which does not expire what an in-memory one would not."""
        raise NotImplementedError

    def __copy__(self) -> Self:
        """Return another one over the same store, which it does not own."""
        made = object.__new__(type(self))
        vars(made).update(vars(self), _owned=False)
        return made

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return one over a copy of an in-memory store; over any other, over the same store.

        What is copied together, such as the parts of one graph, shares one copy.
        """
        from swarmstate import Store

        made = memo[id(self)] = copy.copy(self)
        store = self.store
        if isinstance(store, Store):
            copied = memo.get(id(store))
            if copied is None:
                copied = Store(codec=store.codec, max_history=store.max_history)
                copied.restore(store.snapshot())
                memo[id(store)] = copied
            made._attach(copied)
        return made

    def __reduce__(self) -> NoReturn:
        name = type(self).__name__
        raise ArgumentTypeError(
            f"a {name} cannot be pickled, because it holds a store: send what the store is opened "
            f"by, and make another with {name}.from_conn_string(url)"
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} over {self.store!r}>"
