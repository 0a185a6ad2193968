"""Datetimes that are not plain: of subclasses, finer than a microsecond, under a frozen clock."""

from __future__ import annotations

import datetime
import sys
from typing import Any
from unittest import mock

import freezegun
import pytest
from codec_values import aware, many
from hypothesis import given, settings

from swarmstate import Store, codecs, dumps, loads
from swarmstate.errors import EncodeError

UTC = datetime.timezone.utc
BERLIN = datetime.timezone(datetime.timedelta(hours=2), "far")
MOMENT = (2024, 5, 6, 7, 8, 9, 123456)
PLAIN = datetime.datetime(*MOMENT, tzinfo=UTC)


class Moment(datetime.datetime):
    pass


class Fine(datetime.datetime):
    """What pandas does: nanoseconds beyond the microsecond, 0 to 999."""

    nanosecond = 0


class FineOfSecond(datetime.datetime):
    """What google.api_core does: the nanoseconds of the second."""

    nanosecond = 123456000


class Finest(datetime.datetime):
    """What hightime does: femtoseconds beyond the microsecond."""

    femtosecond = 0


class More(datetime.datetime):
    """Knows more than its fields show, and compares so."""

    more = 0.0

    def __eq__(self, other: object) -> bool:
        return self.more == getattr(other, "more", 0.0) and super().__eq__(other)

    __hash__ = datetime.datetime.__hash__


class Raising(datetime.datetime):
    def __eq__(self, other: object) -> bool:
        raise RuntimeError

    __hash__ = None  # type: ignore[assignment]


def finer(kind: type[Any], name: str, value: Any) -> Any:
    made = kind(*MOMENT, tzinfo=UTC)
    setattr(made, name, value)
    return made


@pytest.mark.parametrize("kind", [Moment, Fine, FineOfSecond, Finest, More, Raising])
def test_an_instance_of_a_subclass_counts_as_a_datetime(kind: type[Any], codec: str) -> None:
    for zone in (UTC, BERLIN):
        made = kind(*MOMENT, tzinfo=zone)
        back = loads(dumps([made], codec), codec)
        assert back == [datetime.datetime(*MOMENT, tzinfo=zone)]
        assert type(back[0]) is datetime.datetime


@settings(many, max_examples=200)
@given(aware)
def test_a_subclass_changes_nothing_in_any_zone(moment: datetime.datetime) -> None:
    made = Moment.combine(moment.date(), moment.timetz()).replace(fold=moment.fold)
    assert made.fold == moment.fold
    for name in ("msgpack", "ormsgpack"):
        assert dumps({"a": made}, name) == dumps({"a": moment}, name)


@pytest.mark.parametrize(
    "made",
    [
        finer(Fine, "nanosecond", 1),
        finer(Fine, "nanosecond", 999),
        finer(FineOfSecond, "nanosecond", 123456789),
        finer(Finest, "femtosecond", 1000),
        finer(Finest, "yoctosecond", 1),
        finer(More, "more", 0.5),
    ],
    ids=lambda made: type(made).__name__,
)
def test_what_is_finer_than_a_microsecond_is_refused_and_not_cut(made: Any, codec: str) -> None:
    with pytest.raises(EncodeError) as caught:
        dumps({"at": made}, codec)
    assert str(caught.value).startswith(
        f"cannot encode {type(made).__name__} at value['at']: a datetime keeps microseconds"
    )
    with Store(codec=codec, default=str) as store:
        store.set("n", "k", {"at": made})
        assert store.get("n", "k") == {"at": str(made)}


def test_a_timestamp_of_pandas_counts_as_a_datetime_unless_it_has_nanoseconds(codec: str) -> None:
    pandas = pytest.importorskip("pandas")
    for zone in ("UTC", "Europe/Berlin"):
        stamp = pandas.Timestamp("2024-05-06T07:08:09.123456", tz=zone)
        assert loads(dumps(stamp, codec), codec) == stamp.to_pydatetime()
    with pytest.raises(EncodeError, match="cannot encode Timestamp at value: a datetime keeps"):
        dumps(pandas.Timestamp("2024-05-06T07:08:09.123456789Z"), codec)
    with pytest.raises(EncodeError, match="cannot encode NaTType at value"):
        dumps(pandas.NaT, codec)


# ---- Clocks that tests replace -------------------------------------------------------------------


@pytest.fixture
def no_datetime(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace ``datetime`` and its class wherever our modules, or anyone, could look them up."""
    real = datetime.datetime
    for module in list(sys.modules.values()):
        name = getattr(module, "__name__", "")
        if name.startswith("swarmstate") or name == "datetime":
            for attribute, value in list(vars(module).items()):
                if value is real:
                    monkeypatch.setattr(module, attribute, mock.Mock())


AWARE = [PLAIN, datetime.datetime(*MOMENT, tzinfo=BERLIN), Moment(*MOMENT, tzinfo=UTC)]


@pytest.mark.parametrize("name", ["msgpack", "ormsgpack", "zstd"])
@pytest.mark.parametrize("value", AWARE, ids=lambda value: type(value).__name__)
@pytest.mark.usefixtures("no_datetime")
def test_datetimes_are_stored_while_the_class_is_replaced(name: str, value: Any) -> None:
    with Store(codec=name) as store:
        store.set("n", "k", [value])
        snapshot = store.snapshot()
        assert store.get("n", "k") == snapshot.get("n", "k") == [value]
        store.restore(snapshot)
    # As bytes of which nothing is known.
    assert codecs.loads(codecs.dumps({"a": value}, name), name) == {"a": value}


@pytest.mark.parametrize("name", ["msgpack", "ormsgpack", "zstd"])
def test_the_time_of_a_frozen_clock_is_stored(name: str) -> None:
    mine = Moment(*MOMENT, tzinfo=UTC)
    with freezegun.freeze_time("2024-01-01 12:00"), Store(codec=name) as store:
        now = datetime.datetime.now(UTC)
        store.set("n", "k", {"at": now, "mine": [mine]})
        back = store.get("n", "k")
        taken = store.snapshot()
        assert taken.get("n", "k") == back
        naive = datetime.datetime.now()
        with pytest.raises(EncodeError, match="a naive datetime"):
            store.set("n", "k", naive)
    assert back == {"at": datetime.datetime(2024, 1, 1, 12, tzinfo=UTC), "mine": [PLAIN]}
    assert type(back["at"]) is datetime.datetime
    # When a snapshot was taken is told by the clock of the machine, which nothing freezes.
    assert taken.timestamp > PLAIN.timestamp()
