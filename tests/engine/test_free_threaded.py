"""On free-threaded builds of CPython everything works with the GIL, which importing switches on."""

from __future__ import annotations

import subprocess
import sys
import sysconfig

import pytest
from documents import ROOT

free_threaded = pytest.mark.skipif(
    not sysconfig.get_config_var("Py_GIL_DISABLED"),
    reason="this interpreter always has the GIL",
)


def test_no_extension_claims_to_do_without_the_gil() -> None:
    # docs/operations.md lists what would have to change before one may.
    for path in [ROOT / "setup.py", *(ROOT / "ext").iterdir()]:
        assert "freethreading_compatible" not in path.read_text(), path.name


@free_threaded
@pytest.mark.parametrize(
    "module",
    ["_checkpoints", "_codec", "_core", "_handoff"],  # the others need libraries
)
def test_importing_an_extension_switches_the_gil_on(module: str) -> None:
    code = f"import sys, swarmstate.{module}; print(sys._is_gil_enabled())"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "True"
