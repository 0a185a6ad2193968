"""Docstrings name other objects by Sphinx's roles; the site wants links of Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from griffe import Alias, AliasResolutionError, Extension, GriffeLoader, Module, Object

_ROLE = re.compile(r":(?:attr|class|data|exc|func|meth|mod|obj):`(~?)([\w.]+)`")
_LITERAL = re.compile(r"::$", re.MULTILINE)


class Roles(Extension):
    """Turns roles into links where the site has a place for what they name."""

    def on_package(self, *, pkg: Module, loader: GriffeLoader, **kwargs: Any) -> None:
        """Rewrite every docstring of a package, which is known as a whole by now."""
        for one in _objects(pkg):
            if one.docstring is not None:
                text = _ROLE.sub(lambda role, one=one: _link(role, one, pkg), one.docstring.value)
                one.docstring.value = _LITERAL.sub(":", text)


def _objects(one: Object) -> Iterator[Object]:
    yield one
    for member in one.members.values():
        if not member.is_alias:
            yield from _objects(member)  # type: ignore[arg-type]


def _link(role: re.Match[str], one: Object, pkg: Module) -> str:
    short, name = role.groups()
    shown = name.rpartition(".")[2] if short else name
    target = _found(name, one, pkg)
    return f"[`{shown}`][{target}]" if target else f"`{shown}`"


def _found(name: str, one: Object, pkg: Module) -> str | None:
    """Return where what is meant is defined, looked up from the inside out, if it is public.

    The site knows each object by that place too. Modules are not linked: not all have a page.
    """
    absolute = name.startswith(f"{pkg.name}.")
    inside = _member(pkg, name.removeprefix(f"{pkg.name}.")) if absolute else None
    place: Object | Alias | None = one
    while inside is None and place is not None:
        inside, place = _member(place, name), place.parent
    if inside is None or inside.is_module or inside.name.startswith("_"):
        return None
    return inside.canonical_path


def _member(place: Object | Alias, name: str) -> Object | Alias | None:
    """Return what a name, with points or without, means there."""
    try:
        found = place.all_members[name] if "." not in name else place[name]
        return found.final_target if isinstance(found, Alias) else found
    except (KeyError, AttributeError, AliasResolutionError):
        return None
