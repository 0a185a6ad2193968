"""What the methods of the stores say of themselves, to people, to inspect and to static tools."""

from __future__ import annotations

import ast
import inspect
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from stubs import path, stub

from swarmstate.backends.disk import AsyncDiskStore, DiskStore
from swarmstate.backends.disk import store as disk
from swarmstate.backends.redis import AsyncRedisStore, RedisStore
from swarmstate.backends.redis import store as redis

KINDS = {RedisStore: redis, AsyncRedisStore: redis, DiskStore: disk, AsyncDiskStore: disk}
METHODS = [
    (kind, name)
    for kind in KINDS
    for name, member in vars(kind).items()
    if inspect.isfunction(member)
]


@pytest.mark.parametrize(
    ("kind", "name"), METHODS, ids=lambda value: getattr(value, "__name__", value)
)
def test_a_method_introduces_itself_as_its_class_s_own(kind: type, name: str) -> None:
    method = getattr(kind, name)
    assert method.__name__ == name
    assert method.__qualname__ == f"{kind.__name__}.{name}"
    assert method.__module__ == KINDS[kind].__name__
    assert "Steps" not in str(inspect.signature(method))
    assert method.__doc__ or name.startswith("__")


def test_the_signature_and_the_docstring_are_those_of_a_method_written_out() -> None:
    assert str(inspect.signature(RedisStore.get)) == (
        "(self, namespace: 'str', key: 'str', default: 'Any' = None) -> 'Any'"
    )
    assert inspect.signature(AsyncRedisStore.contains).return_annotation == "bool"
    assert inspect.iscoroutinefunction(AsyncRedisStore.contains)
    assert "one value" in str(RedisStore.get.__doc__)


@pytest.mark.parametrize("module", [redis, disk], ids=lambda module: module.__name__)
def test_the_stub_says_what_the_module_says(module: ModuleType) -> None:
    written = ast.dump(ast.parse(path(module).read_text()))
    assert written == ast.dump(ast.parse(stub(module))), "run make stubs"


USE = """
import asyncio
from swarmstate.backends.redis import AsyncRedisStore, RedisStore

async def use(store: AsyncRedisStore, plain: RedisStore) -> None:
    task: asyncio.Task[None] = asyncio.create_task(store.set("n", "k", 1))
    await task
    found: bool = await store.contains("n", "k")
    names: list[str] = plain.keys("n")
    store.set("n", "k", 1)
"""


def test_a_forgotten_await_is_found_and_a_task_accepted(tmp_path: Path) -> None:
    program = tmp_path / "use.py"
    program.write_text(USE)
    checked = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path), str(program)),
            # What the stores import from others says nothing about these calls, and takes a minute.
            *("--no-site-packages", "--ignore-missing-imports"),
        ],
        env={**os.environ, "MYPYPATH": str(path(redis).parents[3])},
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=280,
    )
    errors = [line for line in checked.stdout.splitlines() if ": error:" in line]
    (error,) = errors
    assert error.startswith("use.py:10:")
    assert "must be used" in error
