"""`python bench/sessions [words]`: logs, and the sessions of other frameworks against their own.

Only rows with all of the words in their names are measured. A row compares our three stores with
what a framework ships, or a log with the least that does the same in the same kind of place.
"""

from __future__ import annotations

import asyncio
import importlib
import itertools
import json
import platform
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from importlib.metadata import version
from typing import Any, NamedTuple

import ormsgpack
import packages
import redis
from measuring import Run, in_turns, loop, once, ratio, shown
from servers import running

from swarmstate import AsyncStore, Store
from swarmstate.backends.disk import AsyncDiskStore, DiskStore
from swarmstate.backends.redis import AsyncRedisStore, RedisStore

REPEATS = 11
HISTORY = 50
PLACES = ("memory", "file", "Valkey")
FRAMEWORKS = ("openai-agents", "pydantic-ai-slim", "google-adk", "strands-agents")
# ADK's DatabaseSessionService needs them.
OTHERS = ("sqlalchemy[asyncio]>=2", "aiosqlite")

ITEM = {"role": "user", "content": "Ana prefers figs to dates, and tea to coffee."}

events = asyncio.new_event_loop()


class Row(NamedTuple):
    """What is measured: ours by place, and another, which keeps what it is given in a place."""

    name: str
    ours: dict[str, Run]
    other: str
    run: Run
    place: str
    required: bool
    """Whether ours in the same place has to be as fast."""


def timed(operation: Callable[[], Any]) -> Run:
    # Most of the time passes on a server, on a disk or in another thread.
    return loop(operation, time.perf_counter)


def awaited(operation: Callable[[], Awaitable[Any]]) -> Run:
    return timed(lambda: events.run_until_complete(operation()))


def wait(awaitable: Awaitable[Any]) -> Any:
    return events.run_until_complete(awaitable)


class Places:
    """Our stores, and the folders and the server that the others use."""

    def __init__(self, url: str, stack: ExitStack) -> None:
        self.url, self.stack = url, stack
        self._names = itertools.count()

    def folder(self) -> str:
        return self.stack.enter_context(tempfile.TemporaryDirectory())

    def blocking(self) -> dict[str, Any]:
        stores = (Store(), DiskStore(self._file()), self._redis(RedisStore))
        return dict(zip(PLACES, stores, strict=True))

    def awaited(self) -> dict[str, Any]:
        stores = (AsyncStore(), AsyncDiskStore(self._file()), self._redis(AsyncRedisStore))
        return dict(zip(PLACES, stores, strict=True))

    def _file(self) -> str:
        return f"{self.folder()}/state.db"

    def _redis(self, kind: Any) -> Any:
        return kind(self.url, prefix=f"bench{next(self._names)}")


class ValueList:
    """A log in memory: a list of encoded values."""

    def __init__(self) -> None:
        self._values: list[bytes] = []

    def append(self, value: Any) -> None:
        self._values.append(ormsgpack.packb(value))

    def tail(self, count: int) -> list[Any]:
        return [ormsgpack.unpackb(value) for value in self._values[-count:]]

    def pop(self) -> Any:
        return ormsgpack.unpackb(self._values.pop())


class SqliteTable:
    """A log in a file: a table, as durable as DiskStore."""

    def __init__(self, path: str) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.execute("CREATE TABLE log (number INTEGER PRIMARY KEY, value BLOB)")

    def append(self, value: Any) -> None:
        self._db.execute("INSERT INTO log (value) VALUES (?)", (ormsgpack.packb(value),))

    def tail(self, count: int) -> list[Any]:
        last = "SELECT value FROM log ORDER BY number DESC LIMIT ?"
        return [ormsgpack.unpackb(value) for (value,) in self._db.execute(last, (count,))][::-1]

    def pop(self) -> Any:
        last = "DELETE FROM log WHERE number=(SELECT max(number) FROM log) RETURNING value"
        ((value,),) = self._db.execute(last).fetchall()
        return ormsgpack.unpackb(value)


class RedisList:
    """A log on a server: a list."""

    def __init__(self, url: str) -> None:
        self._client = redis.Redis.from_url(url)

    def append(self, value: Any) -> None:
        self._client.rpush("list", ormsgpack.packb(value))

    def tail(self, count: int) -> list[Any]:
        found: Any = self._client.lrange("list", -count, -1)
        return [ormsgpack.unpackb(value) for value in found]

    def pop(self) -> Any:
        value: Any = self._client.rpop("list")
        return ormsgpack.unpackb(value)


def logs(places: Places) -> list[Row]:
    stores = places.blocking()
    others = {
        "memory": ("a list", ValueList()),
        "file": ("a table of sqlite3", SqliteTable(f"{places.folder()}/log.db")),
        "Valkey": ("a list by redis-py", RedisList(places.url)),
    }
    rows = []
    for place, (name, other) in others.items():
        store = stores[place]
        for _ in range(HISTORY):
            other.append(ITEM)
        store.append("log", [ITEM] * HISTORY)
        assert [value for _, value in store.tail("log", HISTORY)] == other.tail(HISTORY)

        def both_ways(log: Any) -> Run:  # an append before each, so that the log stays as long
            return timed(lambda: (log.append(ITEM), log.pop()))

        def ours_both_ways(store: Any = store) -> tuple[Any, Any]:
            return store.append("log", [ITEM]), store.pop("log")

        def commit(store: Any = store, numbers: Any = None) -> None:
            number = store.get("{log}", "head", 0)
            items = [("{log}", "head", number + 1), ("{log}", "last", ITEM)]
            assert store.commit(items, expect={("{log}", "head"): number})

        def set_many(store: Any = store) -> None:
            store.get("{log}", "other", 0)
            store.set_many([("{log}", "other", 1), ("{log}", "last", ITEM)])

        store.set("{log}", "head", 0)
        append = timed(lambda store=store: store.append("log", [ITEM]))
        tail = timed(lambda store=store: store.tail("log", HISTORY))
        for row, mine, run in (
            ("tail of 50", tail, timed(lambda other=other: other.tail(HISTORY))),
            ("append and pop", timed(ours_both_ways), both_ways(other)),
            ("append", append, timed(lambda other=other: other.append(ITEM))),
        ):
            rows.append(Row(f"log: {row}", {place: mine}, name, run, place, False))
        rows.append(
            Row(
                *("log: get and commit of 2", {place: timed(commit)}),
                *("our get and set_many", timed(set_many), place, False),
            )
        )
    return rows


def openai_agents(places: Places) -> list[Row]:
    sqlite_session = importlib.import_module("agents").SQLiteSession
    session = importlib.import_module("swarmstate.integrations.openai_agents").SwarmStateSession
    turn = [ITEM, {"role": "assistant", "content": "Noted."}]
    path = f"{places.folder()}/sessions.db"
    stores = places.awaited()

    def build(make: Callable[[str], Any]) -> tuple[Run, Run]:
        growing, history = make("growing"), make("history")
        wait(history.add_items([ITEM] * HISTORY))
        assert wait(history.get_items()) == [ITEM] * HISTORY
        return awaited(lambda: growing.add_items(turn)), awaited(history.get_items)

    ours = {
        place: build(lambda name, store=store: session(name, store))
        for place, store in stores.items()
    }
    rows = []
    for place, made in (("file", path), ("memory", ":memory:")):
        theirs = build(lambda name, made=made: sqlite_session(name, made))
        rows += _rows("OpenAI Agents", ours, f"SQLiteSession, {place}", theirs, place)
    return rows


def pydantic_ai(places: Places) -> list[Row]:
    conversation = importlib.import_module("pydantic_ai.conversation").Conversation
    in_memory = importlib.import_module("pydantic_ai.conversation_store").InMemoryConversationStore
    messages = importlib.import_module("pydantic_ai.messages")
    ours = importlib.import_module("swarmstate.integrations.pydantic_ai")
    names = itertools.count()

    def message(text: str) -> Any:
        return messages.ModelRequest(parts=[messages.UserPromptPart(text)])

    def build(store: Any) -> tuple[Run, Run]:
        def begun() -> Any:
            made = conversation(
                conversation_id=f"c{next(names)}",
                messages=[message(str(number)) for number in range(HISTORY)],
            )
            wait(store.save(made))
            loaded = wait(store.load(made.conversation_id))
            assert len(loaded.messages) == HISTORY
            return loaded

        def another() -> Any:
            loaded = begun()
            loaded.messages += [message("one"), message("more")]
            return loaded

        name = begun().conversation_id
        save = once(another, lambda one: wait(store.save(one)), 5, time.perf_counter)
        return save, awaited(lambda: store.load(name))

    made = {
        place: build(ours.SwarmStateConversationStore(store))
        for place, store in places.awaited().items()
    }
    return _rows("Pydantic AI", made, "InMemoryConversationStore", build(in_memory()), "memory")


def google_adk(places: Places) -> list[Row]:
    sessions = importlib.import_module("google.adk.sessions")
    event = importlib.import_module("google.adk.events.event").Event
    content = importlib.import_module("google.genai.types")
    ours = importlib.import_module("swarmstate.integrations.google_adk")
    who = {"app_name": "a", "user_id": "u"}

    def said() -> Any:
        part = content.Part(text=ITEM["content"])
        return event(author="user", content=content.Content(role="user", parts=[part]))

    def build(service: Any) -> tuple[Run, Run]:
        growing = wait(service.create_session(**who, session_id="growing"))
        history = wait(service.create_session(**who, session_id="history"))
        for _ in range(HISTORY):
            wait(service.append_event(history, said()))

        async def turn() -> None:
            for _ in range(2):
                await service.append_event(growing, said())

        get = awaited(lambda: service.get_session(**who, session_id="history"))
        found = wait(service.get_session(**who, session_id="history"))
        assert len(found.events) == HISTORY
        return awaited(turn), get

    made = {
        place: build(ours.SwarmStateSessionService(store))
        for place, store in places.awaited().items()
    }
    database = sessions.DatabaseSessionService(f"sqlite+aiosqlite:///{places.folder()}/adk.db")
    places.stack.callback(lambda: wait(database.close()))
    memory = build(sessions.InMemorySessionService())
    return [
        *_rows("Google ADK", made, "DatabaseSessionService, SQLite", build(database), "file"),
        *_rows("Google ADK", made, "InMemorySessionService", memory, "memory"),
    ]


def strands(places: Places) -> list[Row]:
    storages = importlib.import_module("strands.storage")
    manager = importlib.import_module("strands.session.file_session_manager").FileSessionManager
    stored = importlib.import_module("strands.types.session")
    ours = importlib.import_module("swarmstate.integrations.strands").SwarmStateStorage
    message = {"role": "user", "content": [{"text": ITEM["content"]}]}
    # A snapshot manager stores a session whole, after every turn.
    whole = {"messages": [message] * HISTORY}

    def build(storage: Any) -> tuple[Run, Run]:
        def write(key: str) -> Awaitable[None]:
            written: Awaitable[None] = storage.write(key, json.dumps(whole).encode())
            return written

        async def read() -> Any:
            return json.loads(await storage.read("history"))

        wait(write("history"))
        assert wait(read()) == whole
        return awaited(lambda: write("growing")), awaited(read)

    def files() -> tuple[Run, Run]:
        made = manager("s", storage_dir=places.folder())
        for agent in ("growing", "history"):
            made.create_agent("s", stored.SessionAgent(agent, {}, {}))
        numbers = itertools.count()

        def add(agent: str) -> None:
            made.create_message(
                "s", agent, stored.SessionMessage.from_message(message, next(numbers))
            )

        for _ in range(HISTORY):
            add("history")
        assert len(made.list_messages("s", "history")) == HISTORY
        turn = timed(lambda: [add("growing"), add("growing")])
        return turn, timed(lambda: made.list_messages("s", "history"))

    made = {place: build(ours(store)) for place, store in places.awaited().items()}
    local = build(storages.LocalFileStorage(places.folder()))
    return [
        *_rows("Strands", made, "FileSessionManager", files(), "file"),
        *_rows("Strands", made, "LocalFileStorage", local, "file"),
        *_rows("Strands", made, "InMemoryStorage", build(storages.InMemoryStorage()), "memory"),
    ]


def _rows(
    framework: str,
    ours: dict[str, tuple[Run, Run]],
    other: str,
    theirs: tuple[Run, Run],
    place: str,
) -> list[Row]:
    # What stays in memory as objects encodes nothing: only what is kept in a file is a rival.
    return [
        Row(
            *(f"{framework}: {what}", {where: runs[n] for where, runs in ours.items()}),
            *(other, theirs[n], place, place == "file"),
        )
        for n, what in enumerate(("add one turn", f"read a history of {HISTORY}"))
    ]


GROUPS = (logs, openai_agents, pydantic_ai, google_adk, strands)


def main() -> int:
    good = True
    words = sys.argv[1:]
    packages.install(*OTHERS)
    asyncio.set_event_loop(events)
    with ExitStack() as stack:
        server = stack.enter_context(running())
        names = ["swarmstate", *FRAMEWORKS]
        print(
            f"Python {platform.python_version()}, {', '.join(f'{n} {version(n)}' for n in names)}"
        )
        print(f"medians of {REPEATS} alternated repeats; ours over the other, middle half")
        print(f"{'':37} {'the other':>32} {'':>8} " + " ".join(f"{name:>17}" for name in PLACES))
        for build in GROUPS:
            for row in build(Places(server.url, stack)):
                if not all(word in f"{row.name} {row.other}" for word in words):
                    continue
                times = in_turns({**row.ours, "other": row.run}, REPEATS)
                ratios = {place: ratio(times[place], times["other"]) for place in row.ours}
                cells = " ".join(f"{ratios.get(place, '')!s:>17}" for place in PLACES)
                short = row.required and ratios[row.place].median > 1
                good &= not short
                other = shown(statistics.median(times["other"]))
                print(f"{row.name:37} {row.other:>32} {other:>8} {cells}", end="")
                print("  SHORT" if short else "", flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
