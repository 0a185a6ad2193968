"""LangGraph's long-term memory in a file: one moment, one commit, no write of another undone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from embeddings import embed

from swarmstate.backends.disk import DiskStore
from swarmstate.backends.disk.driver import performed
from swarmstate.integrations.langgraph import SwarmStateStore
from swarmstate.items.format import name_of, vectors_of
from swarmstate.items.protocol import Place

Make = Callable[..., DiskStore]

INDEX: Any = {"dims": 16, "embed": embed, "fields": ["text"]}


def requests(store: DiskStore, steps: Any) -> tuple[int, Any]:
    """Drive steps; return how many requests there were, and the result."""
    count = 0
    try:
        request = next(steps)
        while True:
            count += 1
            request = steps.send(performed(store.driver.database, request))
    except StopIteration as stop:
        return count, stop.value


def test_any_number_of_namespaces_is_read_in_one_transaction(store: DiskStore) -> None:
    memory = SwarmStateStore(store, index=INDEX)
    for user in range(20):
        memory.put(("users", str(user)), "k", {"text": f"fig {user}"})
    names = [name_of(("users", str(user))) for user in range(20)]
    engine = store.item_engine()
    places = [Place(name, "k") for name in names]
    count, seen = requests(
        store, engine.look(1, items=names, vectors=names, versions=names, rows=places)
    )
    assert count == 1
    assert [row.value["text"] for row in seen.rows] == [f"fig {user}" for user in range(20)]
    assert [[key for key, _ in items] for items in seen.items] == [["k"]] * 20
    assert [vectors.version for vectors in seen.vectors] == seen.versions
    assert None not in seen.versions


class Odd:
    """What only the hook of a store can encode."""


def interrupted(make: Make, other: Callable[[], Any]) -> DiskStore:
    """Return a store in whose first write ``other`` writes, after what is there was read."""
    waiting = [other]

    def hook(value: Any) -> Any:
        if waiting:
            waiting.pop()()
        return "odd"

    return make(default=hook)


def test_what_another_has_put_meanwhile_is_overwritten_and_not_made_again(make: Make) -> None:
    there = SwarmStateStore(make())
    seen: list[Any] = []

    def other() -> None:
        there.put(("a",), "k", {"n": 1})
        seen.append(there.get(("a",), "k"))

    memory = SwarmStateStore(interrupted(make, other))
    memory.put(("a",), "k", {"odd": Odd()})
    item: Any = there.get(("a",), "k")
    assert item.value == {"odd": "odd"}
    assert item.created_at == seen[0].created_at


def test_no_vector_of_what_another_has_put_meanwhile_is_left(make: Make) -> None:
    there = SwarmStateStore(make(), index=INDEX)
    memory = SwarmStateStore(
        interrupted(make, lambda: there.put(("a",), "k", {"text": "fig"})), index=INDEX
    )
    memory.put(("a",), "k", {"odd": Odd()}, index=False)
    assert there.get(("a",), "k").value == {"odd": "odd"}  # type: ignore[union-attr]
    assert make().keys(vectors_of(name_of(("a",)))) == ["version"]


def test_where_what_is_stored_is_no_item_it_is_overwritten(store: DiskStore) -> None:
    memory = SwarmStateStore(store)
    memory.put(("a",), "k", {"n": 1})
    space = f"langgraph:items:{{s:{name_of(('a',))}}}"
    for foreign in (None, "text", [1]):
        store.set(space, "k", foreign)
        memory.put(("a",), "k", {"n": 2})
        assert memory.get(("a",), "k").value == {"n": 2}  # type: ignore[union-attr]


def test_tasks_that_put_and_search_at_once_lose_nothing(store: DiskStore) -> None:
    memory = SwarmStateStore(store)

    async def work() -> int:
        await asyncio.gather(
            *[memory.aput(("a", str(n % 5)), str(n), {"n": n}) for n in range(100)]
        )
        return len(await memory.asearch(("a",), limit=1000))

    assert asyncio.run(work()) == 100
