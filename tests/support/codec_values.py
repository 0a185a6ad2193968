"""Hypothesis strategies: values of the codecs' domain, and everything else that one might try."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import datetime
import decimal
import enum
import fractions
import os
import pathlib
import struct
import uuid
import zoneinfo
from typing import Any

import msgpack
import ormsgpack
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

EXAMPLES = int(os.environ.get("SWARMSTATE_TEST_EXAMPLES", "400"))
"""How many examples each property is tried on."""

# ormsgpack 1.12, the last one for Python 3.10, has no such type.
FRAGMENTS = [ormsgpack.Fragment] if hasattr(ormsgpack, "Fragment") else []

many = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

EDGES = sorted(
    {
        sign * 2**power + step
        for power in (5, 7, 8, 15, 16, 31, 32, 63, 64)
        for step in (-1, 0, 1)
        for sign in (1, -1)
    }
)
integers = st.integers(-(2**63), 2**64 - 1) | st.sampled_from(
    [n for n in EDGES if -(2**63) <= n < 2**64]
)
# Every bit pattern, signalling NaNs with a payload among them.
floats = st.floats() | st.integers(0, 2**64 - 1).map(
    lambda bits: struct.unpack(">d", bits.to_bytes(8, "big"))[0]
)
texts = st.text() | st.text(min_size=28, max_size=34) | st.integers(250, 260).map("x".__mul__)
blobs = st.binary() | st.integers(250, 260).map(b"x".__mul__)
core_leaves = st.none() | st.booleans() | integers | floats | texts | blobs


sizes = st.integers(14, 17)  # a container's header grows at 16


def containers(items: st.SearchStrategy[Any], keys: st.SearchStrategy[Any]) -> Any:
    return (
        st.lists(items, max_size=4)
        | st.dictionaries(keys, items, max_size=4)
        | st.builds(lambda item, size: [item] * size, items, sizes)
        | st.builds(lambda item, size: {str(n): item for n in range(size)}, items, sizes)
    )


core_values = st.recursive(core_leaves, lambda items: containers(items, texts), max_leaves=8)
"""What msgpack and JSON share, and bytes: the values that both libraries must write alike."""

plain_keys = st.none() | st.booleans() | integers | floats | texts | blobs
keys = st.recursive(plain_keys, lambda items: st.lists(items, max_size=3).map(tuple), max_leaves=5)
aware = st.datetimes(
    min_value=datetime.datetime(1, 1, 3),
    max_value=datetime.datetime(9999, 12, 29),
    timezones=st.sampled_from(
        [
            datetime.timezone.utc,
            datetime.timezone(datetime.timedelta(hours=-11, minutes=-30)),
            datetime.timezone(datetime.timedelta(hours=14), "far"),
            datetime.timezone(datetime.timedelta(microseconds=1)),
            zoneinfo.ZoneInfo("Europe/Berlin"),
            zoneinfo.ZoneInfo("Pacific/Apia"),
        ]
    ),
)
domain_leaves = core_leaves | blobs.map(bytearray) | blobs.map(memoryview) | aware
domain_values = st.recursive(
    domain_leaves,
    lambda items: containers(items, keys) | st.lists(items, max_size=4).map(tuple),
    max_leaves=8,
)
"""Everything that the contract accepts, of exactly the built-in types."""


class Text(str):
    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return 7

    def __str__(self) -> str:
        return "not the base"

    def isascii(self) -> bool:
        raise RuntimeError("a method of the base type must not be asked of a subclass")


class Number(int):
    def __gt__(self, other: object) -> bool:
        raise RuntimeError("a method of the base type must not be asked of a subclass")

    __lt__ = __ge__ = __le__ = __index__ = __int__ = __gt__  # type: ignore[assignment]


class Real(float):
    def __float__(self) -> float:
        return 0.5


class Blob(bytes):
    def __bytes__(self) -> bytes:
        return b"not the base"


class Buffer(bytearray):
    def __bytes__(self) -> bytes:
        return b"not the base"


class Items(list[Any]):
    def __iter__(self) -> Any:
        return iter([*super().__iter__(), "one more"])

    def __len__(self) -> int:
        return 0


class Pair(tuple[Any, ...]):
    __slots__ = ()

    def __iter__(self) -> Any:
        return iter(())

    def __len__(self) -> int:
        return 99


class Mapping(dict[Any, Any]):
    def items(self) -> Any:
        return [("not", "the base")] * 3

    def __iter__(self) -> Any:
        return iter(())

    def __missing__(self, key: Any) -> Any:
        return "made up"


class Moment(datetime.datetime):
    def utcoffset(self) -> Any:
        raise RuntimeError("a method of the base type must not be asked of a subclass")


class Zone(datetime.tzinfo):
    """A time zone that answers what it is told to."""

    def __init__(self, offset: Any) -> None:
        self.offset = offset

    def utcoffset(self, when: datetime.datetime | None) -> Any:
        if isinstance(self.offset, Exception):
            raise self.offset
        return self.offset

    def dst(self, when: datetime.datetime | None) -> None:
        return None

    def tzname(self, when: datetime.datetime | None) -> str:
        return "zone"


class Colour(enum.Enum):
    RED = "red"
    TWO = 2


class Named(str, enum.Enum):
    A = "a"


class Level(enum.IntEnum):
    LOW = 1


class Flags(enum.IntFlag):
    READ = 1
    WRITE = 2


class Point(collections.namedtuple("Point", "x y")):
    __slots__ = ()


@dataclasses.dataclass(frozen=True)
class Record:
    a: int = 1


class Slotted:
    __slots__ = ("a",)


class Lying:
    """An object that says of itself that it is a dict."""

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return dict


class UnspeakableError(Exception):
    pass


class Unspeakable:
    def __repr__(self) -> str:
        raise UnspeakableError


def _moved(items: dict[Any, Any]) -> collections.OrderedDict[Any, Any]:
    """An OrderedDict whose order is not that of the dict beneath."""
    moved = collections.OrderedDict(items)
    for key in list(moved)[::2]:
        moved.move_to_end(key)
    if len(moved) > 2:
        moved.move_to_end(next(iter(moved)))
        moved.move_to_end(list(moved)[1], last=False)
    return moved


def _released() -> memoryview:
    view = memoryview(b"gone")
    view.release()
    return view


surrogates = st.text(st.characters(categories=["Cs", "Lu"]), min_size=1, max_size=4)
too_large = st.sampled_from([n for n in EDGES if not -(2**63) <= n < 2**64]) | st.integers(
    2**64, 2**70
)
naive = st.datetimes()
strange_zones = st.builds(
    lambda when, offset: when.replace(tzinfo=Zone(offset)),
    st.datetimes(),
    st.sampled_from(
        [None, datetime.timedelta(hours=5), datetime.timedelta(days=2), "soon", ValueError("lost")]
    ),
)
extreme = st.builds(
    lambda when, hours: when.replace(
        tzinfo=datetime.timezone(datetime.timedelta(hours=hours))
        if hours
        else datetime.timezone.utc
    ),
    st.sampled_from([datetime.datetime.min, datetime.datetime.max]),
    st.sampled_from([-23, -1, 0, 1, 23]),
)
wild_hashable = st.one_of(
    texts.map(Text),
    (integers | too_large).map(Number),
    floats.map(Real),
    blobs.map(Blob),
    st.lists(plain_keys, max_size=3).map(Pair),
    st.builds(Point, plain_keys, plain_keys),
    st.sampled_from([*Colour, *Named, *Level, *Flags, Flags.READ | Flags.WRITE]),
    st.uuids(),
    st.decimals(),
    st.fractions(),
    st.complex_numbers(),
    st.dates(),
    st.times(),
    st.timedeltas(),
    surrogates,
    surrogates.map(Text),
    too_large,
    naive,
    aware,
    extreme,
    strange_zones,
    aware.map(lambda when: Moment.combine(when.date(), when.timetz())),
    blobs.map(memoryview),
    st.frozensets(integers, max_size=2),
    st.builds(msgpack.ExtType, st.integers(0, 127), blobs),
    st.builds(msgpack.Timestamp, st.integers(0, 2**33)),
    st.builds(ormsgpack.Ext, st.integers(0, 127), blobs),
    st.sampled_from(
        [
            Record(),
            Slotted(),
            Lying(),
            object(),
            object,
            len,
            ...,
            NotImplemented,
            range(3),
            pathlib.PurePosixPath("/a"),
            fractions.Fraction(1, 3),
            decimal.Decimal("NaN"),
            uuid.UUID(int=0),
            *(fragment(b"\xc0") for fragment in FRAGMENTS),
        ]
    ),
)
wild_leaves = wild_hashable | st.one_of(
    blobs.map(bytearray),
    blobs.map(Buffer),
    blobs.map(lambda data: memoryview(data)[::-2]),
    st.binary(min_size=8, max_size=8).map(lambda data: memoryview(data).cast("H")),
    st.binary(min_size=8, max_size=8).map(lambda data: memoryview(data).cast("B", (2, 4))),
    st.builds(_released),
    st.sets(integers, max_size=2),
    st.lists(integers, max_size=3).map(collections.deque),
    st.dictionaries(texts, integers, max_size=2).map(collections.UserDict),
    st.lists(integers, max_size=3).map(iter),
)
wild_keys = keys | wild_hashable | st.lists(wild_hashable | keys, max_size=2).map(tuple)


def hashable_dicts(items: st.SearchStrategy[Any], most: int) -> st.SearchStrategy[Any]:
    """Dicts with any keys that can be hashed: not all wild ones can."""

    def build(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
        made = {}
        for key, item in pairs:
            with contextlib.suppress(TypeError, ValueError, RuntimeError):
                made[key] = item
        return made

    return st.lists(st.tuples(wild_keys, items), max_size=most).map(build)


wild_values = st.recursive(
    domain_leaves | wild_leaves,
    lambda items: st.one_of(
        containers(items, keys),
        hashable_dicts(items, 4),
        st.lists(items, max_size=4).map(tuple),
        st.lists(items, max_size=4).map(Items),
        st.lists(items, max_size=4).map(Pair),
        st.builds(Point, items, items),
        hashable_dicts(items, 4).map(Mapping),
        hashable_dicts(items, 6).map(_moved),
        st.dictionaries(keys, items, max_size=4).map(
            lambda items: collections.defaultdict(list, items)
        ),
    ),
    max_leaves=8,
)
"""Anything: mostly what the contract does not name, in places where it does."""
