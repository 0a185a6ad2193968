"""What touches much of a thread goes in parts, and each part leaves the thread whole or absent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from threads import checkpoint, config, grow

from swarmstate import Store
from swarmstate.backends.redis import RedisStore
from swarmstate.backends.redis.checkpoints import copies, keys, removal
from swarmstate.backends.redis.commands import Batch, CommandRefused, Script
from swarmstate.checkpoints import field, names
from swarmstate.checkpoints.protocol import CheckpointName, CheckpointRecord
from swarmstate.integrations.langgraph import SwarmStateSaver
from swarmstate.steps import Steps

MakeRedis = Callable[..., RedisStore]
ALL: Any = {"configurable": {"thread_id": "thread"}}


@pytest.fixture(params=["redis", "redis without scripts", "cluster"])
def store(request: pytest.FixtureRequest, make_redis: MakeRedis) -> RedisStore:
    if request.param == "redis":
        return make_redis()
    fixture = "cluster_url" if request.param == "cluster" else "no_scripts_url"
    return make_redis(request.getfixturevalue(fixture))


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "AT_A_TIME", 3)
    monkeypatch.setattr(removal, "MOST_AT_ONCE", 5)
    monkeypatch.setattr(copies, "_VALUES", 10)


def history(saver: SwarmStateSaver, thread: str = "thread") -> list[Any]:
    return [
        (one.checkpoint["id"], one.checkpoint["channel_values"], one.pending_writes)
        for one in saver.list({"configurable": {"thread_id": thread}})
    ]


def filled(saver: SwarmStateSaver) -> None:
    where: Any = config()
    versions: dict[str, Any] = {}
    for number in range(30):
        versions["own"] = f"{number}"
        versions["shared"] = f"{number // 7}"
        new = {"own": versions["own"]}
        if number % 7 == 0:
            new["shared"] = versions["shared"]
        values = {"own": number, "shared": number // 7}
        body = checkpoint(versions, values, f"{number:04}")
        metadata: Any = {"run_id": f"run{number // 10}"}
        where = saver.put(where, body, metadata, new)
        if number % 3:
            saver.put_writes(where, [("x", number), ("y", number)], "task")
        # Some writes come before their checkpoint, which never comes.
        saver.put_writes(config(checkpoint_id=f"{number:04}x"), [("x", number)], "task")
    saver.put(config("thread", "inner"), checkpoint({"a": "1"}, {"a": 1}), {}, {"a": "1"})


@pytest.mark.usefixtures("small_parts")
def test_in_parts_the_same_is_done_as_at_once(
    store: RedisStore, raw: redis.Redis, prefix: str
) -> None:
    ours, reference = SwarmStateSaver(store), SwarmStateSaver(Store())
    for saver in (ours, reference):
        filled(saver)
    told = []
    for saver in (ours, reference):
        steps = [history(saver)]
        saver.copy_thread("thread", "copy")
        steps.append(history(saver, "copy"))
        saver.delete_for_runs(["run1"])
        steps += [history(saver), history(saver, "copy")]
        saver.prune(["thread"])
        steps.append(history(saver))
        saver.copy_thread("copy", "thread")
        steps.append(history(saver))
        saver.delete_thread("copy")
        saver.delete_thread("thread")
        steps.append(history(saver))
        told.append(steps)
    mine, theirs = told
    assert [len(step) for step in mine] == [31, 31, 21, 21, 2, 21, 0]
    # The id of the one in the subgraph was drawn.
    assert [[one[1:] for one in step] for step in mine] == [
        [one[1:] for one in step] for step in theirs
    ]
    assert len(store) == 0


class Interrupted:
    """Runs an operation of an engine and does something else after one of its round trips."""

    def __init__(self, store: RedisStore, after: int, between: Callable[[], None]) -> None:
        self.store = store
        self.after = after
        self.between = between
        self.trips = 0

    def run(self, steps: Steps[Any]) -> None:
        def one(batch: Batch) -> Steps[list[Any]]:
            return (yield batch)

        try:
            batch = next(steps)
            while True:
                try:
                    replies = self.store.driver.run(one(batch))
                except CommandRefused as refused:
                    batch = steps.throw(refused)
                    continue
                self.trips += 1
                if self.trips == self.after:
                    self.between()
                batch = steps.send(replies)
        except StopIteration:
            if self.trips < self.after:
                self.between()


def check_whole(saver: SwarmStateSaver) -> None:
    for _, values, _ in history(saver):
        assert {"own", "shared"} <= values.keys() or values == {"a": 1}


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("after", range(1, 14))
def test_what_is_put_between_two_parts_of_a_removal_is_whole(store: RedisStore, after: int) -> None:
    saver = SwarmStateSaver(store)
    filled(saver)
    before = saver.get_tuple(config())
    assert before is not None

    def put_on() -> None:
        check_whole(saver)
        versions = {**before.checkpoint["channel_versions"], "own": "new"}
        body = checkpoint(versions, {"own": "new", "shared": 4}, "1000")
        where = saver.put(before.config, body, {}, {"own": "new"})
        saver.put_writes(where, [("x", "new")], "task")
        # From a checkpoint that goes, with a value that no other has.
        body = checkpoint({"own": "3", "shared": "0"}, {"own": 3, "shared": 0}, "1001")
        saver.put(config(checkpoint_id="0003"), body, {}, {})

    operation = Interrupted(store, after, put_on)
    engine = store.checkpoint_engine()
    operation.run(
        engine.delete("thread", "", [f"{n:04}" for n in range(25)], orphans_before="0025")  # type: ignore[arg-type]
    )
    check_whole(saver)
    found = {one[0]: one for one in history(saver)}
    assert found["1000"][1:] == ({"own": "new", "shared": 4}, [("task", "x", "new")])
    assert found["1001"][1] == {"own": 3, "shared": 0}
    assert {*found} >= {f"{n:04}" for n in range(25, 30)}
    assert not {*found} & {f"{n:04}" for n in range(25)}
    saver.delete_thread("thread")
    assert len(store) == 0


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("after", range(1, 14))
def test_what_is_put_between_two_parts_of_a_deletion_is_whole_or_gone(
    store: RedisStore, after: int
) -> None:
    saver = SwarmStateSaver(store)
    filled(saver)
    before = saver.get_tuple(config())
    assert before is not None

    def put_on() -> None:
        check_whole(saver)
        versions = {**before.checkpoint["channel_versions"], "own": "new"}
        body = checkpoint(versions, {"own": "new", "shared": 4}, "1000")
        where = saver.put(before.config, body, {}, {"own": "new"})
        saver.put_writes(where, [("x", "new")], "task")
        found = saver.get_tuple(where)
        assert found is not None
        assert found.pending_writes == [("task", "x", "new")]

    Interrupted(store, after, put_on).run(store.checkpoint_engine().delete_thread("thread"))  # type: ignore[arg-type]
    left = history(saver)
    assert left in ([], [("1000", {"own": "new", "shared": 4}, [("task", "x", "new")])])
    saver.delete_thread("thread")
    assert history(saver) == []


@pytest.mark.parametrize("after", range(1, 6))
def test_what_is_written_while_an_expired_thread_is_buried_stays(
    store: RedisStore, raw: redis.Redis, after: int
) -> None:
    saver = SwarmStateSaver(store, ttl=1000)
    filled(saver)
    old = history(saver)
    # As if it had expired, with what is left of it.
    store.delete_namespace(names("thread", "").thread)
    where = config(checkpoint_id="1000")

    def write() -> None:
        saver.put_writes(where, [("x", "new")], "task")

    engine: Any = store.checkpoint_engine(ttl=1000)
    record = CheckpointRecord(None, {"own": "new"}, ["own"], [], ("null", b""), ("null", b""))
    name = CheckpointName("thread", "", "1000")
    value = {field("own", "new"): ("msgpack", b"\x05")}
    Interrupted(store, after, write).run(engine.put(name, record, value, ()))
    write()
    found = store.driver.run(engine.get(name))
    assert found.record == record
    assert [(each.task_id, each.channel) for each in found.writes] == [("task", "x")]
    ids = [one.id for one in store.driver.run(engine.list_ids(["thread"], "", None, None))]
    assert ids == ["1000"]
    assert len(old) > 30


def test_no_command_touches_more_than_a_bounded_part_of_a_long_thread(
    make_redis: MakeRedis, raw: redis.Redis, prefix: str
) -> None:
    store = make_redis()
    saver = SwarmStateSaver(store)
    last = grow(saver, 1, writes=1)["configurable"]["checkpoint_id"]
    engine = store.checkpoint_engine()
    hashes = [f"{prefix}:{part}" for part in store.namespaces()]
    (records,) = (key for key in hashes if ":checkpoints:" in key)
    (writes,) = (key for key in hashes if ":writes:" in key)
    record, mark = raw.hmget(records, last, f"\0w{last}")
    extra = [f"2{number:05}" for number in range(3000)]
    raw.hset(records, mapping=dict.fromkeys(extra, record))
    raw.hset(records, mapping={f"\0w{each}": mark for each in extra})
    written = raw.hgetall(writes)
    with raw.pipeline(transaction=False) as pipeline:
        for each in extra:
            pipeline.hset(writes.replace(last, each), mapping=written)
        pipeline.execute()
    sizes: list[int] = []

    def watched(steps: Steps[Any]) -> Iterator[Any]:
        try:
            batch = next(steps)
            while True:
                sizes.extend(len(c) for c in batch.commands if isinstance(c[0], Script))
                batch = steps.send((yield batch))
        except StopIteration:
            return

    for steps in (
        engine.get(CheckpointName("thread", "", "")),
        engine.list_ids(["thread"], "", None, None),
        engine.list_ids(["thread"], "", None, 100),
        engine.copy_thread("thread", "copy"),
        engine.delete("thread", "", extra[:2500]),
        engine.delete_thread("copy"),
        engine.delete_thread("thread"),
    ):
        store.driver.run(watched(steps))  # type: ignore[arg-type]
    assert sizes
    assert max(sizes) <= 1100
    assert len(store) == 0
