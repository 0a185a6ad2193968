"""Move from another LangGraph checkpointer, with every thread and its whole history.

The first half is a program as it was: threads in LangGraph's ``SqliteSaver``, one of them waiting
for a person's answer. ``copy_threads`` moves them, reads every history back and compares it. The
second half is the same program with one line changed: it finds the threads and goes on.

Needs langgraph-checkpoint-sqlite::

    python examples/moving_in.py                                       # into a file
    python examples/moving_in.py --store redis://localhost:6379/0
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.types import Command
from langgraph_in_a_file import build

from swarmstate.integrations.langgraph import SwarmStateSaver, copy_threads


def of(thread: str) -> Any:
    """Return the configuration of a thread."""
    return {"configurable": {"thread_id": thread}}


def main() -> None:
    """Be the old program, move, be the new program."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--store", metavar="URL", help="where to move; a file if it is not given")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        old_file = str(Path(folder) / "old.db")
        target = arguments.store or f"sqlite:///{folder}/new.db"

        with SqliteSaver.from_conn_string(old_file) as saver:
            graph = build().compile(checkpointer=saver)
            graph.invoke({"goods": "tea"}, of("order-1"))
            graph.invoke({"goods": "figs"}, of("order-2"))
            graph.invoke(Command(resume="yes"), of("order-2"))
            before = len(list(graph.get_state_history(of("order-2"))))

        # The source is not changed. If this is interrupted, start it again: it goes on.
        with (
            SqliteSaver.from_conn_string(old_file) as old,
            SwarmStateSaver.from_conn_string(target) as new,
        ):
            report = copy_threads(old, new)
            print(f"moved {report.threads} threads with {report.checkpoints} checkpoints")

        with SwarmStateSaver.from_conn_string(target) as saver:
            graph = build().compile(checkpointer=saver)
            after = len(list(graph.get_state_history(of("order-2"))))
            print(f"order-2 is {graph.get_state(of('order-2')).values['status']}")
            print(f"its history has {after} states, as before: {after == before}")
            (task,) = graph.get_state(of("order-1")).tasks
            print(f"order-1 still asks: {task.interrupts[0].value}")
            graph.invoke(Command(resume="yes"), of("order-1"))
            print(f"order-1 is {graph.get_state(of('order-1')).values['status']}")
            if arguments.store:
                for thread in ("order-1", "order-2"):
                    saver.delete_thread(thread)


if __name__ == "__main__":
    main()
