"""Items that expire: absent at once, renewed by reads, removed by writes and sweeps."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from freezegun import freeze_time
from langgraph.store.base import PutOp

from swarmstate import Store
from swarmstate.errors import ArgumentTypeError, ArgumentValueError
from swarmstate.integrations.langgraph import SwarmStateStore
from swarmstate.protocols import StoreLike


@pytest.fixture
def clock() -> Iterator[Any]:
    with freeze_time("2026-05-01 12:00", real_asyncio=True) as frozen:
        yield lambda minutes: frozen.tick(timedelta(minutes=minutes))


def test_an_item_is_absent_from_the_moment_that_it_expires(memory: Any, clock: Any) -> None:
    memory.put(("a",), "short", {"n": 1}, ttl=1)
    memory.put(("a",), "long", {"n": 2}, ttl=2.5)
    memory.put(("a",), "stays", {"n": 3})
    clock(1)
    assert memory.get(("a",), "short", refresh_ttl=False) is None
    assert [i.key for i in memory.search(("a",), refresh_ttl=False)] == ["stays", "long"]
    clock(1.5)
    assert memory.get(("a",), "long") is None
    assert [i.key for i in memory.search(("a",), limit=1)] == ["stays"]
    clock(10**6)
    assert memory.get(("a",), "stays").value == {"n": 3}


def test_reads_renew_an_item_unless_they_are_told_not_to(memory: Any, clock: Any) -> None:
    memory.put(("a",), "k", {"n": 1}, ttl=1)
    clock(0.75)
    created = memory.get(("a",), "k").created_at
    clock(0.75)
    (found,) = memory.search(("a",))
    assert found.updated_at == found.created_at == created
    clock(0.75)
    assert memory.get(("a",), "k", refresh_ttl=False).value == {"n": 1}
    clock(0.25)
    assert memory.get(("a",), "k") is None
    assert memory.search(("a",)) == []


def test_a_search_renews_its_page_and_nothing_else(memory: Any, clock: Any) -> None:
    for key in ("old", "new"):
        memory.put(("a",), key, {}, ttl=1)
    clock(0.5)
    assert [item.key for item in memory.search(("a",), limit=1)] == ["new"]
    clock(0.75)
    assert [item.key for item in memory.search(("a",), refresh_ttl=False)] == ["new"]


def test_an_expired_item_is_not_renewed_and_a_put_makes_another(memory: Any, clock: Any) -> None:
    memory.put(("a",), "k", {"n": 1}, ttl=1)
    first = memory.get(("a",), "k").created_at
    clock(1)
    assert memory.get(("a",), "k", refresh_ttl=True) is None
    memory.put(("a",), "k", {"n": 2}, ttl=1)
    item = memory.get(("a",), "k")
    assert item.created_at == first + timedelta(minutes=1)


def test_a_put_without_a_ttl_makes_an_item_stay(memory: Any, clock: Any) -> None:
    memory.put(("a",), "k", {"n": 1}, ttl=1)
    memory.put(("a",), "k", {"n": 2})
    clock(5)
    memory.put(("a",), "other", {})
    assert memory.get(("a",), "k").value == {"n": 2}


def test_the_configuration_says_what_holds_where_a_call_says_nothing(
    make: Callable[..., Any], clock: Any
) -> None:
    memory = make(ttl={"default_ttl": 1, "refresh_on_read": False, "omit_expired": False})
    memory.put(("a",), "usual", {})
    memory.put(("a",), "longer", {}, ttl=5)
    memory.put(("a",), "stays", {}, ttl=None)
    clock(0.75)
    assert memory.get(("a",), "usual") is not None
    clock(0.25)
    assert memory.get(("a",), "usual") is None
    clock(4)
    assert [item.key for item in memory.search(("a",))] == ["stays"]


def stored(store: StoreLike) -> int:
    return sum(
        len(store.keys(namespace))
        for namespace in store.namespaces()
        if namespace.startswith("langgraph:items:")
    )


def test_a_sweep_removes_all_expired_items_and_says_how_many(
    memory: Any, store: StoreLike, clock: Any
) -> None:
    memory.batch(
        [PutOp((f"ns{n % 7}",), f"k{n}", {"n": n}, ttl=1 if n % 2 else None) for n in range(900)]
    )
    assert memory.sweep_ttl() == 0
    assert stored(store) == 900
    clock(1)
    assert memory.sweep_ttl() == 450
    assert stored(store) == 450
    assert memory.sweep_ttl() == 0
    assert len(memory.search((), limit=1000)) == 450


def test_a_sweep_of_a_restored_store_removes_what_expired_before(
    memory: Any, store: StoreLike, clock: Any
) -> None:
    memory.put(("a",), "k", {}, ttl=1)
    snapshot = store.snapshot()
    store.clear()
    store.restore(snapshot)
    clock(1)
    assert memory.sweep_ttl() == 1
    assert stored(store) == 0


def test_writes_remove_expired_items_a_bounded_number_at_a_time(
    memory: Any, store: StoreLike, clock: Any
) -> None:
    memory.batch([PutOp(("a",), f"k{n}", {}, ttl=1) for n in range(300)])
    clock(1)
    before = stored(store)
    memory.put(("a",), "new", {}, ttl=100)
    assert 1 <= before + 1 - stored(store) <= 100
    for _ in range(500):
        memory.put(("a",), "new", {}, ttl=100)
    assert stored(store) == 1


def test_what_a_write_removes_has_expired_by_what_is_stored_now(
    memory: Any, store: StoreLike, clock: Any
) -> None:
    memory.put(("a",), "k", {"n": 1}, ttl=1)
    memory.put(("a",), "renewed", {"n": 1}, ttl=1)
    clock(0.5)
    memory.get(("a",), "renewed")
    memory.put(("a",), "k", {"n": 2})
    clock(0.75)
    for _ in range(10):
        memory.put(("a",), "other", {}, ttl=1)
    assert stored(store) == 3
    assert memory.get(("a",), "k").value == {"n": 2}
    assert memory.get(("a",), "renewed") is not None


@pytest.mark.parametrize(
    ("ttl", "error"),
    [
        (5, ArgumentTypeError),
        ({"default_ttl": 0}, ArgumentValueError),
        ({"default_ttl": "1"}, ArgumentTypeError),
        ({"default_ttl": 10**9}, ArgumentValueError),
        ({"sweep_interval_minutes": -1}, ArgumentValueError),
        ({"defaultttl": 1}, ArgumentValueError),
    ],
    ids=repr,
)
def test_a_configuration_that_means_nothing_is_refused(ttl: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="ttl"):
        SwarmStateStore(ttl=ttl)


class Watched(SwarmStateStore):
    """Tells when it was swept."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.swept = threading.Event()

    def sweep_ttl(self) -> int:
        count = super().sweep_ttl()
        self.swept.set()
        return count


def test_a_sweeper_runs_only_once_it_is_started_and_until_it_is_stopped() -> None:
    memory = Watched(ttl={"sweep_interval_minutes": 0.001})
    before = threading.active_count()
    assert memory.stop_ttl_sweeper()
    assert threading.active_count() == before
    future = memory.start_ttl_sweeper()
    assert memory.start_ttl_sweeper() is future
    assert memory.swept.wait(10)
    assert not future.done()
    assert memory.stop_ttl_sweeper(10)
    assert future.done()
    memory.swept.clear()
    memory.start_ttl_sweeper(0.001)
    assert memory.swept.wait(10)
    assert memory.stop_ttl_sweeper(10)


def test_cancelling_the_future_ends_the_sweeper() -> None:
    memory = Watched()
    future = memory.start_ttl_sweeper(60)
    assert future.cancel()
    assert memory.stop_ttl_sweeper(10)


def test_a_sweeper_does_not_keep_a_memory_alive() -> None:
    memory = Watched(Store())
    future = memory.start_ttl_sweeper(60)
    del memory
    gc.collect()
    assert future.result(10) is None


def test_a_read_that_renews_an_item_undoes_no_write(store: StoreLike) -> None:
    memory = SwarmStateStore(store)
    memory.put(("a",), "k", {"n": 0}, ttl=5)
    written = threading.Event()
    failed: list[BaseException] = []

    def read() -> None:
        try:
            while not written.is_set():
                assert memory.get(("a",), "k", refresh_ttl=True) is not None
        except BaseException as error:
            failed.append(error)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for thread in readers:
        thread.start()
    try:
        for number in range(1, 60):
            memory.put(("a",), "k", {"n": number}, ttl=5)
            found = memory.get(("a",), "k", refresh_ttl=False)
            assert found is not None
            assert found.value == {"n": number}
    finally:
        written.set()
        for thread in readers:
            thread.join()
    assert failed == []
