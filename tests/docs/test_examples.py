"""Each small example does what its first lines say; the notebook shows what its cells give."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from built import STRICT, execute
from documents import ROOT
from programs import EXAMPLES, run, run_here
from servers import present

# These have a test of their own, which goes further.
ELSEWHERE = {"assistant_with_memory", "long_conversation", "resume_after_crash", "shared_history"}


def test_an_agent_goes_back_from_every_dead_end(tmp_path: Path) -> None:
    printed = run("rollback", cwd=tmp_path).splitlines()
    assert printed[-1] == "done: teapot, cups, tray"
    assert printed[-2] == "packed tray: 15 of 15"
    # Each time everything is as it was: the same item can be packed again, to the same weight.
    assert "a dead end: teapot comes out again" in printed
    assert printed.count("a dead end: kettle comes out again") == 2


@pytest.mark.parametrize("kind", ["file", "server"])
def test_an_order_waits_for_an_answer_in_a_file_or_on_a_server(
    kind: str, server_url: str, tmp_path: Path
) -> None:
    store = [] if kind == "file" else ["--store", server_url]

    def order(*arguments: str, how: Callable[..., str] = run_here) -> str:
        name = f"{tmp_path.name}-order"  # a thread of its own, also on a shared server
        return how("langgraph_in_a_file", name, *arguments, *store, cwd=tmp_path)

    assert order() == "there is no such order\n"
    assert order("tea", how=run) == "tea is in stock. Ship it?\n"
    assert order() == "tea is in stock. Ship it?\n"
    assert order("--answer", "yes") == "shipped\n"
    assert order(how=run) == "shipped\n"


def test_any_worker_goes_on_with_any_conversation(tmp_path: Path) -> None:
    if not present("valkey"):
        pytest.skip("there is no server for this Python")
    *conversations, last = run("langgraph_workers", cwd=tmp_path).splitlines()
    assert [line.partition(": ")[2] for line in conversations] == [
        "4 messages, the last one: this is turn 2"
    ] * 6
    # How many of the six workers had something to do is theirs to settle.
    assert re.fullmatch(r"12 messages were answered by [2-6] workers", last)


def test_workers_take_what_there_is_to_do_on_a_named_server(
    server_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import langgraph_workers

    monkeypatch.setattr(langgraph_workers, "ROUNDS", 1)
    monkeypatch.setattr(langgraph_workers, "WORKERS", 1)
    monkeypatch.setattr(sys, "argv", ["langgraph_workers", "--store", server_url])
    monkeypatch.setattr(langgraph_workers, "private_server", None)  # none is started
    langgraph_workers.main()
    assert capsys.readouterr().out.splitlines()[-1] == "6 messages were answered by 1 workers"


@pytest.mark.parametrize("kind", ["file", "server"])
def test_threads_move_with_their_history_and_go_on(
    kind: str, server_url: str, tmp_path: Path
) -> None:
    printed = (
        run("moving_in", cwd=tmp_path)
        if kind == "file"
        else run_here("moving_in", "--store", server_url, cwd=tmp_path)
    )
    assert printed.splitlines() == [
        "moved 2 threads with 8 checkpoints",
        "order-2 is shipped",
        "its history has 5 states, as before: True",
        "order-1 still asks: tea is in stock. Ship it?",
        "order-1 is shipped",
    ]


def test_every_example_has_a_test() -> None:
    programs = {path.stem for path in EXAMPLES.glob("*.py") if "__main__" in path.read_text()}
    tested = set(re.findall(r'(?:run|how)\(\s*"(\w+)"', Path(__file__).read_text()))
    assert programs == tested | ELSEWHERE


@pytest.mark.parametrize("notebook", sorted(EXAMPLES.glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_shows_what_its_cells_give(notebook: Path, tmp_path: Path) -> None:
    script = "import json, notebooks, sys; print(json.dumps(notebooks.run(json.load(sys.stdin))))"
    code = f"import sys; sys.path.insert(0, {str(ROOT / 'tests/support')!r}); {script}"
    kept = json.loads(notebook.read_text())
    given = execute(sys.executable, *STRICT, "-c", code, cwd=tmp_path, stdin=json.dumps(kept))
    cells = [cell for cell in kept["cells"] if cell["cell_type"] == "code"]
    assert [cell["outputs"] for cell in cells] == json.loads(given)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert "/tmp" not in json.dumps([cell["outputs"] for cell in cells])
