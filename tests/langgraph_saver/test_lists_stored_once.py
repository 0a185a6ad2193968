"""Long lists are stored and sent in segments: what was there before is not sent again."""

from __future__ import annotations

import base64
import copy
import json
import random
import shutil
import statistics
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis
from chats import Chat, message
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from proxies import Proxy
from segments import held_and_needed, sizes
from servers import Server
from threads import checkpoint, config
from twin import plain

from swarmstate import _checkpoints
from swarmstate.backends.redis import RedisStore
from swarmstate.checkpoints import is_segment, names
from swarmstate.checkpoints.format import is_id
from swarmstate.errors import DecodeError, InvalidArgumentError
from swarmstate.integrations.langgraph import SwarmStateSaver
from swarmstate.protocols import StoreLike

MakeStore = Callable[..., StoreLike]


@pytest.fixture
def short_lists() -> Iterator[None]:
    """Cut every list, so that short ones show what long ones do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_checkpoints, "LEAST_BYTES", 1)
        patch.setattr(_checkpoints, "ASKED_BYTES", 20)
        yield


def element(chance: random.Random) -> Any:
    number = chance.randrange(30)
    return chance.choice([number, {"n": number}, HumanMessage(f"{number}", id=f"{number}")])


def change(chance: random.Random) -> tuple[Any, ...]:
    kind = chance.choice(["append", "append", "mutate", "remove", "reverse", "nothing"])
    if kind == "append":
        return kind, [element(chance) for _ in range(chance.randrange(1, 7))]
    return (kind, chance.randrange(40)) if kind in ("mutate", "remove") else (kind,)


OPERATIONS: dict[str, Callable[[random.Random], tuple[Any, ...]]] = {
    "put": lambda c: (c.choice([0, 0, 0, c.randrange(8)]), c.randrange(3), change(c)),
    "mutate_silently": lambda c: (c.randrange(3), c.randrange(40)),
    "write": lambda c: (
        c.choice([0, 0, c.randrange(8)]),
        c.randrange(3),
        c.random() < 0.7,
        element(c),
    ),
    "write_early": lambda c: (c.randrange(3), element(c)),
    "forget": lambda c: (),
    "other_saver": lambda c: (),
    "prune": lambda c: (),
    "delete_run": lambda c: (c.randrange(4),),
    "copy": lambda c: (),
    "roll_back": lambda c: (),
}


class Session:
    """Does everything on our saver and on InMemorySaver, as graphs would on three lists."""

    channels = ("a", "b", "c")

    def __init__(self, store: StoreLike, limit: int | None, cached: int) -> None:
        self.store = store
        self.savers = [
            SwarmStateSaver(
                store, max_checkpoints_per_thread=limit, list_cache_bytes=cached if n == 0 else 0
            )
            for n in range(2)
        ]
        self.saver = self.savers[0]
        self.reference = InMemorySaver()
        self.limit = limit
        self.ids: list[str] = []
        self.early: set[str] = set()
        self.content: dict[str, Any] = {}
        self.number = 0

    def next_id(self) -> str:
        return f"{self.number + 1:04}"

    def put(self, back: int, channel: int, change: Any) -> None:
        parent = self.ids[-1 - back % len(self.ids)] if self.ids else None
        values, versions = self.content.get(parent or "", ({}, {}))
        values = {key: list(value) for key, value in values.items()}
        versions = dict(versions)
        name = self.channels[channel]
        changed = self.changed(values.get(name, []), *change)
        new = {}
        if changed is not None:
            values[name] = changed
            new[name] = versions[name] = self.saver.get_next_version(versions.get(name), None)  # type: ignore[arg-type]
        self.number += 1
        made = f"{self.number:04}"
        body = checkpoint(versions, values, made)
        metadata: Any = {"run_id": f"run{self.number % 4}", "step": self.number}
        where = config("thread", "", parent)
        for each in (self.saver, self.reference):
            each.put(where, body, metadata, dict(new))
        self.content[made] = (values, versions)
        self.ids.append(made)
        if self.limit is not None:
            del self.ids[: -self.limit]

    @staticmethod
    def changed(before: list[Any], kind: str, *given: Any) -> list[Any] | None:
        after = [*before]
        if kind == "append":
            return after + copy.deepcopy(given[0])
        if kind == "nothing" or not before:
            return None
        if kind == "mutate":
            # The object itself, which earlier checkpoints of the caller hold too.
            Session.mutate(after, given[0])
        elif kind == "remove":
            del after[given[0] % len(after)]
        else:
            after.reverse()
        return after

    @staticmethod
    def mutate(values: list[Any], at: int) -> None:
        if values:
            at %= len(values)
            if isinstance(values[at], dict):
                values[at]["n"] += 100
            elif isinstance(values[at], HumanMessage):
                values[at].content += "!"
            else:
                values[at] += 100

    def mutate_silently(self, channel: int, at: int) -> None:
        """Change a list that the next put inherits; what was stored first counts."""
        if self.ids:
            self.mutate(self.content[self.ids[-1]][0].get(self.channels[channel], []), at)

    def write(self, back: int, channel: int, whole: bool, element: Any) -> None:
        if self.ids:
            made = self.ids[-1 - back % len(self.ids)]
            name = self.channels[channel]
            value = [*self.content[made][0].get(name, []), element] if whole else [element]
            self.put_writes(made, name, value)

    def write_early(self, channel: int, element: Any) -> None:
        self.put_writes(self.next_id(), self.channels[channel], [element, element])

    def put_writes(self, made: str, name: str, value: Any) -> None:
        for each in (self.saver, self.reference):
            each.put_writes(
                config("thread", "", made), [(name, value), ("x", 1)], f"task{len(value) % 3}"
            )

    def forget(self) -> None:
        self.saver._lists = _checkpoints.ListCache(self.saver._lists.most)

    def other_saver(self) -> None:
        self.saver = self.savers[self.saver is self.savers[0]]

    def prune(self) -> None:
        self.saver.prune(["thread"])
        self.ids = self.ids[-1:]

    def delete_run(self, run: int) -> None:
        run %= 4
        self.saver.delete_for_runs([f"run{run}"])
        self.ids = [each for each in self.ids if int(each) % 4 != run]

    def copy(self) -> None:
        self.saver.delete_thread("copy")
        self.saver.copy_thread("thread", "copy")
        self.check("copy")

    def roll_back(self) -> None:
        self.store.restore(self.store.snapshot())

    def check(self, thread: str = "thread") -> None:
        found = list(self.saver.list(config(thread, "")))
        assert [one.checkpoint["id"] for one in found] == self.ids[::-1]
        for one in found:
            same = self.reference.get_tuple(config("thread", "", one.checkpoint["id"]))
            assert same is not None
            ours, theirs = plain(one), plain(same)
            assert ours is not None
            assert theirs is not None
            assert ours.checkpoint == theirs.checkpoint
            assert ours.pending_writes == theirs.pending_writes
            assert ours.metadata == theirs.metadata
            again = self.saver.get_tuple(config(thread, "", one.checkpoint["id"]))
            assert plain(again) == ours
        held, needed = held_and_needed(self.store)
        assert needed - held == set()
        assert held - needed == set()


@pytest.mark.parametrize("first", range(0, 40, 8))
@pytest.mark.usefixtures("short_lists")
def test_any_sequence_is_answered_as_the_reference_saver_would_and_leaves_no_segment_over(
    make_store: MakeStore, first: int
) -> None:
    for seed in range(first, first + 8):
        chance = random.Random(seed)
        limit, cached = chance.choice([None, 1, 2, 3, 4]), chance.choice([0, 6000, 1 << 20])
        session = Session(make_store(), limit, cached)
        for _ in range(chance.randrange(1, 30)):
            names = [*OPERATIONS, "put", "put", "put", "put", "write"]
            name = chance.choice(names)
            getattr(session, name)(*OPERATIONS[name](chance))
        session.check()
        session.saver.delete_thread("thread")
        session.saver.delete_thread("copy")
        assert len(session.store) == 0


# --- What is stored and sent ----------------------------------------------------------------------


def test_a_list_that_grows_is_stored_once_and_not_with_each_checkpoint(
    make_store: MakeStore,
) -> None:
    store = make_store()
    chat = Chat(SwarmStateSaver(store))
    whole = 0
    for number in range(100):
        chat.put(message(number))
        whole += len(chat.saver.serde.dumps_typed(chat.messages)[1])
    assert sum(sizes(store).values()) < whole / 12
    listed = [one.checkpoint["channel_values"] for one in chat.saver.list(config())]
    assert listed == [{"messages": chat.messages[: n + 1]} for n in reversed(range(100))]


def test_a_list_below_the_least_size_stays_whole_and_in_format_1(make_store: MakeStore) -> None:
    store = make_store()
    chat = Chat(SwarmStateSaver(store))
    chat.put(message(0))
    where = names("thread", "")
    assert [is_segment(key) for key in store.keys(where.values)] == [False]
    ((_, record),) = ((key, raw) for key, raw in store.items(where.checkpoints) if is_id(key))
    assert record[0] == 1
    chat.put(*map(message, range(1, 30)))
    records = [raw[0] for key, raw in sorted(store.items(where.checkpoints)) if is_id(key)]
    assert records == [1, 2]


class Other(JsonPlusSerializer):
    """A serializer of the user's own."""


def test_what_another_serializer_wrote_stays_whole(make_store: MakeStore) -> None:
    store = make_store()
    chat = Chat(SwarmStateSaver(store, serde=Other()))
    for number in range(0, 60, 20):
        chat.put(*map(message, range(number, number + 20)))
    chat.saver.put_writes(chat.where, [("messages", chat.messages)], "task")
    assert held_and_needed(store) == (set(), set())
    assert chat.read().checkpoint["channel_values"] == {"messages": chat.messages}
    assert chat.read().pending_writes == [("task", "messages", chat.messages)]


def test_a_list_that_a_task_wrote_and_a_channel_holds_is_stored_once(
    make_store: MakeStore,
) -> None:
    store = make_store()
    chat = Chat(SwarmStateSaver(store))
    chat.put(*map(message, range(40)))
    before = sizes(store)
    grown = [*chat.messages, message(40)]
    chat.saver.put_writes(chat.where, [("messages", grown)], "task")
    with_write = sizes(store)
    assert 0 < sum(with_write.values()) - sum(before.values()) < 1000
    assert chat.read().pending_writes == [("task", "messages", grown)]
    chat.put(message(40))
    assert sizes(store) == with_write
    assert chat.read().checkpoint["channel_values"] == {"messages": grown}


def test_a_message_changed_in_place_is_stored_again_and_what_was_stored_stays(
    make_store: MakeStore,
) -> None:
    chat = Chat(SwarmStateSaver(make_store()))
    first = chat.put(*map(message, range(50)))
    before = copy.deepcopy(chat.messages)
    chat.messages[7].content = "changed"
    second = chat.put(message(50))
    assert chat.read(first).checkpoint["channel_values"]["messages"] == before
    assert chat.read(second).checkpoint["channel_values"]["messages"] == chat.messages


@pytest.mark.parametrize("what", ["value", "write"])
def test_a_lost_segment_is_an_error_that_names_channel_and_segment(
    make_store: MakeStore, what: str
) -> None:
    store = make_store()
    chat = Chat(SwarmStateSaver(store))
    chat.put(*map(message, range(21)))
    if what == "write":
        chat.saver.put_writes(chat.where, [("messages", [message(n) for n in range(90, 110)])], "t")
        lost = sorted(set(sizes(store)) - {f"8smessages:{s}" for s in parts(store)})[0]
    else:
        lost = f"8smessages:{parts(store)[1]}"
    store.delete(names("thread", "").values, lost)
    for call in (lambda: chat.read(), lambda: list(chat.saver.list(config()))):
        with pytest.raises(DecodeError) as caught:
            call()
        assert "'messages'" in str(caught.value)
        assert lost.partition(":")[2] in str(caught.value)


def parts(store: StoreLike) -> list[str]:
    """Return the segments that the newest record of the thread's root names."""
    where = names("thread", "")
    newest = max(filter(is_id, store.keys(where.checkpoints)))
    found: list[str] = store.get(where.checkpoints, newest)[9]["messages"][1:]
    return found


@pytest.mark.parametrize("what", ["value", "inherited value", "write"])
def test_a_lost_segment_is_sent_again_by_whoever_needs_it(make_store: MakeStore, what: str) -> None:
    store = make_store()
    chat = Chat(SwarmStateSaver(store))
    chat.put(*map(message, range(21)))
    assert len(parts(store)) > 1
    for segment in parts(store):
        assert store.delete(names("thread", "").values, f"8smessages:{segment}")
    if what == "value":
        chat.put(message(21))
    elif what == "inherited value":
        chat.put(other=1)
    else:
        chat.saver.put_writes(chat.where, [("messages", chat.messages)], "task")
        assert chat.read().pending_writes == [("task", "messages", chat.messages)]
    assert chat.read().checkpoint["channel_values"]["messages"] == chat.messages
    held, needed = held_and_needed(store)
    assert needed <= held


def test_savers_of_different_processes_name_the_same_segments(make_store: MakeStore) -> None:
    store = make_store()
    chat, other = Chat(SwarmStateSaver(store)), Chat(SwarmStateSaver(store), "other")
    chat.put(*map(message, range(64)))
    for number in range(64):
        other.put(message(number))
    one, two = (store.get(names(t, "").checkpoints, last) for t, last in newest(store))
    assert one[9] == two[9] == {"messages": [64, parts(store)[0]]}


def newest(store: StoreLike) -> list[tuple[str, str]]:
    return [
        (thread, max(filter(is_id, store.keys(names(thread, "").checkpoints))))
        for thread in ("thread", "other")
    ]


def test_a_thread_of_format_1_goes_on_in_format_2(make_store: MakeStore) -> None:
    store = make_store()
    old = Chat(SwarmStateSaver(store, serde=Other()))
    first = old.put(*map(message, range(30)))
    new = Chat(SwarmStateSaver(store))
    new.where, new.messages, new.versions = old.where, list(old.messages), dict(old.versions)
    second = new.put(other=1)
    third = new.put(message(30))
    counts = [len(new.read(w).checkpoint["channel_values"]["messages"]) for w in (first, second)]
    assert counts == [30, 30]
    assert new.read(third).checkpoint["channel_values"]["messages"] == new.messages


def test_the_cache_is_bounded_and_forgets_lists_that_nobody_puts_to_any_more(
    make_store: MakeStore,
) -> None:
    saver = SwarmStateSaver(make_store(), list_cache_bytes=100_000)
    for number in range(30):
        Chat(saver, f"thread{number}").put(*map(message, range(40)))
        cache = saver._lists
        assert sum(cache.kept) <= 100_000
    assert any(cache.kept)
    assert copy.deepcopy(cache).kept == []
    with pytest.raises(InvalidArgumentError, match="list_cache_bytes"):
        SwarmStateSaver(list_cache_bytes=-1)


# --- Elsewhere ------------------------------------------------------------------------------------


def test_a_history_of_another_channel_reads_writes_whose_segments_a_channel_shares(
    make_store: MakeStore,
) -> None:
    chat = Chat(SwarmStateSaver(make_store()))
    chat.put(*map(message, range(40)))
    grown = [*chat.messages, message(40)]
    chat.saver.put_writes(chat.where, [("messages", grown), ("other", grown)], "task")
    latest = chat.put(message(40))
    found = chat.saver.get_delta_channel_history(config=latest, channels=["other"])
    assert found["other"]["writes"] == [("task", "other", grown)]


@pytest.mark.parametrize("cached", [1 << 20, 0])
def test_lists_cost_one_trip_and_one_more_where_nothing_is_known_of_them(
    proxy: Proxy, make_redis: Callable[..., RedisStore], cached: int
) -> None:
    chat = Chat(SwarmStateSaver(make_redis(proxy.url), list_cache_bytes=cached))
    chat.put(*map(message, range(60)), other=0)
    chat.put(message(60))

    def trips(call: Callable[[], Any]) -> int:
        with proxy.counted():
            call()
        return proxy.trips

    more = 0 if cached else 1
    grown = [*chat.messages, message(90)]
    write = [("messages", grown)]
    assert trips(lambda: chat.put(message(61))) == 1 + more
    assert trips(lambda: chat.put(other=1)) == 1 + more
    assert trips(lambda: chat.saver.put_writes(chat.where, write, "task")) == 1 + more
    assert trips(chat.read) == 1
    assert trips(lambda: list(chat.saver.list(config(), limit=3))) == 2


def test_what_is_sent_does_not_grow_with_the_list(
    server: Server, make_redis: Callable[..., RedisStore], raw: redis.Redis
) -> None:
    def sent() -> int:
        return int(raw.info("stats")["total_net_input_bytes"])  # type: ignore[index]

    def costs(size: int) -> list[int]:
        chat = Chat(SwarmStateSaver(make_redis(server.url, prefix=f"list of {size}")))
        chat.put(*map(message, range(size)))
        found = []
        for number in range(40):
            before = sent()
            chat.put(message(size + number))
            found.append(sent() - before)
        return found

    few, many = costs(30), costs(3000)
    assert statistics.median(many) < 1.3 * statistics.median(few)


def test_threads_that_share_a_saver_put_to_one_thread_and_to_their_own(
    make_store: MakeStore,
) -> None:
    saver = SwarmStateSaver(make_store(), list_cache_bytes=200_000)

    def work(number: int) -> list[Any]:
        own, shared = Chat(saver, f"own{number}"), Chat(saver)
        for step in range(12):
            for chat in (own, shared):
                chat.put(*(message(1000 * number + 10 * step + n) for n in range(8)))
                where = chat.where
                assert chat.read(where).checkpoint["channel_values"]["messages"] == chat.messages
        return own.messages

    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(work, range(4)))
    for number, messages in enumerate(done):
        found = saver.get_tuple(config(f"own{number}"))
        assert found is not None
        assert found.checkpoint["channel_values"]["messages"] == messages


PROGRAM = """
const { decode, decodeMulti } = require("@msgpack/msgpack");
const bytes = (text) => Buffer.from(text, "base64");
const given = JSON.parse(require("fs").readFileSync(0, "utf8"));
const values = new Map(given.values.map(([key, value]) => [bytes(key).toString(), bytes(value)]));
const record = decode(bytes(given.checkpoints[0][1]));
const lists = {};
for (const [channel, [count, ...segments]] of Object.entries(record[9])) {
  const length = Buffer.byteLength(channel);
  lists[channel] = segments.flatMap((segment) => {
    const [tag, elements] = decode(values.get(`${length}s${channel}:${segment}`));
    return [...decodeMulti(elements)];
  });
  if (lists[channel].length !== count) throw new Error("not all elements");
}
process.stdout.write(JSON.stringify([record[0], lists]));
"""


@pytest.mark.index
def test_another_language_puts_a_list_together(
    make_redis: Callable[..., RedisStore], raw: redis.Redis, prefix: str, tmp_path: Path
) -> None:
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("there is no Node")
    library = [npm, "install", "--silent", "--no-audit", "--no-fund", "@msgpack/msgpack@3"]
    subprocess.run(library, cwd=tmp_path, check=True)
    values = [{"number": number, "text": "ü" * 40} for number in range(100)]
    saver = SwarmStateSaver(make_redis())
    versions = {"values": saver.get_next_version(None, None)}
    saver.put(config(), checkpoint(versions, {"values": values}), {}, dict(versions))
    given: dict[str, Any] = {}
    for name in ("checkpoints", "values"):
        held: Any = raw.hgetall(f"{prefix}:langgraph:{name}:6:{{t:thread}}:")
        given[name] = [[base64.b64encode(part).decode() for part in pair] for pair in held.items()]
    (tmp_path / "read.js").write_text(PROGRAM)
    done = subprocess.run(
        [node, "read.js"], cwd=tmp_path, input=json.dumps(given).encode(), stdout=-1, check=True
    )
    assert json.loads(done.stdout) == [2, {"values": values}]
