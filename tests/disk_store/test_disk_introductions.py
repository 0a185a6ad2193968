"""What the methods of the stores say of themselves, to people, to inspect and to static tools."""

from __future__ import annotations

import ast
import inspect

import pytest
from stubs import path, stub

from swarmstate.backends.disk import AsyncDiskStore, DiskStore, store

METHODS = [
    (kind, name)
    for kind in (DiskStore, AsyncDiskStore)
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
    assert method.__module__ == "swarmstate.backends.disk.store"
    assert "Steps" not in str(inspect.signature(method))
    assert method.__doc__ or name.startswith("__")


def test_the_stub_says_what_the_module_says() -> None:
    written = ast.dump(ast.parse(path(store).read_text()))
    assert written == ast.dump(ast.parse(stub(store))), "run make stubs"
