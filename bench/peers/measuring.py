"""Two stores measured in turns, and one table of the ratios.

A ratio is the median time of the peer over ours, so above 1 we are faster. The two take turns,
repeat by repeat, and time is that of the processor, so that whatever else the machine does falls on
both or on none. Only what waits for another thread is measured by the clock on the wall.
"""

from __future__ import annotations

import gc
import statistics
import time
import timeit
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

REPEATS = 15
REPEAT_SECONDS = 0.01

Run = Callable[[], float]
"""Performs one repeat and returns its seconds per operation."""


@dataclass(frozen=True)
class Measure:
    """What to measure: `build(store_class, codec)` prepares a store and returns its repeat."""

    name: str
    required: float
    build: Callable[..., Run]
    codec: str = "ormsgpack"
    arguments: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Result:
    """The medians of both sides in seconds, and the middle half of the ratios."""

    measure: Measure
    ours: float
    theirs: float
    spread: tuple[float, float]

    @property
    def ratio(self) -> float:
        return self.theirs / self.ours


def loop(
    statement: str,
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


def compare(measure: Measure, ours: Any, theirs: Any, repeats: int = REPEATS) -> Result:
    """Measure both sides, alternating."""
    mine = measure.build(ours, measure.codec, *measure.arguments)
    peer = measure.build(theirs, "msgpack", *measure.arguments)
    gc.collect()
    mine(), peer()
    pairs = []
    for repeat in range(repeats):
        first, second = (mine(), peer()) if repeat % 2 else (peer(), mine())[::-1]
        pairs.append((first, second))
    ratios = sorted(second / first for first, second in pairs)
    return Result(
        measure,
        statistics.median(first for first, _ in pairs),
        statistics.median(second for _, second in pairs),
        (ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]),
    )


def shown(seconds: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e3), ("us", 1e6)):
        if seconds * scale >= 1:
            return f"{seconds * scale:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def table(results: Iterable[Result]) -> int:
    """Print each result as it comes; return how many fall short."""
    short = 0
    print(f"{'measure':58} {'ours':>9} {'peer':>9} {'required':>9} {'measured':>9}  middle half")
    for result in results:
        missed = result.ratio < result.measure.required
        short += missed
        low, high = result.spread
        print(
            f"{result.measure.name:58} {shown(result.ours):>9} {shown(result.theirs):>9} "
            f"{result.measure.required:>9g} {result.ratio:>9.3g}  {low:.3g}-{high:.3g}"
            f"{'   SHORT' if missed else ''}",
            flush=True,
        )
    return short
