"""Random operations give what LangGraph's InMemoryStore gives.

Where the two differ on purpose, the comparison allows for it: InMemoryStore returns items in no
promised order, and forgets when an item was created.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from embeddings import embed
from hypothesis import given, settings
from hypothesis import strategies as st
from langgraph.store.base import GetOp, ListNamespacesOp, MatchCondition, PutOp, SearchOp
from langgraph.store.memory import InMemoryStore
from stores import STORES, of

from swarmstate.integrations.langgraph import SwarmStateStore

labels = st.sampled_from(["a", "b", "a:b", "1:a", "ä", "}", "*x"])
namespaces = st.lists(labels, min_size=1, max_size=3).map(tuple)
keys = st.sampled_from(["k", "l", "", "k:l", "\0", "=k"])
plain = st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from([0.5, "x", "y"])
values = st.fixed_dictionaries(
    {"n": st.integers(-3, 3), "text": st.sampled_from(["one", "two", "three"])},
    optional={"deep": st.dictionaries(st.sampled_from("xy"), plain), "list": st.lists(plain)},
)
puts = st.builds(
    PutOp,
    namespaces,
    keys,
    st.none() | values,
    st.sampled_from([None, None, False, ["deep.x"]]),
    st.none(),
)
gets = st.builds(GetOp, namespaces, keys, st.booleans())
numbers = st.integers(-3, 3)
filters = st.none() | st.fixed_dictionaries(
    {},
    optional={
        "n": st.dictionaries(st.sampled_from(["$gt", "$gte", "$lt", "$lte", "$ne", "$eq"]), numbers)
        | numbers,
        "deep": plain | st.fixed_dictionaries({}, optional={"x": plain}),
        "list": st.lists(plain, max_size=2),
    },
)
searches = st.builds(
    SearchOp,
    st.lists(labels, max_size=2).map(tuple),
    filters,
    limit=st.sampled_from([0, 1, 2, 100]),
    offset=st.sampled_from([0, 0, 1, 3]),
    query=st.sampled_from([None, None, "one", "four"]),
    refresh_ttl=st.booleans(),
)
paths = st.lists(labels | st.just("*"), min_size=1, max_size=2).map(tuple)
conditions = st.lists(
    st.builds(MatchCondition, st.sampled_from(["prefix", "suffix"]), paths), max_size=2
).map(tuple)
listings = st.builds(
    ListNamespacesOp,
    conditions,
    st.sampled_from([None, None, 1, 2]),
    st.sampled_from([1, 100]),
    st.sampled_from([0, 2]),
)
batches = st.lists(
    st.lists(puts | puts | gets | searches | listings, max_size=8), min_size=1, max_size=8
)


class Reference(InMemoryStore):
    """InMemoryStore without two faults.

    It lists a namespace as soon as somebody reads from it, and it refuses a batch that embeds one
    text twice.
    """

    __slots__ = ("listed",)

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.listed: set[tuple[str, ...]] = set()

    def batch(self, ops: Any) -> Any:
        ops = list(ops)
        reads = [(number, op) for number, op in enumerate(ops) if not isinstance(op, PutOp)]
        results: list[Any] = [None] * len(ops)
        found = super().batch([op for _, op in reads])
        for (number, _), result in zip(reads, found, strict=True):
            results[number] = result
        last = {(op.namespace, op.key): op for op in ops if isinstance(op, PutOp)}
        for op in last.values():
            super().batch([op])
            if op.value is not None:
                self.listed.add(op.namespace)
        return results

    def _handle_list_namespaces(self, op: ListNamespacesOp) -> Any:
        everything = self._data
        self._data = {namespace: everything[namespace] for namespace in self.listed}
        try:
            return super()._handle_list_namespaces(op)
        finally:
            self._data = everything


def place(item: Any) -> Any:
    return item.namespace, item.key, item.value


def same(op: Any, ours: Any, theirs: Any, everything: Any) -> None:
    """Compare two results of an operation; ``everything`` is their result without a page."""
    if isinstance(op, ListNamespacesOp):
        assert ours == theirs
    elif isinstance(op, GetOp):
        assert (ours and place(ours)) == (theirs and place(theirs))
    elif isinstance(op, SearchOp):
        scores = {place_key(item): item.score for item in everything}
        assert len(ours) == len(everything[op.offset : op.offset + op.limit])
        assert len({place_key(item) for item in ours}) == len(ours)
        contents = {place_key(item): item.value for item in everything}
        for item in ours:
            assert item.value == contents[place_key(item)]
            expected = scores[place_key(item)]
            assert item.score == (
                expected if expected is None else pytest.approx(expected, abs=1e-5)
            )
        if op.query:
            ranked = [-2.0 if item.score is None else item.score for item in everything]
            page = sorted(ranked, reverse=True)[op.offset : op.offset + op.limit]
            found = [-2.0 if item.score is None else item.score for item in ours]
            assert found == pytest.approx(page, abs=1e-5)
        else:
            written = [item.updated_at for item in ours]
            assert written == sorted(written, reverse=True)


def place_key(item: Any) -> Any:
    return item.namespace, item.key


@pytest.mark.parametrize("way", ["blocking", "awaited"])
@pytest.mark.parametrize("make_store", of("saver"), indirect=True)
def test_random_operations(make_store: Any, way: str, request: pytest.FixtureRequest) -> None:
    quick = STORES[request.node.callspec.params["make_store"]].server is None

    @settings(max_examples=40 if quick else 12, deadline=None)
    @given(batches)
    def compare(batches: list[list[Any]]) -> None:
        index: Any = {"dims": 16, "embed": embed, "fields": ["text"]}
        store = make_store()
        ours = SwarmStateStore(store, index=index)
        theirs = Reference(index=index)
        for ops in batches:
            # What lies beyond a page tells whether the page is right.
            wide = [
                op._replace(limit=1000, offset=0) if isinstance(op, SearchOp) else op for op in ops
            ]
            unchanged = [op for op in wide if not isinstance(op, PutOp)]
            everything = iter(theirs.batch(unchanged))
            expected = theirs.batch(ops)
            found = ours.batch(ops) if way == "blocking" else asyncio.run(ours.abatch(ops))
            for op, one, other in zip(ops, found, expected, strict=True):
                all_of_it = None if isinstance(op, PutOp) else next(everything)
                same(op, one, other, all_of_it)
        store.close()

    compare()
