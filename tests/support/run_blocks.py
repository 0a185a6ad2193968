"""Runs Python blocks in one fresh interpreter, as somebody who pastes them would.

Standard input is a JSON list of (file name, line, source). Blocks share one namespace. A statement
that is an expression and ends in a comment ``# -> text`` must evaluate to a value whose ``repr`` is
``text``. Nobody's own server is touched: connecting to the port that the documents name is refused.
"""

import ast
import json
import re
import sys
from typing import Any

_DOCUMENTED_PORT = 6379
_EXPECTED = re.compile(r"#\s*->\s*(.+?)\s*$")


def _guard(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.connect":
        address = arguments[1]
        if isinstance(address, tuple) and address[1] == _DOCUMENTED_PORT:
            raise RuntimeError(
                f"a block connects to port {_DOCUMENTED_PORT} without naming redis://localhost:"
                f"{_DOCUMENTED_PORT}/0, which the test replaces by the URL of a private server"
            )


def run(name: str, line: int, source: str, namespace: dict[str, Any]) -> None:
    """Execute one block; tracebacks point into the document."""
    # The empty lines put the block where it stands in its document.
    text = "\n" * (line - 1) + source
    lines = text.splitlines()
    for statement in ast.parse(text, name).body:
        expected = _EXPECTED.search(lines[(statement.end_lineno or 1) - 1])
        if expected and isinstance(statement, ast.Expr):
            value = eval(compile(ast.Expression(statement.value), name, "eval"), namespace)
            if repr(value) != expected[1]:
                raise AssertionError(
                    f"{name}:{statement.lineno}: the document says {expected[1]}, it is {value!r}"
                )
        elif expected:
            raise AssertionError(f"{name}:{statement.lineno}: only an expression has a value")
        else:
            exec(compile(ast.Module([statement], []), name, "exec"), namespace)


if __name__ == "__main__":
    sys.addaudithook(_guard)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for name, line, source in json.load(sys.stdin):
        run(name, line, source, namespace)
