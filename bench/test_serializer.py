"""What the serializer in C costs beside LangGraph's own, which does the same, in the same run.

``make bench BENCH=bench/test_serializer.py`` gives the times; ``make bench-serializer`` prints
the ratios as a table and fails where one is above its limit.
"""

from __future__ import annotations

import functools
import statistics
import sys
import time
import timeit
import uuid
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from swarmstate.integrations.langgraph.serde import fast

SERDE = JsonPlusSerializer()
DUMPS, LOADS = fast(SERDE)
REPEATS = 15
REPEAT_SECONDS = 0.02


def chat(size: int) -> list[AnyMessage]:
    """A conversation without tools."""
    return [
        (AIMessage if number % 2 else HumanMessage)(
            f"the quick brown fox number {number} " * 8, id=str(uuid.UUID(int=number))
        )
        for number in range(size)
    ]


def agent(size: int) -> list[AnyMessage]:
    """What an agent with a tool leaves behind: a question, a call, its result, an answer."""
    messages: list[AnyMessage] = []
    for number in range(size):
        name = str(uuid.UUID(int=number))
        usage: Any = {
            "input_tokens": 10,
            "output_tokens": 20,
            "total_tokens": 30,
            "input_token_details": {"cache_read": 1},
        }
        metadata = {
            "model_name": "model",
            "finish_reason": "tool_calls",
            "token_usage": {"prompt_tokens": 10, "completion_tokens": 20},
        }
        match number % 4:
            case 0:
                messages.append(HumanMessage("please do " + "word " * 20, id=name))
            case 1:
                call: Any = {"name": "search", "args": {"q": "foxes " * 5}, "id": f"call_{name}"}
                messages.append(
                    AIMessage(
                        "",
                        id=name,
                        tool_calls=[call],
                        response_metadata=metadata,
                        usage_metadata=usage,
                        additional_kwargs={"refusal": None},
                    )
                )
            case 2:
                messages.append(
                    ToolMessage("result " * 30, id=name, tool_call_id=f"call_{name}", name="search")
                )
            case _:
                blocks: Any = [
                    {"type": "text", "text": "answer " * 20},
                    {"type": "text", "text": ""},
                ]
                messages.append(
                    AIMessage(blocks, id=name, response_metadata=metadata, usage_metadata=usage)
                )
    return messages


class Workload(NamedTuple):
    """A value, and how many times LangGraph's time ours may take to write and to read it."""

    value: Any
    dumps: float
    loads: float


BODY = {
    "v": 4,
    "ts": "2026-01-01T00:00:00.000000+00:00",
    "id": "1f0b7a3e-0000-6000-8000-000000000000",
    "versions_seen": {
        "__input__": {},
        "__start__": {"__start__": "00000000000000000000000000000001.1"},
        "agent": {"branch:to:agent": "00000000000000000000000000000002.1"},
    },
    "updated_channels": ["messages", "branch:to:agent"],
}
METADATA = {"source": "loop", "step": 12, "parents": {}, "thread_id": "t-1"}
WORKLOADS = {
    **{f"chat of {size}": Workload(chat(size), 0.15, 0.15) for size in (10, 100, 1000)},
    **{f"agent of {size}": Workload(agent(size), 0.15, 0.18) for size in (10, 100, 1000)},
    "one message": Workload(chat(1), 0.2, 0.2),
    "state with other types": Workload(
        {"messages": agent(100), "ids": [uuid.UUID(int=1)] * 10, "tags": {"a"}}, 0.2, 0.25
    ),
    "checkpoint body": Workload(BODY, 0.8, 1.0),
    "metadata": Workload(METADATA, 0.7, 1.0),
    "an int": Workload(7, 0.5, 0.8),
    "only other types": Workload([uuid.UUID(int=n) for n in range(100)], 1.15, 1.15),
}


def main() -> int:
    """Print the table; return 1 if a ratio is above its limit."""
    print(f"medians of {REPEATS} alternated repeats; a ratio is our time over LangGraph's\n")
    print(f"{'':33} {'ours':>12} {'LangGraph':>12} {'limit':>6} {'ratio':>6}  middle half")
    short = 0
    for name, workload in WORKLOADS.items():
        data = SERDE.dumps_typed(workload.value)
        for call, limit, ours, other, argument in (
            ("dumps", workload.dumps, DUMPS, SERDE.dumps_typed, workload.value),
            ("loads", workload.loads, LOADS, SERDE.loads_typed, data),
        ):
            times = _alternated(
                functools.partial(ours, argument), functools.partial(other, argument)
            )
            ratio = statistics.median(times[0]) / statistics.median(times[1])
            low, _, high = statistics.quantiles(
                [mine / theirs for mine, theirs in zip(*times, strict=True)], n=4
            )
            missed = ratio > limit
            short += missed
            print(
                f"{call}  {name:26} {statistics.median(times[0]) * 1e6:>10.2f}us "
                f"{statistics.median(times[1]) * 1e6:>10.2f}us {limit:>6} {ratio:>6.3f}"
                f"  {low:.3f}-{high:.3f}{'   SHORT' if missed else ''}",
                flush=True,
            )
    return 1 if short else 0


def _alternated(*calls: Callable[[], Any]) -> list[list[float]]:
    """Seconds of processor time per call, of each in turns."""
    timers = [timeit.Timer(call, timer=time.process_time) for call in calls]
    loops = []
    for timer in timers:
        number = 1
        while (took := timer.timeit(number)) < REPEAT_SECONDS / 4:
            number *= 2
        loops.append(max(1, round(number * REPEAT_SECONDS / took)))
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(REPEATS):
        for timer, number, found in zip(timers, loops, times, strict=True):
            found.append(timer.timeit(number) / number)
    return times


Benchmark = Callable[..., Any]
SIDES = {"ours": (DUMPS, LOADS), "LangGraph": (SERDE.dumps_typed, SERDE.loads_typed)}


@pytest.mark.parametrize("workload", WORKLOADS)
@pytest.mark.parametrize("side", SIDES)
def test_dumps(benchmark: Benchmark, side: str, workload: str) -> None:
    benchmark.group = f"dumps {workload}"  # type: ignore[attr-defined]
    value = WORKLOADS[workload].value
    assert benchmark(SIDES[side][0], value) == SERDE.dumps_typed(value)


@pytest.mark.parametrize("workload", WORKLOADS)
@pytest.mark.parametrize("side", SIDES)
def test_loads(benchmark: Benchmark, side: str, workload: str) -> None:
    benchmark.group = f"loads {workload}"  # type: ignore[attr-defined]
    data = SERDE.dumps_typed(WORKLOADS[workload].value)
    assert benchmark(SIDES[side][1], data) == WORKLOADS[workload].value


if __name__ == "__main__":
    sys.exit(main())
