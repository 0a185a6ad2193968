"""Google ADK: sessions, their events and the three scopes of state, in any store.

The layout; names of apps, users and sessions are as they are but for ``%``, ``:`` and braces:

* ``google-adk:session:{<app>:<user>:<session>}``: a session, whole: ``head`` -> its revision, when
  it was updated last and how many events it has had; ``state`` -> its own state; each event under a
  key of 16 digits, as a log; ``id:<event id>`` -> the keys of the events with that id; and
  ``pending:<key>`` -> what an event still has to change for others;
* ``google-adk:app:<app>`` and ``google-adk:user:<app>:<user>``: key -> value, shared by sessions;
* ``google-adk:sessions:<app>:<user>``: session id -> a token; and ``google-adk:users:<app>``: user
  id -> True. They are written before a session, so they may name one that is not there.
"""

# The library may not be installed.
# pyright: reportMissingImports=false

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

try:
    from google.adk.errors import StaleSessionError
    from google.adk.errors.already_exists_error import AlreadyExistsError
    from google.adk.errors.session_not_found_error import SessionNotFoundError
    from google.adk.events.event import Event
    from google.adk.sessions.base_session_service import (
        BaseSessionService,
        GetSessionConfig,
        ListSessionsResponse,
    )
    from google.adk.sessions.session import Session
    from google.adk.sessions.state import State
    from pydantic import ValidationError
    from pydantic_core import PydanticSerializationError, to_jsonable_python
except ImportError as error:
    raise ImportError(
        "SwarmStateSessionService needs the library google-adk 2.13 or later: "
        "pip install 'google-adk>=2.13'"
    ) from error

from swarmstate.arguments import LOG_KEYS, shown
from swarmstate.codecs import dumps
from swarmstate.errors import DecodeError, EncodeError, StoreUnavailable
from swarmstate.integrations.calls import Calls, part
from swarmstate.protocols import ABSENT, Pair

__all__ = ["SwarmStateSessionService"]

_TRIES = 50
Scopes = tuple[dict[str, Any], dict[str, Any], dict[str, Any]]
"""What belongs to the app, to the user and to the session."""


class SwarmStateSessionService(BaseSessionService):
    """Sessions in a store, shared by any number of processes.

    An event is committed together with what it changes in its session, which is one slot of a
    cluster; what it changes for the app and the user comes after, key by key. Where that fails, the
    call raises, and the same event given again completes it: an event that is stored is not stored
    twice. A session that another process has moved on raises ``StaleSessionError``: get it again.

    Values of state are stored as the codec has them; what it does not know (a model, a set) as
    pydantic's JSON of it, and what that does not know either is an error, and nothing is stored.

    Args:
        store: any store of ours, blocking or awaited, or another
            :class:`~swarmstate.protocols.LogStore`; it is not closed by the service.

    Raises:
        InvalidArgumentError: the store takes no commits.
    """

    def __init__(self, store: Any) -> None:
        self._call = Calls(store, "commit")

    async def create_session(
        self,
        *,
        app_name: str,
        user_id: str,
        state: dict[str, Any] | None = None,
        session_id: str | None = None,
    ) -> Session:
        """Make a session. Two round trips, one more where it sets state of the app or the user.

        Raises:
            AlreadyExistsError: there is one of that id.
            EncodeError: the state holds what cannot be stored; nothing was stored.
        """
        name = (session_id or "").strip() or str(uuid.uuid4())
        app, user, own = _scopes(state or {})
        token = uuid.uuid4().hex
        space = _session(app_name, user_id, name)
        index = (_sessions(app_name, user_id), name)
        if await self._call("contains", space, "head"):
            raise AlreadyExistsError(f"Session with id {name} already exists.")
        await self._call("set_many", [(*index, token), (_users(app_name), user_id, True)])
        head = {"revision": uuid.uuid4().hex, "updated": time.time(), "events": 0, "token": token}
        items = [(space, "head", head), (space, "state", own)]
        if not await self._call("commit", items, expect={(space, "head"): ABSENT}):
            raise AlreadyExistsError(f"Session with id {name} already exists.")
        shared = _shared(app_name, user_id, app, user)
        if shared:
            await self._call("set_many", shared)
        found = await asyncio.gather(
            self._call("items", _app(app_name)), self._call("items", _user(app_name, user_id))
        )
        return _made(app_name, user_id, name, head, _merged(own, *found), [])

    async def get_session(
        self,
        *,
        app_name: str,
        user_id: str,
        session_id: str,
        config: GetSessionConfig | None = None,
    ) -> Session | None:
        """Return a session, at one moment, or None.

        Three reads at the same time: the session whole, the app's state and the user's. With
        ``num_recent_events`` one more comes before, and only those events are read.

        Raises:
            DecodeError: what is stored there is not what this class has stored.
        """
        name = session_id.strip()
        recent = config.num_recent_events if config else None
        kept, *shared = await asyncio.gather(
            self._read(_session(app_name, user_id, name), recent),
            self._call("items", _app(app_name)),
            self._call("items", _user(app_name, user_id)),
        )
        if kept is None:
            return None
        stored = [kept[key] for key in sorted(kept) if _is_event(key)]
        events = [_event(each) for each in stored]
        if config and config.after_timestamp is not None:
            first = len(events)
            while first and events[first - 1].timestamp >= config.after_timestamp:
                first -= 1
            events = events[first:]
        state = _merged(kept.get("state", {}), *shared)
        return _made(app_name, user_id, name, kept["head"], state, events)

    async def _read(self, space: str, recent: int | None) -> dict[str, Any] | None:
        """Return what is kept of a session, of its events perhaps only the last ones."""
        if recent is None:
            kept = dict(await self._call("items", space))
            return kept if "head" in kept else None
        for _ in range(_TRIES):
            head = await self._call("get", space, "head")
            if head is None:
                return None
            last = head["events"]
            keys = [_key(number) for number in range(max(last - recent, 0) + 1, last + 1)]
            names = ["head", "state", *keys]
            values = await self._call("get_many", [(space, name) for name in names])
            if values[0] == head:
                return dict(zip(names, values, strict=True))
        raise StoreUnavailable(f"a session was changed {_TRIES} times in a row while it was read")

    async def list_sessions(
        self, *, app_name: str, user_id: str | None = None
    ) -> ListSessionsResponse:
        """Return the sessions of a user, or of all users, without events, updated last at the end.

        Three to four round trips; O(sessions).
        """
        users = [user_id] if user_id is not None else await self._call("keys", _users(app_name))
        named = await asyncio.gather(
            *(self._call("keys", _sessions(app_name, user)) for user in users)
        )
        names = [(user, name) for user, found in zip(users, named, strict=True) for name in found]
        spaces = [_session(app_name, *each) for each in names]
        values, app, *owned = await asyncio.gather(
            self._call("get_many", [(space, key) for space in spaces for key in ("head", "state")]),
            self._call("items", _app(app_name)),
            *(self._call("items", _user(app_name, user)) for user in users),
        )
        of_user = dict(zip(users, owned, strict=True))
        sessions = [
            _made(app_name, user, name, head, _merged(state or {}, app, of_user[user]), [])
            for (user, name), head, state in zip(names, values[::2], values[1::2], strict=True)
            if head is not None
        ]
        sessions.sort(key=lambda each: (each.last_update_time, each.user_id, each.id))
        return ListSessionsResponse(sessions=sessions)

    async def delete_session(self, *, app_name: str, user_id: str, session_id: str) -> None:
        """Remove a session with its events, if there is one; the state of app and user stays.

        Three round trips.
        """
        name = session_id.strip()
        index = (_sessions(app_name, user_id), name)
        token = await self._call("get", *index)
        await self._call("delete_namespace", _session(app_name, user_id, name))
        if token is not None:
            # One of the same name that was made meanwhile has written another token.
            await self._call("commit", (), [index], expect={index: token})

    async def get_user_state(self, *, app_name: str, user_id: str) -> dict[str, Any]:
        """Return the state of a user, without the prefix of its keys. One round trip."""
        return dict(await self._call("items", _user(app_name, user_id)))

    async def append_event(self, session: Session, event: Event) -> Event:
        """Store an event and what it changes, then add it to the session object.

        Two round trips; two more where the event changes state of the app or the user. A partial
        event is not stored. State of the scope ``temp:`` is put into the session object only.

        Raises:
            SessionNotFoundError: the session is not stored.
            StaleSessionError: others have added events since the session was got.
            EncodeError: the event or its state holds what cannot be stored; nothing was stored.
        """
        if event.partial:
            return event
        app, user, own = _scopes(event.actions.state_delta if event.actions else {})
        plain = _dumped(event)
        shared = _shared(session.app_name, session.user_id, app, user)
        space = _session(session.app_name, session.user_id, session.id)
        known = f"id:{event.id}"
        for _ in range(_TRIES):
            head, state, keys = await self._call(
                "get_many", [(space, "head"), (space, "state"), (space, known)]
            )
            if head is None:
                raise SessionNotFoundError(f"Session {session.id} not found.")
            if keys and (key := await self._stored(space, keys, plain)) is not None:
                await self._complete(space, key)
                if not any(
                    each.id == event.id and _dumped(each) == plain for each in session.events
                ):
                    await self._take(session, event, head if key == _key(head["events"]) else None)
                return event
            if _is_stale(session, head):
                raise StaleSessionError(
                    f"session {session.id} has been modified in storage since it was got: get it "
                    "again"
                )
            number = head["events"] + 1
            if number > LOG_KEYS:
                raise EncodeError(f"session {session.id} cannot take more events")
            new = {
                **head,
                "revision": uuid.uuid4().hex,
                "updated": event.timestamp,
                "events": number,
                "last": event.id,
            }
            items = [
                (space, "head", new),
                (space, _key(number), plain),
                (space, known, [*(keys or ()), _key(number)]),
            ]
            if own:
                items.append((space, "state", {**(state or {}), **own}))
            if shared:
                items.append((space, f"pending:{_key(number)}", [list(each) for each in shared]))
            if await self._call("commit", items, expect={(space, "head"): head}):
                if shared:
                    await self._complete(space, _key(number), shared)
                await self._take(session, event, new)
                return event
        raise StoreUnavailable(
            f"session {session.id} was changed by others {_TRIES} times in a row while an event "
            "was added"
        )

    async def _stored(self, space: str, keys: list[str], plain: dict[str, Any]) -> str | None:
        """Return the key under which this very event is stored, if it is."""
        values = await self._call("get_many", [(space, key) for key in keys])
        for key, value in zip(keys, values, strict=True):
            if value == plain:
                return key
        return None

    async def _complete(
        self, space: str, key: str, shared: list[tuple[str, str, Any]] | None = None
    ) -> None:
        """Change for others what a stored event still has to."""
        pending = (space, f"pending:{key}")
        if shared is None:
            shared = await self._call("get", *pending)
        if shared:
            await self._call("set_many", shared)
            await self._call("delete", *pending)

    async def _take(self, session: Session, event: Event, head: Mapping[str, Any] | None) -> None:
        """Add a stored event to the session object."""
        await super().append_event(session, event)
        session.last_update_time = event.timestamp
        if head is not None:
            session._storage_update_marker = head["revision"]


# Names ---------------------------------------------------------------------------------------


def _session(app: str, user: str, session: str) -> str:
    return f"google-adk:session:{{{part(app, user, session)}}}"


def _sessions(app: str, user: str) -> str:
    return f"google-adk:sessions:{part(app, user)}"


def _users(app: str) -> str:
    return f"google-adk:users:{part(app)}"


def _app(app: str) -> str:
    return f"google-adk:app:{part(app)}"


def _user(app: str, user: str) -> str:
    return f"google-adk:user:{part(app, user)}"


def _key(number: int) -> str:
    return f"{number:016d}"


def _is_event(key: str) -> bool:
    return len(key) == 16 and key.isdigit()


# Values --------------------------------------------------------------------------------------


def _scopes(state: Mapping[str, Any]) -> Scopes:
    """Return state by scope, as it is stored; what is temporary is in none."""
    app: dict[str, Any] = {}
    user: dict[str, Any] = {}
    own: dict[str, Any] = {}
    for key, value in state.items():
        if key.startswith(State.TEMP_PREFIX):
            continue
        kept = _storable(key, value)
        if key.startswith(State.APP_PREFIX):
            app[key.removeprefix(State.APP_PREFIX)] = kept
        elif key.startswith(State.USER_PREFIX):
            user[key.removeprefix(State.USER_PREFIX)] = kept
        else:
            own[key] = kept
    return app, user, own


def _storable(key: str, value: Any) -> Any:
    """Return a value that every codec takes, or raise."""
    try:
        dumps(value)
    except EncodeError as refused:
        try:
            return to_jsonable_python(value)
        except (PydanticSerializationError, ValueError, TypeError):
            raise EncodeError(f"state {shown(key)}: {refused}") from refused
    return value


def _shared(
    app_name: str, user_id: str, app: Mapping[str, Any], user: Mapping[str, Any]
) -> list[tuple[str, str, Any]]:
    return [
        *((_app(app_name), key, value) for key, value in app.items()),
        *((_user(app_name, user_id), key, value) for key, value in user.items()),
    ]


def _merged(
    own: Mapping[str, Any], app: Iterable[Pair | tuple[str, Any]], user: Iterable[tuple[str, Any]]
) -> dict[str, Any]:
    return {
        **own,
        **{State.APP_PREFIX + key: value for key, value in app},
        **{State.USER_PREFIX + key: value for key, value in user},
    }


def _dumped(event: Event) -> dict[str, Any]:
    """Return an event as the library's own services store it, without temporary state."""
    plain: dict[str, Any] = event.model_dump(mode="json", exclude_none=True)
    delta = plain.get("actions", {}).get("state_delta")
    if delta:
        plain["actions"]["state_delta"] = {
            key: value for key, value in delta.items() if not key.startswith(State.TEMP_PREFIX)
        }
    return plain


def _event(kept: Any) -> Event:
    try:
        return Event.model_validate(kept)
    except ValidationError as error:
        raise DecodeError(f"an event is not what a session service has stored: {error}") from error


def _made(
    app: str,
    user: str,
    name: str,
    head: Mapping[str, Any],
    state: dict[str, Any],
    events: list[Event],
) -> Session:
    session = Session(
        app_name=app,
        user_id=user,
        id=name,
        state=state,
        events=events,
        last_update_time=head["updated"],
    )
    session._storage_update_marker = head["revision"]
    return session


def _is_stale(session: Session, head: Mapping[str, Any]) -> bool:
    """Return whether a session object lacks events that are stored."""
    marker = session._storage_update_marker
    if marker is not None:
        return bool(marker != head["revision"])
    # One that was made by hand: its events tell.
    if head["updated"] <= session.last_update_time:
        return False
    return head["events"] > 0 and all(event.id != head.get("last") for event in session.events)
