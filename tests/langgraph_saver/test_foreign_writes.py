"""Other programs write a thread's namespaces themselves, rightly or wrongly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import redis
from servers import wait_until
from threads import checkpoint, config, grow

from swarmstate.backends.redis import RedisStore
from swarmstate.checkpoints import field, names
from swarmstate.errors import DecodeError, InvalidArgumentError
from swarmstate.integrations.langgraph import SwarmStateSaver
from swarmstate.protocols import StoreLike

HERE = names("thread", "")
MakeStore = Callable[..., StoreLike]


def moved_to_another_version(saver: SwarmStateSaver, last: Any) -> None:
    """Rewrite the last record, to another one of the same length."""
    store = saver.store
    checkpoint_id = last["configurable"]["checkpoint_id"]
    record: Any = store.get(HERE.checkpoints, checkpoint_id)
    old = record[2]["step"]
    new = record[2]["step"] = old[:-1] + ("2" if old[-1] == "1" else "1")
    value = store.get(HERE.values, field("step", old))
    store.set_many(
        [
            (HERE.values, field("step", new), value),
            (HERE.checkpoints, checkpoint_id, record),
        ]
    )


def test_a_rewritten_record_of_the_same_length_counts_at_once(make_store: MakeStore) -> None:
    saver = SwarmStateSaver(make_store())
    moved_to_another_version(saver, grow(saver, 3))
    found = saver.get_tuple(config())
    assert found is not None
    assert found.checkpoint["channel_values"]["step"] == 2


@pytest.mark.parametrize("checkpoint_id", ["0", "2f", "zzz"])
def test_a_checkpoint_that_comes_or_goes_counts_at_once(
    make_store: MakeStore, checkpoint_id: str
) -> None:
    saver = SwarmStateSaver(make_store())
    last = grow(saver, 3)["configurable"]["checkpoint_id"]
    before = [one.checkpoint["id"] for one in saver.list(config())]
    saver.store.set(HERE.checkpoints, checkpoint_id, saver.store.get(HERE.checkpoints, last))
    ids = sorted([*before, checkpoint_id], reverse=True)
    assert [one.config["configurable"]["checkpoint_id"] for one in saver.list(config())] == ids
    found = saver.get_tuple(config())
    assert found is not None
    assert found.config["configurable"]["checkpoint_id"] == ids[0]
    assert found.checkpoint["channel_values"]["step"] == 2
    saver.store.delete(HERE.checkpoints, checkpoint_id)
    assert [one.config["configurable"]["checkpoint_id"] for one in saver.list(config())] == before
    saver.store.delete(HERE.checkpoints, last)
    found = saver.get_tuple(config())
    assert found is not None
    assert found.config["configurable"]["checkpoint_id"] == before[1]


@pytest.mark.parametrize("length", [3, 20, 40])
@pytest.mark.parametrize("added", ["0", "1f", "zzz"])
@pytest.mark.parametrize("removed", [0, 1, -1])
def test_as_many_checkpoints_that_come_as_go_count_at_once(
    make_store: MakeStore, length: int, added: str, removed: int
) -> None:
    saver = SwarmStateSaver(make_store())
    last = grow(saver, length)["configurable"]["checkpoint_id"]
    ids = [one.checkpoint["id"] for one in saver.list(config())]
    record = saver.store.get(HERE.checkpoints, last)
    saver.store.delete(HERE.checkpoints, ids.pop(removed))
    saver.store.set(HERE.checkpoints, added, record)
    ids = sorted([*ids, added], reverse=True)
    for read in (
        lambda: [saver.get_tuple(config())],
        lambda: list(saver.list(config(), limit=3)),
        lambda: list(saver.list(config())),
        lambda: list(saver.list({"configurable": {"thread_id": "thread"}}, limit=2)),
    ):
        found = [one.config["configurable"]["checkpoint_id"] for one in read() if one is not None]
        assert found == ids[: len(found)]
    # And back again: what was put right is compared as well.
    newest = ids[0]
    saver.store.set(HERE.checkpoints, "zzzz", record)
    saver.store.delete(HERE.checkpoints, newest)

    def noticed() -> bool:
        found = saver.get_tuple(config())
        return found is not None and found.config["configurable"]["checkpoint_id"] == "zzzz"

    if length <= 32:
        assert noticed()
    else:
        wait_until(noticed)


def test_in_a_long_thread_reads_come_to_notice_as_many_that_come_as_go(
    make_redis: Callable[..., RedisStore], raw: redis.Redis, prefix: str
) -> None:
    store = make_redis()
    saver = SwarmStateSaver(store)
    last = grow(saver, 1)["configurable"]["checkpoint_id"]
    key = f"{prefix}:{HERE.checkpoints}"
    record = raw.hget(key, last)
    raw.hset(key, mapping={f"2{number:05}": record for number in range(3000)})
    found = saver.get_tuple(config())
    assert found is not None
    raw.hset(key, "3", record)
    raw.hdel(key, "201500")
    for _ in range(200):
        # Each looks at a stretch that starts at random.
        found = SwarmStateSaver(store).get_tuple(config())
        assert found is not None
        if found.config["configurable"]["checkpoint_id"] == "3":
            break
    else:
        raise AssertionError("it was never noticed")
    ids = [one.config["configurable"]["checkpoint_id"] for one in saver.list(config(), limit=3)]
    assert ids == ["3", "202999", "202998"]
    # What is to be shown is looked at each time.
    raw.hset(key, "0", record)
    raw.hdel(key, "202999")
    ids = [one.config["configurable"]["checkpoint_id"] for one in saver.list(config(), limit=3)]
    assert ids == ["3", "202998", "202997"]


def test_pruning_keeps_the_values_of_a_rewritten_record(make_store: MakeStore) -> None:
    saver = SwarmStateSaver(make_store())
    moved_to_another_version(saver, grow(saver, 3))
    saver.prune(["thread"])
    (found,) = saver.list(config())
    assert found.checkpoint["channel_values"]["step"] == 2


def test_a_history_follows_the_parent_of_a_rewritten_record(make_store: MakeStore) -> None:
    saver = SwarmStateSaver(make_store())
    last = grow(saver, 5, writes=1)["configurable"]["checkpoint_id"]
    ids = sorted(one.checkpoint["id"] for one in saver.list(config()))
    record: Any = saver.store.get(HERE.checkpoints, last)
    record[1] = ids[1]
    saver.store.set(HERE.checkpoints, last, record)
    history = saver.get_delta_channel_history(config=config(), channels=["x"])
    assert [value for _, _, value in history["x"]["writes"]] == [0, 1]


def test_a_checkpoint_that_is_its_own_ancestor_hangs_nothing(make_store: MakeStore) -> None:
    saver = SwarmStateSaver(make_store())
    metadata: Any = {"counters_since_delta_snapshot": {"x": [1, 1]}}
    where = config()
    for number, parent in enumerate(("0002", "0000", "0001", "0002")):
        where = config(checkpoint_id=f"{number:04}")
        body = checkpoint({"x": str(number)}, {}, f"{number:04}")
        saver.put(config(checkpoint_id=parent), body, metadata, {})
        saver.put_writes(where, [("x", number)], "task")
    found = saver.get_delta_channel_history(config=config(), channels=["x"])
    assert [value for _, _, value in found["x"]["writes"]] == [0, 1, 2]
    saver.prune(["thread"])
    assert saver.get_delta_channel_history(config=config(), channels=["x"]) == found


GOOD = [1, None, {}, [], [], "msgpack", b"\x80", "msgpack", b"\x80"]


@pytest.mark.parametrize(
    "record",
    [
        "text",
        [],
        [1],
        [2, *GOOD[1:]],
        [1, 5, *GOOD[2:]],
        [*GOOD[:2], 5, *GOOD[3:]],
        [*GOOD[:2], {1: "1"}, *GOOD[3:]],
        [*GOOD[:2], {"a": ["1"]}, *GOOD[3:]],
        [*GOOD[:3], 5, *GOOD[4:]],
        [*GOOD[:3], [["a"]], *GOOD[4:]],
        [*GOOD[:4], [[]], *GOOD[5:]],
        [*GOOD[:8], b"\xc1"],
    ],
)
def test_what_is_no_record_is_an_error_that_names_it(make_store: MakeStore, record: Any) -> None:
    saver = SwarmStateSaver(make_store())
    last = grow(saver, 3, writes=1)["configurable"]["checkpoint_id"]
    saver.store.set(HERE.checkpoints, last, record)
    named = f"checkpoint '{last}' in namespace '' of thread 'thread'"
    for read in (
        lambda: saver.get_tuple(config()),
        lambda: list(saver.list(config())),
        lambda: list(saver.list(config(), filter={"step": 2})),
    ):
        with pytest.raises(DecodeError, match=named):
            read()


@pytest.mark.parametrize("value", [5, "text", [], ["msgpack"], [1, 2], ["unknown", b""]])
def test_what_is_no_value_is_an_error_that_names_checkpoint_and_channel(
    make_store: MakeStore, value: Any
) -> None:
    saver = SwarmStateSaver(make_store())
    last = grow(saver, 3)["configurable"]["checkpoint_id"]
    for key in saver.store.keys(HERE.values):
        if "step" in key:
            saver.store.set(HERE.values, key, value)
    with pytest.raises(DecodeError, match="step") as raised:
        saver.get_tuple(config())
    assert last in str(raised.value)
    assert "'thread'" in str(raised.value)


@pytest.mark.parametrize(
    "value", [5, [], ["x", "msgpack"], [5, "msgpack", b"\x01", ""], ["x", "msgpack", b"\x01", 5]]
)
def test_what_is_no_pending_write_is_an_error_that_names_its_checkpoint(
    make_store: MakeStore, value: Any
) -> None:
    saver = SwarmStateSaver(make_store())
    last = grow(saver, 3, writes=1)["configurable"]["checkpoint_id"]
    saver.store.set(HERE.writes + last, "0:task2", value)
    with pytest.raises(DecodeError, match=f"{last}.*'thread'"):
        saver.get_tuple(config())


def test_names_that_no_store_can_hold_are_refused_by_name(make_store: MakeStore) -> None:
    saver = SwarmStateSaver(make_store())
    last = grow(saver, 1)

    def put(where: Any, versions: Any, values: Any) -> None:
        saver.put(where, checkpoint(versions, values), {}, versions)

    calls: list[tuple[str, Callable[[], Any]]] = [
        ("checkpoint_ns", lambda: saver.get_tuple(config("thread", 5))),  # type: ignore[arg-type]
        ("checkpoint_id", lambda: saver.get_tuple(config("thread", "", "\ud800"))),
        ("id of a check", lambda: saver.put(last, checkpoint({}, {}, id="\ud800"), {}, {})),
        ("checkpoint_id", lambda: saver.put_writes(config(), [("x", 1)], "task")),
        ("task_id", lambda: saver.put_writes(last, [("x", 1)], "\ud800")),
        ("task_path", lambda: saver.put_writes(last, [("x", 1)], "task", None)),  # type: ignore[arg-type]
        ("channel", lambda: put(last, {5: "1"}, {5: 1})),
        ("version of channel 'x'", lambda: put(last, {"x": None}, {"x": 1})),
        ("version of channel 'x'", lambda: put(last, {"x": True}, {"x": 1})),
        ("limit", lambda: list(saver.list(config(), limit="1"))),  # type: ignore[arg-type]
    ]
    for named, call in calls:
        with pytest.raises(InvalidArgumentError, match=named):
            call()
    (found,) = saver.list(config())
    assert found.pending_writes == []
