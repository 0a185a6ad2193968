"""Runs a notebook's cells as a kernel would, and gives what each of them shows.

``python tests/support/notebooks.py NOTEBOOK`` puts that into the notebook.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any


def run(notebook: dict[str, Any]) -> list[list[dict[str, Any]]]:
    """Execute all cells of code in order; return the outputs of each, as notebooks keep them."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    shown = []
    for number, cell in enumerate(code_cells(notebook), start=1):
        body = ast.parse("".join(cell["source"])).body
        last = body.pop() if body and isinstance(body[-1], ast.Expr) else None
        outputs: list[dict[str, Any]] = []
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(compile(ast.Module(body, []), f"cell {number}", "exec"), namespace)
            value = None
            if isinstance(last, ast.Expr):
                expression = ast.Expression(last.value)
                value = eval(compile(expression, f"cell {number}", "eval"), namespace)
        if text := printed.getvalue():
            outputs.append({"name": "stdout", "output_type": "stream", "text": lines(text)})
        if value is not None:
            outputs.append(
                {
                    "data": {"text/plain": lines(repr(value))},
                    "execution_count": number,
                    "metadata": {},
                    "output_type": "execute_result",
                }
            )
        shown.append(outputs)
    return shown


def code_cells(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the cells that hold code."""
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


if __name__ == "__main__":
    path = Path(sys.argv[1])
    notebook = json.loads(path.read_text())
    ran = zip(code_cells(notebook), run(notebook), strict=True)
    for number, (cell, outputs) in enumerate(ran, start=1):
        cell.update(outputs=outputs, execution_count=number)
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")
