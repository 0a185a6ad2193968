"""The compiled parts of a call: requests, and the decoding of what checkpoints are kept as."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.connection import Connection, PythonRespSerializer

from swarmstate import codecs
from swarmstate._redis import Values, pack
from swarmstate.backends.redis.commands import Script
from swarmstate.errors import ArgumentTypeError, DecodeError

CHUNK = 64 * 1024

arguments = st.one_of(
    st.binary(max_size=40),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    st.integers(),
    st.sampled_from([CHUNK - 1, CHUNK, CHUNK + 1]).map(bytes),
    st.sampled_from([CHUNK - 1, CHUNK]).map(lambda size: "x" * size),
)
commands = st.lists(
    st.tuples(st.sampled_from(["HSET", "GET", b"DEL"]), st.lists(arguments, max_size=6)).map(
        lambda parts: (parts[0], *parts[1])
    ),
    min_size=1,
    max_size=4,
)


@given(commands)
def test_a_request_has_the_bytes_of_the_client_library(commands: list[Any]) -> None:
    library = PythonRespSerializer(CHUNK, Connection().encoder.encode)
    expected = b"".join(part for command in commands for part in library.pack(*command))
    assert b"".join(pack(commands)) == expected


@given(st.lists(arguments, max_size=6))
def test_a_script_goes_by_its_name_or_as_its_text(arguments: list[Any]) -> None:
    script = Script("one", "return 1")
    call = script(["key"], arguments)
    named = [("EVALSHA", script.sha, 1, "key", *arguments)]
    whole = [("EVAL", script.source, 1, "key", *arguments)]
    assert b"".join(pack([call])) == b"".join(pack(named))
    assert b"".join(pack([call], source=True)) == b"".join(pack(whole))


def test_a_large_value_is_sent_as_it_is() -> None:
    large = bytes(CHUNK)
    before, value, after = pack([("SET", "key", large, "NX")])
    assert value is large
    assert before.endswith(b"$%d\r\n" % CHUNK)
    assert after == b"\r\n$2\r\nNX\r\n"


@pytest.mark.parametrize("wrong", [None, 1.5, True, ["x"], memoryview(b"x")])
def test_what_is_no_argument_is_refused_by_its_type(wrong: object) -> None:
    with pytest.raises(ArgumentTypeError, match=type(wrong).__name__):
        pack([("SET", "key", wrong)])


class Text(str):
    __slots__ = ()


class Data(bytes):
    pass


def test_subclasses_of_text_and_bytes_count_as_these() -> None:
    plain = pack([("SET", "key", b"value", "é")])
    assert pack([("SET", Text("key"), Data(b"value"), Text("é"))]) == plain
    assert pack([("SET", "key", bytearray(b"value"), "é")]) == plain


leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False),
    st.text(max_size=40),
    st.binary(max_size=300),
)
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=20),
        st.dictionaries(st.one_of(st.text(max_size=5), st.integers()), inner, max_size=20),
    ),
    max_leaves=30,
)


def decoded(decode: Any, data: bytes) -> Any:
    try:
        return "value", decode(data)
    except DecodeError as error:
        return "error", str(error)


@given(values, st.sampled_from(["msgpack", "ormsgpack"]), st.randoms(use_true_random=False))
def test_values_are_those_of_the_codec_also_where_bytes_are_damaged(
    value: Any, name: str, chance: random.Random
) -> None:
    codec = codecs.get(name)
    ours = Values(codec)
    try:
        data = codec.encode(value)
    except ValueError:  # a lone surrogate
        return
    assert ours.encode(value) == data
    assert repr(ours.decode(data)) == repr(codec.decode(data))
    damaged = bytearray(data)
    for _ in range(3):
        damaged[chance.randrange(len(damaged))] = chance.randrange(256)
    for odd in (bytes(damaged), data[: chance.randrange(len(data))], data + b"\xc0"):
        assert repr(decoded(ours.decode, odd)) == repr(decoded(codec.decode, odd))
