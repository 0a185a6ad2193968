"""What importing the package brings in, and what it does not."""

from __future__ import annotations

import sys
from pathlib import Path

from built import execute

import swarmstate

PACKAGE = Path(swarmstate.__file__).parent


def run(code: str, directory: Path) -> list[str]:
    """Run code in a fresh interpreter that has this package; return the lines that it printed."""
    path = f"import sys; sys.path.insert(0, {str(PACKAGE.parent)!r})\n"
    return execute(sys.executable, "-c", path + code, cwd=directory).splitlines()


def test_the_codecs_are_imported_without_the_engine_that_builds_on_them(tmp_path: Path) -> None:
    code = f"""if True:
        import types
        package = sys.modules["swarmstate"] = types.ModuleType("swarmstate")
        package.__path__ = [{str(PACKAGE)!r}]
        from swarmstate import codecs
        for name in ("msgpack", "ormsgpack"):
            assert codecs.loads(codecs.dumps([1, "x"], name), name) == [1, "x"]
        print(*sorted(name for name in sys.modules if name.startswith("swarmstate._")))
    """
    assert run(code, tmp_path) == ["swarmstate._codec"]


def test_typing_extensions_is_not_needed_to_run(tmp_path: Path) -> None:
    code = """if True:
        sys.modules["typing_extensions"] = None  # importing it fails now
        import importlib, pkgutil, swarmstate
        with swarmstate.Store() as store:
            store.set("n", "k", 1)
            assert store.snapshot().state["n"]["k"] == b"\\x01"
        for module in pkgutil.walk_packages(swarmstate.__path__, "swarmstate."):
            # Those below need libraries that may need it themselves.
            apart = ("swarmstate.backends.", "swarmstate.integrations.", "swarmstate.cli.")
            if not module.name.startswith(apart):
                importlib.import_module(module.name)
        print("done")
    """
    assert run(code, tmp_path) == ["done"]
    for file in PACKAGE.rglob("*.py"):
        outer = [line for line in file.read_text().splitlines() if not line.startswith(" ")]
        assert not [line for line in outer if "typing_extensions" in line], file
