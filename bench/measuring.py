"""Several ways to do the same, measured in turns, and how their times compare.

The ways take turns, repeat by repeat, and time is that of the processor where nothing waits for
another process, so that whatever else the machine does falls on all of them or on none. A ratio is
the median over the repeats of one time by another; its spread is the middle half.
"""

from __future__ import annotations

import gc
import statistics
import time
import timeit
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

REPEATS = 15
REPEAT_SECONDS = 0.01

Run = Callable[[], float]
"""Performs one repeat and returns its seconds per operation."""


def loop(
    statement: str | Callable[[], Any],
    clock: Callable[[], float] = time.thread_time,
    length: float = REPEAT_SECONDS,
    **names: Any,
) -> Run:
    """Time a statement in a loop, with the garbage collector on as in a real program.

    The number of rounds is found on the first call, so that a repeat takes `length` seconds.
    """
    timer = timeit.Timer(statement, "gc.enable()", clock, globals={"gc": gc, **names})
    rounds = 1

    def run() -> float:
        nonlocal rounds
        seconds = timer.timeit(rounds)
        while seconds < length / 2:
            rounds = max(rounds + 1, round(rounds * length / max(seconds, 1e-5)))
            seconds = timer.timeit(rounds)
        return seconds / rounds

    return run


def once(
    prepare: Callable[[], Any],
    operation: Callable[[Any], Any],
    rounds: int = 1,
    clock: Callable[[], float] = time.thread_time,
) -> Run:
    """Time an operation that needs a fresh state each time, which is not timed.

    Nor is the clock: what an empty operation seems to take is subtracted.
    """

    def timed(operation: Callable[[Any], Any], prepare: Callable[[], Any]) -> float:
        seconds = 0.0
        gc.collect()
        for _ in range(rounds):
            state = prepare()
            start = clock()
            result = operation(state)
            seconds += clock() - start
            del state, result
        return seconds / rounds

    return lambda: timed(operation, prepare) - timed(id, int)


def in_turns(runs: Mapping[str, Run], repeats: int = REPEATS) -> dict[str, list[float]]:
    """Return the seconds of each repeat by name, after a first one that does not count."""
    names = list(runs)
    for name in names:
        runs[name]()
    gc.collect()
    times: dict[str, list[float]] = {name: [] for name in names}
    for repeat in range(repeats):
        for name in names if repeat % 2 else reversed(names):
            times[name].append(runs[name]())
    return times


class Ratio(NamedTuple):
    """How one series of times compares with another."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} {self.low:.2f}-{self.high:.2f}"


def ratio(times: Sequence[float], others: Sequence[float]) -> Ratio:
    """Return `times` over `others`, repeat by repeat: the median and the middle half."""
    pairs = sorted(mine / other for mine, other in zip(times, others, strict=True))
    return Ratio(statistics.median(pairs), pairs[len(pairs) // 4], pairs[-1 - len(pairs) // 4])


def shown(seconds: float) -> str:
    """Return a time in the unit that suits it."""
    for unit, scale in (("s", 1.0), ("ms", 1e3), ("us", 1e6)):
        if seconds * scale >= 1:
            return f"{seconds * scale:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


@dataclass(frozen=True)
class Measure:
    """What to measure of two sides: `build(side, codec)` prepares one and returns its repeat."""

    name: str
    required: float
    """The least ratio of the peer's time to ours."""
    build: Callable[..., Run]
    codec: str = "ormsgpack"
    arguments: tuple[Any, ...] = ()

    def against(self, ours: Any, theirs: Any, repeats: int = REPEATS) -> Row:
        """Measure both sides."""
        times = in_turns(
            {
                "ours": self.build(ours, self.codec, *self.arguments),
                "peer": self.build(theirs, "msgpack", *self.arguments),
            },
            repeats,
        )
        return Row(self.name, times["ours"], times["peer"], least=self.required)


class Row:
    """A line of a table: our time, another's, and their ratio beside its limit.

    With `least` the ratio is the other's time over ours, above 1 where we are faster; with `most`
    it is ours over the other's.
    """

    def __init__(
        self,
        name: str,
        ours: Sequence[float],
        other: Sequence[float],
        *,
        least: float | None = None,
        most: float | None = None,
    ) -> None:
        self.ratio = ratio(ours, other) if least is None else ratio(other, ours)
        measured = self.ratio.median
        self.short = (least is not None and measured < least) or (
            most is not None and measured > most
        )
        limit = least if most is None else most
        self.text = (
            f"{name:58} {shown(statistics.median(ours)):>9} {shown(statistics.median(other)):>9} "
            f"{'' if limit is None else f'{limit:g}':>9} {measured:>9.3g}  "
            f"{self.ratio.low:.3g}-{self.ratio.high:.3g}{'   SHORT' if self.short else ''}"
        )


def table(rows: Iterable[Row], *, other: str = "peer", limit: str = "required") -> int:
    """Print each row as it comes; return how many are on the wrong side of their limit."""
    short = 0
    print(f"{'':58} {'ours':>9} {other:>9} {limit:>9} {'measured':>9}  middle half")
    for row in rows:
        short += row.short
        print(row.text, flush=True)
    return short
