"""What is copied, exported, imported, frozen and restored arrives as it was."""

from __future__ import annotations

import gzip
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack  # type: ignore[import-untyped]
import pytest
from places import Where, good, run
from threads import config, grow

from swarmstate import Store
from swarmstate.backends.disk import DiskStore
from swarmstate.cli import archives, moving
from swarmstate.integrations.langgraph import SwarmStateSaver
from swarmstate.protocols import StoreLike
from swarmstate.snapshots import contents

MakePlace = Callable[..., Where]


def content(store: StoreLike) -> dict[str, dict[str, bytes]]:
    return contents(store.snapshot())


def packed(*records: Any) -> bytes:
    pack: Any = msgpack.packb
    return b"".join(map(pack, records))


def filled(store: StoreLike) -> SwarmStateSaver:
    """Put threads, with a subgraph and writes of a checkpoint that is not there, and a value."""
    saver = SwarmStateSaver(store)
    grow(saver, 3, thread="alpha", writes=2)
    grow(saver, 2, thread="alpha", namespace="inner:1", writes=1)
    grow(saver, 2, thread="beta")
    saver.put_writes(config("beta", "", "to come"), [("x", 1)], "task")
    store.set("users", "ada", {"name": "Ada"})
    return saver


def threads_of(store: StoreLike) -> dict[str, Any]:
    saver = SwarmStateSaver(store)
    return {each: list(saver.list(config(each, None))) for each in saver.threads()}


def target_of(place: Where, source: Where) -> list[str]:
    more = ["--prefix", source.prefix] if source.prefix else []
    return more + (["--target-prefix", place.prefix] if place.prefix else [])


# Copies -----------------------------------------------------------------------------------------


def test_threads_are_copied_to_the_byte_and_only_once(
    place: Where, make_place: MakePlace, tmp_path: Path
) -> None:
    filled(place.store)
    path = f"{tmp_path}/copy.db"
    urls = (place.url, f"sqlite:///{path}")
    done = json.loads(good("copy", *urls, *place.options[2:], "--json"))
    assert (done["threads"], done["copied"], done["unchanged"]) == (2, 2, 0)
    expected = content(place.store)
    del expected["users"]
    with DiskStore(path) as copy:
        assert content(copy) == expected
        assert threads_of(copy) == threads_of(place.store)
    again = json.loads(good("copy", *urls, *place.options[2:], "--json"))
    assert (again["copied"], again["unchanged"], again["keys"]) == (0, 2, 0)
    # And back, to an empty place of the same kind.
    back = make_place()
    more = ["--target-prefix", back.prefix] if back.prefix else []
    good("copy", urls[1], back.url, *more)
    assert content(back.store) == expected
    assert threads_of(back.store) == threads_of(place.store)
    # What is derived there fits: it can be written to.
    saver = SwarmStateSaver(back.store)
    grow(saver, 1, thread="alpha")
    assert len(list(saver.list(config("alpha")))) == 4


def test_a_copy_that_was_interrupted_goes_on(tmp_path: Path) -> None:
    with DiskStore(tmp_path / "a.db") as store:
        filled(store)
        whole = content(store)
    urls = (f"sqlite:///{tmp_path}/a.db", f"sqlite:///{tmp_path}/b.db")
    good("copy", *urls, "--thread", "beta")
    with DiskStore(tmp_path / "b.db") as store:
        assert SwarmStateSaver(store).threads() == ["beta"]
        # As if it had stopped in the middle of a thread: what is there so far shows nothing.
        values = {k: v for k, v in whole.items() if k.startswith("langgraph:values:5")}
        merged = {**content(store), **values}
        from swarmstate import Snapshot

        store.restore(Snapshot.from_values(merged))
        assert SwarmStateSaver(store).threads() == ["beta"]
    done = json.loads(good("copy", *urls, "--json"))
    assert (done["copied"], done["unchanged"]) == (1, 1)
    with DiskStore(tmp_path / "b.db") as store:
        del whole["users"]
        assert content(store) == whole


def test_what_is_there_with_another_content_is_not_overwritten(tmp_path: Path) -> None:
    with DiskStore(tmp_path / "a.db") as store:
        grow(SwarmStateSaver(store), 2, thread="alpha")
        namespace = next(name for name in store.namespaces() if "values" in name)
        (key, *_) = store.keys(namespace)
    urls = (f"sqlite:///{tmp_path}/a.db", f"sqlite:///{tmp_path}/b.db")
    good("copy", *urls)
    with DiskStore(tmp_path / "b.db") as store:
        store.set(namespace, key, "something else")
        before = content(store)
    result = run("copy", *urls)
    assert result.exit_code == 1
    assert "thread 'alpha' is there with something else" in result.stderr
    with DiskStore(tmp_path / "b.db") as store:
        assert content(store) == before


def test_a_thread_that_is_not_there_makes_no_target(tmp_path: Path) -> None:
    DiskStore(tmp_path / "a.db").close()
    urls = (f"sqlite:///{tmp_path}/a.db", f"sqlite:///{tmp_path}/b.db")
    result = run("copy", *urls, "--thread", "lost")
    assert (result.exit_code, "there is no thread 'lost'" in result.stderr) == (1, True)
    assert not (tmp_path / "b.db").exists()
    assert run("copy", urls[0], urls[0]).exit_code == 2


def test_the_time_to_live_of_a_thread_goes_along(
    place: Where, make_place: MakePlace, tmp_path: Path
) -> None:
    grow(SwarmStateSaver(place.store, ttl=1000), 2, thread="alpha", writes=1)
    back = make_place()
    done = json.loads(good("copy", place.url, back.url, *target_of(back, place), "--json"))
    assert done["threads_without_their_expiry"] == 0
    for where in (place, back):
        archive = tmp_path / str(id(where))
        where.good("export", str(archive))
        _, *rest = records(archive)
        times = [record[2] - time.time() * 1000 for record in rest if record[0] == "namespace"]
        assert len(times) >= 4
        assert all(0 < left <= 1_000_000 for left in times)


def test_a_thread_that_stays_does_not_begin_to_expire_by_a_copy(
    place: Where, make_place: MakePlace, tmp_path: Path
) -> None:
    saver = SwarmStateSaver(place.store)
    last = grow(saver, 2, thread="alpha")
    back = make_place()
    good("copy", place.url, back.url, *target_of(back, place))
    # Now the original begins to expire, and has something more.
    SwarmStateSaver(place.store, ttl=1000).put_writes(last, [("x", 1)], "task")
    good("copy", place.url, back.url, *target_of(back, place))
    good("export", str(tmp_path / "archive"), *back.options)
    _, *rest = records(tmp_path / "archive")
    assert {record[2] for record in rest if record[0] == "namespace"} == {None}


def test_values_are_encoded_again_for_another_codec(tmp_path: Path) -> None:
    with DiskStore(tmp_path / "a.db", codec="zstd") as store:
        filled(store)
        expected = threads_of(store)
    urls = (f"sqlite:///{tmp_path}/a.db", f"sqlite:///{tmp_path}/b.db")
    good("copy", *urls, "--codec", "zstd", "--target-codec", "ormsgpack")
    with DiskStore(tmp_path / "b.db") as store:
        assert threads_of(store) == expected


# Archives ---------------------------------------------------------------------------------------


def records(path: str | Path) -> list[Any]:
    """Read an archive as any program would."""
    with gzip.open(path, "rb") as file:
        return list(msgpack.Unpacker(file))


@pytest.mark.parametrize("command", ["export", "snapshot"])
def test_an_archive_brings_everything_into_any_store(
    place: Where, make_place: MakePlace, tmp_path: Path, command: str
) -> None:
    filled(place.store)
    expected = content(place.store)
    archive = tmp_path / "archive"
    told = json.loads(good(command, str(archive), *place.options, "--json"))
    assert told["namespaces"] == len(expected)
    assert told["entries"] == sum(map(len, expected.values()))
    assert os.stat(archive).st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["archive"]
    head, *rest, end = records(archive)
    assert (head["format"], head["version"], head["kind"]) == ("swarmstate-archive", 1, command)
    assert end == ["end", len(expected), told["entries"]]
    assert [r[1] for r in rest if r[0] == "namespace"] == sorted(expected)
    back = make_place()
    back.store.set("others", "key", 1)
    good("import", str(archive), *back.options)
    assert back.store.get("others", "key") == 1
    back.store.delete("others", "key")
    assert content(back.store) == expected
    assert threads_of(back.store) == threads_of(place.store)
    again = json.loads(good("import", str(archive), *back.options, "--json"))
    assert (again["added"], again["replaced"], again["unchanged"]) == (0, 0, told["entries"])


@pytest.mark.parametrize("command", ["import", "copy"])
def test_whenever_it_is_interrupted_threads_are_whole_or_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    with DiskStore(tmp_path / "a.db") as store:
        filled(store)
        whole, expected = threads_of(store), content(store)
    archive, source = str(tmp_path / "archive"), f"sqlite:///{tmp_path}/a.db"
    good("export", archive, "--url", source)
    monkeypatch.setattr(archives, "_AT_ONCE", 1)
    monkeypatch.setattr(moving, "_AT_ONCE", 1)
    set_many = DiskStore.set_many
    seen = set()
    for most in range(100):
        target = f"sqlite:///{tmp_path}/{most}.db"
        left = [None] * most

        def interrupted(self: Any, items: Any, left: Any = left) -> None:
            if not left:
                raise KeyboardInterrupt
            left.pop()
            set_many(self, items)

        arguments = [archive, "--url", target] if command == "import" else [source, target]
        with monkeypatch.context() as patch:
            patch.setattr(DiskStore, "set_many", interrupted)
            result = run(command, *arguments)
        with DiskStore(tmp_path / f"{most}.db") as store:
            found = threads_of(store)
            for thread, history in found.items():
                assert history == whole[thread]
            seen.add(len(found))
        good(command, *arguments)
        with DiskStore(tmp_path / f"{most}.db") as store:
            assert threads_of(store) == whole
            if command == "import":
                assert content(store) == expected
        if result.exit_code == 0:
            break
    assert result.exit_code == 0
    assert {0, len(whole)} <= seen


@pytest.mark.parametrize("command", ["import", "copy"])
def test_whenever_it_is_interrupted_a_thread_that_grows_has_only_whole_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    archive, source = str(tmp_path / "archive"), f"sqlite:///{tmp_path}/a.db"
    with DiskStore(tmp_path / "a.db") as store:
        saver = SwarmStateSaver(store)
        grow(saver, 1, thread="alpha", writes=1)
        before = store.snapshot()
        grow(saver, 2, thread="alpha")
        whole = threads_of(store)["alpha"]
    good("export", archive, "--url", source)
    monkeypatch.setattr(archives, "_AT_ONCE", 1)
    monkeypatch.setattr(moving, "_AT_ONCE", 1)
    set_many = DiskStore.set_many
    seen = set()
    for most in range(100):
        target = f"sqlite:///{tmp_path}/{most}.db"
        with DiskStore(tmp_path / f"{most}.db") as store:
            store.restore(before)
        left = [None] * most

        def interrupted(self: Any, items: Any, left: Any = left) -> None:
            if not left:
                raise KeyboardInterrupt
            left.pop()
            set_many(self, items)

        arguments = [archive, "--url", target] if command == "import" else [source, target]
        with monkeypatch.context() as patch:
            patch.setattr(DiskStore, "set_many", interrupted)
            result = run(command, *arguments)
        with DiskStore(tmp_path / f"{most}.db") as store:
            found = threads_of(store)["alpha"]
        assert all(one in whole for one in found)
        seen.add(len(found))
        if result.exit_code == 0:
            break
    assert seen == {1, 2, 3}


def test_a_thread_that_stays_does_not_begin_to_expire_by_an_import(
    place: Where, make_place: MakePlace, tmp_path: Path
) -> None:
    saver = SwarmStateSaver(place.store)
    last = grow(saver, 2, thread="alpha")
    back = make_place()
    first, second = str(tmp_path / "first"), str(tmp_path / "second")
    place.good("export", first)
    back.good("import", first)
    SwarmStateSaver(place.store, ttl=1000).put_writes(last, [("x", 1)], "task")
    place.good("export", second)
    done = back.json("import", second)
    assert done["added"] > 0
    assert done["namespaces_without_their_expiry"] > 0
    back.good("export", first, "--yes")
    _, *rest = records(first)
    assert {record[2] for record in rest if record[0] == "namespace"} == {None}


def test_a_restore_makes_the_store_what_the_file_holds(place: Where, tmp_path: Path) -> None:
    filled(place.store)
    expected = content(place.store)
    archive = str(tmp_path / "archive")
    place.good("snapshot", archive)
    grow(SwarmStateSaver(place.store), 1, thread="alpha")
    place.store.set_many([("users", "ada", "changed"), ("others", "key", 1)])
    changed = content(place.store)
    result = place.run("restore", archive, answer="n\n")
    assert result.exit_code == 1
    assert "Go on?" in result.stderr
    assert content(place.store) == changed
    done = json.loads(place.good("restore", archive, "--yes", "--json"))
    assert done["added"] == 0
    assert done["removed"] >= 3
    assert done["changed"] == 1
    assert content(place.store) == expected
    # Nothing to do, so nothing to ask.
    assert "0 added, 0 removed, 0 changed" in place.good("restore", archive)


def test_an_import_asks_before_it_replaces_values(place: Where, tmp_path: Path) -> None:
    place.store.set_many([("users", "ada", 1), ("users", "bob", 2)])
    archive = str(tmp_path / "archive")
    place.good("export", archive)
    place.store.set_many([("users", "ada", 3), ("users", "eve", 4)])
    place.store.delete("users", "bob")
    result = place.run("import", archive)
    assert result.exit_code == 1
    assert "1 key of the store have another value" in result.stderr
    assert place.store.keys("users", "bob") == []
    place.good("import", archive, answer="y\n")
    assert sorted(place.store.items("users")) == [("ada", 1), ("bob", 2), ("eve", 4)]


def test_a_file_that_is_there_is_not_replaced_without_a_yes(tmp_path: Path) -> None:
    with DiskStore(tmp_path / "a.db") as store:
        store.set("n", "k", 1)
    archive = tmp_path / "archive"
    archive.write_text("precious")
    where = ["--url", f"sqlite:///{tmp_path}/a.db"]
    for command in ("export", "snapshot"):
        assert run(command, str(archive), *where).exit_code == 1
        assert archive.read_text() == "precious"
    good("export", str(archive), *where, answer="y\n")
    assert records(archive)[-1] == ["end", 1, 1]


def test_an_archive_that_was_cut_anywhere_is_refused_before_anything_is_written(
    tmp_path: Path,
) -> None:
    with DiskStore(tmp_path / "a.db") as store:
        store.set_many([("n", f"k{number}", number) for number in range(20)])
    archive, cut = tmp_path / "archive", tmp_path / "cut"
    good("export", str(archive), "--url", f"sqlite:///{tmp_path}/a.db")
    whole = archive.read_bytes()
    target = tmp_path / "b.db"
    for command in (["import"], ["restore", "--yes"]):
        for length in range(0, len(whole), 7):
            cut.write_bytes(whole[:length])
            result = run(command[0], str(cut), *command[1:], "--url", f"sqlite:///{target}")
            assert result.exit_code == 1, length
            assert "Error: " in result.stderr
            assert not target.exists(), length
    # Whole gzip, but a stream without its end.
    stream = gzip.decompress(whole)
    for length in range(0, len(stream), 11):
        cut.write_bytes(gzip.compress(stream[:length]))
        result = run("import", str(cut), "--url", f"sqlite:///{target}")
        assert result.exit_code == 1, length
        assert not target.exists(), length


DAMAGED = {
    "text": (b"not an archive", "not an archive"),
    "another stream": (gzip.compress(packed({"format": "other"})), "not an archive"),
    "a newer version": (
        gzip.compress(packed({"format": "swarmstate-archive", "version": 2})),
        "is of version 2, and this version of swarmstate reads 1",
    ),
    "a head without its parts": (
        gzip.compress(packed({"format": "swarmstate-archive", "version": 1})),
        "its head lacks kind",
    ),
    "a huge length": (gzip.compress(b"\xdd\xff\xff\xff\xff"), "is damaged"),
    "a huge text": (gzip.compress(b"\xdb\xff\xff\xff\xff"), "not an archive"),
}


@pytest.mark.parametrize(("data", "message"), DAMAGED.values(), ids=DAMAGED)
def test_what_is_no_archive_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    archive = tmp_path / "archive"
    archive.write_bytes(data)
    for command in ("import", "restore"):
        result = run(command, str(archive), "--url", f"sqlite:///{tmp_path}/b.db")
        assert result.exit_code == 1
        assert message in result.stderr
    assert not (tmp_path / "b.db").exists()


def _header(**changes: Any) -> dict[str, Any]:
    head = {"format": "swarmstate-archive", "version": 1, "kind": "export", "made": 0}
    return {**head, "codec": "msgpack", "wire": "msgpack", **changes}


@pytest.mark.parametrize(
    "stream",
    [
        [_header(), ["entry", "k", b"\1"], ["end", 0, 1]],
        [_header(), ["namespace", "n", None], ["entry", "k", "text"], ["end", 1, 1]],
        [_header(), ["namespace", 5, None], ["end", 1, 0]],
        [_header(), ["namespace", "n", "soon"], ["end", 1, 0]],
        [_header(), ["end", 1, 1]],
        [_header(), ["end", 0, 0], ["end", 0, 0]],
        [_header(), "text"],
        [_header(codec=1)],
    ],
)
def test_a_stream_that_says_something_else_is_refused(tmp_path: Path, stream: list[Any]) -> None:
    archive = tmp_path / "archive"
    archive.write_bytes(gzip.compress(packed(*stream)))
    result = run("import", str(archive), "--url", f"sqlite:///{tmp_path}/b.db")
    assert result.exit_code == 1
    assert "is damaged" in result.stderr
    assert not (tmp_path / "b.db").exists()


def test_what_expired_meanwhile_is_left_out_and_what_has_not_expires(
    place: Where, tmp_path: Path
) -> None:
    now = int(time.time() * 1000)
    archive = tmp_path / "archive"
    stream = [
        _header(),
        ["namespace", "gone", now - 1000],
        ["entry", "k", b"\1"],
        ["namespace", "lasting", None],
        ["entry", "k", b"\2"],
        ["namespace", "passing", now + 3_600_000],
        ["entry", "k", b"\3"],
        ["end", 3, 3],
    ]
    archive.write_bytes(gzip.compress(packed(*stream)))
    done = json.loads(place.good("import", str(archive), "--json"))
    assert done["expired_namespaces"] == 1
    assert done["namespaces_without_their_expiry"] == 0
    assert {name: place.store.items(name) for name in place.store.namespaces()} == {
        "lasting": [("k", 2)],
        "passing": [("k", 3)],
    }
    place.good("export", str(tmp_path / "again"))
    _, *rest = records(tmp_path / "again")
    times = {r[1]: r[2] for r in rest if r[0] == "namespace"}
    assert times["lasting"] is None
    assert abs(times["passing"] - (now + 3_600_000)) < 60_000


def test_bytes_that_no_codec_decodes_are_carried_along(place: Where, tmp_path: Path) -> None:
    from swarmstate import Snapshot

    place.store.restore(Snapshot.from_values({"n": {"bad": b"\xc1", "good": b"\1"}}))
    archive = str(tmp_path / "archive")
    place.good("export", archive)
    with DiskStore(tmp_path / "b.db") as store:
        good("import", archive, "--url", f"sqlite:///{tmp_path}/b.db")
        assert content(store) == {"n": {"bad": b"\xc1", "good": b"\1"}}


def test_a_snapshot_of_a_store_in_memory_is_restored_by_the_command(tmp_path: Path) -> None:
    memory = Store()
    filled(memory)
    with DiskStore(tmp_path / "a.db") as store:
        store.restore(memory.snapshot())
    good("snapshot", f"{tmp_path}/x", "--url", f"sqlite:///{tmp_path}/a.db")
    good("restore", f"{tmp_path}/x", "--url", f"sqlite:///{tmp_path}/b.db", "--yes")
    with DiskStore(tmp_path / "b.db") as store:
        assert content(store) == content(memory)
