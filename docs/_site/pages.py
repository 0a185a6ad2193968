"""The pages of the site that are no files under docs/, and the check that none is missing.

A hook of mkdocs. It adds the documents of the repository's root, a page for each example and the
API reference, turns links between files of the repository into links between pages, and fails the
build where a public name has no docstring or is not shown.
"""

from __future__ import annotations

import ast
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from posixpath import normpath, relpath
from typing import Any

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.plugins import get_plugin_logger
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]

log = get_plugin_logger("pages")

REFERENCE = {
    "Stores and values": ["swarmstate"],
    "DiskStore": ["swarmstate.backends.disk"],
    "RedisStore": ["swarmstate.backends.redis"],
    "LangGraph": ["swarmstate.integrations.langgraph"],
    "Other frameworks": [
        "swarmstate.integrations.openai_agents",
        "swarmstate.integrations.pydantic_ai",
        "swarmstate.integrations.google_adk",
        "swarmstate.integrations.strands",
    ],
    "Codecs": ["swarmstate.codecs", "swarmstate.codecs.zstd"],
    "Errors": ["swarmstate.errors"],
    "Observability": ["swarmstate.observability"],
    "Protocols": ["swarmstate.protocols"],
    "Checkpoints in any store": ["swarmstate.checkpoints", "swarmstate.checkpoints.protocol"],
    "Memory items in any store": ["swarmstate.items.format", "swarmstate.items.protocol"],
}
"""The pages of the API reference, and the modules whose ``__all__`` each of them shows."""

FROM_ROOT = {
    name: f"{name.removesuffix('.md').lower().replace('_', '-')}.md"
    for name in ("CHANGELOG.md", "CODE_OF_CONDUCT.md", "CONTRIBUTING.md", "SECURITY.md")
    if (ROOT / name).exists()
}
"""Documents of the repository's root, and their pages."""

_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)\s#]+)(#[^)\s]*)?\)")
_FENCE = re.compile(r"^```.*?^```$|`[^`\n]+`", re.DOTALL | re.MULTILINE)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the generated pages into the navigation."""
    generated: dict[str, list[Any]] = {
        "EXAMPLES": [{title: page} for page, title, _ in _examples()],
        "REFERENCE": [{title: _page_of(title)} for title in REFERENCE],
    }
    config.nav = _replaced(config.nav, generated)
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made from other files of the repository."""
    for name, page in FROM_ROOT.items():
        text = _moved((ROOT / name).read_text(), name, page)
        files.append(File.generated(config, page, content=text))
    for page, title, path in _examples():
        files.append(File.generated(config, page, content=_example(title, path)))
    for title, modules in REFERENCE.items():
        text = f"# {title}\n\n" + "\n".join(_reference(modules))
        files.append(File.generated(config, _page_of(title), content=text))
    return files


def on_page_markdown(markdown: str, page: Page, **kwargs: Any) -> str:
    """Let links that lead out of docs/ lead to the pages of the site."""
    if page.file.generated_by:
        return markdown
    # Pictures are HTML, which mkdocs leaves as it is; a page is in a folder of its own.
    up = "../" * page.file.url.count("/")
    markdown = re.sub(r'\b(src|srcset)="(?=charts/)', rf'\1="{up}', markdown)
    return _moved(markdown, f"docs/{page.file.src_uri}", page.file.src_uri)


def on_post_build(config: MkDocsConfig) -> None:
    """Fail the build for public names that are not shown, or say nothing about themselves."""
    shown = inventory(Path(config.site_dir) / "objects.inv")
    faults = [f"{name} is not in the reference" for name in public() if name not in shown]
    faults += [f"{name} has no docstring" for name, text in public().items() if not text]
    for fault in faults:
        log.warning(fault)  # which fails a strict build


def inventory(path: Path) -> set[str]:
    """Return the names that a built site has a place for: the lines of Sphinx's inventory."""
    lines = zlib.decompress(path.read_bytes().split(b"\n", 4)[4]).decode().splitlines()
    return {line.split(" ", 1)[0] for line in lines}


_public: dict[str, str] = {}


def public() -> dict[str, str]:
    """Return the public names of the package and the docstring of each.

    They are what the modules of the reference have in ``__all__``, and the public methods and
    properties of those classes, as the sources say it.
    """
    if not _public:
        package = griffe.load("swarmstate", search_paths=[str(ROOT)], allow_inspection=False)
        for modules in REFERENCE.values():
            for module in modules:
                for name in _exported(module):
                    _public.update(_documented(package[f"{module}.{name}".partition(".")[2]]))
    return _public


def _documented(one: griffe.Object | griffe.Alias) -> Iterator[tuple[str, str]]:
    yield one.path, one.docstring.value if one.docstring else ""
    if one.is_class:
        for name, member in one.all_members.items():
            if name.startswith("_") or (not member.is_function and "property" not in member.labels):
                continue
            text = member.docstring.value if member.docstring else ""
            yield f"{one.path}.{name}", text


def _exported(module: str) -> list[str]:
    """Return what a module has in ``__all__``, but for modules, which have pages of their own."""
    path = ROOT / module.replace(".", "/")
    source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    for statement in ast.parse(source.read_text()).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "__all__":
            pages = {name for names in REFERENCE.values() for name in names}
            names: list[str] = ast.literal_eval(statement.value)
            return [name for name in names if f"{module}.{name}" not in pages]
    raise PluginError(f"{module} has no __all__")


def _reference(modules: list[str]) -> Iterator[str]:
    for module in modules:
        # The module's own docstring, then each of its names.
        yield f"::: {module}\n    options:\n      members: false\n      show_root_full_path: true\n"
        for name in _exported(module):
            yield f"::: {module}.{name}\n    options:\n      heading_level: 3\n"


def _page_of(title: str) -> str:
    return f"reference/{title.lower().replace(' ', '-')}.md"


def _examples() -> Iterator[tuple[str, str, Path]]:
    """Yield the page, the title and the file of each notebook and of each example that is run."""
    folder = ROOT / "examples"
    programs = [one for one in folder.glob("*.py") if "\nif __name__ ==" in one.read_text()]
    for path in [*sorted(folder.glob("*.ipynb")), *sorted(programs)]:
        yield f"examples/{path.stem}.md", path.stem.replace("_", " ").capitalize(), path


def _example(title: str, path: Path) -> str:
    name = path.relative_to(ROOT)
    if path.suffix == ".ipynb":
        return "\n\n".join([*_cells(json.loads(path.read_text())), f"This page is `{name}`.", ""])
    return f"# {title}\n\n`{name}`\n\n````python\n{path.read_text()}````\n"


def _cells(notebook: dict[str, Any]) -> Iterator[str]:
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        yield source if cell["cell_type"] == "markdown" else f"````python\n{source}\n````"
        for output in cell.get("outputs", []):
            shown = output["text"] if "text" in output else output["data"]["text/plain"]
            yield f"````text\n{''.join(shown)}\n````"


def _replaced(nav: Any, generated: dict[str, list[Any]]) -> Any:
    if isinstance(nav, list):
        return [_replaced(one, generated) for one in nav]
    if isinstance(nav, dict):
        return {title: _replaced(one, generated) for title, one in nav.items()}
    return generated.get(nav, nav)


def _moved(markdown: str, source: str, page: str) -> str:
    """Return the text of a file of the repository with the links of the page that it becomes."""

    def link(found: re.Match[str]) -> str:
        label, target, anchor = found[1], found[2], found[3] or ""
        there = _target(target, source, page)
        return f"[{label}]({there}{anchor})" if there else label

    parts: list[str] = []
    end = 0
    for code in _FENCE.finditer(markdown):
        parts += [_LINK.sub(link, markdown[end : code.start()]), code[0]]
        end = code.end()
    return "".join([*parts, _LINK.sub(link, markdown[end:])])


def _target(target: str, source: str, page: str) -> str | None:
    """Return where a link leads on the site; None for a file that is only in the repository."""
    if re.match(r"\w+:", target):
        return target
    path = normpath(f"{source}/../{target}")
    if path in FROM_ROOT:
        there = FROM_ROOT[path]
    elif path.startswith("docs/"):
        there = path.removeprefix("docs/")
    elif path in ("README.md", "docs"):
        there = "index.md"
    elif path.startswith("examples/") and path.endswith((".py", ".ipynb")):
        there = f"{path.rpartition('.')[0]}.md"
    else:
        return None
    return relpath(there, f"{page}/..")


__all__ = ["REFERENCE", "inventory", "public"]
