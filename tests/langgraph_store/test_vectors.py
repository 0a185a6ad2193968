"""Semantic search: the most alike first, by what the store holds now."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embeddings import embed
from langgraph.store.base import PutOp, SearchOp

from swarmstate import Store, open_store
from swarmstate.errors import ArgumentTypeError, ArgumentValueError, DecodeError
from swarmstate.integrations.langgraph import SwarmStateStore
from swarmstate.protocols import StoreLike


def cosine(one: str, other: str) -> float:
    left, right = (np.array(vector) for vector in embed([one, other]))
    return float(left @ right / np.linalg.norm(left) / np.linalg.norm(right))


def put_texts(memory: Any, *texts: str, namespace: tuple[str, ...] = ("a",)) -> None:
    memory.batch([PutOp(namespace, text, {"text": text}) for text in texts])


def found(memory: Any, query: str, **options: Any) -> list[str]:
    prefix = options.pop("prefix", ("a",))
    return [item.key for item in memory.search(prefix, query=query, **options)]


TEXTS = [f"text {number}" for number in range(30)]
BEST = sorted(TEXTS, key=lambda text: -cosine(text, "query"))


def test_scores_are_the_cosine_and_the_most_alike_come_first(
    make: Callable[..., Any], index: Any
) -> None:
    memory = make(index=index)
    put_texts(memory, *TEXTS)
    for _ in ("cold", "warm"):
        items = memory.search(("a",), query="query", limit=30)
        assert [item.key for item in items] == BEST
        assert [item.score for item in items] == pytest.approx(
            [cosine(text, "query") for text in BEST], abs=1e-5
        )
        assert found(memory, "query", limit=3) == BEST[:3]
        assert found(memory, "query", limit=3, offset=5) == BEST[5:8]
        assert found(memory, "query", offset=30) == []
        assert found(memory, "text 7", limit=1) == ["text 7"]


def test_a_search_ranks_over_all_namespaces_under_its_prefix(
    make: Callable[..., Any], index: Any
) -> None:
    memory = make(index=index)
    for number, text in enumerate(TEXTS):
        put_texts(memory, text, namespace=("a", str(number % 7)))
    put_texts(memory, "query", namespace=("b",))
    assert found(memory, "query", limit=4) == BEST[:4]
    assert found(memory, "query", limit=1, prefix=()) == ["query"]
    assert found(memory, "query", limit=30) == BEST


def test_a_filter_is_applied_before_the_page_is_cut(make: Callable[..., Any], index: Any) -> None:
    memory = make(index=index)
    memory.batch([PutOp(("a",), text, {"text": text, "n": n}) for n, text in enumerate(TEXTS)])
    odd = [text for text in BEST if TEXTS.index(text) % 2]
    for number, text in enumerate(TEXTS):
        if number % 2:
            memory.put(("a",), text, {"text": text, "n": number, "odd": True})
    assert found(memory, "query", filter={"odd": True}, limit=5) == odd[:5]
    assert found(memory, "query", filter={"odd": True}, limit=5, offset=3) == odd[3:8]


def test_items_without_vectors_follow_the_others_newest_first(
    make: Callable[..., Any], index: Any
) -> None:
    memory = make(index=index)
    put_texts(memory, *TEXTS[:3])
    memory.put(("a",), "no field", {"other": 1})
    memory.put(("a",), "not indexed", {"text": "query"}, index=False)
    items = memory.search(("a",), query="query")
    best = [text for text in BEST if text in TEXTS[:3]]
    assert [item.key for item in items] == [*best, "not indexed", "no field"]
    assert [item.score for item in items[3:]] == [None, None]
    assert found(memory, "query", limit=2, offset=2) == [best[2], "not indexed"]


def test_the_greatest_score_over_the_fields_of_an_item_counts(
    make: Callable[..., Any], index: Any
) -> None:
    memory = make(index={**index, "fields": ["text", "more[*].text", "$"]})
    memory.put(("a",), "1", {"text": "one", "more": [{"text": "two"}, {"text": "three"}]})
    memory.put(("a",), "2", {"text": "four"})
    memory.put(("a",), "3", {"more": [{"text": "five"}]}, index=["more[0].text"])
    for query, key in [("three", "1"), ("two", "1"), ("one", "1"), ("four", "2"), ("five", "3")]:
        first = memory.search(("a",), query=query)[0]
        assert (first.key, first.score) == (key, pytest.approx(1))


def test_a_put_and_a_delete_are_seen_by_the_next_search(
    make: Callable[..., Any], index: Any
) -> None:
    memory, other = make(index=index), make(index=index)
    put_texts(memory, *TEXTS)
    assert found(memory, "query", limit=2) == BEST[:2]
    other.put(("a",), BEST[0], {"text": "something else"})
    other.put(("a",), "new", {"text": "query"})
    assert found(memory, "query", limit=2) == ["new", BEST[1]]
    other.delete(("a",), "new")
    assert found(memory, "query", limit=1) == [BEST[1]]
    make().put(("a",), BEST[1], {"text": BEST[1]})
    assert found(memory, "query", limit=1) == [BEST[2]]
    assert BEST[1] in found(memory, "query", limit=30)


PUT = """
import sys
from embeddings import embed
from swarmstate import open_store
from swarmstate.integrations.langgraph import SwarmStateStore

index = {"dims": 16, "embed": embed, "fields": ["text"]}
with open_store(sys.argv[1]) as store:
    SwarmStateStore(store, index=index).put(("a",), "new", {"text": "query"})
"""


@pytest.mark.parametrize("kind", ["file", "server"])
def test_what_another_process_puts_is_seen_by_the_next_search(
    kind: str, tmp_path: Path, server_url: str, index: Any
) -> None:
    url = f"sqlite:///{tmp_path}/db" if kind == "file" else server_url
    with open_store(url) as store:
        memory = SwarmStateStore(store, index=index)
        put_texts(memory, *TEXTS)
        try:
            for _ in ("cold", "warm"):
                assert found(memory, "query", limit=2) == BEST[:2]
            paths = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
            subprocess.run([sys.executable, "-c", PUT, url], check=True, env=paths)
            assert found(memory, "query", limit=2) == ["new", BEST[0]]
        finally:
            store.clear()


def test_a_restored_store_is_searched_as_it_is_now(
    make: Callable[..., Any], store: StoreLike, index: Any
) -> None:
    memory = make(index=index)
    put_texts(memory, "one", "two")
    before = store.snapshot()
    put_texts(memory, "query")
    assert found(memory, "query", limit=1) == ["query"]
    store.restore(before)
    assert set(found(memory, "query", limit=5)) == {"one", "two"}
    store.clear()
    assert found(memory, "query") == []
    put_texts(memory, "query")
    assert found(memory, "query") == ["query"]


def test_an_expired_item_takes_no_place_of_another(make: Callable[..., Any], index: Any) -> None:
    from freezegun import freeze_time

    memory = make(index=index)
    with freeze_time("2026-05-01", real_asyncio=True) as clock:
        put_texts(memory, *TEXTS)
        memory.put(("a",), "query", {"text": "query"}, ttl=1)
        assert found(memory, "query", limit=2, refresh_ttl=False) == ["query", BEST[0]]
        clock.tick(60)
        assert found(memory, "query", limit=2) == BEST[:2]


def test_without_an_index_a_query_changes_nothing(memory: Any) -> None:
    put_texts(memory, "one", "two")
    assert found(memory, "one") == ["two", "one"]


def test_one_text_is_embedded_once_a_batch(store: StoreLike, index: Any) -> None:
    asked: list[list[str]] = []

    def counted(texts: Any) -> Any:
        asked.append(list(texts))
        return embed(texts)

    memory = SwarmStateStore(store, index={**index, "embed": counted})
    memory.batch(
        [
            PutOp(("a",), "1", {"text": "same"}),
            PutOp(("a",), "2", {"text": "same"}),
            PutOp(("a",), "3", {"text": "other"}),
            PutOp(("a",), "4", None),
            SearchOp(("a",), query="query"),
            SearchOp(("b",), query="query"),
            SearchOp(("b",), query="unseen", limit=0),
        ]
    )
    assert asked == [["same", "other"], ["query"]]


async def test_an_embedding_that_is_awaited_serves_the_awaited_methods(
    store: StoreLike, index: Any
) -> None:
    async def awaited(texts: Any) -> Any:
        return embed(texts)

    memory = SwarmStateStore(store, index={**index, "embed": awaited})
    await memory.aput(("a",), "k", {"text": "query"})
    (item,) = await memory.asearch(("a",), query="query")
    assert item.score == pytest.approx(1)


@pytest.mark.parametrize("bound", [0, 3000, 10**9])
def test_what_is_kept_of_vectors_stays_under_its_bound(
    store: StoreLike, index: Any, bound: int
) -> None:
    memory = SwarmStateStore(store, index=index, vector_cache_bytes=bound)
    for number, text in enumerate(TEXTS):
        put_texts(memory, text, namespace=("a", str(number % 7)))
    for _ in range(2):
        assert found(memory, "query", limit=4) == BEST[:4]
        kept = memory._index.known([f"1:a1:{n}" for n in range(7)])  # type: ignore[union-attr]
        assert sum(matrix.bytes for matrix in kept.values()) <= bound
        assert bool(kept) is (bound > 0)


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"dims": 8}, ArgumentValueError, "8 numbers"),
        ({"dims": 0}, ArgumentValueError, "dims"),
        ({"embed": None}, ArgumentValueError, "embed"),
        ({"fields": [5]}, ArgumentTypeError, "path"),
        ({"feilds": ["a"]}, ArgumentValueError, "feilds"),
        ({"distance_type": "l2"}, ArgumentValueError, "cosine"),
        ({"embed": lambda texts: [[float("nan")] * 16] * len(texts)}, ArgumentValueError, "NaN"),
        ({"embed": lambda texts: [["a"] * 16] * len(texts)}, ArgumentTypeError, "numbers"),
        ({"embed": lambda texts: []}, ArgumentValueError, "0 vectors for 1 texts"),
    ],
    ids=lambda part: part if isinstance(part, str) else "",
)
def test_what_cannot_be_indexed_is_refused_and_nothing_is_stored(
    index: Any, change: Any, error: type[Exception], text: str
) -> None:
    store = Store()
    with pytest.raises(error, match=text):
        SwarmStateStore(store, index={**index, **change}).put(("a",), "k", {"text": "one"})
    assert len(store) == 0


def test_how_a_database_would_index_changes_nothing(index: Any) -> None:
    given = {**index, "ann_index_config": {"kind": "hnsw"}, "vector_storage_type": "hash"}
    memory = SwarmStateStore(index=given)
    put_texts(memory, *TEXTS)
    assert found(memory, "query", limit=100) == BEST


def test_a_value_that_is_not_json_can_be_stored_without_an_index(index: Any) -> None:
    memory = SwarmStateStore(index={**index, "fields": ["$"]})
    with pytest.raises(ArgumentTypeError, match="index=False"):
        memory.put(("a",), "k", {"raw": b"\x00"})
    memory.put(("a",), "k", {"raw": b"\x00"}, index=False)
    assert memory.get(("a",), "k") is not None


def test_another_embedding_than_what_is_stored_was_made_with_is_an_error(index: Any) -> None:
    store = Store()
    put_texts(SwarmStateStore(store, index=index), "one")
    narrow = {"embed": lambda texts: [[1.0, 2.0]] * len(texts), "fields": ["text"]}
    with pytest.raises(ArgumentValueError, match=r"2 dimensions.*16"):
        SwarmStateStore(store, index=narrow).search(("a",), query="one")


def test_vectors_that_another_program_broke_are_an_error(index: Any) -> None:
    store = Store()
    memory = SwarmStateStore(store, index=index)
    put_texts(memory, "one", "two")
    store.set("langgraph:vectors:{s:1:a}", "=one", [b"\x00" * 12])
    store.set("langgraph:vectors:{s:1:a}", "version", 5)
    with pytest.raises(DecodeError, match=r"dimensions: 3"):
        memory.search(("a",), query="one")
    store.set("langgraph:vectors:{s:1:a}", "=one", "text")
    with pytest.raises(DecodeError, match="format of vectors"):
        memory.search(("a",), query="one")


def test_an_item_that_says_it_has_no_vectors_is_not_found_by_old_ones(index: Any) -> None:
    store = Store()
    memory = SwarmStateStore(store, index=index)
    put_texts(memory, "one", "two")
    assert found(memory, "one", limit=1) == ["one"]
    row = store.get("langgraph:items:{s:1:a}", "one")
    store.set("langgraph:items:{s:1:a}", "one", [*row[:4], False, {"text": "other"}])
    assert found(memory, "one", limit=1) == ["two"]
    assert found(memory, "one") == ["two", "one"]
    assert memory.search(("a",), query="one")[1].score is None


def test_without_numpy_an_index_is_an_error_that_names_it(
    index: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "numpy", None)
    SwarmStateStore().put(("a",), "k", {})
    with pytest.raises(ImportError, match="pip install numpy"):
        SwarmStateStore(index=index)
