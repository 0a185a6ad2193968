"""What is shipped: the sdist has every source, the wheel what users need and nothing else."""

from __future__ import annotations

import email
import subprocess
import tarfile
import zipfile
from email.message import Message
from pathlib import Path

import pytest
from built import Distributions, Environment, execute
from documents import ROOT

import swarmstate

EXTENSIONS = sorted(path.stem for path in (ROOT / "ext").glob("*.pyx"))


@pytest.fixture(scope="module")
def metadata(distributions: Distributions) -> Message:
    with zipfile.ZipFile(distributions.wheel) as wheel:
        (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(wheel.read(name))


def wheel_files(distributions: Distributions) -> set[str]:
    with zipfile.ZipFile(distributions.wheel) as wheel:
        return {name for name in wheel.namelist() if ".dist-info/" not in name}


def test_the_wheel_holds_every_file_of_the_package(distributions: Distributions) -> None:
    shipped = wheel_files(distributions)
    package = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "swarmstate").rglob("*")
        if path.is_file() and path.suffix not in {".so", ".pyc"}
    }
    assert package - shipped == set()
    assert {"swarmstate/py.typed", *(f"swarmstate/{name}.pyi" for name in EXTENSIONS)} <= shipped


def test_the_wheel_holds_the_extensions_and_nothing_outside_the_package(
    distributions: Distributions,
) -> None:
    shipped = wheel_files(distributions)
    assert {name.split("/")[0] for name in shipped} == {"swarmstate"}
    built = sorted(name.split(".")[0] for name in shipped if name.endswith(".so"))
    assert built == [f"swarmstate/{name}" for name in EXTENSIONS]
    assert not [name for name in shipped if name.endswith((".c", ".pyx", ".pxd"))]


def test_the_sdist_holds_every_tracked_file(distributions: Distributions) -> None:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("these sources are not a git checkout")
    with tarfile.open(distributions.sdist) as sdist:
        shipped = {name.partition("/")[2] for name in sdist.getnames()}
    tracked = {name for name in listed.stdout.splitlines() if (ROOT / name).exists()}
    assert tracked - shipped == {".gitignore"}


def test_the_sdist_holds_nothing_that_was_built(distributions: Distributions) -> None:
    with tarfile.open(distributions.sdist) as sdist:
        built = [name for name in sdist.getnames() if name.endswith((".so", ".c", ".pyc"))]
    # Written by hand: what the tests preload to cut the power.
    assert [name for name in built if not name.endswith("tests/disk_store/recorder.c")] == []


def test_the_metadata_agrees_with_the_package(metadata: Message) -> None:
    assert metadata["Name"] == "swarmstate"
    assert metadata["Version"] == swarmstate.__version__
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Requires-Python"] == ">=3.10"
    assert set(metadata.get_all("Provides-Extra", [])) == {
        *("redis", "langgraph", "zstd", "cli", "all"),
        *("openai-agents", "pydantic-ai", "google-adk", "strands"),
    }
    required = {line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line}
    assert {line.split(">")[0] for line in required} == {
        "msgpack",
        "ormsgpack",
        "pyrsistent",
    }


def test_the_command_is_an_entry_point(distributions: Distributions) -> None:
    with zipfile.ZipFile(distributions.wheel) as wheel:
        (name,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
        text = wheel.read(name).decode()
    assert "[console_scripts]\nswarmstate = swarmstate.cli:main\n" in text


# --- The wheel, installed where there is no checkout ---------------------------------------------


@pytest.fixture(scope="module")
def environment(
    distributions: Distributions, tmp_path_factory: pytest.TempPathFactory
) -> Environment:
    """A fresh environment with the wheel, without any extra."""
    return Environment.create(tmp_path_factory.mktemp("plain"), distributions.wheel)


@pytest.mark.index
def test_the_plain_package_imports_no_driver(environment: Environment, tmp_path: Path) -> None:
    code = """if True:
        import sys
        from swarmstate import Store, codecs
        with Store() as store:
            store.set("users", "ada", {"name": "Ada"})
            store.restore(store.snapshot())
            assert store.get("users", "ada") == {"name": "Ada"}
        print(sorted({"redis", "langgraph", "zstandard", "langchain_core"} & set(sys.modules)))
        print(__import__("swarmstate").__file__)
    """
    loaded, file = environment.run("-c", code, cwd=tmp_path).splitlines()
    assert loaded == "[]"
    assert Path(file).is_relative_to(environment.directory)


@pytest.mark.index
@pytest.mark.parametrize(
    ("use", "library"),
    [
        ("from swarmstate.backends.redis import RedisStore; RedisStore()", "redis"),
        (
            "from swarmstate.integrations.langgraph import SwarmStateSaver; SwarmStateSaver()",
            "langgraph-checkpoint",
        ),
    ],
)
def test_a_missing_library_is_named(
    environment: Environment, tmp_path: Path, use: str, library: str
) -> None:
    code = f"try:\n    {use}\nexcept ImportError as error:\n    print(error)"
    text = environment.run("-c", code, cwd=tmp_path)
    assert library in text.partition("pip install")[2]


@pytest.mark.index
def test_the_wheel_passes_the_store_suite_outside_the_checkout(
    environment: Environment, distributions: Distributions, tmp_path: Path
) -> None:
    execute("tar", "-xzf", distributions.sdist, cwd=tmp_path)
    (unpacked,) = tmp_path.iterdir()
    # The suite from the sdist, without the package beside it.
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for part in ("tests", "examples", "pyproject.toml"):
        (unpacked / part).rename(elsewhere / part)
    environment.pip("hypothesis", "pytest", "pytest-asyncio", "pytest-timeout")
    printed = environment.run(
        *(
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "tests/interface",
            "-k",
            "memory and not redis and not model and not ormsgpack and not zstd",
        ),
        cwd=elsewhere,
    )
    assert " passed" in printed
    assert " failed" not in printed
