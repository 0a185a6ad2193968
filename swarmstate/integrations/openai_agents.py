"""OpenAI Agents SDK: the history of a conversation in any store."""

# The library may not be installed.
# pyright: reportMissingImports=false

from __future__ import annotations

from typing import Any

try:
    from agents.memory.session import SessionABC
    from agents.memory.session_settings import (
        SessionSettings,
        coerce_session_settings,
        resolve_session_limit,
    )
except ImportError as error:
    raise ImportError(
        "SwarmStateSession needs the library openai-agents 0.24 or later: "
        "pip install 'openai-agents>=0.24'"
    ) from error

from swarmstate.arguments import shown
from swarmstate.errors import ArgumentTypeError
from swarmstate.integrations.calls import Calls

__all__ = ["SwarmStateSession"]


class SwarmStateSession(SessionABC):
    """A session whose items are the log ``openai-agents:{session_id}`` of a store.

    Each item is an entry of its own, a msgpack map, so that adding to a history of any length costs
    what is added. Any number of processes may add to one session: a call's items stay together and
    none is lost.

    Args:
        session_id: which conversation.
        store: any store of ours, blocking or awaited, or another
            :class:`~swarmstate.protocols.LogStore`; it is not closed by the session.
        session_settings: the SDK's settings; its ``limit`` bounds what :meth:`get_items` returns.
        ttl: seconds that the session lives after items were last added, from 0.001 to 10**10; None:
            as the store's namespaces. An added item costs one round trip more then.

    Raises:
        InvalidArgumentError: ``session_id`` is not a str, the store keeps no logs, or a ``ttl`` is
            given and the store cannot expire.
    """

    session_settings: SessionSettings | None = None

    def __init__(
        self,
        session_id: str,
        store: Any,
        *,
        session_settings: SessionSettings | dict[str, Any] | None = None,
        ttl: float | None = None,
    ) -> None:
        if not isinstance(session_id, str):
            raise ArgumentTypeError(
                f"session_id must be a str, not {type(session_id).__name__} ({shown(session_id)})"
            )
        self.session_id = session_id
        self.session_settings = (
            SessionSettings()
            if session_settings is None
            else coerce_session_settings(session_settings)
        )
        self._call = Calls(store, "append", "tail", "pop")
        self._ttl = self._call.check_ttl(ttl)

    @property
    def _namespace(self) -> str:
        return f"openai-agents:{self.session_id}"

    async def get_items(self, limit: int | None = None) -> list[Any]:
        """Return the last items, oldest first. One round trip.

        Args:
            limit: how many at most; None: as the settings say; 0 or less gives none.

        Raises:
            DecodeError: what is stored there is not what this class has stored.
        """
        most = resolve_session_limit(limit, self.session_settings)
        if most is not None and most <= 0:
            return []
        return [item for _, item in await self._call("tail", self._namespace, most)]

    async def add_items(self, items: list[Any]) -> None:
        """Add items to the end, all or none. One round trip, two with a ttl.

        Raises:
            EncodeError: an item holds what the codec does not accept; nothing was added.
            StoreUnavailable: the store cannot be reached; the text says whether the items may have
                been added all the same.
        """
        if not items:
            return
        await self._call("append", self._namespace, list(items))
        if self._ttl is not None:
            await self._call("expire", self._namespace, self._ttl)

    async def pop_item(self) -> Any | None:
        """Remove the last item and return it; None if there is none. One round trip."""
        popped = await self._call("pop", self._namespace)
        return None if popped is None else popped[1]

    async def clear_session(self) -> None:
        """Remove all items. One round trip."""
        await self._call("delete_namespace", self._namespace)
