"""Codecs are found by name: ours, the user's, and those that other packages bring."""

from __future__ import annotations

import shutil
import subprocess
import sys
import textwrap
import threading
import types
from pathlib import Path
from typing import Any

import pytest

from swarmstate import Store, codecs, dumps, loads
from swarmstate.codecs import registry
from swarmstate.errors import InvalidArgumentError, SwarmStateError, UnknownCodecError
from swarmstate.protocols import Codec


class Upper:
    name = "upper"
    wire = "upper"

    def encode(self, value: Any, *, default: Any = None) -> bytes:
        return str(value).upper().encode()

    def decode(self, data: bytes) -> Any:
        return data.decode()


pytestmark = pytest.mark.usefixtures("registered")


@pytest.fixture
def lazy(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A module with a codec, importable as ``lazy_codecs``."""
    module = types.ModuleType("lazy_codecs")
    module.codec = Upper()  # type: ignore[attr-defined]
    module.box = types.SimpleNamespace(codec=module.codec)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "lazy_codecs", module)
    return module


def test_the_built_in_codecs_are_codecs() -> None:
    for name in ("msgpack", "ormsgpack", "zstd"):
        codec = codecs.get(name)
        assert isinstance(codec, Codec)
        assert codec.name == name
        assert codecs.get(name) is codec
    assert codecs.get("msgpack").wire == codecs.get("ormsgpack").wire == "msgpack"
    assert codecs.get("zstd").wire != "msgpack"


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UnknownCodecError, match=r"'pickle': known are 'msgpack', 'ormsgpack'") as e:
        codecs.get("pickle")
    assert isinstance(e.value, (SwarmStateError, LookupError, ValueError))
    for use in (
        lambda: dumps(1, "pickle"),
        lambda: loads(b"\1", "pickle"),
        lambda: Store(codec=""),
    ):
        with pytest.raises((UnknownCodecError, InvalidArgumentError)):
            use()


@pytest.mark.parametrize("name", [None, 5, [], b"msgpack"])
def test_a_name_is_a_str(name: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="must be a str"):
        codecs.get(name)
    with pytest.raises(InvalidArgumentError, match="must be a str"):
        codecs.register(name, Upper())


def test_an_instance_is_registered_and_used_by_stores() -> None:
    codecs.register("upper", Upper())
    assert loads(dumps("abc", "upper"), "upper") == "ABC"
    with Store(codec="upper") as store:
        store.set("n", "k", "value")
        assert store.get("n", "k") == "VALUE"
    assert codecs.available()["upper"] == (True, "")


@pytest.mark.parametrize("path", ["lazy_codecs:codec", "lazy_codecs:box.codec"])
def test_a_path_is_imported_on_first_use_only(path: str, lazy: Any) -> None:
    del sys.modules["lazy_codecs"]
    codecs.register("lazy", path)
    assert "lazy" in codecs.available()
    sys.modules["lazy_codecs"] = lazy
    assert codecs.get("lazy") is lazy.codec
    lazy.codec = None
    assert codecs.get("lazy") is not None


def test_a_taken_name_is_not_overwritten_silently() -> None:
    mine = Upper()
    before = codecs.get("msgpack")
    for taken in ("msgpack", "zstd"):
        with pytest.raises(InvalidArgumentError, match="registered already: pass replace=True"):
            codecs.register(taken, mine)
    assert codecs.get("msgpack") is before
    codecs.register("msgpack", mine, replace=True)
    assert codecs.get("msgpack") is mine


@pytest.mark.parametrize(
    ("codec", "text"),
    [
        (5, "5 lacks name, wire, encode, decode"),
        (Upper, "is a class, not an instance"),
        (types.SimpleNamespace(name="x", wire=1, encode=len, decode=len), "lacks wire"),
        ("no_colon", "'module:attribute', not 'no_colon'"),
        ("module:", "'module:attribute'"),
        (":codec", "'module:attribute'"),
        ("a b:codec", "'module:attribute'"),
    ],
)
def test_what_is_not_a_codec_is_refused(codec: Any, text: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        codecs.register("mine", codec)
    assert text in str(caught.value)
    assert "mine" not in codecs.available()


@pytest.mark.parametrize(
    "fast",
    [5, (), (len, (), len), (5, (), len, ()), (len, [], len, ()), (len, (), len, None)],
    ids=repr,
)
def test_a_fast_path_that_is_not_one_is_refused(fast: Any) -> None:
    codec = Upper()
    codec.fast = fast  # type: ignore[attr-defined]
    with pytest.raises(InvalidArgumentError, match="has an attribute fast that is not a FastPath"):
        codecs.register("fast", codec)


def test_a_path_that_leads_to_no_codec_is_refused_when_it_is_used(lazy: Any) -> None:
    lazy.nothing = 5
    codecs.register("nothing", "lazy_codecs:nothing")
    codecs.register("absent", "lazy_codecs:absent")
    codecs.register("nowhere", "a_package_that_nobody_has.codecs:codec")
    with pytest.raises(InvalidArgumentError, match="found at 'lazy_codecs:nothing'"):
        codecs.get("nothing")
    with pytest.raises(UnknownCodecError, match="'absent' is not at 'lazy_codecs:absent'"):
        codecs.get("absent")
    with pytest.raises(UnknownCodecError, match="needs 'a_package_that_nobody_has'") as caught:
        codecs.get("nowhere")
    assert isinstance(caught.value.__cause__, ImportError)
    there = codecs.available()["nowhere"]
    assert not there.installed
    assert "a_package_that_nobody_has" in there.install


def test_a_missing_extra_is_named_by_the_list_and_by_every_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    monkeypatch.delitem(sys.modules, "swarmstate.codecs.zstd", raising=False)
    registry._entries["zstd"].codec = None
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name, find=registry.importlib.util.find_spec: (
            None if name == "zstandard" else find(name)
        ),
    )
    for use in (lambda: codecs.get("zstd"), lambda: Store(codec="zstd")):
        with pytest.raises(UnknownCodecError, match="pip install zstandard"):
            use()
    assert codecs.available()["zstd"] == (False, "pip install zstandard")
    assert codecs.available()["msgpack"] == (True, "")
    with pytest.raises(UnknownCodecError, match=r"'zstd' \(not installed: pip install zsta"):
        codecs.get("unheard-of")


def test_many_threads_registering_and_asking_agree(lazy: Any) -> None:
    names = [f"name-{n}" for n in range(50)]
    winners: dict[str, list[int]] = {name: [] for name in names}
    seen: dict[str, set[int]] = {name: set() for name in names}
    start = threading.Barrier(8)

    def work(number: int) -> None:
        start.wait()
        for name in names:
            try:
                codecs.register(name, Upper() if number % 2 else "lazy_codecs:codec")
                winners[name].append(number)
            except InvalidArgumentError:
                pass
            seen[name].add(id(codecs.get(name)))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {len(numbers) for numbers in winners.values()} == {1}
    assert {len(found) for found in seen.values()} == {1}


def test_replacing_while_another_thread_imports_is_not_undone(lazy: Any) -> None:
    """What an import was begun for is not remembered once the name leads elsewhere."""
    mine = Upper()

    class Slow(types.ModuleType):
        def __getattr__(self, name: str) -> Any:
            if name != "codec":
                raise AttributeError(name)
            codecs.register("slow", mine, replace=True)  # comes in between
            return lazy.codec

    sys.modules["lazy_codecs"] = Slow("lazy_codecs")
    codecs.register("slow", "lazy_codecs:codec")
    codecs.get("slow")
    assert codecs.get("slow") is mine


def test_a_finalizer_that_asks_for_codecs_while_packages_are_looked_at_does_not_hang(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a lock would not survive: the same thread comes again from within."""

    class Point:
        name, value = "late", "lazy_codecs:codec"
        asking = False

        @property
        def dist(self) -> None:
            if not Point.asking:
                Point.asking = True
                codecs.available()
                codecs.register("from within", Upper())

    monkeypatch.setattr("importlib.metadata.entry_points", lambda *, group: [Point()])
    thread = threading.Thread(target=codecs.available, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
    assert {"from within", "late"} <= set(codecs.available())


FORKED = """
    import importlib.metadata
    import os
    import signal
    from swarmstate import Store, codecs

    class Point:
        name, value = "late", "nowhere:codec"

        @property
        def dist(self):
            # Another thread may fork at any moment; here, in the midst of a look at the packages.
            global child
            importlib.metadata.entry_points = lambda group: []
            child = os.fork()
            if child == 0:
                signal.alarm(20)
                codecs.available()
                codecs.register("mine", codecs.get("msgpack"))
                with Store(codec="mine") as store:
                    store.set("n", "k", 1)
                    store.snapshot()
                os._exit(0)

    importlib.metadata.entry_points = lambda group: [Point()]
    codecs.available()
    print(os.waitpid(child, 0)[1])
"""


def test_a_process_forked_in_the_midst_of_a_call_can_use_the_registry() -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FORKED)], capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr) == ("0\n", "")


PROGRAM = """
    import sys
    from swarmstate import Store, codecs, dumps, errors, loads

    there = codecs.available()
    assert there["reversed"] == (True, ""), there
    assert "swarmstate_reversed" not in sys.modules, "listing must import nothing"
    assert dumps([1, "a"], "reversed") == b']"a" ,1['
    assert loads(b"]1[", "reversed") == [1]
    assert "swarmstate_reversed" in sys.modules
    with Store(codec="reversed") as store:
        store.set("n", "k", {"a": 1})
        assert store.get("n", "k") == {"a": 1}
    for name, words in {
        "broken": ["'broken'", "'swarmstate-third-party'", "'a_package_that_nobody_has'"],
        "absent": ["'absent'", "'swarmstate-third-party'", "'swarmstate_reversed:missing'"],
    }.items():
        try:
            codecs.get(name)
        except errors.UnknownCodecError as error:
            assert all(word in str(error) for word in words), error
        else:
            raise AssertionError(name)
    try:
        codecs.register("reversed", codecs.get("msgpack"))
    except errors.InvalidArgumentError:
        pass
    else:
        raise AssertionError("an entry point was overwritten")
    assert type(codecs.get("msgpack")).__module__ == "swarmstate.codecs._msgpack"
    print("ok")
"""


@pytest.fixture(scope="module")
def third_party(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the package of a third party is installed."""
    folder = tmp_path_factory.mktemp("third-party")
    source = folder / "source"
    shutil.copytree(Path(__file__).parent / "third_party", source)
    install = "pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation"
    subprocess.run(
        [sys.executable, "-m", *install.split(), "--target", str(folder / "site"), str(source)],
        check=True,
        capture_output=True,
        timeout=120,
    )
    return folder / "site"


def test_a_package_of_a_third_party_brings_its_codec(third_party: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM)],
        env={"PYTHONPATH": str(third_party), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("ok\n", "", 0)


LATER = """
    import importlib.util
    import os
    import shutil
    import sys

    from swarmstate import codecs, errors

    empty, third_party = sys.argv[1:]
    sys.path.append(empty)
    stamp = os.stat(empty)
    assert importlib.util.find_spec("swarmstate_reversed") is None
    try:
        codecs.get("reversed")
    except errors.UnknownCodecError:
        pass
    shutil.copytree(third_party, empty, dirs_exist_ok=True)
    # As if it had been installed right after someone had looked.
    os.utime(empty, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert codecs.get("reversed").wire == "reversed-json"
    print("ok")
"""


def test_what_is_installed_later_is_found_without_a_restart(
    third_party: Path, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(LATER), str(tmp_path), str(third_party)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("ok\n", "", 0)
