"""The hand-kept stub of the compiled module says what the module has."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from typing import Any

import pytest

import swarmstate
from swarmstate import _core

STUB = ast.parse((Path(swarmstate.__file__).parent / "_core.pyi").read_text())
CLASSES = {node.name: node for node in STUB.body if isinstance(node, ast.ClassDef)}
# What Python gives every class in some form, stub or not.
OF_OBJECT = {*dir(object), "__len__", "__contains__", "__setstate__", "__next__"}


def parameters(node: ast.FunctionDef) -> list[tuple[str, bool]]:
    """Names of the parameters but self, and whether each has a default."""
    spec = node.args
    named = [*spec.posonlyargs, *spec.args]
    defaults = [False] * (len(named) - len(spec.defaults)) + [True] * len(spec.defaults)
    found = [(one.arg, default) for one, default in zip(named, defaults, strict=True)]
    found += [
        (one.arg, default is not None)
        for one, default in zip(spec.kwonlyargs, spec.kw_defaults, strict=True)
    ]
    return [one for one in found if one[0] not in ("self", "cls")]


def built(member: Any) -> list[tuple[str, bool]]:
    signature = inspect.signature(member)
    return [
        (one.name, one.default is not inspect.Parameter.empty)
        for one in signature.parameters.values()
        if one.name not in ("self", "cls")
    ]


@pytest.mark.parametrize("name", ["Store", "Snapshot"])
def test_the_stub_names_every_public_member_of_a_class(name: str) -> None:
    declared = {
        node.name for node in CLASSES[name].body if isinstance(node, ast.FunctionDef)
    } - OF_OBJECT
    present = {member for member in vars(getattr(_core, name)) if member not in OF_OBJECT}
    assert {one for one in present if not one.startswith("__pyx_")} == declared


@pytest.mark.parametrize("name", ["Store", "Snapshot"])
def test_the_stub_has_the_parameters_of_every_method(name: str) -> None:
    for node in CLASSES[name].body:
        if not isinstance(node, ast.FunctionDef) or node.name.startswith("__"):
            continue
        if any(isinstance(one, ast.Name) and one.id == "property" for one in node.decorator_list):
            assert inspect.isgetsetdescriptor(
                inspect.getattr_static(getattr(_core, name), node.name)
            )
        else:
            assert built(getattr(getattr(_core, name), node.name)) == parameters(node), node.name


def test_everything_public_has_a_docstring() -> None:
    for kind in (_core.Store, _core.Snapshot):
        for name in dir(kind):
            if not name.startswith("_"):
                assert getattr(kind, name).__doc__, name
