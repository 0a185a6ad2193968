"""Values come back as the serializer decides, and what cannot come back is told precisely."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from threads import checkpoint, config

from swarmstate import Store
from swarmstate.checkpoints import field, names
from swarmstate.errors import DecodeError, InvalidArgumentError
from swarmstate.integrations.langgraph import CheckpointDecodeError, SwarmStateSaver
from swarmstate.observability import InMemoryMetrics
from swarmstate.protocols import StoreLike


@dataclass
class Point:
    x: int


def put(saver: SwarmStateSaver, value: Any) -> Any:
    body = checkpoint({"point": "1.0"}, {"point": value}, "0001")
    return saver.put(config(), body, {"step": 1}, {"point": "1.0"})


def value_of(saver: SwarmStateSaver) -> Any:
    found = saver.get_tuple(config())
    assert found is not None
    return found.checkpoint["channel_values"]["point"]


class Shift:
    """A cipher that hides nothing but changes every byte."""

    def encrypt(self, plaintext: bytes) -> tuple[str, bytes]:
        return "shift", bytes((byte + 1) % 256 for byte in plaintext)

    def decrypt(self, ciphername: str, ciphertext: bytes) -> bytes:
        if ciphername != "shift":
            raise ValueError(f"no cipher {ciphername}")
        return bytes((byte - 1) % 256 for byte in ciphertext)


class Pickling:
    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        return "pickle", pickle.dumps(obj)

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        return pickle.loads(data[1])


class Untyped:
    def dumps(self, obj: Any) -> bytes:
        return pickle.dumps(obj)

    def loads(self, data: bytes) -> Any:
        return pickle.loads(data)


@pytest.mark.parametrize(
    "serde",
    [None, EncryptedSerializer(Shift()), Pickling(), Untyped(), JsonPlusSerializer()],
    ids=["default", "encrypted", "custom", "untyped", "json"],
)
@pytest.mark.parametrize("value", [b"bytes", None, "text", [1, {"a": (2,)}], 2**70, {1, 2}])
def test_any_serializer_may_be_plugged_in(
    make_store: Callable[..., StoreLike], serde: Any, value: Any
) -> None:
    if value == 2**70 and not isinstance(serde, (Pickling, Untyped)):
        value = 2**60
    store = make_store()
    saver = SwarmStateSaver(store, serde=serde)
    where = put(saver, value)
    saver.put_writes(where, [("point", value)], "task")
    found = saver.get_tuple(config())
    assert found is not None
    expected = value_of(saver)
    assert found.pending_writes == [("task", "point", expected)]
    if not isinstance(value, list):
        assert expected == value
    if isinstance(serde, EncryptedSerializer):
        stored = store.items(names("thread", "").checkpoints)
        assert b"step" not in repr(stored).encode()


def test_the_default_is_langgraphs_own_with_its_switches() -> None:
    assert isinstance(SwarmStateSaver().serde, JsonPlusSerializer)
    strict = JsonPlusSerializer(allowed_msgpack_modules=None)
    saver = SwarmStateSaver(serde=strict)
    put(saver, Point(1))
    assert value_of(saver) == {"x": 1}
    allowed = saver.with_allowlist([(Point.__module__, "Point")])
    assert isinstance(allowed, SwarmStateSaver)
    assert value_of(allowed) == Point(1)
    assert value_of(saver) == {"x": 1}


def test_a_blocked_type_is_an_error_if_asked_for() -> None:
    store = Store()
    strict = JsonPlusSerializer(allowed_msgpack_modules=None)
    saver = SwarmStateSaver(store, serde=strict, on_blocked="error")
    put(saver, {"deep": [Point(1)]})
    with pytest.raises(DecodeError, match=r"not allowed to load .*Point") as raised:
        saver.get_tuple(config())
    error = raised.value
    assert isinstance(error, CheckpointDecodeError)
    assert (error.thread, error.checkpoint, error.channel) == ("thread", "0001", "point")
    assert error.type.endswith("Point")
    assert value_of(saver.with_allowlist([(Point.__module__, "Point")])) == {"deep": [Point(1)]}
    assert value_of(SwarmStateSaver(store, serde=strict)) == {"deep": [{"x": 1}]}
    with pytest.raises(InvalidArgumentError, match="on_blocked"):
        SwarmStateSaver(store, on_blocked="ignore")  # type: ignore[arg-type]


def test_strict_mode_by_the_environment_is_the_reference_savers(tmp_path: Any) -> None:
    import os
    import subprocess
    import sys

    program = """
from langgraph.checkpoint.memory import InMemorySaver
from swarmstate.integrations.langgraph import SwarmStateSaver
ours, theirs = SwarmStateSaver().serde, InMemorySaver().serde
print(*(serde._allowed_msgpack_modules for serde in (ours, theirs)))
"""
    for switch, expected in (("true", "None None"), ("false", "True True")):
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", program],
            env={**os.environ, "LANGGRAPH_STRICT_MSGPACK": switch},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == expected


def test_what_cannot_be_read_names_thread_checkpoint_channel_and_type(
    make_store: Callable[..., StoreLike],
) -> None:
    saver = SwarmStateSaver(make_store())
    where = put(saver, [1])
    here = names("thread", "")
    key = field("point", "1.0")
    for stored, reason in (
        (["msgpack", b"\xc1"], "msgpack"),
        (["unheard of", b""], "unheard of"),
    ):
        saver.store.set(here.values, key, stored)
        with pytest.raises(DecodeError, match=f"'point'.*'0001'.*'thread'.*{reason}"):
            saver.get_tuple(where)
        with pytest.raises(DecodeError, match="'point'"):
            list(saver.list(config()))
    saver.store.delete(here.values, key)
    with pytest.raises(DecodeError, match=r"'point'.*'0001'.*'thread'.*no value"):
        saver.get_tuple(where)


def test_a_record_of_a_newer_format_is_refused(make_store: Callable[..., StoreLike]) -> None:
    saver = SwarmStateSaver(make_store())
    put(saver, 1)
    here = names("thread", "").checkpoints
    record = saver.store.get(here, "0001")
    for broken in ([2, *record[1:]], record[:-1], "nothing", []):
        saver.store.set(here, "0001", broken)
        with pytest.raises(DecodeError, match="0001"):
            saver.get_tuple(config())


# Without scripts all values go along with each put.
@pytest.mark.parametrize("make_store", ["memory", "redis", "redis-cluster"], indirect=True)
def test_a_value_that_does_not_change_is_not_serialized_again(
    make_store: Callable[..., StoreLike],
) -> None:
    class Counting(JsonPlusSerializer):
        seen: list[Any] = []  # noqa: RUF012

        def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
            self.seen.append(obj)
            return super().dumps_typed(obj)

    saver = SwarmStateSaver(make_store(), serde=Counting())
    big = ["a big value"]
    versions = {"big": "1.0", "step": "1.0"}
    where = saver.put(config(), checkpoint(versions, {"big": big, "step": 1}), {}, versions)
    Counting.seen.clear()
    versions = {"big": "1.0", "step": "2.0"}
    saver.put(where, checkpoint(versions, {"big": big, "step": 2}), {}, {"step": "2.0"})
    assert big not in Counting.seen
    assert 2 in Counting.seen
    found = saver.get_tuple(config())
    assert found is not None
    assert found.checkpoint["channel_values"] == {"big": big, "step": 2}


def test_a_put_brings_along_values_whose_checkpoint_was_removed_meanwhile(
    make_store: Callable[..., StoreLike],
) -> None:
    saver = SwarmStateSaver(make_store())
    where = put(saver, [1])
    saver.delete_thread("thread")
    body = checkpoint({"point": "1.0", "step": "2.0"}, {"point": [1], "step": 2}, "0002")
    saver.put(where, body, {}, {"step": "2.0"})
    found = saver.get_tuple(config())
    assert found is not None
    assert found.checkpoint["channel_values"] == {"point": [1], "step": 2}


@pytest.mark.parametrize(
    "bad",
    [None, {}, {"configurable": {}}, {"configurable": {"thread_id": None}}, {"configurable": 3}],
)
@pytest.mark.parametrize("metrics", [None, InMemoryMetrics()])
def test_a_config_without_a_thread_is_refused(bad: Any, metrics: Any) -> None:
    saver = SwarmStateSaver(metrics=metrics)
    for call in (
        lambda: saver.get_tuple(bad),
        lambda: list(saver.list(bad or {})),
        lambda: saver.put(bad, checkpoint({}, {}), {}, {}),
        lambda: saver.put_writes(bad, [], "task"),
    ):
        with pytest.raises(InvalidArgumentError, match="thread_id"):
            call()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"store": 3}, "store"),
        ({"max_checkpoints_per_thread": 0}, "max_checkpoints_per_thread"),
        ({"max_checkpoints_per_thread": "3"}, "max_checkpoints_per_thread"),
        ({"metrics": 3}, "metrics"),
        ({"tracer": 3}, "tracer"),
    ],
)
def test_bad_arguments_are_refused_with_what_is_accepted(arguments: Any, word: str) -> None:
    with pytest.raises(InvalidArgumentError, match=word):
        SwarmStateSaver(**arguments)
    with pytest.raises(InvalidArgumentError, match="strategy"):
        SwarmStateSaver().prune(["thread"], strategy="keep_some")
