"""The two built-in codecs are one: the same bytes, values, refusals and texts, whatever comes."""

from __future__ import annotations

import contextlib
from typing import Any

import msgpack
import pytest
from codec_values import core_values, domain_values, hashable_dicts, many, wild_values
from exactness import exact, nested, outcome, returned
from hypothesis import example, given
from hypothesis import strategies as st

from swarmstate import codecs
from swarmstate.errors import DecodeError, EncodeError
from swarmstate.protocols import FastPath

REFERENCE = codecs.get("msgpack")
OTHER = codecs.get("ormsgpack")
BOTH = (REFERENCE, OTHER)


def encoded_alike(value: Any) -> bytes | None:
    """Check that both codecs treat a value alike, in every way there is; return its bytes."""
    first, second = (outcome(lambda codec=codec: codec.encode(value)) for codec in BOTH)
    assert first == second
    if first[0] != "returned":
        assert first[0] is EncodeError
        for codec in BOTH:
            with pytest.raises(Exception):  # noqa: B017, PT011 (whatever: the store then asks encode)
                codec.fast.pack(value, *codec.fast.pack_args)
        return None
    [(_, data)] = first[1]
    for codec in BOTH:
        with contextlib.suppress(Exception):
            assert codec.fast.pack(value, *codec.fast.pack_args) == data
    return data


def decoded_alike(data: bytes) -> Any:
    """Check that both codecs treat bytes alike; return the outcome."""
    first, second = (outcome(lambda codec=codec: codec.decode(data)) for codec in BOTH)
    assert first == second
    assert first[0] in ("returned", DecodeError)
    return first


def test_both_offer_calls_without_a_python_frame() -> None:
    for codec in BOTH:
        assert isinstance(codec.fast, FastPath)
        for call in (codec.fast.pack, codec.fast.unpack):
            assert not hasattr(call, "__code__")


@many
@given(core_values)
def test_core_values_become_the_bytes_that_msgpack_writes(value: Any) -> None:
    data = encoded_alike(value)
    assert data == msgpack.packb(value, use_bin_type=True)
    for codec in BOTH:
        assert codec.fast.pack(value, *codec.fast.pack_args) == data
        assert exact(codec.fast.unpack(data, *codec.fast.unpack_args)) == exact(value)


@many
@given(domain_values)
def test_what_the_contract_names_is_accepted_and_comes_back(value: Any) -> None:
    data = encoded_alike(value)
    assert data is not None
    assert decoded_alike(data) == ("returned", exact(returned(value)))
    for codec in BOTH:
        # A store may call this for its own bytes; where it gives up, it asks decode.
        with contextlib.suppress(Exception):
            assert exact(codec.fast.unpack(data, *codec.fast.unpack_args)) == exact(returned(value))


@many
@given(wild_values)
def test_anything_is_accepted_or_refused_alike_and_what_is_accepted_can_be_read(value: Any) -> None:
    data = encoded_alike(value)
    if data is not None:
        kind, _ = decoded_alike(data)
        assert kind == "returned"
        assert encoded_alike(REFERENCE.decode(data)) == data


@many
@given(hashable_dicts(st.integers(0, 9), 5))
def test_any_keys_are_accepted_or_refused_alike_and_none_is_lost(value: dict[Any, int]) -> None:
    data = encoded_alike(value)
    if data is not None:
        assert decoded_alike(data)[0] == "returned"
        assert list(REFERENCE.decode(data).values()) == list(value.values())


@many
@given(st.binary(max_size=80))
def test_random_bytes_are_read_or_refused_alike(data: bytes) -> None:
    decoded_alike(data)


HEADS = st.sampled_from([bytes([head]) for head in (*range(0x7E, 0xE2), 0, 1, 0xFF)])
PARTS = HEADS | st.binary(max_size=5) | st.sampled_from([b"\xff\xff\xff\xff", b"\0\0\0\1", b"\0"])


@many
@given(st.lists(PARTS, max_size=12).map(b"".join))
@example(b"\x81\xd6\xff\0\0\0\1\xc0")
@example(b"\x81\x91\x80\xc0")
@example(b"\xd7\xff" + b"\xff" * 8)
@example(b"\xc7\x0c\xff\x3b\x9a\xca\x00" + bytes(8))
@example(b"\xca\x7f\xa0\x00\x01")
def test_bytes_that_almost_are_msgpack_are_judged_as_msgpack_itself_does(data: bytes) -> None:
    ours = decoded_alike(data)
    try:
        bare = msgpack.unpackb(data, strict_map_key=False, timestamp=3, object_pairs_hook=_pairs)
        bare = _dicts(bare)
    except Exception:
        assert ours[0] is DecodeError
        return
    if ours[0] == "returned":
        assert ours[1] == exact(bare)
    else:
        # What msgpack reads and the contract does not know: other extensions, odd keys.
        assert "extension" in ours[1] or "map key" in ours[1]


class _Pairs(list[Any]):
    pass


def _pairs(pairs: list[Any]) -> _Pairs:
    return _Pairs(pairs)


def _dicts(value: Any) -> Any:
    """Build the dicts of a bare decode, with tuples for lists in keys."""
    if type(value) is _Pairs:
        return {_tuples(key): _dicts(item) for key, item in value}
    if type(value) is list:
        return [_dicts(item) for item in value]
    return value if type(value) is not msgpack.ExtType else None


def _tuples(key: Any) -> Any:
    if type(key) is _Pairs:
        return None
    return tuple(_tuples(item) for item in key) if type(key) is list else key


@many
@given(domain_values, st.data())
def test_cut_bytes_are_refused_alike(value: Any, data: st.DataObject) -> None:
    whole = REFERENCE.encode(value)
    cut = data.draw(st.integers(0, len(whole) - 1))
    assert decoded_alike(whole[:cut])[0] is DecodeError


@many
@given(domain_values, st.binary(min_size=1, max_size=8))
def test_trailing_bytes_are_refused_alike(value: Any, more: bytes) -> None:
    whole = REFERENCE.encode(value)
    kind, text = decoded_alike(whole + more)
    assert kind is DecodeError
    assert text.endswith(f"at byte {len(whole)}")


@many
@given(domain_values, st.data())
def test_damaged_bytes_are_read_or_refused_alike(value: Any, data: st.DataObject) -> None:
    whole = bytearray(REFERENCE.encode(value))
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    decoded_alike(bytes(whole))


LIMITS = (64, 255, 256, 512, 1000, 1022, 1023, 1024, 1025)
DEPTHS = st.sampled_from(LIMITS).flatmap(lambda n: st.integers(n - 3, n + 3))


@many
@given(DEPTHS, st.text("ltd", min_size=1, max_size=4), st.sampled_from([None, [], {}, "x", (1,)]))
def test_depth_is_limited_alike_and_what_is_written_can_be_read(
    depth: int, kinds: str, leaf: Any
) -> None:
    value = nested(depth, kinds, leaf)
    data = encoded_alike(value)
    deepest = depth + (isinstance(leaf, (list, dict, tuple)))
    assert (data is not None) == (deepest <= 1024)
    if data is not None:
        assert decoded_alike(data)[0] == "returned"
        assert msgpack.unpackb(data, strict_map_key=False) is not None


@many
@given(DEPTHS, st.integers(0, 66), st.sampled_from([1, "x", ()]))
def test_depth_of_keys_is_limited_alike(depth: int, key_depth: int, leaf: Any) -> None:
    value = nested(depth, "ld", {nested(key_depth, "t", leaf): 1})
    data = encoded_alike(value)
    tuples = key_depth + (leaf == ())
    assert (data is not None) == (tuples <= 64 and depth + 1 + tuples <= 1024)
    if data is not None:
        assert decoded_alike(data)[0] == "returned"


@many
@given(DEPTHS, st.sampled_from([b"\x91", b"\x81\xa1k", b"\x81\x01", b"\xdc\x00\x01", b"\x92\xc0"]))
def test_depth_of_foreign_bytes_is_limited_alike(depth: int, level: bytes) -> None:
    kind, _ = decoded_alike(level * depth + b"\xc0")
    assert (kind == "returned") == (depth <= 1024)
