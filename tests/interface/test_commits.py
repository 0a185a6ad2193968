"""Conditional commits: several keys changed at once, if none of them moved."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from swarmstate import ABSENT, Store, codecs
from swarmstate.errors import ArgumentTypeError, ArgumentValueError, EncodeError
from swarmstate.protocols import LogStore

# On a cluster a commit is about one slot.
A, B = "a:{x}", "b:{x}"


def test_every_store_of_ours_takes_commits_and_keeps_logs(logs: LogStore) -> None:
    assert isinstance(logs, LogStore)


def test_a_commit_stores_and_removes_at_once(logs: LogStore) -> None:
    logs.set_many([(A, "old", 1), (B, "kept", 2)])
    assert logs.commit([(A, "new", {"n": None}), (B, "new", b"x")], [(A, "old"), (B, "none")])
    assert logs.items(A) == [("new", {"n": None})]
    assert dict(logs.items(B)) == {"kept": 2, "new": b"x"}


def test_a_commit_is_made_only_where_all_that_is_expected_holds(logs: LogStore) -> None:
    logs.set_many([(A, "1", "one"), (B, "2", [2])])
    expect = {(A, "1"): "one", (B, "2"): [2], (B, "3"): ABSENT}
    assert logs.commit([(A, "1", "uno"), (B, "3", 3)], expect=expect)
    assert logs.get_many([(A, "1"), (B, "2"), (B, "3")]) == ["uno", [2], 3]


@pytest.mark.parametrize(
    "expect",
    [
        {(A, "1"): "two"},
        {(A, "1"): ABSENT},
        {(A, "9"): None},
        {(A, "1"): "one", (B, "9"): 1},
        {(A, "1"): "one", (B, "2"): [2, 2]},
        {(A, "1"): b"one"},
        {("c:{x}", "1"): "one"},
    ],
    ids=repr,
)
def test_a_commit_changes_nothing_where_something_else_is_there(
    logs: LogStore, expect: Any
) -> None:
    logs.set_many([(A, "1", "one"), (B, "2", [2])])
    assert not logs.commit([(A, "1", "new"), (B, "3", 3)], [(B, "2")], expect=expect)
    assert logs.items(A) == [("1", "one")]
    assert logs.items(B) == [("2", [2])]


def test_none_is_a_value_and_not_the_absence_of_one(logs: LogStore) -> None:
    logs.set(A, "none", None)
    assert logs.commit(expect={(A, "none"): None, (A, "absent"): ABSENT})
    assert not logs.commit(expect={(A, "none"): ABSENT})
    assert not logs.commit(expect={(A, "absent"): None})


@pytest.mark.parametrize("other", [1.0, True, "1", -1])
def test_equal_is_what_is_stored_as_the_same_bytes(logs: LogStore, other: Any) -> None:
    logs.set(A, "k", 1)
    assert not logs.commit([(A, "k", 2)], expect={(A, "k"): other})
    assert logs.commit([(A, "k", 2)], expect={(A, "k"): 1})


def test_an_empty_commit_tells_whether_the_expectations_hold(logs: LogStore) -> None:
    assert logs.commit()
    logs.set(A, "k", 1)
    assert logs.commit(expect={(A, "k"): 1})
    assert not logs.commit([], [], expect={(A, "k"): 2})
    assert logs.items(A) == [("k", 1)]


def test_a_commit_of_removals_alone_is_conditional_too(logs: LogStore) -> None:
    logs.set_many([(A, "1", 1), (A, "2", 2)])
    assert not logs.commit(delete=[(A, "1")], expect={(A, "2"): 3})
    assert logs.commit(delete=[(A, "1"), (A, "1"), (B, "none")], expect={(A, "1"): 1})
    assert logs.items(A) == [("2", 2)]
    assert logs.commit(delete=[(A, "2")])
    assert A not in logs


def test_of_a_pair_twice_in_a_commit_the_last_counts(logs: LogStore) -> None:
    assert logs.commit([(A, "k", 1), (A, "o", 0), (A, "k", 2)])
    assert dict(logs.items(A)) == {"k": 2, "o": 0}


def test_a_pair_cannot_be_stored_and_deleted_by_one_commit(logs: LogStore) -> None:
    logs.set(A, "k", 1)
    with pytest.raises(ArgumentValueError, match="'k'"):
        logs.commit([(A, "k", 2)], [(A, "k")])
    assert logs.get(A, "k") == 1


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"items": [(A, "k")]}, ArgumentTypeError),
        ({"items": "abc"}, ArgumentTypeError),
        ({"items": [("\0", "k", 1)]}, ArgumentValueError),
        ({"delete": [A]}, ArgumentTypeError),
        ({"delete": [(A, 1)]}, ArgumentTypeError),
        ({"expect": [(A, "k")]}, ArgumentTypeError),
        ({"expect": {A: 1}}, ArgumentTypeError),
        ({"expect": {(A, "\ud800"): 1}}, ArgumentValueError),
        ({"items": [(A, "k", ...)]}, EncodeError),
        ({"items": [(A, "k", ABSENT)]}, EncodeError),
        ({"expect": {(A, "k"): ...}}, EncodeError),
    ],
    ids=repr,
)
def test_what_no_store_accepts_is_refused_and_nothing_is_changed(
    logs: LogStore, arguments: Any, error: type[Exception]
) -> None:
    logs.set(A, "k", 1)
    arguments = {"items": [(A, "o", 2)], **arguments}
    with pytest.raises(error):
        logs.commit(**arguments)
    assert logs.items(A) == [("k", 1)]


def test_a_thousand_entries_are_committed_at_once(logs: LogStore) -> None:
    items = [(A, str(number), number) for number in range(1000)]
    assert logs.commit(items, expect={(A, str(number)): ABSENT for number in range(1000)})
    gone = [(A, str(number)) for number in range(0, 1000, 2)]
    expect = {(A, str(number)): number for number in range(1000)}
    assert logs.commit([(B, "k", 1)], gone, expect=expect)
    assert len(logs) == 501


def test_commits_are_part_of_snapshots_and_differences(logs: LogStore) -> None:
    logs.set_many([(A, "gone", 1), (A, "changed", 1)])
    before = logs.snapshot()
    assert logs.commit([(A, "changed", 2), (B, "added", 3)], [(A, "gone")])
    after = logs.snapshot()
    assert after.diff(before) == {
        "added": [(B, "added")],
        "removed": [(A, "gone")],
        "changed": [(A, "changed")],
    }
    logs.restore(before)
    assert dict(logs.items(A)) == {"gone": 1, "changed": 1}
    assert B not in logs
    assert before.get(A, "changed") == 1


def test_what_another_packer_has_stored_is_compared_as_a_value(
    make_log_store: Any,
) -> None:
    # msgpack may write a small number in nine bytes; ours takes one.
    foreign = {A: {"k": b"\x81\xa1n\xcf" + bytes(7) + b"\x05", "bad": b"\xc1"}}
    source = Store().snapshot().from_values(foreign)
    store = make_log_store()
    store.restore(source)
    assert codecs.dumps({"n": 5}) != foreign[A]["k"]
    assert not store.commit([(A, "k", 1)], expect={(A, "k"): {"n": 6}})
    assert not store.commit([(A, "k", 1)], expect={(A, "bad"): 1})
    assert store.commit(expect={(A, "k"): {"n": 5}})
    assert store.commit([(A, "k", 1)], expect={(A, "k"): {"n": 5}, (A, "no"): ABSENT})
    assert store.get(A, "k") == 1


def test_absent_stays_itself_when_it_is_copied() -> None:
    assert copy.deepcopy(ABSENT) is ABSENT
    assert pickle.loads(pickle.dumps(ABSENT)) is ABSENT
    assert repr(ABSENT) == "ABSENT"
