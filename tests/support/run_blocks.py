"""Runs Python blocks the way a reader does who pastes them into a fresh interpreter.

Standard input is a JSON list of (file name, line, source). The lines are read as the interactive
interpreter reads them: an empty line ends a compound statement, so there is none inside one and
one after each. Where a line ends in a comment ``# -> text``, the interpreter must show exactly
that. A server of the reader's own is never touched: connecting to the port that the documents name
is refused.

With an argument it imports those modules, separated by commas, and then each line of standard input
is [directory, where to write, such a list]: a fork runs it, and its exit code is printed. So what
many blocks need is imported once, which takes longer than to run them.
"""

import codeop
import gc
import importlib
import json
import os
import re
import sys
from collections.abc import Iterator
from types import CodeType
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


def statements(name: str, line: int, source: str) -> Iterator[CodeType]:
    """Yield what the interpreter would execute, one statement after the other."""
    compiler = codeop.CommandCompiler()
    waiting: list[str] = []
    # The empty line at the end is the Enter key, pressed after pasting the block.
    for number, text in enumerate([*source.splitlines(), ""], start=line):
        if not waiting and not text.strip():
            continue
        if not waiting:
            start = number
        waiting.append(text)
        # Empty lines in front make tracebacks name the line in the document.
        code = compiler("\n" * (start - 1) + "\n".join(waiting), name, "single")
        if code is not None:
            yield code
            waiting = []
    if waiting:
        raise SyntaxError(f"{name}:{start}: the statement is not finished")


def run(name: str, line: int, source: str, namespace: dict[str, Any]) -> None:
    """Execute one block and compare what it shows with what it says."""
    expected = {
        number: found[1]
        for number, text in enumerate(source.splitlines(), start=line)
        if (found := _EXPECTED.search(text))
    }
    shown: dict[int, str] = {}

    def display(value: object) -> None:
        shown[sys._getframe(1).f_lineno] = repr(value)

    sys.displayhook = display
    for code in statements(name, line, source):
        exec(code, namespace)
    for number, text in expected.items():
        value = shown.get(number, "nothing")
        if value != text:
            raise AssertionError(f"{name}:{number}: the document says {text}, shown is {value}")


def main(parts: list[tuple[str, int, str]]) -> None:
    """Run blocks one after the other, as this process."""
    sys.addaudithook(_guard)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for name, line, source in parts:
        run(name, line, source, namespace)


def forked() -> list[tuple[str, int, str]]:
    """Return in a fork what it is to run; the parent returns nothing, when there is no more."""
    for request in sys.stdin:
        directory, output, parts = json.loads(request)
        child = os.fork()
        if not child:
            os.chdir(directory)
            with open(output, "wb") as written, open(os.devnull) as nothing:
                os.dup2(nothing.fileno(), 0)
                os.dup2(written.fileno(), 1)
                os.dup2(written.fileno(), 2)
            return parts  # type: ignore[no-any-return]
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    return []


if __name__ == "__main__":
    for module in sys.argv[1].split(",") if sys.argv[1:] else ():
        importlib.import_module(module)
    gc.freeze()  # or each fork would free all of it at its end, which takes 0.4 s
    main(forked() if sys.argv[1:] else json.load(sys.stdin))
