"""What is kept when a process is killed, the power fails, or the disk is full."""

from __future__ import annotations

import ctypes
import os
import random
import shutil
import sqlite3
import struct
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from private_server import die_with_parent

from swarmstate.backends.disk import DiskStore
from swarmstate.errors import StoreUnavailable

Make = Callable[..., DiskStore]

KILLS = int(os.environ.get("SWARMSTATE_TEST_KILLS", "6"))
CUTS = int(os.environ.get("SWARMSTATE_TEST_CUTS", "25"))


def check(path: Path) -> dict[str, int]:
    """Return namespace -> number of keys, of a file that is intact."""
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    counts = connection.execute("SELECT namespace, count(*) FROM entries GROUP BY namespace")
    found = dict(counts.fetchall())
    connection.close()
    return found


# Killed -------------------------------------------------------------------------------------------


@contextmanager
def killed(code: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Run a program from where it says that it is ready, and kill it in the end."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=die_with_parent,
    )
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


# Three threads store batches of ten, and remove some again; each tells what it knows to be done.
WRITER = """if True:
    import os, sys, threading
    from swarmstate.backends.disk import DiskStore, database
    path, acknowledged, start, synchronous = sys.argv[1:]
    database._PAGES = 50  # so that checkpoints come often
    store = DiskStore(path, synchronous=synchronous)
    told = os.open(acknowledged, os.O_WRONLY | os.O_APPEND)
    def write(name):
        number = int(start)
        while True:
            batch = f"{name}-{number}"
            store.set_many([(batch, str(k), "x" * 200) for k in range(10)])
            os.write(told, b"+%b\\n" % batch.encode())
            number += 1
            if number % 7 == 0:
                gone = f"{name}-{number - 3}"
                os.write(told, b"?%b\\n" % gone.encode())
                store.delete_namespace(gone)
                os.write(told, b"-%b\\n" % gone.encode())
    for name in range(3):
        threading.Thread(target=write, args=(name,)).start()
    print("ready", flush=True)
"""


@pytest.mark.parametrize(("synchronous", "kills"), [("NORMAL", KILLS), ("FULL", KILLS // 2)])
def test_a_writer_that_is_killed_loses_nothing_that_it_knew_to_be_stored(
    path: Path, synchronous: str, kills: int
) -> None:
    for number in range(kills):
        # What one leaves the next goes on with; but each check reads all, so not without end.
        path = path.with_name(f"{number // 10}.db")
        told = path.with_suffix(".acknowledged")
        told.touch()
        with killed(WRITER, path, told, number * 100_000, synchronous) as process:
            # At a moment that depends on the machine, after a random number of batches.
            enough = told.stat().st_size + random.randrange(1, 5000)
            while told.stat().st_size < enough:
                assert process.poll() is None
        found = check(path)
        lines = told.read_text().split("\n")[:-1]
        stored, maybe, gone = ({line[1:] for line in lines if line[0] == c} for c in "+?-")
        assert stored - maybe <= found.keys()
        assert not gone & found.keys()
        assert set(found.values()) <= {10}
        with DiskStore(path) as store:
            assert len(store) == 10 * len(found)


RESTORER = """if True:
    import sys
    from swarmstate import Store
    from swarmstate.backends.disk import DiskStore
    def holding(value):
        store = Store()
        store.set_many((f"n{number % 5}", str(number), value) for number in range(200))
        store.set(f"only {value}", "k", value)
        return store.snapshot()
    one, other = holding(1), holding(2)
    store = DiskStore(sys.argv[1])
    store.restore(one)
    print("ready", flush=True)
    while True:
        store.restore(other)
        store.restore(one)
"""


def test_a_restore_is_whole_for_whoever_looks_and_when_it_is_killed(path: Path) -> None:
    for _ in range(1 + KILLS // 6):
        with killed(RESTORER, path) as process, DiskStore(path, read_only=True) as store:
            for _ in range(random.randrange(5, 30)):
                assert whole(store.snapshot())
            assert process.poll() is None
        with DiskStore(path) as store:
            assert whole(store.snapshot())
        check(path)


def whole(snapshot: Any) -> bool:
    values = [data for keys in snapshot.state.values() for data in keys.values()]
    return len(values) == 201 and len(set(values)) == 1 and len(snapshot.state) == 6


# Without power ------------------------------------------------------------------------------------


class Entry(NamedTuple):
    """One entry of the record that recorder.c makes."""

    kind: str
    name: str
    offset: int
    data: bytes


def entries(record: bytes) -> Iterator[Entry]:
    at = 0
    while at < len(record):
        kind, name_length, offset, length = struct.unpack_from("<cBqq", record, at)
        at += 18
        name = record[at : at + name_length].decode()
        at += name_length
        data = record[at : at + length] if kind == b"w" else b""
        at += len(data)
        yield Entry(kind.decode(), name, offset, data)


class Disk:
    """What a disk holds for certain, and what it was told but may not have written yet."""

    def __init__(self) -> None:
        self.durable: dict[str, bytearray] = defaultdict(bytearray)
        self.pending: dict[str, list[Entry]] = defaultdict(list)
        self.acknowledged = -1

    def take(self, entry: Entry) -> None:
        if entry.kind == "a":
            self.acknowledged = entry.offset
        elif entry.kind == "u":
            self.durable.pop(entry.name, None)
            self.pending.pop(entry.name, None)
        elif entry.kind == "s":
            for one in self.pending.pop(entry.name, []):
                apply(self.durable[entry.name], one)
        else:
            self.pending[entry.name].append(entry)

    def without_power(self, folder: Path, chance: random.Random) -> None:
        """Write what would be found: of the pending writes any part, in any order, in sectors."""
        for name in {*self.durable, *self.pending}:
            content = bytearray(self.durable[name])
            kept = chance.choice((0.0, 0.5, 0.9, 1.0))
            pieces = [
                piece
                for entry in self.pending[name]
                for piece in sectors(entry)
                if chance.random() < kept
            ]
            chance.shuffle(pieces)
            for piece in pieces:
                apply(content, piece)
            (folder / name).write_bytes(content)


def sectors(entry: Entry) -> list[Entry]:
    if entry.kind == "t":
        return [entry]
    return [
        entry._replace(offset=entry.offset + at, data=entry.data[at : at + 512])
        for at in range(0, len(entry.data), 512)
    ]


def apply(content: bytearray, entry: Entry) -> None:
    if entry.kind == "t":
        del content[entry.offset :]
        return
    if len(content) < entry.offset:
        content.extend(bytes(entry.offset - len(content)))
    content[entry.offset : entry.offset + len(entry.data)] = entry.data


# One thread, so that the numbers that it knows to be stored come in order.
RECORDED = """if True:
    import ctypes, os, random, sys
    from swarmstate.backends.disk import DiskStore, database
    database._PAGES = 20  # so that checkpoints come often
    tell = ctypes.CDLL(os.environ["LD_PRELOAD"]).acknowledged
    store = DiskStore(sys.argv[1], synchronous=sys.argv[2])
    for number in range(250):
        size = random.randrange(10, 3000)
        store.set_many([(f"{number:04}", str(k), os.urandom(size)) for k in range(5)])
        tell(ctypes.c_longlong(number))
    os._exit(0)
"""


@pytest.fixture(scope="module")
def recorder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recorder, compiled."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("recording what is written needs Linux and a C compiler")
    library = tmp_path_factory.mktemp("recorder") / "recorder.so"
    source = Path(__file__).with_name("recorder.c")
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl", "-lpthread"],
        check=True,
        timeout=60,
    )
    ctypes.CDLL(str(library))
    return library


@pytest.fixture(params=["FULL", "NORMAL"])
def recorded(request: pytest.FixtureRequest, recorder: Path, tmp_path: Path) -> Any:
    """What one writer wrote, in order, and how synchronous it was."""
    folder, record = tmp_path / "recorded", tmp_path / "record"
    folder.mkdir()
    subprocess.run(
        [sys.executable, "-c", RECORDED, str(folder / "state.db"), request.param],
        env={
            **os.environ,
            "LD_PRELOAD": str(recorder),
            "RECORDED_FOLDER": str(folder),
            "RECORD": str(record),
        },
        check=True,
        timeout=120,
    )
    return request.param, list(entries(record.read_bytes()))


def test_a_power_cut_loses_nothing_at_full_and_tears_nothing_at_normal(
    recorded: tuple[str, list[Entry]], tmp_path: Path
) -> None:
    synchronous, log = recorded
    assert {entry.kind for entry in log} >= {"w", "s", "a"}
    assert {entry.name for entry in log} >= {"state.db", "state.db-wal"}
    chance = random.Random(5)
    # From where the file is there on: before, nothing was acknowledged.
    first = next(at for at, entry in enumerate(log) if entry.kind == "a")
    moments = sorted(chance.randrange(first, len(log)) for _ in range(CUTS))
    disk, at, lost = Disk(), 0, 0
    for number, moment in enumerate(moments):
        while at <= moment:
            disk.take(log[at])
            at += 1
        folder = tmp_path / f"cut{number}"
        folder.mkdir()
        disk.without_power(folder, chance)
        with DiskStore(folder / "state.db") as store:
            found = sorted(store.namespaces())
            # Each batch is whole, and none is missing before one that is there.
            assert found == [f"{n:04}" for n in range(len(found))]
            assert len(store) == 5 * len(found)
            store.set("n", "k", 1)
        assert check(folder / "state.db")["n"] == 1
        lost += max(0, disk.acknowledged + 1 - len(found))
        shutil.rmtree(folder)
    if synchronous == "FULL":
        assert lost == 0


# A full disk --------------------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def fill(store: DiskStore) -> list[str]:
    """Store batches until there is no room; return those that are stored."""
    stored: list[str] = []

    def store_more() -> None:
        while True:
            batch = f"{len(stored)}"
            store.set_many([(batch, str(k), b"x" * 1000) for k in range(5)])
            stored.append(batch)

    with pytest.raises(StoreUnavailable, match="no room left on the disk"):
        store_more()
    return stored


def test_on_a_full_disk_nothing_stored_is_lost_and_it_works_again_when_there_is_room(
    small: Path,
) -> None:
    other = small / "other"
    other.write_bytes(bytes(500_000))
    with DiskStore(small / "state.db") as store:
        stored = fill(store)
        assert len(stored) > 50
        assert sorted(store.namespaces()) == sorted(stored)
        assert len(store) == 5 * len(stored)
        other.unlink()
        store.set("n", "k", 1)
        assert store.get("n", "k") == 1
        assert store.delete_namespace(stored[0]) == 5
    assert check(small / "state.db")["n"] == 1


def test_what_is_deleted_makes_room_on_a_disk_that_was_full(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from swarmstate.backends.disk import database

    monkeypatch.setattr(database, "_PAGES", 50)  # a small disk has no room for a long log
    spare = small / "spare"
    spare.write_bytes(bytes(1_500_000))
    with DiskStore(small / "state.db") as store:
        stored = fill(store)
        spare.unlink()
        for batch in stored:
            store.delete_namespace(batch)
        assert store.compact() > 0
        store.set_many([("n", str(k), b"x" * 1000) for k in range(300)])
        assert len(store) == 300


# Checkpoints --------------------------------------------------------------------------------------


def test_a_checkpoint_that_fails_fails_no_write_that_was_committed(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log has room left where the file has none."""
    from swarmstate.backends.disk import database

    monkeypatch.setattr(database, "_PAGES", 10**9)
    with DiskStore(small / "state.db") as store:
        for number in range(100):
            store.set("n", str(number), os.urandom(4000))
        room = os.statvfs(small)
        (small / "other").write_bytes(bytes(room.f_bavail * room.f_frsize - 40_000))
        monkeypatch.setattr(database, "_PAGES", 1)
        store.set("n", "last", 1)
        assert store.driver.database.checkpoint() is False
        assert store.get("n", "last") == 1
        assert len(store) == 101
        (small / "other").unlink()
        store.set("n", "after", 1)
    assert check(small / "state.db") == {"n": 102}


def test_the_log_does_not_grow_with_what_is_written(make: Make, path: Path) -> None:
    store = make()
    largest = 0
    for number in range(3000):
        store.set("n", str(number % 20), b"x" * 8000)
        largest = max(largest, path.with_name("state.db-wal").stat().st_size)
    # Some 24 MB were written, 160 kB are held.
    assert largest < 12 * 1024 * 1024
    store.driver.database.checkpoint()
    assert path.stat().st_size < 2 * 1024 * 1024


def test_only_our_checkpoints_copy_the_log(store: DiskStore) -> None:
    assert store.driver.database.read(
        lambda connection: connection.execute("PRAGMA wal_autocheckpoint").fetchone()
    ) == (0,)
    store.set("n", "k", 1)
    assert store.driver.database.alone(
        lambda connection: connection.execute("PRAGMA wal_autocheckpoint").fetchone()
    ) == (0,)


def test_the_log_is_copied_by_another_connection_while_nobody_can_write(
    store: DiskStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite before 3.51.3 can corrupt a file whose log starts over during a checkpoint."""
    from swarmstate.backends.disk import database

    copied = []
    copy = database._copy_log

    def watched(connection: sqlite3.Connection) -> None:
        assert connection is not store.driver.database.writer
        other = sqlite3.connect(path, timeout=0, isolation_level=None)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("BEGIN IMMEDIATE")
        other.close()
        statements: list[str] = []
        connection.set_trace_callback(statements.append)
        copy(connection)
        connection.set_trace_callback(None)
        copied.extend(statements)

    monkeypatch.setattr(database, "_copy_log", watched)
    monkeypatch.setattr(database, "_PAGES", 1)
    store.set("n", "k", 1)
    assert copied == ["PRAGMA wal_checkpoint(PASSIVE)"]
    # And lets others write again.
    monkeypatch.setattr(database, "_PAGES", 1000)
    with DiskStore(path, timeout=0.1) as another:
        another.set("n", "k", 2)
    assert store.get("n", "k") == 2


def test_a_log_that_a_long_reader_made_grow_is_cut(
    make: Make, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from swarmstate.backends.disk import connections

    monkeypatch.setattr(connections, "_LOG_BYTES", 100_000)
    store = make()
    store.set("n", "k", 0)
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM entry").fetchall()
    for number in range(100):
        store.set("n", str(number), os.urandom(10_000))
    log = path.with_name("state.db-wal")
    assert log.stat().st_size > 1_000_000
    reader.close()
    assert store.driver.database.checkpoint()
    store.set("n", "k", 1)
    assert log.stat().st_size <= 100_000


def test_no_read_holds_on_to_the_log_even_if_it_is_not_gone_through(make: Make, path: Path) -> None:
    from threads import config, grow

    from swarmstate.integrations.langgraph import SwarmStateSaver

    store = make()
    saver = SwarmStateSaver(store)
    last = grow(saver, 30, writes=1)
    store.set_many(("n", f"{number:03}", number) for number in range(300))
    listing = saver.list(config())
    next(listing)
    saver.get_tuple(last)
    store.get("n", "001")
    store.get_many([("n", "001"), ("n", "no"), ("m", "no")])
    store.keys("n", "0")
    store.items("n")
    store.namespaces()
    len(store)
    store.snapshot()
    other = sqlite3.connect(path, timeout=0, isolation_level=None)
    # All of the log could be copied, and it could start over: nobody reads from it.
    assert other.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()[0] == 0
    other.close()
    assert len(list(listing)) == 29
