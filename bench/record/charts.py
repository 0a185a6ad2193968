"""`python bench/record/charts.py [RUN.json] [--to FOLDER]`: draws a kept run, the newest one.

Every chart is drawn twice, for light and for dark pages. All of a chart's data is from one run, the
other savers are where they win too, and axes of time are logarithmic, which their labels say.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "bench/results"
CHARTS = ROOT / "docs/charts"
THEMES = {
    "light": {"text": "#24292f", "faint": "#d0d7de"},
    "dark": {"text": "#e6edf3", "faint": "#30363d"},
}
# Told apart by shape as well; each has enough contrast on white and on black.
STYLES = {
    "swarmstate": ("#3b82f6", "o"),
    "swarmstate 0.11.0 (Rust)": ("#d97706", "s"),
    "ValkeySaver": ("#16a34a", "^"),
    "HotKVSaver": ("#c026d3", "v"),
    "SqliteSaver (a file)": ("#6b7f95", "D"),
    "InMemorySaver (no server)": ("#8a8f98", "x"),
}


def style(name: str) -> dict[str, Any]:
    """Return how a saver is drawn, in every chart."""
    colour, marker = STYLES[name]
    ours = name == "swarmstate"
    return {
        "color": colour,
        "marker": marker,
        "markersize": 6 if ours else 5,
        "linewidth": 2.2 if ours else 1.3,
        "zorder": 3 if ours else 2,
        "label": name,
    }


def time_by_call(figure: Figure, run: dict[str, Any]) -> None:
    """A row for each call, a mark for each saver; a line is the middle half of the repeats."""
    axes: Axes = figure.subplots()
    calls = list(run["time by call"])
    for number, name in enumerate(STYLES):
        spreads = [run["time by call"][call][name] for call in calls]
        # Apart from each other, so that no mark hides another.
        rows = [row + (number - len(STYLES) / 2) * 0.09 for row in range(len(calls))]
        middle = [one["median"] * 1e6 for one in spreads]
        around = [
            [(one["median"] - one["low"]) * 1e6 for one in spreads],
            [(one["high"] - one["median"]) * 1e6 for one in spreads],
        ]
        axes.errorbar(middle, rows, xerr=around, **{**style(name), "linewidth": 0, "elinewidth": 1})
    axes.set_xscale("log")
    axes.set_yticks(range(len(calls)), calls)
    axes.invert_yaxis()
    axes.set_xlabel("microseconds for a call, logarithmic; to the left is faster")
    axes.set_title("A call of a LangGraph saver, in a thread of 100 messages")


def bytes_by_turn(figure: Figure, run: dict[str, Any]) -> None:
    """What a conversation takes on the server, as it goes on."""
    axes: Axes = figure.subplots()
    for name, points in run["bytes by turn"].items():
        turns = [point["turn"] for point in points]
        axes.plot(turns, [point["bytes"] / 1e6 for point in points], **style(name))
    axes.set_ylim(bottom=0)
    axes.set_xlabel("turns of the conversation, each a question and an answer of 385 characters")
    axes.set_ylabel("MB on the server")
    axes.set_title("Memory that one conversation takes on the server")


def time_by_length(figure: Figure, run: dict[str, Any]) -> None:
    """How reading and writing a checkpoint grow with the thread."""
    for axes, (call, savers) in zip(
        figure.subplots(1, 2, sharey=True), run["time by length"].items(), strict=True
    ):
        for name, points in savers.items():
            sizes = [point["messages"] for point in points]
            axes.plot(sizes, [point["median"] * 1e3 for point in points], **style(name))
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("messages in the thread, logarithmic")
        axes.set_title("put of one more" if call == "put" else call)
    figure.axes[0].set_ylabel("milliseconds, logarithmic")


def latency_under_load(figure: Figure, run: dict[str, Any]) -> None:
    """How long a run of a graph takes while others run, in the middle and at worst."""
    axes: Axes = figure.subplots()
    for name, points in run["latency under load"].items():
        counts = [point["at once"] for point in points]
        drawn = style(name)
        axes.plot(counts, [point["p50"] * 1e3 for point in points], **drawn)
        dashed = {**drawn, "label": None, "linestyle": "--", "linewidth": 1}
        axes.plot(counts, [point["p99"] * 1e3 for point in points], **dashed)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(counts, map(str, counts))
    axes.set_xlabel("runs of a graph at the same time in one process, logarithmic")
    axes.set_ylabel("milliseconds, logarithmic")
    axes.set_title("A run of a graph under load: median, and dashed the 99th percentile")


DRAWN: dict[str, Callable[[Figure, dict[str, Any]], None]] = {
    "time-by-call": time_by_call,
    "bytes-by-turn": bytes_by_turn,
    "time-by-length": time_by_length,
    "latency-under-load": latency_under_load,
}


def draw(run: dict[str, Any], folder: Path) -> list[Path]:
    """Draw all charts of a run; return the files."""
    under = f"{run['date']}, {run['machine']}, Valkey {run['versions']['Valkey']}"
    if run["trial"]:
        under = f"TRIAL RUN on a busy machine, not a measurement. {under}"
    drawn = []
    for theme, colours in THEMES.items():
        settings = {
            "svg.fonttype": "none",
            "svg.hashsalt": "swarmstate",
            "font.family": "sans-serif",
            "font.size": 10,
            "axes.edgecolor": colours["faint"],
            "axes.grid": True,
            "axes.spines.right": False,
            "axes.spines.top": False,
            "axes.labelcolor": colours["text"],
            "axes.titlecolor": colours["text"],
            "axes.titlesize": 11,
            "grid.color": colours["faint"],
            "grid.linewidth": 0.6,
            "legend.frameon": False,
            "legend.labelcolor": colours["text"],
            "text.color": colours["text"],
            "xtick.color": colours["text"],
            "ytick.color": colours["text"],
        }
        for name, chart in DRAWN.items():
            with mpl.rc_context(settings):
                figure = Figure(figsize=(8.4, 4.6), layout="constrained")
                chart(figure, run)
                handles, labels = figure.axes[0].get_legend_handles_labels()
                figure.legend(handles, labels, loc="outside lower center", ncols=3)
                figure.supxlabel(under, fontsize=8)
                file = folder / f"{name}-{theme}.svg"
                figure.savefig(file, transparent=True, metadata={"Date": None, "Creator": None})
            drawn.append(file)
    return drawn


def main() -> None:
    """Draw a run."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path, nargs="?", help="by default the newest that was kept")
    parser.add_argument("--to", type=Path, default=CHARTS)
    arguments = parser.parse_args()
    run: Path = arguments.run or max(RESULTS.glob("*.json"))
    for file in draw(json.loads(run.read_text()), arguments.to):
        print(file)


if __name__ == "__main__":
    main()
