"""Data and snapshots that come from elsewhere and go there."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from servers import Server, running

from swarmstate import Store
from swarmstate.backends.redis import RedisStore

Make = Callable[..., RedisStore]

VALUES = {
    "text": "é",
    "number": -(2**63),
    "float": 1.5,
    "nothing": None,
    "nested": {"list": [1, [True, {"k": "v"}]], "empty": {}},
    "": [],
}


@pytest.fixture(scope="session")
def rust_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Rust package of our name, in a folder that only subprocesses look into."""
    target = tmp_path_factory.mktemp("rust-package")
    install = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "-q", "--no-deps"),
            *("--disable-pip-version-check", "--target", str(target), "swarmstate==0.11.0"),
        ],
        capture_output=True,
        text=True,
    )
    if install.returncode != 0:
        pytest.skip(f"swarmstate==0.11.0 cannot be installed here: {install.stderr[-300:]}")
    return target


def in_rust_package(folder: Path, url: str, prefix: str, code: str) -> object:
    """Run code over the Rust package's ``store`` and return what it leaves in ``result``."""
    program = (
        "import json, sys\n"
        f"sys.path.insert(0, {str(folder)!r})\n"
        "from swarmstate.backends.redis import RedisStore\n"
        "from swarmstate import _core\n"
        f"assert _core.__file__.startswith({str(folder)!r})\n"
        f"store = RedisStore({url!r}, prefix={prefix!r})\n"
        f"values = json.loads({json.dumps(VALUES)!r})\n"
        f"{code}\n"
        "print(json.dumps(result))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=folder,
    )
    return json.loads(done.stdout)


@pytest.mark.index
@pytest.mark.parametrize("codec", ["msgpack", "ormsgpack"])
def test_what_the_rust_package_writes_is_read(
    rust_package: Path, server: Server, make: Make, prefix: str, codec: str
) -> None:
    in_rust_package(
        rust_package,
        server.url,
        prefix,
        "for key, value in values.items(): store.set('one:by one', key, value)\n"
        "store.set_many([(f'batch{len(key)}', key, value) for key, value in values.items()])\n"
        "result = None",
    )
    store = make(codec=codec)
    assert dict(store.items("one:by one")) == VALUES
    assert {key: store.get("one:by one", key) for key in VALUES} == VALUES
    assert store.get_many([(f"batch{len(key)}", key) for key in VALUES]) == list(VALUES.values())
    assert len(store) == 2 * len(VALUES)
    memory = Store()
    memory.restore(store.snapshot())
    assert dict(memory.items("one:by one")) == VALUES


@pytest.mark.index
@pytest.mark.parametrize("codec", ["msgpack", "ormsgpack"])
def test_the_rust_package_reads_what_we_write(
    rust_package: Path, server: Server, make: Make, prefix: str, codec: str
) -> None:
    store = make(codec=codec)
    for key, value in VALUES.items():
        store.set("one:by one", key, value)
    store.set_many([(f"batch{len(key)}", key, value) for key, value in VALUES.items()])
    result = in_rust_package(
        rust_package,
        server.url,
        prefix,
        "result = [{key: store.get('one:by one', key) for key in store.keys('one:by one')},\n"
        "          store.get_many([(f'batch{len(key)}', key) for key in values])]",
    )
    assert result == [VALUES, list(VALUES.values())]


WHAT_IT_SEES = """
taken = store.snapshot()
result = [len(store), sorted(store.namespaces()), sorted(map(list, taken.keys)),
          [store.keys(name) for name in sorted(store.namespaces())]]
"""


@pytest.mark.index
def test_each_sees_the_others_namespaces_as_if_it_were_alone(
    rust_package: Path, server: Server, make: Make, prefix: str
) -> None:
    from langgraph.checkpoint.base import empty_checkpoint

    from swarmstate.integrations.langgraph import SwarmStateSaver

    store = make(ttl=1000)
    store.set_many([("a", "k", 1), ("b:c", "k", 2), ("b:c", "l", 3)])
    store.update("a", "k", lambda value: value + 1)
    saver = SwarmStateSaver(store)
    config = saver.put(
        {"configurable": {"thread_id": "T", "checkpoint_ns": ""}}, empty_checkpoint(), {}, {}
    )
    saver.put_writes(config, [("channel", 1)], "task")

    def ours() -> list[object]:
        taken = store.snapshot()
        names = sorted(store.namespaces())
        pairs = [list(pair) for pair in sorted(taken.keys)]
        return [len(store), names, pairs, [store.keys(name) for name in names]]

    theirs = in_rust_package(rust_package, server.url, prefix, WHAT_IT_SEES)
    assert theirs == ours()
    assert "a" in store.namespaces()
    assert any(name.startswith("langgraph:") for name in store.namespaces())
    theirs = in_rust_package(
        rust_package,
        server.url,
        prefix,
        "store.set('new', 'k', [1])\n"
        "store.delete('b:c', 'l')\n"
        "taken = store.snapshot()\n"
        "store.clear()\n"
        "store.restore(taken)\n" + WHAT_IT_SEES,
    )
    assert theirs == ours()
    assert store.get("new", "k") == [1]
    found = saver.get_tuple(config)
    assert found is not None
    assert found.pending_writes == [("task", "channel", 1)]
    in_rust_package(rust_package, server.url, prefix, "store.clear()\nresult = None")
    assert (len(store), store.namespaces(), len(store.snapshot())) == (0, [], 0)
    assert saver.get_tuple(config) is None


def test_a_snapshot_goes_to_memory_to_another_server_and_back(
    make: Make, server: Server, prefix: str
) -> None:
    first = make()
    first.set_many([("a:b", key, value) for key, value in VALUES.items()])
    first.set("", "", b"\xff")
    taken = first.snapshot()
    memory = Store(codec="ormsgpack")
    memory.restore(taken)
    assert dict(memory.items("a:b")) == VALUES
    memory.set("new", "k", 1)
    with running() as other:
        second = make(other.url)
        second.set("old", "k", 1)
        second.restore(memory.snapshot())
        assert sorted(second.namespaces()) == ["", "a:b", "new"]
        second.delete("new", "k")
        back = second.snapshot()
    first.restore(back)
    assert back.diff(taken) == {"added": [], "removed": [], "changed": []}
    assert first.snapshot().state == taken.state
    assert first.get("", "") == b"\xff"
