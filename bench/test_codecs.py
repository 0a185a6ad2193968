"""What the codecs cost beside the bare libraries, which check less.

``make bench-codecs`` prints the ratios as a table and fails where one is above its limit;
``make bench BENCH=bench/test_codecs.py`` gives the times.
"""

from __future__ import annotations

import datetime
import functools
import random
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import msgpack
import ormsgpack
import pytest
from measuring import REPEATS, Row, Run, in_turns, loop, table

from swarmstate import codecs

OURS = {name: codecs.get(name) for name in ("msgpack", "ormsgpack")}
REPEAT_SECONDS = 0.02
WORDS = (
    "the",
    "agent",
    "asked",
    "for",
    "a",
    "refund",
    "of",
    "an",
    "order",
    "and",
    "returned",
    "it",
)

BARE: dict[str, tuple[Callable[[Any], bytes], Callable[[bytes], Any]]] = {
    "msgpack": (msgpack.packb, msgpack.unpackb),  # use_bin_type is on unless told otherwise
    "ormsgpack": (ormsgpack.packb, ormsgpack.unpackb),
}


def _text(source: random.Random, words: int) -> str:
    return " ".join(source.choices(WORDS, k=words))


def _messages(moment: Callable[[int], Any]) -> dict[str, Any]:
    """A chat state of 20 messages, as agents keep it."""
    source = random.Random(7)
    return {
        "messages": [
            {
                "id": f"msg-{number:04}",
                "role": ("user", "assistant", "tool")[number % 3],
                "content": _text(source, 25),
                "created": moment(number),
            }
            for number in range(20)
        ],
        "thread": "support-1",
        "step": 20,
    }


def _nested() -> dict[str, Any]:
    """About a megabyte of dicts, lists, texts and numbers."""
    source = random.Random(7)
    return {
        f"agent-{agent}": {
            "history": [
                {"step": step, "score": source.random(), "note": _text(source, 8), "ok": True}
                for step in range(100)
            ],
            "tags": [_text(source, 2) for _ in range(10)],
        }
        for agent in range(100)
    }


START = 1_700_000_000
WORKLOADS: dict[str, Any] = {
    "small dict": {"id": 17, "name": "Ada", "score": 0.5, "tags": ["agent", "billing"]},
    "chat state": _messages(lambda number: START + number),
    "1 MB nested": _nested(),
    "10,000 floats": [number * 0.1 for number in range(10_000)],
    "10,000 ints": [random.Random(n).randrange(2 ** (n % 63)) for n in range(10_000)],
    "1,000 large ints": [2**63 + n for n in range(1000)],
    "Cyrillic texts": [f"{number} состояние агентов " * 10 for number in range(200)],
    "1 MB blob": random.Random(7).randbytes(1_000_000),
}
AT = functools.partial(datetime.datetime.fromtimestamp, tz=datetime.timezone.utc)
MOMENTS: dict[str, tuple[Any, Any]] = {
    "chat state": (_messages(lambda n: AT(START + n + 0.25)), WORKLOADS["chat state"]),
    "1,000 moments": (
        [AT(START + n + 0.25) for n in range(1000)],
        [START + n for n in range(1000)],
    ),
}


class Pair(NamedTuple):
    """Two calls that are measured in turns, and how many times the other's time ours may take."""

    name: str
    limit: float | None
    ours: Callable[[], Any]
    other: Callable[[], Any]

    def runs(self) -> dict[str, Run]:
        """What is measured in turns."""
        return {
            name: loop(call, time.process_time, REPEAT_SECONDS)
            for name, call in (("ours", self.ours), ("other", self.other))
        }


def pairs() -> list[Pair]:
    """Everything in the table."""
    found = []
    for name, codec in OURS.items():
        pack, unpack = BARE[name]
        for workload, value in WORKLOADS.items():
            data = codec.encode(value)
            checked = workload != "small dict"
            # To refuse trailing bytes after a blob may cost ormsgpack a copy of it.
            most = 2.1 if (workload, name) == ("1 MB blob", "ormsgpack") else 1.25
            found += [
                Pair(
                    f"{name:9}  encode  {workload}",
                    1.15 if checked else None,
                    functools.partial(codec.encode, value),
                    functools.partial(pack, value),
                ),
                Pair(
                    f"{name:9}  decode  {workload}",
                    most if checked else None,
                    functools.partial(codec.decode, data),
                    functools.partial(unpack, data),
                ),
            ]
        for workload, (moments, ints) in MOMENTS.items():
            data, plain = codec.encode(moments), codec.encode(ints)
            found += [
                Pair(
                    f"{name:9}  encode  {workload}: datetimes / ints",
                    6.0,
                    functools.partial(codec.encode, moments),
                    functools.partial(codec.encode, ints),
                ),
                Pair(
                    f"{name:9}  decode  {workload}: datetimes / ints",
                    6.0,
                    functools.partial(codec.decode, data),
                    functools.partial(codec.decode, plain),
                ),
            ]
    return found


def main() -> int:
    """Print the table; return 1 if a ratio is above its limit."""
    print(f"msgpack {msgpack.__version__}, ormsgpack {ormsgpack.__version__}")
    print(f"medians of {REPEATS} alternated repeats; a ratio is our time over the other's\n")
    rows = (Row(pair.name, *in_turns(pair.runs()).values(), most=pair.limit) for pair in pairs())
    return 1 if table(rows, other="other", limit="at most") else 0


Benchmark = Callable[..., Any]


@pytest.mark.parametrize("workload", WORKLOADS)
@pytest.mark.parametrize("side", ["ours", "bare"])
@pytest.mark.parametrize("name", OURS)
def test_encode(benchmark: Benchmark, name: str, side: str, workload: str) -> None:
    benchmark.group = f"encode {workload}"  # type: ignore[attr-defined]
    encode = OURS[name].encode if side == "ours" else BARE[name][0]
    assert benchmark(encode, WORKLOADS[workload]) == msgpack.packb(WORKLOADS[workload])


@pytest.mark.parametrize("workload", WORKLOADS)
@pytest.mark.parametrize("side", ["ours", "bare"])
@pytest.mark.parametrize("name", OURS)
def test_decode(benchmark: Benchmark, name: str, side: str, workload: str) -> None:
    benchmark.group = f"decode {workload}"  # type: ignore[attr-defined]
    decode = OURS[name].decode if side == "ours" else BARE[name][1]
    assert benchmark(decode, msgpack.packb(WORKLOADS[workload])) == WORKLOADS[workload]


if __name__ == "__main__":
    sys.exit(main())
