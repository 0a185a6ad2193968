"""What is done in C for every call of a saver, beside the same written plainly."""

from __future__ import annotations

from enum import Enum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langgraph.checkpoint.base import (
    EXCLUDED_METADATA_KEYS,
    CheckpointTuple,
    get_checkpoint_metadata,
)

from swarmstate import _checkpoints
from swarmstate.checkpoints.format import (
    LOST,
    assemble,
    decode_record,
    decode_write,
    encode_record,
    encode_writes,
    new_field,
    record_fields,
)
from swarmstate.checkpoints.protocol import CheckpointName, CheckpointRecord, TaskWrite
from swarmstate.errors import ArgumentTypeError, DecodeError
from swarmstate.integrations.langgraph import SwarmStateSaver
from swarmstate.integrations.langgraph.config import config_of, name_of, unusual_name_of
from swarmstate.integrations.langgraph.metadata import stored_metadata


class Kind(str, Enum):
    CHAT = "chat"
    PADDED = "0" * 31 + "7.ab"


class Text(str):
    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        raise AssertionError("nobody asks it")

    def __hash__(self) -> int:
        return hash(str(self))


NAME = CheckpointName("thread", "space", "id")
texts = st.text(st.characters(codec=None), max_size=40)  # surrogates too
padded = st.from_regex(r"\A0[0-9²]{31}\.[0-9a-fé]{0,8}\Z")
versions = st.one_of(
    texts,
    padded,
    st.integers(),
    st.floats(),
    st.sampled_from(Kind),
    texts.map(Text),
    padded.map(Text),
)


def plain_field(channel: str, version: Any) -> str:
    """The format as it is described, and as version 0.1.0 wrote it."""
    channel = str.__str__(channel)
    length = len(channel.encode("utf-8", "surrogatepass"))
    if isinstance(version, str):
        text = str.__str__(version)
        if text[32:33] == "." and text[0] == "0" and text[:32].isdigit():
            return f"{length}z{channel}:{text.lstrip('0')}"
        return f"{length}:{channel}:{text}"
    kind, shown = ("i", int.__repr__) if isinstance(version, int) else ("f", float.__repr__)
    return f"{length}{kind}{channel}:{shown(version)}"


@given(channel=texts | st.sampled_from(Kind), version=versions)
def test_the_key_of_a_value_is_what_the_format_says(channel: str, version: Any) -> None:
    found = new_field(channel, version)
    assert type(found) is str
    assert found == plain_field(channel, version)


@pytest.mark.parametrize(("channel", "version"), [(1, "1"), ("x", True), ("x", None), (b"x", "1")])
def test_what_is_no_channel_or_version_is_refused(channel: Any, version: Any) -> None:
    with pytest.raises(ArgumentTypeError):
        new_field(channel, version)


@given(
    current=st.none() | st.integers(0, 10**40) | st.integers(0, 10**40).map(lambda n: f"{n:032}.5"),
    bits=st.integers(0, 2**56 - 1),
)
def test_the_next_version_is_numbered_as_langgraphs_are(current: Any, bits: int) -> None:
    number = int(current.split(".")[0]) if isinstance(current, str) else current or 0
    assert _checkpoints.next_version(current, bits) == f"{number + 1:032}.{bits:014x}"


@pytest.mark.parametrize("wrong", ["", "x", ".1"])
def test_a_version_without_a_number_has_no_next_one(wrong: str) -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        SwarmStateSaver().get_next_version(wrong, None)


keys = st.sampled_from(
    (
        "thread_id",
        "checkpoint_ns",
        "run_id",
        "user",
        "__pregel",
        "_",
        "__",
        "step",
        "nul\0",
        "langgraph_step",
    )
)
contents = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), texts, st.just("a\0b\0"),
    texts.map(Text), st.lists(st.integers(), max_size=1), st.sampled_from(Kind),
)  # fmt: skip
mappings = st.dictionaries(keys, contents, max_size=6)


@given(
    config=st.fixed_dictionaries(
        {}, optional={"metadata": st.none() | mappings, "configurable": mappings}
    ),
    metadata=mappings,
)
def test_the_metadata_is_what_langgraphs_own_savers_store(config: Any, metadata: Any) -> None:
    ours: Any = _checkpoints.checkpoint_metadata(EXCLUDED_METADATA_KEYS, config, metadata)
    for found in (ours, stored_metadata(config, metadata)):
        expected: Any = get_checkpoint_metadata(config, metadata)
        assert [(key, type(value), repr(value)) for key, value in found.items()] == [
            (key, type(value), repr(value)) for key, value in expected.items()
        ]


parts = st.one_of(
    st.none(), texts, st.integers(), st.just(b"x"), st.just([]), st.sampled_from(Kind)
)


class Configurable(dict[str, Any]):
    """Not a plain dict."""


@given(
    configurable=st.fixed_dictionaries(
        {}, optional={"thread_id": parts, "checkpoint_ns": parts, "checkpoint_id": parts}
    ),
    wrapped=st.booleans(),
)
def test_a_config_names_the_same_whichever_way_it_is_read(configurable: Any, wrapped: bool) -> None:
    config: Any = {"configurable": Configurable(configurable) if wrapped else configurable}

    def answer(read: Any) -> Any:
        try:
            return read(config)
        except Exception as error:  # both must raise the same
            return type(error), str(error)

    found = answer(name_of)
    assert found == answer(unusual_name_of)
    if isinstance(found, CheckpointName):
        assert [*config_of(found)["configurable"].values()] == [*found]


RECORD = CheckpointRecord(
    "parent", {"x": "1", "y": 2, "d": 0.5}, ["x", "y"], ["d", "gone"], ("t", b"b"), ("u", b"m")
)


def test_a_record_is_read_as_it_was_written_and_names_its_fields() -> None:
    found = decode_record(encode_record(RECORD), NAME)
    assert type(found) is CheckpointRecord
    assert found == RECORD
    assert record_fields(found) == {"x": "1:x:1", "y": "1iy:2", "d": "1fd:0.5"}
    assert record_fields(found, {"y", "gone"}) == {"y": "1iy:2"}


@given(
    place=st.integers(0, 4),
    value=st.one_of(st.none(), st.integers(2), st.just([1]), st.just({"x": []})),
)
def test_a_damaged_record_is_a_decode_error(place: int, value: Any) -> None:
    damaged = encode_record(RECORD)
    if place == 1 and value is None:
        return  # no parent is a good one
    damaged[place] = value
    with pytest.raises(DecodeError, match="thread"):
        decode_record(damaged, NAME)


@pytest.mark.parametrize("value", [None, [], [1], {}, "text", encode_record(RECORD)[:8]])
def test_what_is_no_record_is_a_decode_error(value: Any) -> None:
    with pytest.raises(DecodeError, match="thread"):
        decode_record(value, NAME)


def test_writes_are_read_as_they_were_written() -> None:
    pairs = [("x", 1), ("special", 2), ("x", 3)]
    encoded = encode_writes(
        pairs, "1:t", "~p", {"special": -4}, lambda _, value: ("n", b"%d" % value)
    )
    assert encoded == {
        "0:1:t": ["x", "n", b"1", "~p"],
        "-4:1:t": ["special", "n", b"2", "~p"],
        "2:1:t": ["x", "n", b"3", "~p"],
    }
    found = [decode_write(key, value, NAME) for key, value in encoded.items()]
    assert all(type(one) is TaskWrite for one in found)
    assert [(one.task_id, one.idx, one.channel, one.value, one.task_path) for one in found] == [
        ("1:t", 0, "x", ("n", b"1"), "~p"),
        ("1:t", -4, "special", ("n", b"2"), "~p"),
        ("1:t", 2, "x", ("n", b"3"), "~p"),
    ]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("x:t", ["x", "n", b"", ""]),
        ("", ["x", "n", b"", ""]),
        ("0:t", ["x", "n", b""]),
        ("0:t", [1, "n", b"", ""]),
        ("0:t", None),
        (LOST, ["x", "n", b"", ""]),
        (LOST, 1),
    ],
)
def test_what_is_no_write_is_a_decode_error(key: str, value: Any) -> None:
    with pytest.raises(DecodeError, match="thread"):
        decode_write(key, value, NAME)


@given(
    order=st.permutations(
        [("b", "t", 1), ("a", "u", 0), ("a", "t", -1), ("a", "t", 0), ("a", "t", 10)]
    )
)
def test_writes_come_in_the_order_of_their_path_task_and_position(order: Any) -> None:
    written = [(f"{idx}:{task}", ["x", "n", b"", path]) for path, task, idx in order]
    found = assemble(NAME, RECORD, {}, {}, written)
    assert [one.order for one in found.writes] == sorted(order)


def test_a_checkpoint_without_the_value_of_a_channel_is_no_tuple() -> None:
    found = assemble(NAME, RECORD, record_fields(RECORD), {"1:x:1": ["n", b""]}, [])
    with pytest.raises(KeyError, match="y"):
        _checkpoints.tuple_of(found, lambda blob: {}, None, CheckpointTuple)


def test_what_is_named_in_c_is_found_by_what_is_named_in_python() -> None:
    # Python 3.14 keeps the hash of a tuple in it.
    raw: Any = {"configurable": {"thread_id": "t", "checkpoint_ns": "n", "checkpoint_id": "i"}}
    one = name_of(raw)
    assert type(one) is CheckpointName
    assert hash(one) == hash(("t", "n", "i"))
    assert {one: 1}[CheckpointName("t", "n", "i")] == {CheckpointName("t", "n", "i"): 1}[one] == 1
