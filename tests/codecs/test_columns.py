"""Of many rows, only what a choice among them needs: the same as of the rows decoded one by one."""

from __future__ import annotations

from typing import Any

import pytest
from codec_values import domain_values, many, texts
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmstate import codecs
from swarmstate._codec import columns

CODEC = codecs.get("msgpack")
FIELDS = ["", "n", "dotted.name", "é", "x" * 40, "y" * 300]
maps = st.dictionaries(st.sampled_from(FIELDS) | texts, domain_values, max_size=20)
rows = st.lists(st.tuples(domain_values, domain_values, maps), max_size=6)


@settings(many, max_examples=60)
@given(rows, st.sets(st.sampled_from(FIELDS), max_size=4))
def test_columns_are_those_of_the_decoded_rows(table: list[Any], fields: set[str]) -> None:
    blobs = [CODEC.encode(list(row)) for row in table]
    made = columns(blobs, b"AA", tuple(field.encode() for field in fields))
    assert made is not None
    decoded = [CODEC.decode(blob) for blob in blobs]
    wanted = [[row[0] for row in decoded], [row[1] for row in decoded]]
    wanted += [[row[2].get(field) for row in decoded] for field in fields]
    # Encoded, so that NaN is equal to itself.
    assert CODEC.encode(CODEC.decode(made)) == CODEC.encode(wanted)


GOOD = CODEC.encode([1, [2, {"a": "b" * 70_000}], {"n": 3, "m": [4] * 20}])


def test_the_last_of_several_equal_fields_counts() -> None:
    made = columns([b"\x91\x82\xa1n\x01\xa1n\x02"], b"", (b"n",))
    assert made is not None
    assert CODEC.decode(made) == [[2]]


@pytest.mark.parametrize(
    ("kind", "right"),
    [
        ("i", [0, 127, -32, -1, 200, 70_000, -(2**63), 2**64 - 1]),
        ("n", [0, -(2**40), None]),
        ("f", [0.5, None]),
        ("a", [0, -1, 0.5, None, True, "text", b"bytes", [1], {"a": 1}]),
    ],
)
@pytest.mark.parametrize("returned", [True, False])
def test_a_column_of_a_kind_is_returned_or_only_looked_at(
    kind: str, right: list[Any], returned: bool
) -> None:
    kinds = (kind.upper() if returned else kind).encode()
    table = columns([CODEC.encode([value, {"n": 1}]) for value in right], kinds, (b"n",))
    assert table is not None
    assert CODEC.decode(table) == [right, [1] * len(right)][not returned :]
    for value in (0, 0.5, None, True, "text", b"bytes", [1], {"a": 1}):
        one = columns([CODEC.encode([value, {}])], kinds, ())
        fits = kind == "a" or type(value) in {type(each) for each in right}
        assert (one is not None) is fits


@pytest.mark.parametrize(
    "odd",
    [
        b"",
        b"\x93",
        GOOD[:-1],
        GOOD + b"\xc0",
        CODEC.encode([1, 2]),
        CODEC.encode([1, 2, 3]),
        CODEC.encode([1, 2, 3, {}]),
        CODEC.encode({"n": 1}),
        b"\x93\x01\xc1\x80",
        b"\x93\x01\xdd\xff\xff\xff\xff\x80",
        b"\x93\x01\x02\xdf\xff\xff\xff\xff",
        b"\x91" * 2000,
        "text",
    ],
    ids=lambda odd: repr(odd[:10]),
)
def test_a_row_of_another_shape_leaves_all_to_who_decodes_them_one_by_one(odd: Any) -> None:
    assert columns([GOOD], b"ia", (b"n",)) is not None
    assert columns([GOOD, odd, GOOD], b"ia", (b"n",)) is None


def test_a_field_may_be_named_more_than_once() -> None:
    rows = [CODEC.encode([{"n": "x" * 1000}]), CODEC.encode([{}])]
    made = columns(rows, b"", (b"n",) * 20)
    assert made is not None
    assert CODEC.decode(made) == [["x" * 1000, None]] * 20


def test_fields_that_are_not_bytes_are_refused() -> None:
    fields: Any = ("n",)
    with pytest.raises(TypeError, match="fields must be bytes, not str"):
        columns([GOOD], b"ia", fields)
