"""The example shows what a long conversation costs."""

from __future__ import annotations

import os
import re
import subprocess
import sys

from built import STRICT
from documents import ROOT


def test_the_example_plots_both_sizes_and_ours_is_a_fraction() -> None:
    program = [sys.executable, *STRICT, str(ROOT / "examples/long_conversation.py"), "30"]
    done = subprocess.run(program, env={**os.environ}, capture_output=True, text=True, check=True)
    whole, ours = map(float, re.findall(r": +([0-9.]+) MB", done.stdout))
    assert 0 < ours < whole / 5
    assert "turn 30" in done.stdout
