"""The file: where it is, who may have it, what is refused, and what other programs see of it."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from swarmstate import dumps
from swarmstate.backends.disk import AsyncDiskStore, DiskStore, connections
from swarmstate.backends.disk.connections import filesystem_of
from swarmstate.backends.disk.schema import split
from swarmstate.checkpoints import names
from swarmstate.errors import (
    AccessDenied,
    ArgumentTypeError,
    ArgumentValueError,
    DecodeError,
    StoreUnavailable,
)

Make = Callable[..., DiskStore]


def bytes_of(folder: Path) -> dict[str, bytes]:
    """What lies in a folder; only for files that nobody has open."""
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}


# Where it is --------------------------------------------------------------------------------------


def test_the_path_is_absolute_from_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    monkeypatch.chdir(first)
    with DiskStore("state.db") as store:
        monkeypatch.chdir(second)
        store.set("n", "k", 1)
        assert store.snapshot().get("n", "k") == 1
        assert store.path == str(first / "state.db")
    assert list(second.iterdir()) == []


def test_the_default_is_a_file_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    DiskStore().close()
    assert (tmp_path / "swarmstate.db").exists()


def test_a_path_may_begin_with_two_slashes(tmp_path: Path) -> None:
    with DiskStore(f"/{tmp_path}/state.db") as store:
        store.set("n", "k", 1)
    with DiskStore(tmp_path / "state.db") as store:
        assert store.get("n", "k") == 1


@pytest.mark.parametrize("name", ["a b", "a?b=c", "a#b", "a%20b", "é🐝", "a'b\"c", "file:x", "a&b"])
def test_a_name_is_taken_literally(tmp_path: Path, name: str) -> None:
    with DiskStore(tmp_path / name) as store:
        store.set("n", "k", name)
    with DiskStore(str(tmp_path / name)) as store:
        assert store.get("n", "k") == name
    assert [file.name for file in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("path", [None, 5, ["x.db"], object()], ids=lambda p: type(p).__name__)
def test_what_is_no_path_is_refused(path: Any) -> None:
    with pytest.raises(ArgumentTypeError, match=r"path must be a str or an os\.PathLike"):
        DiskStore(path)


@pytest.mark.parametrize(
    ("path", "hint"),
    [(":memory:", "Store"), ("", "file"), ("a\0b", "file"), ("sqlite:///x.db", "open_store")],
)
def test_a_path_that_can_name_no_file_is_refused(path: str, hint: str) -> None:
    with pytest.raises(ArgumentValueError, match=f"path must be.*{hint}"):
        DiskStore(path)


def test_a_folder_is_refused_and_a_missing_one_named(tmp_path: Path) -> None:
    with pytest.raises(ArgumentValueError, match="is a folder"):
        DiskStore(tmp_path)
    with pytest.raises(StoreUnavailable, match=r"there is no folder .*missing"):
        DiskStore(tmp_path / "missing" / "state.db")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"synchronous": "OFF"}, ArgumentValueError),
        ({"synchronous": 1}, ArgumentTypeError),
        ({"timeout": 0}, ArgumentValueError),
        ({"timeout": "1"}, ArgumentTypeError),
        ({"ttl": 0}, ArgumentValueError),
        ({"ttl": "1"}, ArgumentTypeError),
        ({"ttl_on_read": True}, ArgumentValueError),
        ({"read_only": True, "ttl": 5}, ArgumentValueError),
    ],
)
def test_a_wrong_option_is_named_and_no_file_made(
    path: Path, options: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error, match=next(iter(options))):
        DiskStore(path, **options)
    assert not path.exists()


# Who may have it ----------------------------------------------------------------------------------


def test_only_its_owner_can_read_it(make: Make, path: Path) -> None:
    before = os.umask(0o022)
    try:
        make().set("n", "k", 1)
    finally:
        os.umask(before)
    files = [path, path.with_name("state.db-wal"), path.with_name("state.db-shm")]
    assert [stat.S_IMODE(file.stat().st_mode) for file in files] == [0o600] * 3


def unprivileged(path: Path, kind: str) -> str:
    """Use a file as a user without rights; return what was said."""
    ran = subprocess.run(
        [sys.executable, "-c", TRY, str(path), kind], capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


# Some installations of Python can be read by their owner alone, so all is imported before.
TRY = """if True:
    import encodings.idna, os, sys
    from swarmstate import Store
    from swarmstate.backends.disk import DiskStore
    from swarmstate.errors import SwarmStateError
    Store().set("n", "k", 1)
    os.getuid() or os.setuid(65534)
    try:
        store = DiskStore(sys.argv[1], read_only=sys.argv[2] == "reader")
        store.get("n", "k")
        store.set("n", "k", 1)
    except SwarmStateError as error:
        print(type(error).__name__, error)
"""


@pytest.fixture
def for_all() -> Iterator[Path]:
    """A folder that users without rights can reach; those of pytest are its user's alone."""
    with tempfile.TemporaryDirectory(prefix="swarmstate-files-") as outer:
        Path(outer).chmod(0o755)
        inner = Path(outer) / "inner"
        inner.mkdir(mode=0o755)
        yield inner


@pytest.mark.parametrize("kind", ["writer", "reader"])
def test_a_read_only_folder_is_a_clear_error(for_all: Path, kind: str) -> None:
    path = for_all / "state.db"
    with DiskStore(path) as store:
        store.set("n", "k", 1)
    path.chmod(0o666)
    for_all.chmod(0o555)
    said = unprivileged(path, kind)
    assert said.startswith("AccessDenied")
    assert f"the folder {for_all} is read-only for us" in said
    if kind == "writer":
        said = unprivileged(for_all / "other.db", kind)
        assert said.startswith("AccessDenied")
    assert [file.name for file in for_all.iterdir()] == ["state.db"]


@pytest.mark.parametrize("mode", [0o444, 0o000])
def test_a_file_that_we_may_not_write_is_a_clear_error(for_all: Path, mode: int) -> None:
    path = for_all / "state.db"
    with DiskStore(path) as store:
        store.set("n", "k", 1)
    for_all.chmod(0o777)
    path.chmod(mode)
    said = unprivileged(path, "writer")
    assert said.startswith(f"AccessDenied {path} cannot be opened for writing")


# Closing a descriptor of a file drops the locks that the process has on it ------------------------

# What Python opens is told to audit hooks; SQLite's own opening is another event.
WATCHED = """if True:
    import asyncio, os, sys
    from swarmstate import open_store
    from swarmstate.backends.disk import AsyncDiskStore, DiskStore
    path, opened, new = sys.argv[1], [], os.O_CREAT | os.O_EXCL
    def opening(event, args):
        if event == "open" and str(args[0]) in (path, path + "-wal", path + "-shm"):
            opened.append((args[0], args[2] & new == new))
    sys.addaudithook(opening)
    for _ in range(2):
        with DiskStore(path) as store, DiskStore(path, read_only=True) as reader:
            store.set("n", "k", 1)
            reader.get("n", "k")
            store.restore(store.snapshot())
            store.backup(path + ".copy")
            store.delete_namespace("n")
            store.compact()
            store.driver.database.checkpoint()
            if os.fork() == 0:
                store.set("n", "child", 1)
                sys.exit(0)
            os.wait()
        with open_store("sqlite:///" + path) as store:
            len(store)
    async def awaited():
        async with AsyncDiskStore(path) as store:
            await store.set("n", "k", 1)
            await store.compact()
    asyncio.run(awaited())
    print(set(opened))
"""


def test_the_file_is_opened_by_sqlite_alone_once_it_is_there(path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-c", WATCHED, str(path)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    # Only to make it: that gives no descriptor of a file which is there, and may be locked.
    assert ran.stdout.splitlines() == [str({(str(path), True)})], ran.stderr


def test_no_other_store_of_the_process_uses_a_file_while_it_is_made(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is there already, and its descriptor about to be closed."""
    really_open = os.open
    early: list[bool] = []
    second = threading.Thread(target=lambda: DiskStore(path).close())

    def made(name: Any, *arguments: Any, **options: Any) -> int:
        descriptor = really_open(name, *arguments, **options)
        if name == str(path) and not early:
            early.append(True)
            second.start()
            second.join(0.3)
            early[0] = not second.is_alive()
        return descriptor

    monkeypatch.setattr(os, "open", made)
    DiskStore(path).close()
    second.join()
    assert early == [False]


# What is refused ----------------------------------------------------------------------------------


def foreign(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()


@pytest.mark.parametrize(
    "statements",
    [
        ["CREATE TABLE t(x)", "INSERT INTO t VALUES(1)"],
        ["PRAGMA journal_mode=WAL", "CREATE TABLE t(x)"],
        ["PRAGMA user_version=1"],
        ["PRAGMA application_id=77", "CREATE TABLE space(id, name, expires)"],
    ],
)
@pytest.mark.parametrize("read_only", [False, True])
def test_a_file_of_another_program_is_refused_untouched(
    path: Path, statements: list[str], read_only: bool
) -> None:
    foreign(path, *statements)
    before = path.read_bytes()
    for _ in range(2):
        with pytest.raises(ArgumentValueError, match=r"another program.*not touched"):
            DiskStore(path, read_only=read_only)
    assert path.read_bytes() == before


def test_another_program_s_log_is_left_as_it_is(path: Path) -> None:
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("PRAGMA journal_mode=WAL")
    writer.execute("CREATE TABLE t(x)")
    with pytest.raises(ArgumentValueError, match="another program"):
        DiskStore(path)
    log = path.with_name("state.db-wal")
    assert log.stat().st_size > 0
    assert writer.execute("SELECT count(*) FROM t").fetchone() == (0,)
    writer.close()


def test_what_a_crashed_program_left_in_its_log_stays_there(path: Path, tmp_path: Path) -> None:
    writer = sqlite3.connect(tmp_path / "open.db", isolation_level=None)
    writer.execute("PRAGMA journal_mode=WAL")
    writer.execute("CREATE TABLE t(x)")
    # As after a crash: with a log that nobody has copied.
    log = path.with_name("state.db-wal")
    shutil.copy(tmp_path / "open.db", path)
    shutil.copy(tmp_path / "open.db-wal", log)
    writer.close()
    before = path.read_bytes(), log.read_bytes()
    with pytest.raises(ArgumentValueError, match="another program"):
        DiskStore(path)
    assert (path.read_bytes(), log.read_bytes()) == before


def test_a_file_of_a_newer_format_is_refused_untouched(make: Make, path: Path) -> None:
    make().close()
    foreign(path, "PRAGMA user_version=2")
    before = path.read_bytes()
    with pytest.raises(ArgumentValueError, match=r"has format 2, and this version .* reads 1"):
        make()
    assert path.read_bytes() == before


def test_what_is_no_database_is_refused_untouched(path: Path) -> None:
    path.write_bytes(b"this is a letter to a friend, not a database\n" * 100)
    before = path.read_bytes()
    for read_only in (False, True):
        with pytest.raises(ArgumentValueError, match="not a SQLite file"):
            DiskStore(path, read_only=read_only)
    assert bytes_of(path.parent) == {"state.db": before}


def test_a_file_of_the_rust_package_is_named_as_such(path: Path) -> None:
    foreign(path, "CREATE TABLE kv(namespace TEXT, key TEXT, value BLOB)")
    with pytest.raises(ArgumentValueError, match=r"Rust package.*docs/disk\.md"):
        DiskStore(path)


def test_a_file_that_another_tool_took_out_of_its_mode_is_put_back(path: Path) -> None:
    with DiskStore(path) as store:
        store.set("n", "k", 1)
    foreign(path, "PRAGMA journal_mode=DELETE")
    with DiskStore(path) as store:
        assert store.get("n", "k") == 1
        mode = store.driver.database.read(
            lambda connection: connection.execute("PRAGMA journal_mode").fetchone()
        )
    assert mode == ("wal",)


def test_an_empty_file_becomes_a_store(path: Path) -> None:
    path.touch()
    with DiskStore(path) as store:
        store.set("n", "k", 1)
    with DiskStore(path) as store:
        assert store.get("n", "k") == 1


@pytest.mark.parametrize("gone", ["removed", "replaced"])
def test_a_file_that_is_gone_is_an_error_and_no_other_one_is_made(
    make: Make, path: Path, tmp_path: Path, gone: str
) -> None:
    store = make()
    store.set("n", "k", 1)
    if gone == "replaced":
        with DiskStore(tmp_path / "other.db") as other:
            other.set("n", "k", 2)
        os.replace(tmp_path / "other.db", path)
    else:
        path.unlink()
    for call in (lambda: store.set("n", "k", 3), lambda: store.get("n", "k"), store.snapshot):
        with pytest.raises(StoreUnavailable, match=f"was {gone}"):
            call()
    assert path.exists() is (gone == "replaced")
    store.close()
    if gone == "replaced":
        # What the old file left would be taken for the new one's: docs/disk.md says so.
        path.with_name("state.db-wal").unlink()
        path.with_name("state.db-shm").unlink()
        assert make().get("n", "k") == 2


# A network's file systems -------------------------------------------------------------------------

MOUNTS = """\
/dev/sda1 / ext4 rw 0 0
proc /proc proc rw 0 0
server:/export /mnt/shared nfs4 rw,vers=4.2 0 0
/dev/sdb1 /mnt/shared/local xfs rw 0 0
//server/share /mnt/my\\040files cifs rw 0 0
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/x.db", "ext4"),
        ("/mnt/shared/x.db", "nfs4"),
        ("/mnt/shared/local/x.db", "xfs"),
        ("/mnt/sharedx.db", "ext4"),
        ("/mnt/my files/x.db", "cifs"),
    ],
)
def test_the_nearest_mount_tells_what_file_system_a_path_is_on(path: str, kind: str) -> None:
    assert filesystem_of(path, MOUNTS) == kind


def test_a_network_file_system_is_warned_about_and_the_store_works(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is none here, so the one that is here is taken for one."""
    here = filesystem_of(str(path), Path("/proc/self/mounts").read_text())
    assert here
    monkeypatch.setattr(connections, "_NETWORKED", {here})
    with pytest.warns(RuntimeWarning, match=f"network file system .{here}.") as warned:
        store = DiskStore(path)
    assert warned[0].filename == __file__
    store.set("n", "k", 1)
    store.close()


# What other programs see --------------------------------------------------------------------------


def test_all_entries_are_in_one_view(make: Make, path: Path) -> None:
    writes = f"{names('thread', 'ns').writes}0001"
    store = make()
    store.set_many([("a", "1", [1]), ("b:c", "é", None), (writes, "0:task", "x")])
    reader = sqlite3.connect(path)
    rows = reader.execute("SELECT * FROM entries").fetchall()
    reader.close()
    assert sorted(rows) == sorted(
        [("a", "1", dumps([1])), ("b:c", "é", dumps(None)), (writes, "0:task", dumps("x"))]
    )


def test_another_program_may_write_the_tables(make: Make, path: Path) -> None:
    store = make()
    store.set("n", "k", 1)
    writer = sqlite3.connect(path)
    with writer:
        (space,) = writer.execute("SELECT id FROM space WHERE name='n'").fetchone()
        writer.execute("INSERT INTO entry VALUES(?, '', 'theirs', ?)", (space, dumps({"a": 1})))
    writer.close()
    assert store.get("n", "theirs") == {"a": 1}
    assert store.keys("n") == ["k", "theirs"]


def test_where_a_namespace_lies_is_looked_up_in_each_transaction(make: Make, path: Path) -> None:
    """Another program may have given its place to another one."""
    store = make()
    store.set("n", "k", 1)
    assert store.get("n", "k") == 1
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("UPDATE space SET name='other'")
    writer.close()
    assert store.get("n", "k") is None
    assert store.get("other", "k") == 1
    store.set("n", "k", 2)
    store.set_many([("n", "l", 2)])
    store.delete("n", "l")
    assert store.items("other") == [("k", 1)]
    assert store.items("n") == [("k", 2)]


@pytest.mark.parametrize("value", ["text", 5, 1.5, None, b"", b"\x92\x01"], ids=repr)
def test_what_is_no_value_of_ours_is_a_decode_error_that_names_it(
    make: Make, path: Path, value: Any
) -> None:
    store = make()
    store.set_many([("n", "bad", 1), ("n", "good", 2)])
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("UPDATE entry SET value=? WHERE key='bad'", (value,))
    writer.close()
    for call in (
        lambda: store.get("n", "bad"),
        lambda: store.get_many([("n", "good"), ("n", "bad")]),
        lambda: store.items("n"),
        lambda: store.update("n", "bad", lambda old: old),
    ):
        with pytest.raises(DecodeError, match="'n'"):
            call()
    assert store.get("n", "good") == 2
    store.delete("n", "bad")
    assert store.items("n") == [("good", 2)]


def test_a_name_that_is_not_utf_8_is_a_decode_error(make: Make, path: Path) -> None:
    store = make()
    store.set("n", "k", 1)
    foreign(path, "UPDATE entry SET key=CAST(x'ff' AS TEXT)")
    with pytest.raises(DecodeError, match="UTF-8"):
        store.keys("n")
    with pytest.raises(DecodeError, match="UTF-8"):
        store.snapshot()


@pytest.mark.parametrize(
    "namespace",
    [
        "langgraph:writes:",
        "langgraph:writes:x",
        "langgraph:writes:6:{t:thread}:2:ns",
        "langgraph:writes:6:{t:thread}:2:ns0001",
        "langgraph:writes:6:{t:thread}:3:n",
        "langgraph:writes:7:{t:thread}:2:ns0001",
        "langgraph:writes:06:{t:thread}:2:ns0001",
        "langgraph:writes:2:{t:é}:2:é0001",
        "langgraph:writes:3:{t:é}:2:é0001",
        "langgraph:writes:6:{t:a:{t:b}:1:x1",
        f"{names('a}:1:b', '{t:').writes}:1:",
    ],
)
def test_a_namespace_that_looks_like_one_of_writes_is_itself(
    store: DiskStore, namespace: str
) -> None:
    assert "".join(split(namespace)) == namespace
    store.set(namespace, "k", namespace)
    store.set(f"{namespace}more", "k", "more")
    assert store.get(namespace, "k") == namespace
    assert sorted(store.namespaces()) == [namespace, f"{namespace}more"]
    assert store.namespaces(f"{namespace}more") == [f"{namespace}more"]
    assert namespace in store
    assert store.delete_namespace(namespace) == 1
    assert store.items(f"{namespace}more") == [("k", "more")]


def test_only_writes_of_one_checkpoint_namespace_share_a_space() -> None:
    assert split(names("thread", "é|x").writes + "0001") == (names("thread", "é|x").writes, "0001")
    assert split(names("a:b}", "").writes + "id") == (names("a:b}", "").writes, "id")


# Read-only ----------------------------------------------------------------------------------------


def test_a_read_only_store_reads_what_others_write_and_writes_nothing(make: Make) -> None:
    writer = make()
    writer.set("n", "k", 1)
    reader = make(read_only=True)
    assert reader.get("n", "k") == 1
    writer.set("n", "k", 2)
    assert reader.get("n", "k") == 2
    assert reader.snapshot().get("n", "k") == 2
    snapshot = writer.snapshot()
    for call in (
        lambda: reader.set("n", "k", 3),
        lambda: reader.delete("n", "k"),
        lambda: reader.update("n", "k", lambda old: 3),
        lambda: reader.restore(snapshot),
        reader.clear,
        reader.compact,
    ):
        with pytest.raises(AccessDenied, match="read_only=True"):
            call()
    assert writer.get("n", "k") == 2


def test_a_read_only_store_makes_no_file(path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="no such file"):
        DiskStore(path, read_only=True)
    assert not path.exists()


# Objects ------------------------------------------------------------------------------------------


def test_it_cannot_be_copied_and_says_where_it_is(store: DiskStore) -> None:
    import copy
    import pickle

    for act in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(ArgumentTypeError, match="neither copied nor pickled"):
            act(store)
    assert store.path in repr(store)
    assert bool(store)


async def test_each_kind_of_with_is_told_the_other(path: Path) -> None:
    blocking: Any = DiskStore(path)
    with pytest.raises(ArgumentTypeError, match="async with AsyncDiskStore"):
        async with blocking:
            pass
    blocking.close()
    store: Any = AsyncDiskStore(path)
    with pytest.raises(ArgumentTypeError, match="async with"), store:
        pass
    with pytest.raises(ArgumentTypeError, match=r"await store\.count"):
        len(store)
    with pytest.raises(ArgumentTypeError, match="has_namespace"):
        assert "n" in store
    await store.close()
