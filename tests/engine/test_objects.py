"""What Python lets one do with any object: copy it, subclass it, leave it half made."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from swarmstate import Snapshot, Store
from swarmstate.errors import InvalidArgumentError, StoreUnavailable, WireFormatError

COPIES: list[Callable[[Any], Any]] = [copy.copy, copy.deepcopy, pickle.dumps]


@pytest.mark.parametrize("duplicate", COPIES)
def test_stores_and_snapshots_refuse_to_be_copied_and_say_what_to_do(
    duplicate: Callable[[Any], Any],
) -> None:
    store = Store()
    with pytest.raises(TypeError, match=r"restore\(\) a snapshot into another"):
        duplicate(store)
    with pytest.raises(TypeError, match=r"keep its values\(\)"):
        duplicate(store.snapshot())


class Forgetful(Store):
    def __init__(self) -> None:
        pass


@pytest.mark.parametrize("make", [Forgetful, lambda: Store.__new__(Store)])
def test_a_store_that_was_never_initialised_counts_as_closed(make: Callable[[], Store]) -> None:
    store = make()
    for use in (
        lambda: store.set("n", "k", 1),
        lambda: store.set_many([("n", "k", 1)]),
        lambda: store.set_default("n", "k", 1),
        lambda: store.update("n", "k", lambda value: value),
        lambda: store.get("n", "k"),
        lambda: store.get_many([("n", "k")]),
        store.snapshot,
        store.history,
        store.clear,
    ):
        with pytest.raises(StoreUnavailable, match="the store is closed"):
            use()
    store.close()
    assert repr(store) == "<swarmstate.Store, closed>"


def test_a_store_initialised_again_starts_afresh_and_leaves_its_snapshots_alone() -> None:
    store = Store()
    store.set("n", "k", 1)
    snapshot = store.snapshot()
    store.__init__(codec="ormsgpack")  # type: ignore[misc]
    assert len(store) == 0
    assert snapshot.get("n", "k") == 1
    store.restore(snapshot)
    assert store.get("n", "k") == 1


def test_a_snapshot_that_no_store_made_is_empty_and_of_no_wire_format() -> None:
    blank = Snapshot.__new__(Snapshot)
    assert (len(blank), blank.values(), blank.get("n", "k")) == (0, {}, None)
    with pytest.raises(WireFormatError):
        Store().restore(blank)
    with pytest.raises(WireFormatError):
        Store().snapshot().diff(blank)


@pytest.mark.parametrize("parent", ["x", 1.5, True, 0, -1, 2**63])
def test_only_a_positive_number_is_a_parent(parent: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="parent must be"):
        Snapshot.from_values({}, parent=parent)
