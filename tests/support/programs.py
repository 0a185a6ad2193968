"""Examples, run as their users run them or, where that shows nothing more, in this process."""

from __future__ import annotations

import contextlib
import io
import os
import runpy
import signal
import sys
from pathlib import Path

from built import STRICT, execute
from documents import ROOT

EXAMPLES = ROOT / "examples"


def run(name: str, *arguments: str, cwd: Path) -> str:
    """Run an example in a process of its own and return what it printed."""
    return execute(sys.executable, *STRICT, EXAMPLES / f"{name}.py", *arguments, cwd=cwd)


def run_here(name: str, *arguments: str, cwd: Path) -> str:
    """Run an example in this process, which has imported LangGraph already: that takes seconds.

    Raises:
        SystemExit: the example ended so, with the text that a process would end with.
    """
    path, folder, handler = EXAMPLES / f"{name}.py", Path.cwd(), signal.getsignal(signal.SIGTERM)
    before, sys.argv = sys.argv, [str(path), *arguments]
    os.chdir(cwd)
    try:
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            runpy.run_path(str(path), run_name="__main__")
    finally:
        os.chdir(folder)
        sys.argv = before
        signal.signal(signal.SIGTERM, handler)
    return printed.getvalue()
