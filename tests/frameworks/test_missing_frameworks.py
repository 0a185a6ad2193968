"""A framework that is missing or too old is named; nothing imports one before it is used."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from built import execute

import swarmstate

ROOT = Path(swarmstate.__file__).parents[1]
NEEDED = {
    "openai_agents": ("agents", "openai-agents>=0.24"),
    "pydantic_ai": ("pydantic_ai", "pydantic-ai-slim>=2.68"),
    "google_adk": ("google.adk", "google-adk>=2.13"),
    "strands": ("strands", "strands-agents>=1.62"),
}


def run(code: str, directory: Path) -> str:
    path = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
    return execute(sys.executable, "-c", path + code, cwd=directory)


@pytest.mark.parametrize("name", NEEDED)
@pytest.mark.parametrize("how", ["missing", "old"])
def test_a_framework_that_is_missing_or_too_old_is_named(
    name: str, how: str, tmp_path: Path
) -> None:
    module, requirement = NEEDED[name]
    # An old one has the module, and not what is needed of it.
    stand_in = "None" if how == "missing" else f"types.ModuleType({module!r})"
    code = f"""if True:
        import types
        sys.modules[{module!r}] = {stand_in}
        try:
            import swarmstate.integrations.{name}
        except ImportError as error:
            print(error)
    """
    printed = run(code, tmp_path)
    assert requirement in printed
    assert f"pip install '{requirement}'" in printed
    assert "swarmstate[" not in printed


def test_no_framework_is_imported_before_it_is_used(tmp_path: Path) -> None:
    code = """if True:
        import swarmstate
        swarmstate.Store().append("log", [1])
        names = {"agents", "pydantic_ai", "google.adk", "strands", "pydantic"}
        print(sorted(names & set(sys.modules)))
    """
    assert run(code, tmp_path).strip() == "[]"
