"""The hand-kept stub of each compiled module says what the module has."""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import swarmstate
from swarmstate import Snapshot, Store

STUBS = {
    path.stem: ast.parse(path.read_text())
    for path in sorted(Path(swarmstate.__file__).parent.glob("*.pyi"))
}
# What Python gives every class in some form, stub or not.
OF_OBJECT = {*dir(object), "__len__", "__contains__", "__bool__", "__setstate__", "__next__"}
PUBLIC = {"Store": Store, "Snapshot": Snapshot}


def module_of(stub: str) -> ModuleType:
    return importlib.import_module(f"swarmstate.{stub}")


def declared(stub: str, kind: type[Any]) -> Iterator[Any]:
    """The statements of one kind in a stub."""
    return (node for node in STUBS[stub].body if isinstance(node, kind))


def is_property(node: ast.FunctionDef) -> bool:
    return any(isinstance(one, ast.Name) and one.id == "property" for one in node.decorator_list)


def methods() -> Iterator[Any]:
    """Every method and property that a stub declares, but for what Python gives every class."""
    for stub in STUBS:
        for kind in declared(stub, ast.ClassDef):
            for node in kind.body:
                if isinstance(node, ast.FunctionDef) and node.name not in OF_OBJECT:
                    yield pytest.param(
                        getattr(module_of(stub), kind.name), node, id=f"{kind.name}.{node.name}"
                    )


def parameters(node: ast.FunctionDef) -> list[tuple[str, str, bool]]:
    """Name and kind of the parameters but self, and whether each has a default."""
    spec = node.args
    named = [(one.arg, "positional only") for one in spec.posonlyargs]
    named += [(one.arg, "positional or keyword") for one in spec.args]
    defaults = [False] * (len(named) - len(spec.defaults)) + [True] * len(spec.defaults)
    found = [(*one, default) for one, default in zip(named, defaults, strict=True)]
    found += [
        (one.arg, "keyword only", default is not None)
        for one, default in zip(spec.kwonlyargs, spec.kw_defaults, strict=True)
    ]
    return [one for one in found if one[0] not in ("self", "cls")]


def built(member: Any) -> list[tuple[str, str, bool]]:
    return [
        (one.name, one.kind.description.replace("-", " "), one.default is not one.empty)
        for one in inspect.signature(member).parameters.values()
        if one.name not in ("self", "cls")
    ]


@pytest.mark.parametrize("name", PUBLIC)
def test_the_stub_names_every_public_member_of_a_class(name: str) -> None:
    (kind,) = (node for node in declared("_core", ast.ClassDef) if node.name == name)
    names = {node.name for node in kind.body if isinstance(node, ast.FunctionDef)} - OF_OBJECT
    present = {member for member in vars(PUBLIC[name]) if member not in OF_OBJECT}
    assert {one for one in present if not one.startswith("__pyx_")} == names


@pytest.mark.parametrize(("kind", "node"), list(methods()))
def test_the_stub_has_the_parameters_of_every_method(kind: type, node: ast.FunctionDef) -> None:
    if is_property(node):
        assert inspect.isgetsetdescriptor(inspect.getattr_static(kind, node.name))
    else:
        assert built(getattr(kind, node.name)) == parameters(node)


@pytest.mark.parametrize("stub", STUBS)
def test_the_module_has_every_function_and_variable_of_the_stub(stub: str) -> None:
    module = module_of(stub)
    functions = {node.name: node for node in declared(stub, ast.FunctionDef)}
    present = {
        name
        for name, value in vars(module).items()
        if inspect.isbuiltin(value) and value.__module__ == module.__name__ and name[0] != "_"
    }
    assert set(functions) <= present
    for name, node in functions.items():
        assert built(getattr(module, name)) == parameters(node), name
    for node in declared(stub, ast.AnnAssign):
        kind = type(getattr(module, node.target.id)).__name__.removesuffix("Type")
        assert kind in ast.unparse(node.annotation)
    for node in declared(stub, ast.ClassDef):
        assert inspect.isclass(getattr(module, node.name))


@pytest.mark.parametrize("name", PUBLIC)
def test_help_shows_how_an_object_is_made(name: str) -> None:
    """Of a class the signature is that of its ``__init__``."""
    (kind,) = (node for node in declared("_core", ast.ClassDef) if node.name == name)
    for node in kind.body:
        if isinstance(node, ast.FunctionDef) and node.name == "__init__":
            assert built(PUBLIC[name]) == parameters(node)


@pytest.mark.parametrize("name", PUBLIC)
def test_the_stub_has_the_docstrings_that_help_shows(name: str) -> None:
    (kind,) = (node for node in declared("_core", ast.ClassDef) if node.name == name)
    assert ast.get_docstring(kind) == inspect.getdoc(PUBLIC[name])
    for node in kind.body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            shown = inspect.getdoc(inspect.getattr_static(PUBLIC[name], node.name))
            assert shown, node.name
            assert ast.get_docstring(node) == shown, node.name


def test_everything_public_has_a_docstring() -> None:
    for kind in PUBLIC.values():
        for name in dir(kind):
            if not name.startswith("_"):
                assert getattr(kind, name).__doc__, name
