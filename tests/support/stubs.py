"""Writes the stubs of stores whose methods static tools cannot follow to their steps.

`make stubs` puts them into the package; a test compares each with what its module says of itself.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from swarmstate.backends.disk import store as disk
from swarmstate.backends.redis import store as redis

MODULES = (redis, disk)

HEAD = '''
"""What type checkers and editors see of the stores: every method written out.

The module makes the methods from their steps, which static tools do not follow. Made by
``make stubs``; a test compares it with the module, docstrings included.
"""

{imports}
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from typing_extensions import Self

from swarmstate._core import Snapshot
{logic}
from swarmstate.checkpoints.protocol import CheckpointEngine
from swarmstate.items.protocol import ItemEngine
from swarmstate.protocols import Default, Pair, SnapshotLike

__all__ = {names}
'''


def path(module: ModuleType) -> Path:
    """Return where the stub of a module is."""
    return Path(str(module.__file__)).with_suffix(".pyi")


def stub(module: ModuleType) -> str:
    """Return the stub, as yet without the line breaks that the formatter makes."""
    logic = [
        f"from {one.__module__} import {one.__name__}" for one in (module.StoreSteps, module.Driver)
    ]
    logic.append("from swarmstate.backends.opened import Awaited, Blocking, Opened")
    head = HEAD.format(
        imports="import os" if hasattr(module, "os") else "",
        logic="\n".join(sorted(logic)),
        names=module.__all__,
    )
    lines = [head.strip(), ""]
    asynchronous, blocking = (getattr(module, name) for name in module.__all__)
    for kind in (module._Opened, blocking, asynchronous):
        lines.append(f"class {kind.__name__}({', '.join(b.__name__ for b in kind.__bases__)}):")
        lines += indented(_documented(kind.__doc__))
        if kind is module._Opened:
            lines += indented(["steps: StoreSteps", "driver: Driver", ""])
        for name, member in vars(kind).items():
            lines += indented(_member(name, member))
    return "\n".join(lines) + "\n"


def indented(lines: Any) -> Iterator[str]:
    return (f"    {line}" if line else "" for line in lines)


def _documented(text: str | None) -> Iterator[str]:
    if text is not None:
        first, *rest = inspect.cleandoc(text).splitlines()
        yield f'"""{first}' + ("" if rest else '"""')
        if rest:
            yield from [*rest, '"""']


def _member(name: str, member: Any) -> Iterator[str]:
    if isinstance(member, property):
        assert member.fget is not None
        yield "@property"
        yield from _member(name, member.fget)
    elif inspect.isfunction(member) and (name[0] != "_" or name.endswith("__")):
        signature = inspect.signature(member)
        parameters = [_parameter(each) for each in signature.parameters.values()]
        for index, each in enumerate(signature.parameters.values()):
            if each.kind is each.KEYWORD_ONLY:
                parameters.insert(index, "*")
                break
        kind = "async def" if inspect.iscoroutinefunction(member) else "def"
        returns = signature.return_annotation
        yield f"{kind} {name}({', '.join(parameters)}) -> {returns}:"
        yield from indented(_documented(member.__doc__))
        if member.__doc__ is None:
            yield "    ..."
        yield ""


def _parameter(each: inspect.Parameter) -> str:
    if each.annotation is each.empty:
        return each.name
    default = "" if each.default is each.empty else f" = {each.default!r}"
    return f"{each.name}: {each.annotation}{default}"


if __name__ == "__main__":
    for each in MODULES:
        path(each).write_text(stub(each))
