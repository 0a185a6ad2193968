"""`python bench/record [--quick]`: one run of what the charts show, kept as JSON.

The run goes to bench/results/<date>.json with its date, machine and versions; `make bench-plots`
draws the newest. It takes some minutes, on a machine that should have nothing else to do. With
`--quick` it only shows that it works: its figures are marked as such, and mean nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import importlib.metadata
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import contestants
import packages
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.graph import START, MessagesState, StateGraph
from measuring import in_turns
from servers import running
from workloads import OPERATIONS, Subject, messages, on_thread

RESULTS = Path(__file__).parents[1] / "results"
NAMES = {
    "ours": "swarmstate",
    "Rust package": "swarmstate 0.11.0 (Rust)",
    "aws ValkeySaver": "ValkeySaver",
    contestants.HOTKV: "HotKVSaver",
    "sqlite (WAL)": "SqliteSaver (a file)",
    "InMemorySaver": "InMemorySaver (no server)",
}
"""What the charts call each saver."""
ON_A_SERVER = ("ours", "Rust package", "aws ValkeySaver", contestants.HOTKV)
AWAITED = ("ours", "Rust package", "InMemorySaver")
"""Those whose one class is both awaited and not."""
SAID = "The quick brown fox jumps over the lazy dog, and then some more of the same. " * 5


def spread(times: list[float]) -> dict[str, float]:
    """Return the median and the middle half of some times, in seconds."""
    ordered = sorted(times)
    quarter = len(ordered) // 4
    return {
        "median": statistics.median(ordered),
        "low": ordered[quarter],
        "high": ordered[-1 - quarter],
    }


def by_call(subjects: dict[str, Subject], repeats: int) -> dict[str, Any]:
    """Time every call on a thread of 100 messages and 10 checkpoints."""
    found = {}
    for call in OPERATIONS:
        workload = on_thread(call, 100, 10, {})
        runs = {NAMES[name]: workload.build(subject) for name, subject in subjects.items()}
        found[call] = {name: spread(times) for name, times in in_turns(runs, repeats).items()}
    return found


def by_length(subjects: dict[str, Subject], repeats: int) -> dict[str, Any]:
    """Time reading and writing a thread, by the number of its messages."""
    found: dict[str, Any] = {}
    for call in ("get_tuple", "put"):
        found[call] = {}
        for size in (10, 30, 100, 300, 1000):
            workload = on_thread(call, size, 10, {})
            runs = {NAMES[name]: workload.build(subject) for name, subject in subjects.items()}
            for name, times in in_turns(runs, repeats).items():
                found[call].setdefault(name, []).append({"messages": size, **spread(times)})
    return found


def conversation(saver: Any) -> Any:
    """Return a graph whose one node answers a message with another."""
    builder: StateGraph[Any] = StateGraph(MessagesState)
    builder.add_node("answer", lambda state: {"messages": [AIMessage(SAID)]})
    builder.add_edge(START, "answer")
    return builder.compile(checkpointer=saver)


def by_turn(turns: int, step: int) -> dict[str, Any]:
    """Measure the memory that a server takes for one conversation, as it goes on.

    Each saver has a server of its own; what the server takes before the first turn does not count.
    """
    found: dict[str, Any] = {}
    config: Any = {"configurable": {"thread_id": "t"}}
    for name in ON_A_SERVER:
        with running() as server, server.client() as client, ExitStack() as stack:
            app = conversation(contestants.on_redis(server.url, stack)[name]())
            # What a server keeps for each connection and kind of command is there by then.
            app.invoke({"messages": [HumanMessage(SAID)]}, {"configurable": {"thread_id": "first"}})
            before = client.info("memory")["used_memory"]
            points = []
            for turn in range(1, turns + 1):
                app.invoke({"messages": [HumanMessage(SAID)]}, config)
                if turn == 1 or turn % step == 0:
                    used = client.info("memory")["used_memory"] - before
                    points.append({"turn": turn, "bytes": used})
            found[NAMES[name]] = points
    return found


def under_load(subjects: dict[str, Subject], runs: int) -> dict[str, Any]:
    """Time graphs that run at the same time, each run on its own."""

    async def at_once(app: Any, count: int, name: str) -> list[float]:
        async def task(number: int) -> list[float]:
            times = []
            for turn in range(max(1, runs // count)):
                config: Any = {"configurable": {"thread_id": f"{name} {count} {number} {turn}"}}
                start = time.perf_counter()
                await app.ainvoke({"messages": messages(10)}, config, durability="sync")
                times.append(time.perf_counter() - start)
            return times

        return [one for times in await asyncio.gather(*map(task, range(count))) for one in times]

    found: dict[str, Any] = {}
    for name in AWAITED:
        app = conversation(subjects[name].saver)
        asyncio.run(at_once(app, 1, "warm"))
        points = []
        for count in (1, 4, 16, 64):
            times = sorted(asyncio.run(at_once(app, count, "run")))
            middle, last = statistics.median(times), times[int(len(times) * 0.99) - 1]
            points.append({"at once": count, "p50": middle, "p99": last})
        found[NAMES[name]] = points
    return found


def machine() -> str:
    """Return what the run was on, in a few words."""
    system = platform.system()
    if system == "Linux":
        system = platform.freedesktop_os_release()["NAME"].partition(" ")[0]
    return f"{os.cpu_count()} cores, {platform.machine().replace('_', '-')}, {system}"


def versions(server: Any) -> dict[str, str]:
    """Return the versions of everything that took part."""
    names = ["swarmstate", "langgraph", "langgraph-checkpoint", "redis", "valkey"]
    names += [requirement.partition("[")[0].partition("=")[0] for requirement in contestants.OTHERS]
    return {
        "Python": platform.python_version(),
        "Valkey": server["valkey_version"],
        **{name: importlib.metadata.version(name) for name in names},
        "the Rust package": packages.RUST,
    }


def main() -> None:
    """Measure everything, and keep it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, help="a file, in place of bench/results/<date>.json")
    arguments = parser.parse_args()
    quick: bool = arguments.quick
    started = time.monotonic()
    measured: dict[str, Callable[[], Any]] = {}
    with ExitStack() as stack:
        contestants.install()
        server = stack.enter_context(running())
        with server.client() as client:
            information = client.info("server")
        makers = contestants.on_redis(server.url, stack)
        subjects = {name: Subject(makers[name]()) for name in NAMES}
        measured = {
            "time by call": lambda: by_call(subjects, 3 if quick else 15),
            "time by length": lambda: by_length(subjects, 3 if quick else 9),
            "bytes by turn": lambda: by_turn(*((20, 10) if quick else (200, 10))),
            "latency under load": lambda: under_load(subjects, 64 if quick else 512),
        }
        run: dict[str, Any] = {
            "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
            "machine": machine(),
            "trial": quick,
            "versions": versions(information),
        }
        for name, measure in measured.items():
            run[name] = measure()
            print(f"{name}: done after {time.monotonic() - started:.0f} s", flush=True)
    out: Path = arguments.out or RESULTS / f"{run['date']}.json"
    out.write_text(json.dumps(run, indent=1) + "\n")
    print(out)


if __name__ == "__main__":
    main()
