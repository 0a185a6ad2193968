"""What the doctor finds."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
from places import Where, good, run
from rights import FENCES, LARGE, MEMORY, PAGES, SAVER, SCRIPTS, STORE, limited
from servers import BINARIES, Server, present, running, wait_until
from threads import grow

import swarmstate
from swarmstate.backends.disk import DiskStore
from swarmstate.backends.redis import RedisStore
from swarmstate.cli.server import NEEDED
from swarmstate.integrations.langgraph import SwarmStateSaver


def examined(*arguments: str, code: int = 0) -> Any:
    result = run("doctor", *arguments, "--json")
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def problems(found: Any, level: str) -> list[str]:
    return [each["what"] for each in found["problems"] if each["level"] == level]


def test_it_says_which_package_and_codecs_there_are() -> None:
    found = examined()
    assert found["library"]["version"] == swarmstate.__version__
    assert found["library"]["file"] == str(Path(swarmstate.__file__).parent)
    assert "written in Rust" in found["library"]["package"]
    assert set(found["codecs"]) >= {"msgpack", "ormsgpack", "zstd"}
    assert found["codecs"]["msgpack"] == "installed"


def test_another_package_of_the_name_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "swarmstate-0.11.0.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: swarmstate\nVersion: 0.11.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    (warning,) = problems(examined(), "warning")
    assert "swarmstate 0.11.0" in warning
    assert str(tmp_path) in warning


def test_every_store_is_examined(place: Where) -> None:
    saver = SwarmStateSaver(place.store)
    grow(saver, 2, thread="alpha")
    place.store.set("users", "ada", 1)
    found = examined(*place.options)
    store = found["store"]
    assert store["threads"] == 1
    assert store["namespaces"] == 4
    assert store["latency"]["median_ms"] > 0
    assert store["values_that_cannot_be_decoded"].startswith("0 of the ")
    if place.prefix is None:
        assert store["kind"] == "file (SQLite)"
        assert store["path"] == place.store.path
        assert store["mode"] == "600"
        return
    assert store["kind"] == "Valkey"
    assert re.fullmatch(r"\d+\.\d+\.\d+", store["version"])
    assert store["prefix"] == place.prefix
    assert store["maxmemory_policy"] == "noeviction"
    assert store["cluster"] == ("cluster" in place.url)
    user = urlsplit(place.url).username
    restricted = user is not None
    assert store["user"] == (user or "default")
    assert store["scripts"] != restricted
    assert store["refused_commands"] == (None if restricted else [])
    assert any("may not run scripts" in each for each in problems(found, "warning")) == restricted
    assert place.prefix in good("doctor", *place.options)


def test_a_store_in_memory_is_said_to_be_empty() -> None:
    found = examined("memory://")
    assert found["store"]["kind"].startswith("memory: new, empty")


def test_what_each_command_is_needed_for_is_what_the_documents_say() -> None:
    assert {
        "stores": tuple(STORE),
        "scripts": tuple(SCRIPTS),
        "large calls": tuple(LARGE),
        "LangGraph threads": tuple(SAVER),
        "pages bounded by bytes": tuple(PAGES),
        "LangGraph memory": tuple(MEMORY),
        "fencing": tuple(FENCES),
    } == NEEDED


def test_missing_rights_are_named_with_what_grants_them(server: Server, raw: redis.Redis) -> None:
    wanted = [*STORE, *SCRIPTS, *LARGE, *PAGES, *FENCES]
    url = limited(server, raw, "doc", wanted)
    found = examined(url, "--prefix", "doc")
    lacks = {*SAVER, *MEMORY} - {*wanted}
    assert set(found["store"]["refused_commands"]) == lacks
    text = "\n".join(problems(found, "warning"))
    assert "ZREVRANGEBYLEX (for LangGraph threads)" in text
    (remedy,) = (p["do"] for p in found["problems"] if "LangGraph threads" in p["what"])
    user = found["store"]["user"]
    assert remedy.startswith(f"ACL SETUSER {user} ~doc:* ~!doc:* +exists")
    # What it says to do helps.
    raw.execute_command(*remedy.split())
    assert set(examined(url, "--prefix", "doc")["store"]["refused_commands"]) < lacks


def test_another_prefix_than_the_users_is_an_error(server: Server, raw: redis.Redis) -> None:
    url = limited(server, raw, "doc", [*STORE, *SCRIPTS])
    found = examined(url, "--prefix", "other", code=1)
    text = "\n".join(problems(found, "error"))
    assert "HSET" in text
    assert "may not write keys !other:*" in text


def test_with_all_the_rights_that_the_documents_list_nothing_is_refused(
    server: Server, raw: redis.Redis
) -> None:
    every = [*STORE, *SCRIPTS, *LARGE, *SAVER, *PAGES, *MEMORY, *FENCES]
    found = examined(limited(server, raw, "doc", every), "--prefix", "doc")
    assert found["store"]["refused_commands"] == []
    assert problems(found, "error") == []


@pytest.mark.parametrize("kind", [kind for kind in BINARIES if present(kind)])
def test_rights_are_not_known_where_a_server_cannot_be_asked(kind: str) -> None:
    with running(kind) as server, server.client() as client:
        every = [*STORE, *SCRIPTS]
        found = examined(limited(server, client, "doc", every), "--prefix", "doc")
        shown = good("doctor", server.url)
    refused = found["store"]["refused_commands"]
    if kind == "redis-6.2":
        assert refused is None
        assert re.search("refused commands +not known", shown)
    else:
        assert "zadd" in refused
        assert re.search("refused commands +none", shown)
    assert f"{'Valkey' if kind == 'valkey' else 'Redis'}\n" in shown


def test_what_a_server_does_to_state_is_told() -> None:
    options = ("--maxmemory-policy", "allkeys-lru", "--maxmemory", "100mb")
    with running("valkey", *options) as server:
        found = examined(server.url)
        text = "\n".join(problems(found, "warning"))
        assert "maxmemory-policy is allkeys-lru: a full server removes any key" in text
        assert "keeps nothing on disk" in text
        with server.client() as client:
            client.config_set("maxmemory", int(client.info("memory")["used_memory"] * 1.05))
            client.config_set("maxmemory-policy", "noeviction")
        text = "\n".join(problems(examined(server.url), "warning"))
        assert "are used" in text
        assert "maxmemory-policy" not in text


def test_a_replica_is_an_error() -> None:
    with running() as primary, RedisStore(primary.url) as store:
        store.set("users", "ada", 1)
        with running("valkey", "--replicaof", "127.0.0.1", str(primary.port)) as replica:
            with replica.client() as client:
                wait_until(lambda: client.info("replication").get("master_link_status") == "up")
            found = examined(replica.url, code=1)
    assert problems(found, "error") == ["this is a replica, which refuses writes"]
    assert found["store"]["namespaces"] == 1


def test_a_server_that_is_not_there_is_an_error() -> None:
    found = examined("redis://user:geheim@127.0.0.1:1/0", code=1)
    (problem,) = problems(found, "error")
    assert "127.0.0.1:1" in problem
    assert "geheim" not in json.dumps(found)


def test_a_file_that_others_may_read_is_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    DiskStore(path).close()
    os.chmod(path, 0o644)
    found = examined(f"sqlite:///{path}")
    (warning,) = problems(found, "warning")
    assert "may open" in warning
    assert [p["do"] for p in found["problems"]] == [f"chmod 600 {path}"]


def test_another_codec_is_recognised(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with DiskStore(path, codec="zstd") as store:
        store.set("n", "k", "value")
    found = examined(f"sqlite:///{path}", code=1)
    assert problems(found, "error") == ["1 value cannot be decoded with the codec msgpack"]
    assert "--codec zstd" in found["problems"][-1]["do"]
    assert problems(examined(f"sqlite:///{path}", "--codec", "zstd"), "error") == []
