"""The charts of the documents are there, and drawn from the newest run that is kept."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
from built import execute
from documents import DOCUMENTS, ROOT

RUNS = sorted((ROOT / "bench/results").glob("*.json"))
CHARTS = ROOT / "docs/charts"


def pictures(document: str) -> set[str]:
    """Return what a document shows, as paths from the root."""
    text = (ROOT / document).read_text()
    named = re.findall(r'\b(?:src|srcset)="([^":]+)"', text)
    return {
        ((ROOT / document).parent / name).resolve().relative_to(ROOT).as_posix() for name in named
    }


def test_every_picture_is_there_for_light_and_dark_pages() -> None:
    shown = set().union(*map(pictures, DOCUMENTS))
    there = {path.relative_to(ROOT).as_posix() for path in CHARTS.glob("*.svg")}
    assert shown == there
    light = {name.removesuffix("-light.svg") for name in there if name.endswith("-light.svg")}
    assert {name.removesuffix("-dark.svg") for name in there if name.endswith("-dark.svg")} == light
    assert len(pictures("README.md")) == 2


@pytest.mark.parametrize("run", RUNS, ids=lambda path: path.stem)
def test_a_run_says_when_on_what_and_with_which_versions_it_was(run: Path) -> None:
    kept = json.loads(run.read_text())
    assert kept["date"] == run.stem
    assert re.fullmatch(r"\d+ cores, [\w-]+, \w+", kept["machine"])
    assert {"Python", "Valkey", "langgraph", "langgraph-checkpoint"} <= set(kept["versions"])


def test_the_charts_are_of_the_newest_run() -> None:
    run = json.loads(RUNS[-1].read_text())
    for chart in CHARTS.glob("*.svg"):
        text = chart.read_text()
        assert f"{run['date']}, {run['machine']}, Valkey {run['versions']['Valkey']}" in text
        assert ("TRIAL RUN" in text) is run["trial"]


def test_the_charts_can_be_drawn_and_name_every_saver(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    execute(sys.executable, ROOT / "bench/record/charts.py", "--to", tmp_path, cwd=tmp_path)
    run = json.loads(RUNS[-1].read_text())
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in CHARTS.iterdir()}
    for theme in ("light", "dark"):
        text = (tmp_path / f"time-by-call-{theme}.svg").read_text()
        for saver in run["time by call"]["put"]:
            assert saver in text
