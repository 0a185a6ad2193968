"""What the release workflow builds is what the metadata promises; its files can be read."""

from __future__ import annotations

import re
import sys
from typing import Any

import pytest
from documents import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
WORKFLOW: dict[str, Any] = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text())


def test_wheels_are_built_for_every_version_that_the_metadata_names() -> None:
    named = {
        f"cp{match[1]}{match[2]}-*"
        for line in PROJECT["project"]["classifiers"]
        if (match := re.fullmatch(r"Programming Language :: Python :: (3)\.(\d+)", line))
    }
    assert named == set(PROJECT["tool"]["cibuildwheel"]["build"])
    oldest = min(named, key=lambda tag: int(tag[3:-2]))
    assert PROJECT["project"]["requires-python"] == f">=3.{oldest[3:-2]}"


def test_the_tests_of_the_wheels_are_there() -> None:
    settings = PROJECT["tool"]["cibuildwheel"]
    for part in settings["test-sources"]:
        assert (ROOT / part).exists()
    assert set(settings["test-groups"]) <= set(PROJECT["dependency-groups"])
    (tests,) = re.findall(r"tests/\w+", settings["test-command"])
    assert (ROOT / tests).is_dir()


def test_nothing_is_published_that_was_not_built_and_compared() -> None:
    jobs = WORKFLOW["jobs"]
    assert set(jobs["publish"]["needs"]) == {"sdist", "wheels"}
    assert "refs/tags/v" in jobs["publish"]["if"]
    assert jobs["publish"]["permissions"] == {"id-token": "write"}
    assert WORKFLOW["permissions"] == {"contents": "read"}
    # No secret, and no token that a step could use for more.
    text = (ROOT / ".github/workflows/release.yml").read_text()
    assert "secrets." not in text
    checkouts = [
        step
        for job in jobs.values()
        for step in job["steps"]
        if step.get("uses", "").startswith("actions/checkout@")
    ]
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


def test_the_forms_for_issues_ask_for_what_is_needed() -> None:
    for path in sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml")):
        form = yaml.safe_load(path.read_text())
        if path.stem == "config":
            continue
        assert {"name", "description", "body"} <= set(form), path.name
        assert any(field.get("validations", {}).get("required") for field in form["body"]), (
            path.name
        )
