"""Kill a team of agents between two steps; another process picks every conversation up again.

Four support tickets go through a LangGraph graph: a router hands each to a billing or a technical
agent, which use tools until the ticket is resolved. The model is a script, so nothing here needs a
network or a key; put a real chat model in the place of ``model`` and the rest stays as it is.

The graph keeps its state with ``SwarmStateSaver(open_store(url))``: in a file unless another store
is named. A first worker process is killed with SIGKILL while all four tickets are open; a second
one, which runs the very same code, finds them in the store and finishes them. Then the state is
read without swarmstate, by ``sqlite3`` or ``redis`` and ``msgpack``, and taken into memory,
changed, compared and rolled back.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import msgpack
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import BaseTool, tool
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import Command
from private_server import private_server

from swarmstate import Store, open_store
from swarmstate.errors import SwarmStateError
from swarmstate.integrations.langgraph import SwarmStateSaver
from swarmstate.protocols import StoreLike

# --- The tickets, and the model's part in them --------------------------------------------------


class Ticket(NamedTuple):
    """What a customer wrote, and what the scripted model replies, turn by turn."""

    text: str
    script: list[str | tuple[str, dict[str, str]]]


TICKETS = {
    "ticket-1": Ticket(
        "I was charged twice in May.",
        [
            "billing",
            ("find_charges", {"customer": "ada", "month": "May"}),
            ("refund", {"charge": "charge-17"}),
            "The second charge is on its way back to you.",
        ],
    ),
    "ticket-2": Ticket(
        "Every page of the dashboard says 502.",
        [
            "technical",
            ("check_service", {"service": "dashboard"}),
            ("restart_service", {"service": "dashboard"}),
            "One server was stuck. It is restarted and the dashboard answers again.",
        ],
    ),
    "ticket-3": Ticket(
        "The API was down all Monday. We want that day back.",
        [
            "technical",
            ("check_service", {"service": "api"}),
            "hand over to billing",
            ("refund", {"charge": "charge-29"}),
            "You are right, and Monday is refunded.",
        ],
    ),
    "ticket-4": Ticket(
        "How do I change my card?",
        ["billing", "Under Settings, Payment, Replace card."],
    ),
}


class Triage(MessagesState):
    """The state of one ticket: its messages, and which ticket it is."""

    ticket: str


def model(state: Triage) -> AIMessage:
    """Give the next reply. It depends on the conversation alone, as a real model's would."""
    turn = sum(isinstance(message, AIMessage) for message in state["messages"])
    reply = TICKETS[state["ticket"]].script[turn]
    if isinstance(reply, str):
        return AIMessage(reply)
    name, arguments = reply
    return AIMessage("", tool_calls=[{"name": name, "args": arguments, "id": f"call-{turn}"}])


# --- The graph ----------------------------------------------------------------------------------


def billing_tools(store: StoreLike) -> list[BaseTool]:
    """Return the tools of the billing agent, which write to ``store``."""

    @tool
    def find_charges(customer: str, month: str) -> str:
        """List the charges of a customer in one month."""
        return f"{customer}, {month}: charge-16 of 40 EUR, charge-17 of 40 EUR"

    @tool
    def refund(charge: str) -> str:
        """Pay a charge back."""
        # Atomic across processes, so the count is right whoever else is counting.
        times = store.update("refunds", charge, lambda count: count + 1, default=0)
        return f"{charge} refunded {times} time(s)"

    return [find_charges, refund]


@tool
def check_service(service: str) -> str:
    """Look a service up in the monitoring."""
    return f"{service}: 1 of 3 servers does not answer"


@tool
def restart_service(service: str) -> str:
    """Restart the servers of a service that do not answer."""
    return f"{service}: 3 of 3 servers answer"


def router(state: Triage) -> Command[str]:
    """Let the model choose a team."""
    reply = model(state)
    return Command(goto=str(reply.content), update={"messages": [reply]})


def billing(state: Triage) -> Command[str]:
    """The agent that may look at charges and refund them."""
    return act(state, tools="billing_tools", colleague="technical")


def technical(state: Triage) -> Command[str]:
    """The agent that may look at services and restart them."""
    return act(state, tools="technical_tools", colleague="billing")


def act(state: Triage, tools: str, colleague: str) -> Command[str]:
    """Do what the model says: use a tool, hand over to a colleague, or resolve the ticket."""
    reply = model(state)
    if reply.tool_calls:
        goto = tools
    elif reply.content == f"hand over to {colleague}":
        goto = colleague
    else:
        goto = "resolve"
    return Command(goto=goto, update={"messages": [reply]})


def build_graph(store: StoreLike) -> Any:
    """Return the graph. Its checkpoints and the tickets' outcomes live in the same store."""

    def resolve(state: Triage) -> None:
        answer = state["messages"][-1].content
        outcome = {"answer": answer, "messages": len(state["messages"])}
        store.set("resolved", state["ticket"], outcome)

    graph = StateGraph(Triage)
    graph.add_node("router", router, destinations=("billing", "technical"))
    graph.add_node("billing", billing, destinations=("billing_tools", "technical", "resolve"))
    graph.add_node("billing_tools", ToolNode(billing_tools(store)))
    graph.add_node("technical", technical, destinations=("technical_tools", "billing", "resolve"))
    graph.add_node("technical_tools", ToolNode([check_service, restart_service]))
    graph.add_node("resolve", resolve)
    graph.add_edge(START, "router")
    graph.add_edge("billing_tools", "billing")
    graph.add_edge("technical_tools", "technical")
    graph.add_edge("resolve", END)
    return graph.compile(checkpointer=SwarmStateSaver(store))


# --- The worker: one process that moves every open ticket forward -------------------------------


def steps(graph: Any, ticket: str) -> Iterator[str]:
    """Run a ticket to its end, naming each step before it is taken.

    A new ticket starts; one that another process left behind goes on where it stands.
    """
    config = {"configurable": {"thread_id": ticket}}
    left = graph.get_state(config)
    if left.values and not left.next:
        return  # finished already
    question = {"ticket": ticket, "messages": [HumanMessage(TICKETS[ticket].text)]}
    # durability="sync": a step starts only when the one before it is stored.
    for event in graph.stream(
        None if left.next else question, config, stream_mode="tasks", durability="sync"
    ):
        if "input" in event:  # a task about to run; those without have just finished
            yield event["name"]


def opened(url: str, prefix: str) -> StoreLike:
    """Return the store. A server may hold other data, so there the keys have a prefix."""
    return open_store(url) if is_file(url) else open_store(url, prefix=prefix)


def is_file(url: str) -> bool:
    """Return whether a URL names a file."""
    return url.startswith("sqlite:")


def work(url: str, prefix: str) -> None:
    """Advance the tickets in turn, a step each; before a step, print it and wait for a line."""
    with opened(url, prefix) as store:
        graph = build_graph(store)
        running = {ticket: steps(graph, ticket) for ticket in TICKETS}
        while running:
            for ticket in list(running):
                step = next(running[ticket], None)
                if step is None:
                    del running[ticket]
                    continue
                print(ticket, step, flush=True)
                if not sys.stdin.readline():
                    return  # whoever started this process is gone


# --- The program: crash, resume, look -----------------------------------------------------------


@contextlib.contextmanager
def worker(url: str, prefix: str) -> Iterator[subprocess.Popen[str]]:
    """Start :func:`work` in a process of its own, which does not outlive the block."""
    process = subprocess.Popen(
        [sys.executable, __file__, "--worker", prefix, "--store", url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def follow(process: subprocess.Popen[str], limit: int | None = None) -> dict[str, list[str]]:
    """Let the worker go on until it ends, or until it has come to its ``limit``-th step.

    Returns:
        The steps that each ticket came to. If the limit was reached, the last step of every ticket
        has not begun: the worker is between two steps of each of them.
    """
    assert process.stdin is not None
    assert process.stdout is not None
    seen: dict[str, list[str]] = {}
    for number, line in enumerate(process.stdout, start=1):
        ticket, step = line.split()
        seen.setdefault(ticket, []).append(step)
        if number == limit:
            break
        process.stdin.write("\n")
        process.stdin.flush()
    return seen


def check(holds: bool, claim: str) -> None:
    """Print a claim that holds; end the program with an error if it does not."""
    if not holds:
        sys.exit(f"FAILED: {claim}")
    print(f"  ok: {claim}")


def crash_and_resume(url: str, prefix: str) -> None:
    """Kill a worker while all tickets are open, then let a fresh one finish them."""
    with worker(url, prefix) as first:
        print(f"\n1. A worker, process {first.pid}, takes the tickets a step at a time")
        before = follow(first, limit=14)
        first.send_signal(signal.SIGKILL)
        for ticket, (*taken, pending) in before.items():
            print(f"  {ticket}: {' > '.join(taken)}, and before {pending!r}: killed")
        check(first.wait() == -signal.SIGKILL, f"process {first.pid} ended by SIGKILL")
        check(set(before) == set(TICKETS), "all four tickets were open")

    with worker(url, prefix) as second:
        print(f"\n2. A fresh worker, process {second.pid}, runs the same code on the same store")
        after = follow(second)
        check(second.wait() == 0, f"process {second.pid} finished")
    for ticket, taken in sorted(after.items()):
        print(f"  {ticket}: {' > '.join(taken)}")
    continued = {ticket: taken[0] for ticket, taken in after.items()}
    check(
        continued == {ticket: taken[-1] for ticket, taken in before.items()},
        "every ticket went on with the very step it had come to",
    )


def read_without_swarmstate(store: StoreLike, url: str, prefix: str) -> None:
    """Read the outcome without swarmstate: the layout is public, and the values are msgpack."""
    resolved: dict[str, bytes]
    refunds: dict[str, bytes]
    if is_file(url):
        print("\n3. The state, read by plain sqlite3 and msgpack")
        # A file needs no server: any number of processes may have it open.
        file = sqlite3.connect(getattr(store, "path", ""))
        statement = "SELECT key, value FROM entries WHERE namespace=?"
        resolved = dict(file.execute(statement, ("resolved",)).fetchall())
        refunds = dict(file.execute(statement, ("refunds",)).fetchall())
        file.close()
    else:
        import redis

        print("\n3. The state, read by plain redis and msgpack")
        with redis.Redis.from_url(url) as client:
            found = [client.hgetall(f"{prefix}:{name}") for name in ("resolved", "refunds")]
        resolved, refunds = ({key.decode(): data for key, data in each.items()} for each in found)
    for ticket, value in sorted(resolved.items()):
        print(f"  {ticket}: {msgpack.unpackb(value)}")
    counts = {charge: msgpack.unpackb(count) for charge, count in refunds.items()}
    check(len(resolved) == len(TICKETS), "every ticket is resolved")
    check(counts == {"charge-17": 1, "charge-29": 1}, "each charge was refunded exactly once")


def snapshot_and_roll_back(store: StoreLike) -> None:
    """Take the state into memory, change it, and take the change back."""
    print("\n4. A copy in memory, changed and rolled back")
    memory = Store()
    memory.restore(store.snapshot())  # a snapshot of any store fits any other
    before = memory.snapshot()
    check(len(memory) == len(store), f"all {len(memory)} keys of the store are in memory")
    config = {"configurable": {"thread_id": "ticket-3"}}
    here, there = (build_graph(each).get_state(config).values for each in (memory, store))
    check(here == there, "LangGraph finds ticket-3 in the copy as well")
    memory.set("resolved", "ticket-5", {"answer": "a mistake"})
    memory.delete("resolved", "ticket-1")
    memory.update("refunds", "charge-17", lambda count: count + 1)
    diff = memory.snapshot().diff(before)
    print(f"  added {diff['added']}, removed {diff['removed']}, changed {diff['changed']}")
    memory.restore(before)
    check(not any(memory.snapshot().diff(before).values()), "after the rollback nothing differs")


def measure(store: StoreLike, name: str) -> None:
    """Print what single operations cost, in memory and in the store."""
    print("\n5. Time per operation, in microseconds (median)")
    memory = Store(codec="ormsgpack")
    memory.restore(store.snapshot())
    frozen = memory.snapshot()
    graph = build_graph(store)
    config = {"configurable": {"thread_id": "ticket-1"}}
    value = {"answer": "You are right, and Monday is refunded.", "messages": 6}

    def change_and_restore() -> None:
        memory.set("resolved", "ticket-1", value)
        memory.restore(frozen)

    rows: list[tuple[str, Callable[[], object]]] = [
        ("memory  set", lambda: memory.set("timed", "key", value)),
        ("memory  get", lambda: memory.get("timed", "key")),
        ("memory  snapshot", memory.snapshot),
        ("memory  set and restore", change_and_restore),
        (f"{name:<7} set", lambda: store.set("timed", "key", value)),
        (f"{name:<7} get", lambda: store.get("timed", "key")),
        (f"{name:<7} snapshot", store.snapshot),
        ("graph   get_state", lambda: graph.get_state(config)),
    ]
    for row, operation in rows:
        print(f"  {row:<24}{median_microseconds(operation):>9.1f}")


def median_microseconds(operation: Callable[[], object], batches: int = 15) -> float:
    """Time ``operation`` in batches of 20 calls; return the median of a call."""
    times = []
    for _ in range(batches):
        start = time.perf_counter_ns()
        for _ in range(20):
            operation()
        times.append((time.perf_counter_ns() - start) / 20 / 1000)
    return statistics.median(times)


def main() -> None:
    """Run the demonstration, or one of its workers."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--store",
        metavar="URL",
        help="sqlite:///file.db (one that holds nothing), or a Redis or Valkey server as in "
        "redis://localhost:6379/0; without it, a file of its own is used and removed",
    )
    parser.add_argument("--server", action="store_true", help="use a private Valkey server")
    parser.add_argument("--worker", metavar="PREFIX", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.store, options.worker)
        return

    # A polite kill ends the program as an error would: every block below is left in order.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    start = time.perf_counter()
    with contextlib.ExitStack() as stack:
        url = options.store
        if url is None and options.server:
            url = stack.enter_context(private_server())
        elif url is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="swarmstate-demo-"))
            url = f"sqlite:///{folder}/state.db"
        elif url.startswith("memory:"):
            sys.exit("a store in memory ends with its process: name a file or a server")
        # A prefix of its own for every run, so that a server with other data is safe.
        prefix = f"support-{uuid.uuid4().hex[:8]}"
        store = stack.enter_context(opened(url, prefix))
        if len(store):
            sys.exit(f"{url} holds {len(store)} keys: name a file that holds nothing")
        where = f"File {url}" if is_file(url) else f"Server {url}, prefix {prefix!r}"
        print(f"{where}, {len(store)} keys")
        stack.callback(store.clear)
        crash_and_resume(url, prefix)
        read_without_swarmstate(store, url, prefix)
        snapshot_and_roll_back(store)
        measure(store, "file" if is_file(url) else "redis")
    print(f"\nDone in {time.perf_counter() - start:.1f} s; everything that was started is stopped.")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("stopped")
    except SwarmStateError as error:
        sys.exit(str(error))
