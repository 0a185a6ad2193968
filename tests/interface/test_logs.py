"""Logs: append, tail and pop."""

from __future__ import annotations

from typing import Any

import pytest

from swarmstate import Store
from swarmstate.errors import ArgumentTypeError, ArgumentValueError, DecodeError, EncodeError
from swarmstate.protocols import LogStore

LAST = "9" * 16


def test_what_is_appended_comes_back_in_order(logs: LogStore) -> None:
    keys = logs.append("log", ["a", {"b": 1}])
    keys += logs.append("log", (value for value in [None, b"c"]))
    assert keys == sorted(set(keys))
    assert all(len(key) == 16 and key.isascii() and key.isdigit() for key in keys)
    assert logs.tail("log") == list(zip(keys, ["a", {"b": 1}, None, b"c"], strict=True))
    assert sorted(logs.items("log")) == logs.tail("log")


def test_nothing_appended_makes_no_namespace(logs: LogStore) -> None:
    assert logs.append("log", []) == []
    assert "log" not in logs


def test_a_log_that_does_not_exist_is_empty(logs: LogStore) -> None:
    assert logs.tail("log") == []
    assert logs.tail("log", 3) == []
    assert logs.pop("log") is None


def test_tail_gives_the_last_entries_oldest_first(logs: LogStore) -> None:
    keys = logs.append("log", range(10))
    entries = list(zip(keys, range(10), strict=True))
    assert logs.tail("log", 3) == entries[-3:]
    assert logs.tail("log", 0) == []
    assert logs.tail("log", 10) == entries
    assert logs.tail("log", 10**30) == entries
    assert logs.tail("log", before=keys[4]) == entries[:4]
    assert logs.tail("log", 2, before=keys[4]) == entries[2:4]
    assert logs.tail("log", 2, before=keys[1]) == entries[:1]
    assert logs.tail("log", 2, before=keys[0]) == []
    assert logs.tail("log", 2, before="0" * 16) == []
    assert logs.tail("log", 2, before=LAST) == entries[-2:]


def test_a_log_is_read_backwards_page_by_page(logs: LogStore) -> None:
    keys = logs.append("log", range(25))
    pages: list[Any] = []
    before = None
    while page := logs.tail("log", 10, before=before):
        pages.insert(0, page)
        before = page[0][0]
    assert [len(page) for page in pages] == [5, 10, 10]
    assert [entry for page in pages for entry in page] == list(zip(keys, range(25), strict=True))


def test_pop_takes_the_last_entry(logs: LogStore) -> None:
    keys = logs.append("log", ["a", "b"])
    assert logs.pop("log") == (keys[1], "b")
    assert logs.pop("log") == (keys[0], "a")
    assert logs.pop("log") is None
    assert "log" not in logs
    assert logs.tail("log") == []


def test_after_a_pop_appending_goes_on_above_what_is_left(logs: LogStore) -> None:
    logs.append("log", ["a", "b", "c"])
    logs.pop("log")
    (key,) = logs.append("log", ["d"])
    assert [value for _, value in logs.tail("log")] == ["a", "b", "d"]
    assert logs.tail("log")[-1] == (key, "d")


def test_other_keys_of_the_namespace_are_ignored(logs: LogStore) -> None:
    others = ["", "head", "1", "z" * 16, "\uff11" * 16, "0" * 15, "0" * 17, "-000000000000001"]
    logs.set_many([("log", other, "other") for other in others])
    assert logs.tail("log") == logs.tail("log", 5) == []
    assert logs.pop("log") is None
    keys = logs.append("log", [1, 2])
    assert logs.tail("log") == [(keys[0], 1), (keys[1], 2)]
    assert logs.pop("log") == (keys[1], 2)
    assert logs.pop("log") == (keys[0], 1)
    assert logs.pop("log") is None
    assert sorted(logs.keys("log")) == sorted(others)


@pytest.mark.parametrize("many", [0, 1500])
def test_keys_are_above_those_that_others_have_set(logs: LogStore, many: int) -> None:
    logs.append("log", range(many))
    logs.append("log", ["first"])
    logs.set("log", "0000000000777777", "set")
    (key,) = logs.append("log", ["next"])
    assert key == "0000000000777778"
    assert [value for _, value in logs.tail("log", 3)] == ["first", "set", "next"]
    assert logs.delete_many([("log", key), ("log", "0000000000777777")]) == 2
    assert [value for _, value in logs.tail("log", 1)] == ["first"]
    logs.set("log", "0000000000000000", "zero")
    keys = logs.append("log", [1, 2])
    assert [value for _, value in logs.tail("log", 3)] == ["first", 1, 2]
    assert logs.pop("log") == (keys[1], 2)


@pytest.mark.parametrize("many", [0, 1500])
def test_as_many_keys_that_come_as_go_are_seen(logs: LogStore, many: int) -> None:
    keys = logs.append("log", range(many + 3))
    above = f"{int(keys[-1]) + 1:016d}"
    logs.set("log", above, "set")
    logs.delete("log", keys[0])
    assert logs.tail("log", 1) == [(above, "set")]
    (key,) = logs.append("log", ["next"])
    assert int(key) == int(above) + 1
    logs.set("log", "0000000000000000", "zero")
    logs.delete("log", key)
    assert logs.pop("log") == (above, "set")
    assert logs.tail("log", 1) == [(keys[-1], many + 2)]


def test_a_log_of_thousands_is_read_appended_to_and_emptied(logs: LogStore) -> None:
    keys: list[str] = []
    for start in range(0, 3000, 1000):
        keys += logs.append("log", range(start, start + 1000))
    assert keys == sorted(set(keys))
    entries = list(zip(keys, range(3000), strict=True))
    assert logs.tail("log") == entries
    assert logs.tail("log", 7) == entries[-7:]
    assert logs.tail("log", 2999) == entries[1:]
    assert logs.tail("log", 7, before=keys[1500]) == entries[1493:1500]
    logs.delete_many([("log", key) for key in keys[1000:2990]])
    assert logs.tail("log", 12) == [*entries[998:1000], *entries[2990:]]
    for entry in reversed(entries[2990:]):
        assert logs.pop("log") == entry
    assert logs.pop("log") == entries[999]
    (key,) = logs.append("log", ["next"])
    assert logs.tail("log", 2) == [entries[998], (key, "next")]


def test_digits_are_counted_exactly_up_to_the_last_key(logs: LogStore) -> None:
    # Above 2^53, where doubles are no longer exact; and across the middle of the sixteen digits.
    logs.set("log", "9007199254740992", "set")
    assert logs.append("log", [1, 2]) == ["9007199254740993", "9007199254740994"]
    logs.set("log", "9007199299999999", "set")
    assert logs.append("log", [3]) == ["9007199300000000"]
    assert [key for key, _ in logs.tail("log", 2)] == ["9007199299999999", "9007199300000000"]


def test_a_log_without_keys_left_says_so_and_stays_as_it_is(logs: LogStore) -> None:
    logs.set("log", "9999999999999998", "set")
    with pytest.raises(ArgumentValueError, match="'9999999999999998'"):
        logs.append("log", [1, 2])
    assert logs.append("log", [1]) == [LAST]
    with pytest.raises(ArgumentValueError, match=LAST):
        logs.append("log", [2])
    assert logs.tail("log") == [("9999999999999998", "set"), (LAST, 1)]
    assert logs.pop("log") == (LAST, 1)


def test_a_batch_with_one_bad_value_appends_nothing(logs: LogStore) -> None:
    with pytest.raises(EncodeError):
        logs.append("log", [1, object()])
    assert "log" not in logs


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda store: store.append("log", "text"), ArgumentTypeError),
        (lambda store: store.append("log", b"data"), ArgumentTypeError),
        (lambda store: store.append("log", 5), ArgumentTypeError),
        (lambda store: store.append("\0log", [1]), ArgumentValueError),
        (lambda store: store.append(5, [1]), ArgumentTypeError),
        (lambda store: store.tail("log", -1), ArgumentValueError),
        (lambda store: store.tail("log", 1.5), ArgumentTypeError),
        (lambda store: store.tail("log", True), ArgumentTypeError),
        (lambda store: store.tail("log", before="5"), ArgumentValueError),
        (lambda store: store.tail("log", before=5), ArgumentTypeError),
        (lambda store: store.tail("\0log"), ArgumentValueError),
        (lambda store: store.pop(None), ArgumentTypeError),
    ],
)
def test_what_no_store_accepts_is_refused(
    logs: LogStore, call: Any, error: type[Exception]
) -> None:
    logs.append("log", [1])
    with pytest.raises(error):
        call(logs)
    assert [value for _, value in logs.tail("log")] == [1]


def test_an_entry_that_cannot_be_decoded_is_named_and_not_lost(make_log_store: Any) -> None:
    store = make_log_store()
    store.restore(Store().snapshot().from_values({"log": {"0000000000000001": b"\xc1"}}))
    for call in (store.tail, store.pop):
        with pytest.raises(DecodeError, match="0000000000000001"):
            call("log")
    assert store.keys("log") == ["0000000000000001"]


def test_logs_are_part_of_snapshots(logs: LogStore) -> None:
    logs.append("log", [1, 2, 3])
    before = logs.snapshot()
    logs.pop("log")
    logs.append("log", [4, 5])
    after = logs.snapshot()
    diff = after.diff(before)
    assert diff["removed"] == []
    assert len(diff["added"]) == len(diff["changed"]) == 1
    logs.restore(before)
    assert [value for _, value in logs.tail("log", 2)] == [2, 3]
    logs.append("log", [6])
    assert [value for _, value in logs.tail("log")] == [1, 2, 3, 6]
    logs.restore(after)
    assert [value for _, value in logs.tail("log", 3)] == [2, 4, 5]
    logs.clear()
    assert logs.tail("log", 3) == []
    assert len(logs.append("log", [7])) == 1
