"""What the built-in codecs accept and refuse, case by case, and what a refusal says."""

from __future__ import annotations

import array
import asyncio
import collections
import ctypes
import datetime
import decimal
import fractions
import itertools
import pathlib
import types
import uuid
import zoneinfo
from typing import Any

import msgpack
import numpy as np
import ormsgpack
import pydantic
import pytest
from codec_values import FRAGMENTS, Colour, Named, Point, Record, Unspeakable
from exactness import exact, nested

from swarmstate import codecs, dumps, loads
from swarmstate._codec import MAX_SAME_HASH
from swarmstate.errors import DecodeError, EncodeError, InvalidArgumentError, SwarmStateError

UTC = datetime.timezone.utc


def refusal(value: Any, codec: str) -> str:
    with pytest.raises(EncodeError) as caught:
        dumps(value, codec)
    assert isinstance(caught.value, (TypeError, ValueError, SwarmStateError))
    return str(caught.value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": [0, {1}]}, "cannot encode set at value['a'][1]: unsupported type"),
        (object, "cannot encode type at value: unsupported type"),
        (
            {"when": datetime.datetime(2020, 1, 1)},
            "cannot encode datetime at value['when']: a naive",
        ),
        ([2**64], "cannot encode int at value[0]: an int must be from -2**63 to 2**64-1"),
        ([[-(2**63) - 1]], "cannot encode int at value[0][0]: an int must be from"),
        ({"t": ("ok", "\ud800")}, "cannot encode str at value['t'][1]: lone surrogate at index 0"),
        (
            {"a": {"\udfff": 1}},
            "cannot encode str as a key of value['a'] ('\\udfff'): lone surrogate",
        ),
        (
            {1: {frozenset(): 1}},
            "cannot encode frozenset as a key of value[1] (frozenset()): unsup",
        ),
        (
            {(1, 2): {(1, b"x", 2.5, (None, 1j)): 0}},
            "cannot encode tuple as a key of value[(1, 2)]",
        ),
        (Record(), "cannot encode Record at value: unsupported type"),
        (msgpack.ExtType(1, b""), "cannot encode ExtType at value: unsupported type"),
        (msgpack.Timestamp(1), "cannot encode Timestamp at value: unsupported type"),
        ([ormsgpack.Ext(1, b"")], "cannot encode Ext at value[0]: unsupported type"),
        *(
            ({"a": fragment(b"\xc0")}, "cannot encode Fragment at value['a']: unsupported type")
            for fragment in FRAGMENTS
        ),
        (
            {datetime.datetime(2020, 1, 1, tzinfo=UTC): 1},
            "cannot encode datetime as a key of value ",
        ),
        ({memoryview(b"x"): 1}, "cannot encode memoryview as a key of value "),
        ([Unspeakable()], "cannot encode Unspeakable at value[0]: unsupported type"),
    ],
)
def test_a_refusal_names_the_type_and_the_path(value: Any, text: str, codec: str) -> None:
    assert refusal(value, codec).startswith(text)


def test_the_path_of_something_deep_is_shortened(codec: str) -> None:
    assert refusal(nested(40, "d", {1}), codec).count("['k']") == 16
    text = refusal(nested(5000, "l"), codec)
    assert "nested deeper than 1024 levels" in text
    assert len(text) < 300


def test_a_value_that_contains_itself_is_refused(codec: str) -> None:
    loop: list[Any] = []
    loop.append(loop)
    assert "nested deeper than 1024 levels" in refusal({"a": loop}, codec)
    circle: dict[str, Any] = {}
    circle["again"] = circle
    assert "nested deeper than 1024 levels" in refusal(circle, codec)


class Struct:
    """Stands for a class of attrs, by the mark that it leaves."""

    __attrs_attrs__ = ()


class Model(pydantic.BaseModel):
    a: int = 1


def generator() -> Any:
    yield 1


@pytest.mark.parametrize(
    ("value", "way"),
    [
        ({1}, "list()"),
        (frozenset(), "list()"),
        (collections.deque([1]), "list()"),
        (range(3), "list()"),
        (generator(), "list()"),
        ({}.keys(), "list()"),
        (map(str, ()), "list()"),
        (Record(), "dataclasses.asdict()"),
        (Struct(), "attrs.asdict()"),
        (Model(), ".model_dump()"),
        (types.MappingProxyType({}), "dict()"),
        (collections.UserDict(), "dict()"),
        (types.SimpleNamespace(), "vars()"),
        (decimal.Decimal(1), "str()"),
        (fractions.Fraction(1), "str()"),
        (uuid.UUID(int=1), "str()"),
        (pathlib.Path("/"), "str()"),
        (pathlib.PureWindowsPath("/"), "str()"),
        (ValueError("mine"), "str()"),
        (1j, "str()"),
        (2**64, "str()"),
        (Colour.RED, ".value"),
        (datetime.date(2020, 1, 1), ".isoformat()"),
        (datetime.time(1), ".isoformat()"),
        (datetime.timedelta(1), ".total_seconds()"),
        (datetime.datetime(2020, 1, 1), ".replace(tzinfo=...) or .astimezone()"),
        (array.array("i", [1]), ".tolist()"),
        (msgpack.Timestamp(1), ".to_datetime()"),
        (np.int64(1), ".item()"),
        (np.bool_(True), ".item()"),
        (np.zeros(2), ".tolist()"),
    ],
    ids=lambda part: part if type(part) is str else type(part).__name__,
)
def test_a_refusal_says_what_to_do_with_what_people_use(value: Any, way: str, codec: str) -> None:
    text = refusal({"a": value}, codec)
    assert text.startswith(f"cannot encode {type(value).__name__} at value['a']: ")
    assert text.endswith(f"; convert it with {way} or pass a default= function that converts it")


def test_a_value_that_was_not_awaited_is_told_so(codec: str) -> None:
    forgotten = asyncio.sleep(0)
    assert "cannot encode coroutine at value: unsupported type; convert it with await" in refusal(
        forgotten, codec
    )
    forgotten.close()


def test_a_refusal_of_what_nothing_is_known_about_names_the_hook(codec: str) -> None:
    assert refusal([object()], codec) == (
        "cannot encode object at value[0]: unsupported type; "
        "pass a default= function that converts it"
    )


@pytest.mark.parametrize(
    ("key", "way"),
    [
        (Colour.RED, ".value"),
        (uuid.UUID(int=1), "str()"),
        (frozenset(), "str()"),
        (memoryview(b"x"), "bytes()"),
        (datetime.date(2020, 1, 1), ".isoformat()"),
        (datetime.datetime(2020, 1, 1, tzinfo=UTC), ".isoformat()"),
        (np.int64(1), ".item()"),
        (Record(), "str()"),
    ],
    ids=lambda part: part if type(part) is str else type(part).__name__,
)
def test_a_refusal_says_what_to_do_with_a_key(key: Any, way: str, codec: str) -> None:
    text = refusal({"a": {key: 1}}, codec)
    assert text.startswith(f"cannot encode {type(key).__name__} as a key of value['a'] (")
    assert f": unsupported type of a key; convert it with {way} or pass a default=" in text


def test_a_hook_that_was_given_is_not_advised(codec: str) -> None:
    with pytest.raises(EncodeError) as caught:
        dumps([object()], codec, default=lambda value: {1})
    assert str(caught.value) == (
        "cannot encode object at value[0]: default= returned set: unsupported type; "
        "convert it with list()"
    )


def test_advice_runs_no_code_of_the_users(codec: str) -> None:
    class Meta(type):
        def __getattr__(cls, name: str) -> Any:
            raise AssertionError(name)

    class Odd(metaclass=Meta):
        def __getattr__(self, name: str) -> Any:
            raise AssertionError(name)

    assert refusal(Odd(), codec).startswith("cannot encode Odd at value: unsupported type; pass")


# ---- memoryviews: data, or addresses ------------------------------------------------------------


class Pointing(ctypes.Structure):
    _fields_ = (("a", ctypes.c_int), ("b", ctypes.c_void_p))


class Flat(ctypes.Structure):
    _fields_ = (("Object", ctypes.c_int), ("P", ctypes.c_double * 2))


@pytest.mark.parametrize(
    "view",
    [
        memoryview(b"ab"),
        memoryview(b"abcd")[::2],
        memoryview(bytes(12)).cast("B", (3, 4)),
        *(memoryview(bytes(16)).cast(kind) for kind in "bBc?hHiIlLqQnNfd"),
        memoryview((ctypes.c_int * 3)(1, 2, 3)),
        memoryview((ctypes.c_double * 2 * 3)()),
        memoryview(Flat(1)),
        memoryview(array.array("u", "é")),
        memoryview(np.arange(4, dtype=np.float16)),
        memoryview(np.arange(4, dtype=">i4")),
        memoryview(np.arange(4, dtype=np.complex128)),
        memoryview(np.array(["ab", "c"])),
        memoryview(np.array([b"ab", b"c"])),
        memoryview(np.zeros(2, dtype=[("Objects", "i4"), ("b", "f8", (2, 2))])),
        memoryview(np.asfortranarray(np.arange(6, dtype="u1").reshape(2, 3))),
    ],
    ids=lambda view: view.format,
)
def test_a_memoryview_of_data_returns_as_its_bytes(view: memoryview, codec: str) -> None:
    assert loads(dumps([view], codec), codec) == [view.tobytes()]


@pytest.mark.parametrize(
    "view",
    [
        memoryview(np.array([object()])),
        memoryview(np.zeros(2, dtype=[("a", "i4"), ("b", "O")])),
        memoryview(np.zeros(2, dtype=[("a", [("b", "O")])])),
        memoryview(bytes(8)).cast("P"),
        memoryview((ctypes.py_object * 1)(1)),
        memoryview((ctypes.c_void_p * 2)()),
        memoryview((ctypes.c_char_p * 2)()),
        memoryview((ctypes.c_wchar_p * 2)()),
        memoryview((ctypes.POINTER(ctypes.c_int) * 2)()),
        memoryview((ctypes.CFUNCTYPE(ctypes.c_int) * 2)()),
        memoryview(Pointing(1, None)),
    ],
    ids=lambda view: view.format,
)
def test_a_memoryview_of_addresses_is_refused(view: memoryview, codec: str) -> None:
    text = refusal({"a": view}, codec)
    assert text.startswith("cannot encode memoryview at value['a']: a memoryview of format ")
    assert loads(dumps([view], codec, default=lambda view: view.nbytes), codec) == [view.nbytes]


@pytest.mark.parametrize(
    ("value", "back"),
    [
        ((1, (2,)), [1, [2]]),
        (bytearray(b"a"), b"a"),
        (memoryview(b"abcdef")[::2], b"ace"),
        (memoryview(b"abcd").cast("H"), b"abcd"),
        (Point(1, "y"), [1, "y"]),
        (Named.A, "a"),
        ({Named.A: 1}, {"a": 1}),
        (collections.Counter("aab"), {"a": 2, "b": 1}),
        ({True: 1, 2: 2, 2.5: 3, None: 4, b"b": 5, (1, ("x", None)): 6}, ...),
        (2**64 - 1, ...),
        (-(2**63), ...),
    ],
)
def test_what_is_accepted_comes_back_as_its_base_type(value: Any, back: Any, codec: str) -> None:
    back = value if back is ... else back
    assert exact(loads(dumps(value, codec), codec)) == exact(back)


def test_an_ordered_dict_keeps_the_order_that_it_shows(codec: str) -> None:
    ordered = collections.OrderedDict.fromkeys("abcd", 1)
    ordered.move_to_end("a")
    ordered.move_to_end("d", last=False)
    assert list(loads(dumps(ordered, codec), codec)) == ["d", "b", "c", "a"]


def test_keys_that_would_become_one_are_refused(codec: str) -> None:
    class Key(str):
        __slots__ = ()
        __hash__ = object.__hash__

        def __eq__(self, other: object) -> bool:
            return self is other

    text = refusal([{"a": 1, Key("a"): 2}], codec)
    assert (
        text == "cannot encode int at value[0]['a']: another key of the same dict becomes 'a' too"
    )


def colliding(count: int) -> list[tuple[int, ...]]:
    """Different tuples of one hash, as hash(-1) == hash(-2)."""
    keys = list(itertools.islice(itertools.product((-1, -2), repeat=10), count))
    assert len({hash(key) for key in keys}) == 1
    return keys


def written(keys: list[tuple[int, ...]]) -> bytes:
    """A map of keys of ten small ints each to None, as another writer would leave it."""
    items = (b"\x9a" + bytes(n % 256 for n in key) + b"\xc0" for key in keys)
    return b"\xde" + len(keys).to_bytes(2, "big") + b"".join(items)


def test_so_many_tuple_keys_of_one_hash_are_accepted_and_read_back(codec: str) -> None:
    value = dict.fromkeys(colliding(MAX_SAME_HASH))
    assert loads(dumps([value], codec), codec) == [value]
    assert loads(written(list(value)), codec) == value
    more = {**value, **dict.fromkeys((n, n) for n in range(1000)), **{(n,): n for n in range(9)}}
    assert loads(dumps(more, codec), codec) == more


def test_more_tuple_keys_of_one_hash_are_refused_both_ways(codec: str) -> None:
    keys = colliding(MAX_SAME_HASH + 1)
    reason = f"more than {MAX_SAME_HASH} of its tuple keys have the same hash"
    assert refusal({"a": [dict.fromkeys(keys)]}, codec) == (
        f"cannot encode dict at value['a'][0]: {reason}"
    )
    mixed = {**{str(n): 1 for n in range(99)}, **dict.fromkeys(keys), "last": {1: 2}}
    assert refusal(mixed, codec) == f"cannot encode dict at value: {reason}"
    for data in (written(keys), b"\x91" + written([(1,) * 10] * 50 + keys)):
        with pytest.raises(DecodeError, match=reason):
            loads(data, codec)


def test_the_same_tuple_key_may_come_any_number_of_times(codec: str) -> None:
    keys = colliding(MAX_SAME_HASH)
    assert loads(written(keys * 50), codec) == dict.fromkeys(keys)


@pytest.mark.parametrize(
    "moment",
    [
        datetime.datetime(2024, 2, 29, 12, 30, 15, 123456, UTC),
        datetime.datetime(1969, 12, 31, 23, 59, 59, 999999, UTC),
        datetime.datetime.min.replace(tzinfo=UTC),
        datetime.datetime.max.replace(tzinfo=UTC),
        datetime.datetime(1, 1, 2, tzinfo=datetime.timezone(datetime.timedelta(hours=23))),
        datetime.datetime(2024, 10, 27, 2, 30, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")),
        datetime.datetime(2024, 10, 27, 2, 30, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin"), fold=1),
    ],
)
def test_an_aware_datetime_returns_as_the_same_moment_in_utc(
    moment: datetime.datetime, codec: str
) -> None:
    data = dumps({"at": moment}, codec)
    back = loads(data, codec)["at"]
    assert back == moment.astimezone(UTC)
    assert back.tzinfo is UTC
    assert data == msgpack.packb({"at": moment.astimezone(UTC)}, datetime=True)
    assert dumps({"at": moment}, codec) == data  # again, now that the kind of zone is known


@pytest.mark.parametrize(
    ("moment", "reason"),
    [
        (
            datetime.datetime.max.replace(tzinfo=datetime.timezone(-datetime.timedelta(hours=1))),
            "out",
        ),
        (
            datetime.datetime.min.replace(tzinfo=datetime.timezone(datetime.timedelta(hours=1))),
            "out",
        ),
    ],
    ids=["after the last year", "before the first year"],
)
def test_a_moment_that_could_not_be_read_back_is_refused(
    moment: datetime.datetime, reason: str, codec: str
) -> None:
    assert refusal([moment], codec).startswith(f"cannot encode datetime at value[0]: {reason}")


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"", "cannot decode 0 bytes: the input ends within the value, at byte 0"),
        (b"\x93\x01\x02", "the input ends within the value, at byte 0"),
        (b"\x93\xdc\x00\x01", "the input ends within the value"),
        (b"\x01\x01", "cannot decode 2 bytes: trailing bytes follow the value, at byte 1"),
        (b"\x91\xc1", "0xc1 is reserved, at byte 1"),
        (b"\xdd\xff\xff\xff\xff", "the input ends within the value"),
        (b"\x92\x01\xd4\x05x", "unsupported extension type, at byte 2"),
        (b"\xd5\xff\x00\x00", "a timestamp of unsupported length, at byte 0"),
        (b"\xd7\xff" + b"\xff" * 8, "a timestamp out of range, at byte 0"),
        (b"\x81\x80\xc0", "unsupported type of a map key, at byte 1"),
        (b"\x81\xd6\xff\0\0\0\0\xc0", "unsupported type of a map key, at byte 1"),
        (b"\x91" * 1025 + b"\xc0", "nested deeper than 1024 levels, at byte 1024"),
        (
            b"\x81" + b"\x91" * 65 + b"\xc0\xc0",
            "a map key is nested deeper than 64 levels, at byte 65",
        ),
        (b"\x92\xa1a\xa2\xc3\x28", "a text is not UTF-8: invalid continuation byte at byte 0 of 2"),
        (b"\xa3\xed\xa0\x80", "a text is not UTF-8"),
    ],
)
def test_a_decode_error_names_the_fault_and_the_byte(data: bytes, fault: str, codec: str) -> None:
    with pytest.raises(DecodeError) as caught:
        loads(data, codec)
    assert fault in str(caught.value)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("given", ["text", None, 5, [1]])
def test_what_is_not_bytes_cannot_be_decoded(given: Any, codec: str) -> None:
    with pytest.raises(InvalidArgumentError, match=f"not {type(given).__name__}"):
        loads(given, codec)


def test_any_kind_of_bytes_can_be_decoded(codec: str) -> None:
    data = dumps({"a": [1, "x"]}, codec)
    for given in (bytearray(data), memoryview(data), memoryview(data * 2)[: len(data)]):
        assert loads(given, codec) == {"a": [1, "x"]}  # type: ignore[arg-type]
    released = memoryview(data)
    released.release()
    with pytest.raises(InvalidArgumentError, match="released"):
        loads(released, codec)  # type: ignore[arg-type]


def test_decoding_reads_what_other_writers_leave_finer_or_shorter(codec: str) -> None:
    """Nanoseconds, 32-bit floats, ints in wide forms, repeated keys."""
    nanoseconds = b"\xd7\xff" + ((999_999_999 << 34) | 1).to_bytes(8, "big")
    assert loads(nanoseconds, codec) == datetime.datetime(1970, 1, 1, 0, 0, 1, 999_999, UTC)
    assert exact(loads(b"\xca\x3f\x80\x00\x00", codec)) == exact(1.0)
    assert exact(loads(b"\xd3" + bytes(7) + b"\x05", codec)) == exact(5)
    assert loads(b"\x82\xa1a\x01\xa1a\x02", codec) == {"a": 2}


def test_the_default_codec_is_msgpack() -> None:
    assert dumps([1]) == codecs.get("msgpack").encode([1])
