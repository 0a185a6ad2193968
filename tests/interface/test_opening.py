"""One function that opens every store, by URL, blocking and awaited."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from servers import Server

from swarmstate import AsyncStore, Store, open_async_store, open_store
from swarmstate.backends.disk import AsyncDiskStore, DiskStore
from swarmstate.backends.redis import AsyncRedisStore, RedisStore
from swarmstate.errors import ArgumentTypeError, ArgumentValueError

OPENERS = [open_store, open_async_store]
REDIS = [
    f"{name}{cluster}://localhost:1"
    for name in ("redis", "rediss", "valkey", "valkeys")
    for cluster in ("", "+cluster")
]


@pytest.mark.parametrize("url", [*REDIS, "unix:///tmp/no.sock?db=1", "REDIS://localhost:1"])
def test_a_server_s_url_gives_its_store_without_asking_it(url: str) -> None:
    with open_store(url, prefix="app", timeout=1.0) as store:
        assert type(store) is RedisStore
        assert store.prefix == "app"
    assert type(open_async_store(url)) is AsyncRedisStore


def test_a_url_s_own_query_reaches_the_server(server: Server) -> None:
    with open_store(f"{server.url.rpartition('/')[0]}?db=3", prefix="opened") as store:
        store.set("n", "k", 1)
        assert store.get("n", "k") == 1
        store.clear()


async def test_memory_is_a_store_of_its_own_each_time() -> None:
    store = open_store("memory://", max_history=3)
    assert type(store) is Store
    assert store.max_history == 3
    store.set("n", "k", 1)
    assert open_store("memory://").get("n", "k") is None
    awaited = open_async_store("memory://", codec="ormsgpack")
    assert type(awaited) is AsyncStore
    assert awaited.codec == "ormsgpack"


async def test_three_slashes_are_a_relative_file_and_four_an_absolute_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with open_store("sqlite:///relative.db", synchronous="FULL") as store:
        assert type(store) is DiskStore
        store.set("n", "k", 1)
        async with open_async_store(f"sqlite:///{tmp_path}/relative.db") as awaited:
            assert type(awaited) is AsyncDiskStore
            assert await awaited.get("n", "k") == 1
    assert (tmp_path / "relative.db").exists()


def test_a_file_s_path_is_percent_decoded(tmp_path: Path) -> None:
    with open_store(f"sqlite:///{tmp_path}/a%20b%3F%23%25.db") as store:
        store.set("n", "k", 1)
    assert (tmp_path / "a b?#%.db").exists()


@pytest.mark.parametrize("opener", OPENERS)
@pytest.mark.parametrize("url", ["postgres://user:secret@host/db", "app.db", "", "mem://", "://"])
def test_an_unknown_scheme_is_refused_with_those_that_are_known(opener: Any, url: str) -> None:
    with pytest.raises(ArgumentValueError, match="must start with one of") as caught:
        opener(url)
    text = str(caught.value)
    for known in ("memory://", "sqlite://", "redis://", "rediss+cluster://", "valkeys://"):
        assert known in text
    assert "unix://" in text
    assert "secret" not in text


def test_a_plain_path_is_told_how_it_is_written() -> None:
    with pytest.raises(ArgumentValueError, match=r"sqlite:///state\.db"):
        open_store("state.db")


@pytest.mark.parametrize("opener", OPENERS)
@pytest.mark.parametrize("url", ["sqlite://", ":memory:", "sqlite:///:memory:", "sqlite:///"])
def test_what_means_memory_to_others_is_told_the_url_of_it(opener: Any, url: str) -> None:
    with pytest.raises(ArgumentValueError, match="memory://"):
        opener(url)


@pytest.mark.parametrize("opener", OPENERS)
@pytest.mark.parametrize(
    ("url", "keyword"),
    [
        ("sqlite:///x.db?timeout=3", "timeout=..."),
        ("memory://?codec=ormsgpack", "codec=..."),
        ("redis://localhost:1?prefix=app", "prefix="),
        ("redis://localhost:1?ttl=5", "ttl="),
    ],
)
def test_an_option_in_the_query_is_told_its_keyword(opener: Any, url: str, keyword: str) -> None:
    with pytest.raises(ArgumentValueError, match="keyword") as caught:
        opener(url)
    assert keyword in str(caught.value)


@pytest.mark.parametrize("opener", OPENERS)
@pytest.mark.parametrize("url", ["sqlite://host/x.db", "sqlite:///a#b", "memory://name"])
def test_a_url_that_says_too_much_is_refused(opener: Any, url: str) -> None:
    with pytest.raises(ArgumentValueError, match="url"):
        opener(url)


@pytest.mark.parametrize("opener", OPENERS)
@pytest.mark.parametrize("url", [None, 5, b"memory://", Path("x.db")], ids=repr)
def test_what_is_no_text_is_refused(opener: Any, url: Any) -> None:
    with pytest.raises(ArgumentTypeError, match="url must be a str"):
        opener(url)


@pytest.mark.parametrize("opener", OPENERS)
@pytest.mark.parametrize(
    ("url", "option"),
    [("memory://", "ttl"), ("sqlite:///x.db", "prefix"), ("redis://localhost:1", "synchronous")],
)
def test_an_option_that_the_store_does_not_have_is_named(
    opener: Any, url: str, option: str
) -> None:
    with pytest.raises(ArgumentTypeError, match=f"no option {option}; it has .*codec"):
        opener(url, **{option: 1})


def test_only_what_is_opened_is_imported() -> None:
    code = """if True:
        import sys
        import swarmstate
        swarmstate.open_store("memory://")
        swarmstate.open_async_store("memory://")
        print(*sorted({"sqlite3", "redis", "valkey", "langgraph"} & sys.modules.keys()))
    """
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert ran.stdout.strip() == ""
