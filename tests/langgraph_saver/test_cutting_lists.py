"""Packed lists are cut into segments by their elements alone."""

from __future__ import annotations

from typing import Any

import msgpack
from hypothesis import given
from hypothesis import strategies as st

from swarmstate._checkpoints import split

plain_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=40)
    | st.binary(max_size=40)
    | st.builds(msgpack.ExtType, st.integers(0, 100), st.binary(max_size=20)),
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=40,
)


@given(st.lists(plain_values, min_size=1, max_size=70))
def test_segments_are_the_elements_bytes_cut_by_the_digits_of_the_length(values: Any) -> None:
    packed = msgpack.packb(values)
    cut = split(packed)
    assert cut is not None
    count, (head, *segments), _ = cut
    assert count == len(values)
    assert b"".join([head, *segments]) == packed
    widths = [n for power in (64, 16, 4, 1) for n in [power] * (count // power % 4)]
    at = 0
    for segment, width in zip(segments, widths, strict=True):
        assert segment == b"".join(map(msgpack.packb, values[at : at + width]))
        at += width


@given(st.binary(max_size=60), st.lists(plain_values, min_size=1), st.integers(0), st.binary())
def test_what_is_not_exactly_a_list_is_not_cut(
    noise: bytes, values: Any, at: int, added: bytes
) -> None:
    packed = msgpack.packb(values)
    at %= len(packed)
    assert split(packed[:at]) is None
    assert split(packed + added) is None or not added
    for damaged in (noise, packed[:at] + noise + packed[at + 1 :]):
        cut = split(damaged)
        if cut is not None:
            assert b"".join(cut[1]) == damaged
    assert split(b"\xdd\xff\xff\xff\xff") is None
    assert split(b"\x91\xdf\xff\xff\xff\xff" * 50) is None


def test_large_elements_are_not_stored_again_with_others() -> None:
    packed = msgpack.packb([b"x" * 100_000, b"ok"] * 40)
    cut = split(packed)
    assert cut is not None
    assert len(cut[1]) == 1 + 80


@given(st.lists(st.binary(max_size=9), min_size=1, max_size=40), st.integers(0, 40), st.binary())
def test_unchanged_segments_are_told_by_their_bytes(values: Any, at: int, new: bytes) -> None:
    other = [*values]
    other[at % len(other)] = new
    one, two = (msgpack.packb(each) for each in (values, other))
    cut, cut_2 = split(one, two), split(two)
    assert cut is not None
    assert cut_2 is not None
    equal = [a == b for a, b in zip(cut[1][1:], cut_2[1][1:], strict=True)]
    assert cut[2] == (equal.index(False) if False in equal else len(equal))
