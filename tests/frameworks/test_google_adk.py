"""SwarmStateSessionService: the sessions of Google ADK."""

from __future__ import annotations

import asyncio
import datetime
import random
from typing import Any

import pytest

pytest.importorskip("google.adk", reason="google-adk is not installed")

from google.adk.agents import Agent
from google.adk.errors import StaleSessionError
from google.adk.errors.already_exists_error import AlreadyExistsError
from google.adk.errors.session_not_found_error import SessionNotFoundError
from google.adk.events.event import Event
from google.adk.events.event_actions import EventActions
from google.adk.models.base_llm import BaseLlm
from google.adk.models.llm_response import LlmResponse
from google.adk.runners import Runner
from google.adk.sessions import InMemorySessionService, Session
from google.adk.sessions.base_session_service import GetSessionConfig
from google.genai import types
from pydantic import BaseModel

from swarmstate import Store
from swarmstate.errors import ArgumentTypeError, DecodeError, EncodeError, StoreUnavailable
from swarmstate.integrations import google_adk
from swarmstate.integrations.google_adk import SwarmStateSessionService

WHO: Any = {"app_name": "app", "user_id": "user"}
SPACE = "google-adk:session:{app:user:s}"


@pytest.fixture
def service(store: Any) -> SwarmStateSessionService:
    return SwarmStateSessionService(store)


def said(text: str, state: dict[str, Any] | None = None, **fields: Any) -> Event:
    return Event(
        author="user",
        content=types.Content(role="user", parts=[types.Part(text=text)]),
        actions=EventActions(state_delta=state or {}),
        **fields,
    )


def texts(session: Session | None) -> list[Any]:
    assert session is not None
    return [event.content.parts[0].text for event in session.events]  # type: ignore[union-attr,index]


async def got(service: Any, name: str = "s", **config: Any) -> Session:
    session = await service.get_session(
        **WHO, session_id=name, config=GetSessionConfig(**config) if config else None
    )
    assert session is not None
    return session  # type: ignore[no-any-return]


async def test_what_does_not_exist_is_none_or_empty(service: SwarmStateSessionService) -> None:
    assert await service.get_session(**WHO, session_id="s") is None
    assert (await service.list_sessions(app_name="app")).sessions == []
    assert (await service.list_sessions(**WHO)).sessions == []
    assert await service.get_user_state(**WHO) == {}
    await service.delete_session(**WHO, session_id="s")


async def test_a_session_is_made_and_got(service: SwarmStateSessionService) -> None:
    made = await service.create_session(**WHO, session_id=" s ", state={"k": [1, {"n": None}]})
    assert (made.id, made.app_name, made.user_id) == ("s", "app", "user")
    assert made.state == {"k": [1, {"n": None}]}
    found = await got(service)
    assert found == made
    assert await got(service, " s") == made
    assert found.events == []
    with pytest.raises(AlreadyExistsError):
        await service.create_session(**WHO, session_id="s", state={"k": 2})
    assert (await got(service)).state == made.state


async def test_a_session_without_a_name_gets_one(service: SwarmStateSessionService) -> None:
    names = {(await service.create_session(**WHO, session_id=name)).id for name in (None, "", " ")}
    assert len(names) == 3
    assert all(names)


async def test_each_scope_is_shared_with_those_it_belongs_to(
    service: SwarmStateSessionService,
) -> None:
    state = {"app:a": 1, "user:u": 2, "own": 3, "temp:t": 4}
    made = await service.create_session(**WHO, session_id="s", state=state)
    assert made.state == {"app:a": 1, "user:u": 2, "own": 3}
    same_user = await service.create_session(**WHO, session_id="t")
    assert same_user.state == {"app:a": 1, "user:u": 2}
    same_app = await service.create_session(app_name="app", user_id="other", session_id="s")
    assert same_app.state == {"app:a": 1}
    other = await service.create_session(app_name="other", user_id="user", session_id="s")
    assert other.state == {}
    assert await service.get_user_state(**WHO) == {"u": 2}
    await service.delete_session(**WHO, session_id="s")
    assert (await got(service, "t")).state == {"app:a": 1, "user:u": 2}


async def test_an_event_is_stored_with_what_it_changes(service: SwarmStateSessionService) -> None:
    session = await service.create_session(**WHO, session_id="s", state={"own": 0, "kept": 1})
    delta = {"app:a": 1, "user:u": [2], "own": {"x": None}, "temp:t": 4}
    event = said("hello", delta, invocation_id="i", timestamp=5.5)
    assert await service.append_event(session, event) is event
    assert session.state["temp:t"] == 4
    assert session.events == [event]
    assert session.last_update_time == 5.5
    found = await got(service)
    assert found.state == {"app:a": 1, "user:u": [2], "own": {"x": None}, "kept": 1}
    assert found.events == [event]
    assert found.last_update_time == 5.5
    assert "temp:t" not in found.events[0].actions.state_delta


async def test_a_whole_event_comes_back_as_it_was(service: SwarmStateSessionService) -> None:
    session = await service.create_session(**WHO, session_id="s")
    call = types.FunctionCall(id="c", name="f", args={"x": [1, 2.5, None, "é 🐝"]})
    blob = types.Blob(data=b"\x00\xff\xfe", mime_type="image/png")
    event = Event(
        author="agent",
        invocation_id="i",
        branch="a.b",
        content=types.Content(
            role="model",
            parts=[types.Part(function_call=call), types.Part(inline_data=blob)],
        ),
        actions=EventActions(
            state_delta={"none": None}, artifact_delta={"f": 2}, transfer_to_agent="x"
        ),
        long_running_tool_ids={"c"},
        turn_complete=True,
        error_code="E",
        error_message="m",
        custom_metadata={"k": {"n": 1}},
    )
    await service.append_event(session, event)
    assert (await got(service)).events == [event]


async def test_a_partial_event_is_not_stored(service: SwarmStateSessionService) -> None:
    session = await service.create_session(**WHO, session_id="s")
    await service.append_event(session, said("x", {"k": 1}, partial=True))
    assert session.events == []
    assert (await got(service)).events == []


async def test_events_are_filtered_by_number_and_time(service: SwarmStateSessionService) -> None:
    session = await service.create_session(**WHO, session_id="s", state={"k": 1})
    for number in range(6):
        await service.append_event(session, said(str(number), timestamp=float(number)))
    assert texts(await got(service, num_recent_events=2)) == ["4", "5"]
    assert texts(await got(service, num_recent_events=0)) == []
    assert texts(await got(service, num_recent_events=99)) == list("012345")
    assert texts(await got(service, after_timestamp=3.0)) == ["3", "4", "5"]
    assert texts(await got(service, after_timestamp=9.0)) == []
    assert texts(await got(service, after_timestamp=0.0)) == list("012345")
    assert texts(await got(service, num_recent_events=2, after_timestamp=5.0)) == ["5"]
    recent = await got(service, num_recent_events=1)
    assert recent.state == {"k": 1}
    await service.append_event(recent, said("6", timestamp=6.0))
    assert texts(await got(service)) == list("0123456")


async def test_sessions_are_listed_without_events_the_last_one_at_the_end(
    service: SwarmStateSessionService,
) -> None:
    for user, name in (("u1", "a"), ("u2", "b"), ("u1", "c")):
        state = {"n": name, "user:u": user, "app:a": 1}
        session = await service.create_session(
            app_name="app", user_id=user, session_id=name, state=state
        )
        await service.append_event(session, said("x", timestamp=1e10 - ord(name)))
    await service.create_session(app_name="other", user_id="u1", session_id="z")
    listed = (await service.list_sessions(app_name="app", user_id="u1")).sessions
    assert [each.id for each in listed] == ["c", "a"]
    assert listed[0].state == {"n": "c", "user:u": "u1", "app:a": 1}
    assert all(each.events == [] for each in listed)
    listed = (await service.list_sessions(app_name="app")).sessions
    assert [(each.user_id, each.id) for each in listed] == [("u1", "c"), ("u2", "b"), ("u1", "a")]
    await service.delete_session(app_name="app", user_id="u1", session_id="a")
    listed = (await service.list_sessions(app_name="app", user_id="u1")).sessions
    assert [each.id for each in listed] == ["c"]


async def test_a_deleted_session_is_gone_with_its_events(
    service: SwarmStateSessionService, seen: Any
) -> None:
    session = await service.create_session(**WHO, session_id="s")
    await service.append_event(session, said("secret", {"k": 1}))
    await service.delete_session(**WHO, session_id=" s")
    assert await service.get_session(**WHO, session_id="s") is None
    assert seen.namespaces() == ["google-adk:users:app"]
    with pytest.raises(SessionNotFoundError):
        await service.append_event(session, said("late"))
    again = await service.create_session(**WHO, session_id="s")
    assert again.state == {}
    assert (await got(service)).events == []


async def test_a_session_made_again_while_it_is_deleted_is_listed(
    store: Any, service: SwarmStateSessionService, monkeypatch: pytest.MonkeyPatch
) -> None:
    await service.create_session(**WHO, session_id="s")
    carry_out = service._call.__call__

    class Interrupted(google_adk.Calls):
        async def __call__(self, method: str, *args: Any, **options: Any) -> Any:
            done = await carry_out(method, *args, **options)
            if method == "delete_namespace":
                await SwarmStateSessionService(store).create_session(**WHO, session_id="s")
            return done

    deleting = SwarmStateSessionService(store)
    monkeypatch.setattr(deleting, "_call", Interrupted(store))
    await deleting.delete_session(**WHO, session_id="s")
    assert [each.id for each in (await service.list_sessions(**WHO)).sessions] == ["s"]


async def test_names_never_touch_each_other(service: SwarmStateSessionService) -> None:
    names = [
        ("a:b", "c", "d"),
        ("a", "b:c", "d"),
        ("a", "b", "c:d"),
        ("{a}", "}", "%3A"),
        ("é",) * 3,
    ]
    for app, user, name in names:
        session = await service.create_session(
            app_name=app, user_id=user, session_id=name, state={"app:x": app, "user:x": user}
        )
        await service.append_event(session, said(f"{app} {user} {name}"))
    for app, user, name in names:
        found = await service.get_session(app_name=app, user_id=user, session_id=name)
        assert texts(found) == [f"{app} {user} {name}"]
        assert await service.get_user_state(app_name=app, user_id=user) == {"x": user}


async def test_a_stale_session_is_told_and_nothing_is_stored(
    service: SwarmStateSessionService,
) -> None:
    one = await service.create_session(**WHO, session_id="s")
    other = await got(service)
    await service.append_event(one, said("one"))
    with pytest.raises(StaleSessionError, match="modified in storage"):
        await service.append_event(other, said("other", {"k": 1, "app:a": 1}))
    assert other.events == []
    await service.append_event(one, said("two"))
    found = await got(service)
    assert texts(found) == ["one", "two"]
    assert found.state == {}
    await service.append_event(found, said("three"))
    assert texts(await got(service)) == ["one", "two", "three"]


async def test_a_session_made_by_hand_is_stale_where_it_lacks_events(
    service: SwarmStateSessionService,
) -> None:
    session = await service.create_session(**WHO, session_id="s")
    event = said("one")
    await service.append_event(session, event)
    bare = Session(**WHO, id="s")
    with pytest.raises(StaleSessionError):
        await service.append_event(bare, said("two"))
    whole = Session(**WHO, id="s", events=[event])
    await service.append_event(whole, said("two"))
    assert texts(await got(service)) == ["one", "two"]


async def test_of_tasks_with_the_same_session_each_event_is_stored_once_or_told(
    store: Any,
) -> None:
    await SwarmStateSessionService(store).create_session(**WHO, session_id="s")

    async def add(number: int) -> None:
        service = SwarmStateSessionService(store)
        for step in range(3):
            while True:
                session = await got(service)
                try:
                    await service.append_event(session, said(f"{number}.{step}"))
                except StaleSessionError:
                    continue
                break

    await asyncio.gather(*(add(number) for number in range(5)))
    found = texts(await got(SwarmStateSessionService(store)))
    assert sorted(found) == sorted(f"{n}.{s}" for n in range(5) for s in range(3))


async def test_of_tasks_that_make_the_same_session_one_does(store: Any) -> None:
    async def make(number: int) -> bool:
        try:
            await SwarmStateSessionService(store).create_session(
                **WHO, session_id="s", state={"n": number}
            )
        except AlreadyExistsError:
            return False
        return True

    made = await asyncio.gather(*(make(number) for number in range(6)))
    assert made.count(True) == 1
    assert (await got(SwarmStateSessionService(store))).state == {"n": made.index(True)}


async def test_an_event_given_twice_is_stored_once(service: SwarmStateSessionService) -> None:
    session = await service.create_session(**WHO, session_id="s")
    event = said("one", {"app:n": 1, "k": 1, "temp:t": 1})
    await service.append_event(session, event)
    await service.append_event(session, event)
    await service.append_event(session, event.model_copy(deep=True))
    assert session.events == [event]
    other = await got(service)
    await service.append_event(other, said("two", {"app:n": 2, "k": 2}))
    await service.append_event(session, event)
    assert session.events == [event]
    found = await got(service)
    assert texts(found) == ["one", "two"]
    assert found.state == {"app:n": 2, "k": 2}
    # Another one of the same id is another event.
    await service.append_event(found, said("three", id=event.id))
    assert texts(await got(service)) == ["one", "two", "three"]


async def test_what_failed_in_between_is_completed_by_the_same_event(
    kind: str, store: Any, seen: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = SwarmStateSessionService(store)
    session = await service.create_session(**WHO, session_id="s")
    event = said("one", {"app:a": 1, "user:u": 2, "k": 3, "temp:t": 4})
    carried_out = service._call.__call__

    class Failing(google_adk.Calls):
        async def __call__(self, method: str, *args: Any, **options: Any) -> Any:
            if method == "set_many":
                raise StoreUnavailable("the cable is cut")
            return await carried_out(method, *args, **options)

    broken = SwarmStateSessionService(store)
    monkeypatch.setattr(broken, "_call", Failing(store))
    with pytest.raises(StoreUnavailable, match="cable"):
        await broken.append_event(session, event)
    assert session.events == []
    assert (await got(service)).state == {"k": 3}
    await service.append_event(session, event)
    assert session.events == [event]
    assert session.state["temp:t"] == 4
    found = await got(service)
    assert found.state == {"app:a": 1, "user:u": 2, "k": 3}
    assert texts(found) == ["one"]
    assert not [key for key in seen.keys(SPACE) if key.startswith("pending:")]
    await service.append_event(session, said("two"))
    assert texts(await got(service)) == ["one", "two"]


class Mood(BaseModel):
    word: str


async def test_state_is_stored_as_the_codec_has_it_or_as_json_or_refused(
    service: SwarmStateSessionService,
) -> None:
    moment = datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone.utc)
    state = {"when": moment, "raw": b"\xff", "mood": Mood(word="good"), "set": {1}}
    await service.create_session(**WHO, session_id="s", state=state)
    assert (await got(service)).state == {
        "when": moment,
        "raw": b"\xff",
        "mood": {"word": "good"},
        "set": [1],
    }
    with pytest.raises(EncodeError, match="'bad'"):
        await service.create_session(**WHO, session_id="t", state={"bad": object()})
    assert await service.get_session(**WHO, session_id="t") is None
    session = await got(service)
    with pytest.raises(EncodeError, match="'bad'"):
        await service.append_event(session, said("x", {"bad": object(), "app:a": 1}))
    assert session.events == []
    assert "app:a" not in (await got(service)).state


async def outcome(service: Any, act: str, who: Any, name: str, event: Event) -> Any:
    """Do something with a service; return what it returned, or how it failed."""
    if act == "delete":
        return await service.delete_session(**who, session_id=name)
    if act == "create":
        try:
            made = await service.create_session(
                **who, session_id=name, state=dict(event.actions.state_delta)
            )
        except AlreadyExistsError:
            return AlreadyExistsError
        return made.id, made.state
    config = GetSessionConfig(num_recent_events=2) if act == "recent" else None
    session = await service.get_session(**who, session_id=name, config=config)
    if session is None:
        return None
    if act == "append":
        await service.append_event(session, event.model_copy(deep=True))
    return session.state, session.events


async def listed(service: Any, user: str | None) -> Any:
    found = await service.list_sessions(app_name="app", user_id=user)
    assert all(each.events == [] for each in found.sessions)
    return sorted(((each.user_id, each.id, each.state) for each in found.sessions), key=str)


async def test_it_does_what_the_librarys_own_service_does(store: Any) -> None:
    chance = random.Random(7)
    mine, theirs = SwarmStateSessionService(store), InMemorySessionService()
    users = ["x", "y"]
    for step in range(90):
        who: Any = {"app_name": "app", "user_id": chance.choice(users)}
        name = chance.choice(["s", "t", " u "])
        delta = {chance.choice(["a", "app:a", "user:a", "temp:a", "b"]): step}
        act = chance.choice(["create", "append", "append", "append", "delete", "recent"])
        event = said(str(step), delta, id=f"e{step}", timestamp=1e10 + step)
        arguments = (act, who, name, event)
        assert await outcome(mine, *arguments) == await outcome(theirs, *arguments)
        for user in (None, *users):
            assert await listed(mine, user) == await listed(theirs, user)
        assert await mine.get_user_state(**who) == await theirs.get_user_state(**who)


class Counting(BaseLlm):
    """A model that tells how many contents it was given."""

    async def generate_content_async(self, llm_request: Any, stream: bool = False) -> Any:
        text = f"{len(llm_request.contents)} contents"
        part = types.Part(text=text)
        yield LlmResponse(content=types.Content(role="model", parts=[part]))


async def test_an_agent_goes_on_where_its_session_ended(store: Any) -> None:
    answers = []
    for message in ("hello", "again"):
        service = SwarmStateSessionService(store)
        agent = Agent(name="counter", model=Counting(model="counting"), output_key="app:last")
        runner = Runner(app_name="app", agent=agent, session_service=service)
        if not answers:
            await service.create_session(**WHO, session_id="s")
        content = types.Content(role="user", parts=[types.Part(text=message)])
        events = runner.run_async(user_id="user", session_id="s", new_message=content)
        answers += [
            event.content.parts[0].text  # type: ignore[union-attr,index]
            async for event in events
            if event.is_final_response()
        ]
    assert answers == ["1 contents", "3 contents"]
    found = await got(SwarmStateSessionService(store))
    assert len(found.events) == 4
    assert found.state["app:last"] == "3 contents"


async def test_a_session_is_one_namespace_that_any_program_can_read(
    service: SwarmStateSessionService, seen: Any
) -> None:
    session = await service.create_session(**WHO, session_id="s", state={"k": 1, "app:a": 2})
    event = said("hello")
    await service.append_event(session, event)
    assert sorted(seen.keys(SPACE)) == [f"{1:016d}", "head", f"id:{event.id}", "state"]
    assert seen.get(SPACE, "state") == {"k": 1}
    assert seen.tail(SPACE)[0][1]["content"]["parts"][0]["text"] == "hello"
    assert seen.items("google-adk:app:app") == [("a", 2)]


async def test_what_another_program_left_there_is_an_error_of_ours(
    service: SwarmStateSessionService, seen: Any
) -> None:
    await service.create_session(**WHO, session_id="s")
    seen.set(SPACE, f"{1:016d}", {"author": 5})
    with pytest.raises(DecodeError):
        await got(service)


def test_what_is_no_store_is_refused() -> None:
    with pytest.raises(ArgumentTypeError, match="store"):
        SwarmStateSessionService(7)
    SwarmStateSessionService(Store())
