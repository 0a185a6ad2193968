"""The documentation site is built without a warning, and its reference has every public name."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from documents import ROOT

pytest.importorskip("mkdocs", reason="mkdocs is not installed")
pytest.importorskip("mkdocstrings", reason="mkdocstrings is not installed")

_NOT_INSTALLED = {"google_adk": "google.adk", "pydantic_ai": "pydantic_ai"}
"""Frameworks that have no release for the oldest Python, by the module that needs them."""


def _pages() -> ModuleType:
    spec = importlib.util.spec_from_file_location("pages", ROOT / "docs/_site/pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PAGES = _pages()
MODULES = [module for modules in PAGES.REFERENCE.values() for module in modules]


def build(sources: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """Build the site as ``make docs`` does."""
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--site-dir", str(site)],
        cwd=sources,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=200,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("site")
    done = build(ROOT, directory)
    assert done.returncode == 0, done.stderr
    return directory


def public(module: str) -> Iterator[tuple[str, object]]:
    """Yield what a module offers as Python sees it: its names, and its classes' methods."""
    framework = _NOT_INSTALLED.get(module.rpartition(".")[2])
    if framework and sys.version_info < (3, 11):
        pytest.importorskip(framework)
    imported = importlib.import_module(module)
    for name in imported.__all__:
        value = getattr(imported, name)
        if inspect.ismodule(value):
            assert value.__name__ in MODULES
            continue
        yield f"{module}.{name}", value
        if inspect.isclass(value) and not issubclass(value, dict):  # a dict's methods are Python's
            for member in dir(value):
                owner = next(kind for kind in value.__mro__ if member in vars(kind))
                method = vars(owner)[member]
                if member.startswith("_") or not owner.__module__.startswith("swarmstate"):
                    continue
                if callable(method) or isinstance(method, (property, classmethod, staticmethod)):
                    yield f"{module}.{name}.{member}", method


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_is_in_the_reference(module: str, site: Path) -> None:
    shown = PAGES.inventory(site / "objects.inv")
    names = [name for name, _ in public(module)]
    assert names
    assert [name for name in names if name not in shown] == []


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_has_a_docstring(module: str) -> None:
    # The build of the site looks into the sources, which alone have those of data.
    stubs = PAGES.public()  # and of what is compiled
    described = [
        (name, value)
        for name, value in public(module)
        if inspect.isclass(value)
        or inspect.isroutine(value)
        or isinstance(value, (property, classmethod, staticmethod))
    ]
    assert [name for name, value in described if not (inspect.getdoc(value) or stubs[name])] == []


def test_a_method_is_shown_with_its_signature_and_its_docstring(site: Path) -> None:
    for page, words in {
        "stores-and-values": ("Replace a value by", "atomically"),
        "redisstore": ("Replace a value by", "across processes", "Two round trips"),
        "diskstore": ("Replace a value by", "compact", "backup"),
    }.items():
        text = (site / "reference" / page / "index.html").read_text()
        for word in ("namespace", "default", *words):
            assert word in text, (page, word)
        assert ":class:" not in text
        assert ":meth:" not in text


def test_the_search_finds_the_reference_and_the_pages(site: Path) -> None:
    index = (site / "search" / "search_index.json").read_text()
    for location in ("reference/redisstore/#swarmstate.backends.redis.RedisStore.update", "redis/"):
        assert f'"{location}"' in index


# --- The machinery itself ------------------------------------------------------------------------


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A copy of what the site is made from, with a plain theme and two pages of the reference."""
    for name in ("docs", "swarmstate", "examples"):
        shutil.copytree(
            ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("*.so", "__pycache__")
        )
    for path in [*ROOT.glob("*.md"), ROOT / "mkdocs.yml"]:
        shutil.copy(path, tmp_path)
    for file, old, new in REDUCED:
        replace(tmp_path / file, old, new)
    return tmp_path


def replace(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text, file
    file.write_text(text.replace(old, new, 1))


# The other pages take most of the time of a build.
REDUCED = [
    ("mkdocs.yml", "  - search\n", ""),
    ("mkdocs.yml", "  name: material\n", "  name: mkdocs\n"),
    (
        "docs/_site/pages.py",
        "\nFROM_ROOT = {",
        "\nREFERENCE = {name: REFERENCE[name] for name in ('Stores and values', 'Errors')}"
        "\nFROM_ROOT = {",
    ),
]
FAULTS = [
    ("docs/store.md", "(codecs.md)", "(no-page.md)", "no-page.md"),
    ("docs/store.md", "(#history)", "(#no-heading)", "no-heading"),
    ("SECURITY.md", "(docs/redis.md#permissions)", "(docs/redis.md#none)", "#none"),
    ("mkdocs.yml", "      - Codecs: codecs.md\n", "", 'not included in the "nav"'),
    (
        "swarmstate/errors.py",
        '"""Bytes that are not one complete, valid value."""',
        "pass",
        "swarmstate.errors.DecodeError has no docstring",
    ),
    (
        "swarmstate/_core.pyi",
        '"""Return whether the key exists. O(1)."""',
        "...",
        "swarmstate.Store.contains has no docstring",
    ),
]


def test_each_fault_is_a_warning_and_a_warning_fails_the_build(
    sources: Path, tmp_path: Path
) -> None:
    for file, old, new, _ in FAULTS:
        replace(sources / file, old, new)
    done = build(sources, tmp_path / "site")
    for *_, fault in FAULTS:
        assert fault in done.stderr
    # What has no docstring is not shown either, which the build tells of a method.
    assert "swarmstate.Store.contains is not in the reference" in done.stderr
    assert f"Aborted with {len(FAULTS) + 1} warnings in strict mode" in done.stdout
    assert done.returncode != 0
