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


@settings(many, max_examples=150)
@given(rows, st.sets(st.sampled_from(FIELDS), max_size=4))
def test_columns_are_those_of_the_decoded_rows(table: list[Any], fields: set[str]) -> None:
    blobs = [CODEC.encode(list(row)) for row in table]
    made = columns(blobs, 3, tuple(field.encode() for field in fields))
    assert made is not None
    decoded = [CODEC.decode(blob) for blob in blobs]
    first, second, thinned = CODEC.decode(made)
    # Encoded, so that NaN is equal to itself.
    assert CODEC.encode([first, second]) == CODEC.encode(
        [[row[0] for row in decoded], [row[1] for row in decoded]]
    )
    kept = [{key: value for key, value in row[2].items() if key in fields} for row in decoded]
    assert CODEC.encode(thinned) == CODEC.encode(kept)


GOOD = CODEC.encode([1, [2, {"a": "b" * 70_000}], {"n": 3, "m": [4] * 20}])


def test_the_last_of_several_equal_fields_counts() -> None:
    made = columns([b"\x91\x82\xa1n\x01\xa1n\x02"], 1, (b"n",))
    assert made is not None
    assert CODEC.decode(made) == [[{"n": 2}]]


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
    assert columns([GOOD], 3, (b"n",)) is not None
    assert columns([GOOD, odd, GOOD], 3, (b"n",)) is None


def test_more_than_fifteen_fields_are_left_to_who_decodes_the_rows() -> None:
    names = [f"f{number}" for number in range(20)]
    row = CODEC.encode([dict.fromkeys(names, 1)])
    for count, possible in ((15, True), (16, False)):
        fields = tuple(name.encode() for name in names[:count])
        assert (columns([row], 1, fields) is not None) is possible


def test_fields_that_are_not_bytes_are_refused() -> None:
    fields: Any = ("n",)
    with pytest.raises(TypeError, match="fields must be bytes, not str"):
        columns([GOOD], 3, fields)
