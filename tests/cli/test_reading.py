"""What the commands show, and that showing it changes nothing."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import sqlite3
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import pytest
from places import Where, good, run
from threads import config, grow

import swarmstate
from swarmstate.backends.disk import DiskStore
from swarmstate.integrations.langgraph import SwarmStateSaver
from swarmstate.snapshots import contents


def filled(place: Where) -> dict[str, Any]:
    """Put two threads and a value there; return the names of what there is."""
    saver = SwarmStateSaver(place.store)
    first = grow(saver, 1, thread="alpha")
    last = grow(saver, 2, thread="alpha")
    saver.put_writes(last, [("messages", ["hello"]), ("count", 3)], "task-1", "~path")
    inner = grow(saver, 2, thread="alpha", namespace="inner:1")
    newest = grow(saver, 1, thread="beta")
    place.store.set_many([("users", "ada", {"name": "Ada"}), ("users", "bob", [1, b"\0\1"])])
    ids = [one["configurable"]["checkpoint_id"] for one in (first, last, inner, newest)]
    return dict(zip(("first", "last", "inner", "newest"), ids, strict=True))


def test_threads_come_newest_first(place: Where) -> None:
    ids = filled(place)
    beta, alpha = place.json("threads")
    assert beta["thread"] == "beta"
    assert beta["newest"] == ids["newest"]
    assert (alpha["thread"], alpha["checkpoints"], alpha["namespaces"]) == ("alpha", 5, 2)
    assert alpha["newest"] == ids["inner"]
    assert [row["thread"] for row in place.json("threads", "--limit", "1")] == ["beta"]
    table = place.good("threads")
    assert ids["newest"] in table
    assert "alpha" in table


def test_the_history_of_a_thread_names_each_checkpoint_with_its_parent(place: Where) -> None:
    ids = filled(place)
    rows = place.json("history", "alpha", "--ns", "")
    assert [row["metadata"]["step"] for row in rows] == [1, 0, 0]
    assert (rows[0]["checkpoint"], rows[-1]["checkpoint"]) == (ids["last"], ids["first"])
    assert rows[0]["parent"] == rows[1]["checkpoint"]
    assert set(rows[0]["versions"]) == {"kept", "step"}
    everywhere = place.json("history", "alpha")
    assert {row["namespace"] for row in everywhere} == {"", "inner:1"}
    assert everywhere[0]["checkpoint"] == ids["inner"]


def test_a_checkpoint_is_shown_with_its_values_and_writes(place: Where) -> None:
    ids = filled(place)
    shown = place.json("show", "alpha")
    assert shown["checkpoint"] == ids["last"]
    assert shown["metadata"] == {"step": 1}
    assert shown["channels"]["step"]["value"] == 1
    assert shown["channels"]["kept"]["value"] == "the same all along"
    assert [(w["task"], w["channel"], w["value"]) for w in shown["writes"]] == [
        ("task-1", "messages", ["hello"]),
        ("task-1", "count", 3),
    ]
    older = place.json("show", "alpha", ids["first"], "--channel", "step")
    assert list(older["channels"]) == ["step"]
    assert older["channels"]["step"]["value"] == 0
    inner = place.json("show", "alpha", ids["inner"])
    assert inner["namespace"] == "inner:1"
    text = place.good("show", "alpha")
    assert f"checkpoint  {ids['last']}" in text
    assert '"the same all along"' in text


def test_a_difference_names_the_channels_that_changed(place: Where) -> None:
    ids = filled(place)
    found = place.json("diff", "alpha", ids["first"], ids["last"])
    assert list(found["channels"]) == ["step"]
    assert found["channels"]["step"]["changes"] == [
        {"path": "", "change": "changed", "before": 0, "after": 1}
    ]
    assert "channel step: changed" in place.good("diff", "alpha", ids["first"], ids["last"])


def test_pending_writes_are_listed(place: Where) -> None:
    ids = filled(place)
    everywhere = place.json("writes")
    assert [row["channel"] for row in everywhere] == ["messages", "count"]
    assert {row["checkpoint"] for row in everywhere} == {ids["last"]}
    assert place.json("writes", "alpha", ids["last"]) == everywhere
    assert place.json("writes", "beta") == []
    assert place.json("writes", "alpha", "--all") == everywhere


def test_sizes_are_those_of_what_is_stored(place: Where) -> None:
    filled(place)
    found = place.json("sizes")
    assert [row["thread"] for row in found["threads"]] == ["alpha", "beta"]
    alpha = found["threads"][0]
    assert {"kept", "step", "(records)", "(pending writes)"} == set(alpha["channels"])
    assert sum(alpha["channels"].values()) == alpha["bytes"]
    stored = contents(place.store.snapshot())
    total = sum(len(k.encode()) + len(v) for held in stored.values() for k, v in held.items())
    assert found["bytes"] == total
    assert found["other"] == sum(len(k) + len(v) for k, v in stored["users"].items())
    one = place.json("sizes", "--thread", "beta")
    assert one["threads"] == found["threads"][1:]
    assert str(alpha["bytes"]) in place.good("sizes")


def test_namespaces_keys_and_values_are_shown(place: Where) -> None:
    filled(place)
    assert "users" in place.json("namespaces")
    assert place.json("namespaces", "us") == ["users"]
    assert place.json("namespaces", "users", "--count") == [
        {"namespace": "users", "keys": 2, "bytes": 22}
    ]
    assert place.json("keys", "users") == ["ada", "bob"]
    assert place.json("keys", "users", "b") == ["bob"]
    assert place.json("get", "users", "ada")["value"] == {"name": "Ada"}
    bob = place.json("get", "users", "bob")
    assert bob["value"] == [1, {"$bytes": 2, "$hex": "0001"}]
    assert place.good("namespaces", "us") == "users\n"
    assert place.good("keys", "users") == "ada\nbob\n"
    raw = place.run("get", "users", "bob", "--raw")
    assert raw.stdout_bytes == bytes.fromhex("9201c4020001")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["history", "gamma"], "there is no thread 'gamma'"),
        (["show", "gamma"], "there is no thread 'gamma'"),
        (["show", "alpha", "nothing"], "has no checkpoint 'nothing'"),
        (["show", "alpha", "--channel", "nothing"], "no channel 'nothing'"),
        (["diff", "alpha", "nothing", "else"], "has no checkpoint 'nothing'"),
        (["writes", "gamma"], "there is no thread 'gamma'"),
        (["sizes", "--thread", "gamma"], "there is no thread 'gamma'"),
        (["keys", "nothing"], "there is no namespace 'nothing'"),
        (["get", "users", "nothing"], "there is no key 'nothing' in namespace 'users'"),
    ],
)
def test_what_is_not_there_is_said_and_ends_with_1(
    place: Where, arguments: list[str], message: str
) -> None:
    filled(place)
    result = place.run(*arguments)
    assert result.exit_code == 1
    assert message in result.stderr
    assert result.stdout == ""


READING = {
    "doctor": ["doctor"],
    "threads": ["threads"],
    "history": ["history", "alpha"],
    "show": ["show", "alpha"],
    "diff": ["diff", "alpha", "FIRST", "LAST"],
    "writes": ["writes"],
    "sizes": ["sizes"],
    "namespaces": ["namespaces", "--count"],
    "keys": ["keys", "users"],
    "get": ["get", "users", "ada"],
    "export": ["export", "FILE"],
    "snapshot": ["snapshot", "FILE"],
    "watch": ["watch", "--looks", "2", "--interval", "0"],
    "prune": ["prune", "--keep", "1", "--idle", "0", "--dry-run"],
    "delete": ["delete", "alpha"],
    "copy": ["copy", "SOURCE", "TARGET"],
}
"""Every command that reads, and those that would remove, up to their question."""


def everything(place: Where) -> Any:
    """Return every byte of a place: the file, or all keys with their types and contents."""
    if place.prefix is None:
        log = Path(f"{place.store.path}-wal")
        # SQLite makes its log for readers too, and leaves it to the next writer.
        return Path(place.store.path).read_bytes(), log.read_bytes() if log.exists() else b""
    found: dict[bytes, Any] = {}
    for node in nodes(place):
        with node:
            for key in node.keys("*"):
                if place.prefix.encode() in key:
                    found[key] = node.type(key), node.pttl(key), node.dump(key)
    return found


def nodes(place: Where) -> list[Any]:
    import redis

    host = place.url.rpartition("@")[2].rpartition("://")[2].partition("/")[0]
    if "+cluster" in place.url:
        with redis.RedisCluster.from_url(f"redis://{host}") as client:
            ports = [int(node.port) for node in client.get_primaries()]
        return [redis.Redis(port=port) for port in ports]
    return [redis.Redis.from_url(f"redis://{host}/0")]


@pytest.mark.parametrize("command", READING)
def test_reading_writes_nothing(place: Where, tmp_path: Path, command: str) -> None:
    ids = filled(place)
    # Nothing that is derived fits any more: whoever may write puts it right by reading.
    place.store.restore(place.store.snapshot())
    if place.prefix is None:
        place.store.close()
    before = everything(place)
    names = {
        "FIRST": ids["first"],
        "LAST": ids["last"],
        "FILE": str(tmp_path / "archive"),
        "SOURCE": place.url,
        "TARGET": f"sqlite:///{tmp_path}/copy.db",
    }
    arguments = [names.get(each, each) for each in READING[command]]
    options = place.options if command != "copy" else place.options[2:]
    result = run(*arguments, *options)
    asked = command == "delete"
    assert result.exit_code == int(asked), result.output
    assert everything(place) == before


def test_a_saver_with_rights_would_have_written(place: Where) -> None:
    if place.prefix is None or "@" in place.url:
        pytest.skip("only where scripts put right what is derived")
    filled(place)
    place.store.restore(place.store.snapshot())
    before = everything(place)
    assert SwarmStateSaver(place.store).get_tuple(config("alpha")) is not None
    assert everything(place) != before


@pytest.mark.parametrize("command", [name for name in READING if name != "copy"])
def test_a_file_that_is_not_there_is_an_error_and_is_not_made(tmp_path: Path, command: str) -> None:
    path = tmp_path / "missing.db"
    arguments = [str(tmp_path / "x") if each == "FILE" else each for each in READING[command]]
    result = run(*arguments, "--url", f"sqlite:///{path}")
    assert result.exit_code == 1
    assert "there is no such file" in result.output
    assert os.listdir(tmp_path) == []


def test_a_file_of_another_program_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE notes(text)")
    other.close()
    before = path.read_bytes()
    for command in (["threads"], ["delete", "alpha", "--yes"]):
        result = run(*command, "--url", f"sqlite:///{path}")
        assert result.exit_code == 2
        assert "of another program" in result.stderr
    assert path.read_bytes() == before


def test_the_variable_names_the_store_where_no_option_does(
    place: Where, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(place)
    monkeypatch.setenv("SWARMSTATE_URL", place.url)
    monkeypatch.setenv("SWARMSTATE_PREFIX", place.prefix or "unused")
    assert good("keys", "users") == "ada\nbob\n"


LONG = "t" * 300
ODD = 'a\x1b[31m"red[/red]\n\u202e\U0001f600:smile:é'


def test_ids_are_neither_cut_nor_obeyed(tmp_path: Path) -> None:
    path = f"{tmp_path}/ids.db"
    with DiskStore(path) as store:
        saver = SwarmStateSaver(store)
        for thread in (LONG, ODD, "[bold]x[/bold]"):
            grow(saver, 1, thread=thread)
        store.set(LONG, ODD, 1)
    where = ["--url", f"sqlite:///{path}"]
    table = good("threads", *where)
    assert LONG in table
    assert "[bold]x[/bold]" in table
    assert 'a\\x1b[31m"red[/red]\\n\\u202e\U0001f600:smile:é' in table
    assert "\x1b" not in table
    assert "\x1b" not in good("show", ODD, *where)
    assert "\x1b" not in good("keys", LONG, *where)
    assert good("keys", LONG, *where).count("\n") == 1


def in_a_terminal(columns: int, *arguments: str) -> str:
    """Return what the command prints in a terminal of so many columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    with subprocess.Popen(
        [sys.executable, "-m", "swarmstate", *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=Path(swarmstate.__file__).parent.parent,
        env={**os.environ, "TERM": "xterm", "COLUMNS": ""},
    ) as process:
        os.close(theirs)
        printed = bytearray()
        try:
            while part := os.read(ours, 65536):
                printed += part
        except OSError:  # the other end is closed
            pass
        finally:
            os.close(ours)
    assert process.returncode == 0
    return printed.decode()


def test_in_a_narrow_terminal_ids_are_folded_and_not_cut(tmp_path: Path) -> None:
    thread = "".join(f"<{number}>" for number in range(40))
    with DiskStore(tmp_path / "a.db") as store:
        newest = grow(SwarmStateSaver(store), 1, thread=thread)["configurable"]["checkpoint_id"]
    printed = in_a_terminal(60, "threads", "--url", f"sqlite:///{tmp_path}/a.db")
    lines = re.sub(r"\x1b\[[0-9;]*m", "", printed).splitlines()
    assert len(lines) > 4
    assert max(map(len, lines)) <= 60
    assert "\u2026" not in printed
    rule = next(at for at, line in enumerate(lines) if line.startswith("\u2500"))
    rows = lines[rule + 1 :]
    width = rows[0].index(" ")
    assert "".join(row[:width].strip() for row in rows) == thread
    start = rows[0].index(newest[:4])
    assert "".join(row[start:].split(" ")[0] for row in rows).strip() == newest
