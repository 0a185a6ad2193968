"""What earlier versions stored is read, continued and removed: recordings, kept for good.

``stored/record.py`` made them; a file says with which version, codec and libraries.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from pyrsistent import PMap, pmap
from segments import held_and_needed
from servers import Server
from threads import checkpoint, config

from swarmstate import Store, codecs
from swarmstate.backends.redis import RedisStore
from swarmstate.integrations.langgraph import SwarmStateSaver
from swarmstate.protocols import StoreLike

STORED = Path(__file__).with_name("stored")
RECORDINGS = sorted(path.name.removesuffix(".json.gz") for path in STORED.glob("*.json.gz"))
_serde = JsonPlusSerializer()


class Recording:
    """What a version stored, and what it then said of it. Also a snapshot that stores restore."""

    def __init__(self, name: str) -> None:
        content = json.loads(gzip.decompress((STORED / f"{name}.json.gz").read_bytes()))
        self.codec: str = content["codec"]
        self.wire = codecs.get(self.codec).wire
        self.keys: list[Any] = content.get("keys", [])
        self.prefix: bytes = content.get("prefix", "").encode()
        self._namespaces: dict[str, dict[str, str]] = content.get("namespaces", {})
        self.answers: dict[str, list[Any]] = {
            thread: _serde.loads_typed(("msgpack", base64.b64decode(data)))
            for thread, data in content["answers"].items()
        }

    @property
    def state(self) -> PMap[str, PMap[str, bytes]]:
        held = dict(self._namespaces)
        for key, kind, fields in self.keys:
            name = base64.b64decode(key).removeprefix(self.prefix + b":").decode()
            if kind == "hash" and not name.startswith(("\0", "!")):
                held[name] = {base64.b64decode(field).decode(): value for field, value in fields}
        return pmap(
            {
                name: pmap({key: base64.b64decode(data) for key, data in fields.items()})
                for name, fields in held.items()
            }
        )

    def put_back(self, raw: redis.Redis, prefix: str) -> None:
        """Write every key under another prefix, those that were derived included."""
        for key, kind, held in self.keys:
            name = base64.b64decode(key).replace(self.prefix, prefix.encode(), 1)
            if kind == "hash":
                pairs = {base64.b64decode(field): base64.b64decode(data) for field, data in held}
                raw.hset(name, mapping=pairs)
            elif kind == "zset":
                raw.zadd(name, {base64.b64decode(member): score for member, score in held})
            else:
                raw.set(name, base64.b64decode(held))


PLACES = [
    pytest.param((name, place), id=f"{name} in {place}")
    for name in RECORDINGS
    for place in ("memory", "redis", "redis without scripts", "redis as it lay there")
    if "redis" in name or place != "redis as it lay there"
]


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def recording(place: tuple[str, str]) -> Recording:
    return Recording(place[0])


@pytest.fixture
def store(
    place: tuple[str, str],
    request: pytest.FixtureRequest,
    recording: Recording,
    make_redis: Callable[..., RedisStore],
    raw: redis.Redis,
    prefix: str,
) -> StoreLike:
    """A store that holds a recording."""
    where = place[1]
    if where == "memory":
        made: StoreLike = Store(codec=recording.codec)
    elif where == "redis without scripts":
        made = make_redis(request.getfixturevalue("no_scripts_url"), codec=recording.codec)
    else:
        made = make_redis(codec=recording.codec)
    if where == "redis as it lay there":
        recording.put_back(raw, prefix)
    else:
        made.restore(recording)  # type: ignore[arg-type]
    return made


def answers(saver: SwarmStateSaver, thread: str) -> list[Any]:
    """Return what the saver says of a thread, as the recordings hold it."""
    listed = [[*one] for one in saver.list(config(thread, None))]
    deltas = [saver.get_delta_channel_history(config=one[0], channels=["items"]) for one in listed]
    paths = [saver.task_paths(one[0]) for one in listed]
    found: list[Any] = _serde.loads_typed(_serde.dumps_typed([listed, deltas, paths]))
    return found


@pytest.mark.parametrize("name", RECORDINGS)
def test_recordings_hold_everything_that_a_thread_may_hold(name: str) -> None:
    recording = Recording(name)
    assert sorted(recording.answers) == ["7", "by hand", "chat", "ü:{t:odd}"]
    listed = recording.answers["chat"][0]
    parents = [one[3]["configurable"]["checkpoint_id"] for one in listed if one[3]]
    assert len(set(parents)) < len(parents), "a fork"
    assert len({one[0]["configurable"]["checkpoint_ns"] for one in listed}) > 1, "a subgraph"
    channels = {write[1] for one in listed for write in one[4]}
    assert {"__interrupt__", "__resume__", "items"} <= channels
    assert any(history["items"]["writes"] for history in recording.answers["chat"][1])
    failed = recording.answers["ü:{t:odd}"][0]
    assert "__error__" in {write[1] for one in failed for write in one[4]}
    assert any(name.startswith("langgraph:strays:") for name in recording.state)
    store = Store(codec=recording.codec)
    store.restore(recording)  # type: ignore[arg-type]
    held, needed = held_and_needed(store)
    assert held == needed
    assert bool(held) is not name.startswith("0.1.0")


def test_every_thread_of_a_released_version_reads_as_it_did_there(
    recording: Recording, store: StoreLike
) -> None:
    saver = SwarmStateSaver(store)
    assert sorted(recording.answers) == sorted(saver.threads())
    for thread, expected in recording.answers.items():
        assert answers(saver, thread) == expected
        for listed in expected[0]:
            found = saver.get_tuple(listed[0])
            assert found is not None
            assert _serde.loads_typed(_serde.dumps_typed([*found])) == listed
    latest = max((one[0] for one in recording.answers["7"][0]), key=_by_id_in_root)
    found = saver.get_tuple(config(7))
    assert found is not None
    assert found.config == latest


def _by_id_in_root(named: Any) -> tuple[bool, str]:
    configurable = named["configurable"]
    return configurable["checkpoint_ns"] == "", configurable["checkpoint_id"]


def test_a_thread_of_a_released_version_goes_on_and_ends(
    recording: Recording, store: StoreLike, raw: redis.Redis, prefix: str, server: Server
) -> None:
    saver = SwarmStateSaver(store)
    for thread, expected in recording.answers.items():
        before = saver.get_tuple(expected[0][0][0])
        assert before is not None
        versions, values = (before.checkpoint[f"channel_{part}"] for part in ("versions", "values"))
        added = saver.put(before.config, checkpoint(versions, values, "f"), {"step": 99}, {})
        saver.put_writes(added, [("items", ["more"])], "task")
        newest, *others = saver.list(config(thread, None))
        assert newest.checkpoint["channel_values"] == values
        assert newest.pending_writes == [("task", "items", ["more"])]
        assert len(others) == len(expected[0])
        saver.delete_thread(thread)
    assert saver.threads() == []
    assert len(store) == 0
    assert [key for key in raw.keys("*") if prefix.encode() in key and b"{t:" in key] == []
