"""The command that examines a store, and says what is wrong and what to do."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import click

import swarmstate
from swarmstate import codecs
from swarmstate.cli.commands import command
from swarmstate.cli.opening import Place, engine, settled
from swarmstate.cli.showing import Display, bytes_of, plural
from swarmstate.errors import DecodeError, SwarmStateError
from swarmstate.protocols import StoreLike

__all__ = ["Findings"]

_LOOKS = 20
_SAMPLES = 200
_SLOW_SECONDS = 0.05
_ZSTD = bytes.fromhex("28b52ffd")
_LEAST_SQLITE = (3, 24)


class Findings:
    """What is known of a store, and what is wrong with it."""

    def __init__(self) -> None:
        self.facts: dict[str, Any] = {}
        self.problems: list[dict[str, str]] = []

    def error(self, what: str, do: str) -> None:
        """Note what does not work, and what to do."""
        self.problems.append({"level": "error", "what": what, "do": do})

    def warning(self, what: str, do: str) -> None:
        """Note what may go wrong, and what to do."""
        self.problems.append({"level": "warning", "what": what, "do": do})


@command(name="doctor", url=False)
@click.argument("url", envvar="SWARMSTATE_URL", required=False)
@click.option("--url", "-u", "given", help="The same as the argument.")
def doctor(display: Display, at: Any, url: str | None, given: str | None) -> None:
    """Examine the store at URL: what it is, what it lets us do, and what is wrong.

    Changes nothing. Ends with 1 if something does not work.
    """
    found = Findings()
    found.facts["library"] = _library(found)
    found.facts["codecs"] = {
        name: "installed" if there.installed else there.install
        for name, there in codecs.available().items()
    }
    url = given or url
    if url:
        _examine(at(url), found)
    if display.as_json:
        display.json({**found.facts, "problems": found.problems})
    else:
        _show(display, found)
    if any(problem["level"] == "error" for problem in found.problems):
        raise click.exceptions.Exit(1)


def _show(display: Display, found: Findings) -> None:
    def rows(facts: dict[str, Any], above: str = "") -> list[tuple[str, str]]:
        lines: list[tuple[str, str]] = []
        for name, fact in facts.items():
            label = f"{above}{name.replace('_', ' ')}"
            if isinstance(fact, dict):
                lines += rows(fact, f"{label}: ")
            elif isinstance(fact, list):
                lines.append((label, ", ".join(map(str, fact)) or "none"))
            else:
                words: dict[Any, str] = {None: "not known", True: "yes", False: "no"}
                is_word = fact is None or isinstance(fact, bool)
                lines.append((label, words[fact] if is_word else str(fact)))
        return lines

    display.table(("what", "found"), rows(found.facts))
    display.line()
    for problem in found.problems:
        display.line(f"{problem['level']}: {problem['what']}")
        display.line(f"  {problem['do']}")
    if not found.problems:
        display.line("nothing is wrong")


def _library(found: Findings) -> dict[str, Any]:
    """Say which package answers to ``import swarmstate``: another project has the name on PyPI."""
    installed = {
        str(each.locate_file("")): each.version
        for each in importlib.metadata.distributions(name="swarmstate")
    }
    for folder, version in installed.items():
        if version != swarmstate.__version__:
            found.warning(
                f"swarmstate {version} is installed in {folder}, and what is imported is "
                f"{swarmstate.__version__}: that is another package of this name, or this one "
                "before an upgrade",
                "pip uninstall swarmstate, until nothing is left of it; then pip install . in the "
                "checkout",
            )
    return {
        "package": "this one, and not the package of the same name on PyPI (written in Rust)",
        "version": swarmstate.__version__,
        "file": os.path.dirname(os.path.abspath(swarmstate.__file__)),
        "python": f"{platform.python_version()} at {sys.executable}",
    }


def _examine(place: Place, found: Findings) -> None:
    facts: dict[str, Any] = {"url": place.shown}
    found.facts["store"] = facts
    try:
        with place.reading() as store:
            if place.is_file:
                _examine_file(store, facts, found)
            elif not place.is_memory:
                from swarmstate.cli.server import examine_server

                examine_server(place, facts, found)
            _examine_contents(place, store, facts, found)
    except (SwarmStateError, ImportError) as error:
        found.error(" ".join(str(error).split()), _remedy(error))


def _remedy(error: Exception) -> str:
    from swarmstate.errors import AccessDenied, InvalidArgumentError, StoreUnavailable

    kinds: list[tuple[type[Exception], str]] = [
        (AccessDenied, "give the user the rights that docs/redis.md lists, or the file its mode"),
        (StoreUnavailable, "see that it runs, that the address is right, and that it may be used"),
        (InvalidArgumentError, "correct the URL or the option"),
        (ImportError, "install the library that is named"),
    ]
    return next((text for kind, text in kinds if isinstance(error, kind)), "see the error")


def latency(look: Callable[[], Any]) -> dict[str, float]:
    """Return how long a look takes, in milliseconds, the first one apart."""
    look()
    times = []
    for _ in range(_LOOKS):
        began = time.perf_counter()
        look()
        times.append((time.perf_counter() - began) * 1000)
    return {"median_ms": round(statistics.median(times), 3), "worst_ms": round(max(times), 3)}


def warn_if_slow(measured: dict[str, float], found: Findings) -> None:
    """Note a latency that agents will feel."""
    if measured["median_ms"] > _SLOW_SECONDS * 1000:
        found.warning(
            f"a round trip takes {measured['median_ms']} ms",
            "run agents and server in one network: each step of a graph takes some round trips",
        )


def _examine_file(store: Any, facts: dict[str, Any], found: Findings) -> None:
    import sqlite3

    from swarmstate.backends.disk.driver import Read
    from swarmstate.steps import Steps, named

    path = store.path

    def settings() -> Steps[dict[str, Any]]:
        def work(connection: Any) -> dict[str, Any]:
            (pages,), (free,), (size,), (mode,), (version,) = (
                connection.execute(f"PRAGMA {name}").fetchone()
                for name in (
                    *("page_count", "freelist_count", "page_size"),
                    *("journal_mode", "user_version"),
                )
            )
            return {
                "bytes": pages * size,
                "free_bytes": free * size,
                "journal": mode,
                "format": version,
            }

        return (yield Read(work))  # type: ignore[no-any-return]

    facts["kind"] = "file (SQLite)"
    facts["path"] = path
    facts["sqlite"] = sqlite3.sqlite_version
    facts.update(store.driver.run(named("doctor", settings())))
    facts["mode"] = f"{os.stat(path).st_mode & 0o777:o}"
    facts["disk_free_bytes"] = _free(path)
    facts["latency"] = latency(lambda: store.get("doctor", "doctor"))
    if sqlite3.sqlite_version_info < _LEAST_SQLITE:
        found.error(
            f"Python's SQLite is {sqlite3.sqlite_version}",
            "use a Python with SQLite 3.24 or later",
        )
    if os.stat(path).st_mode & 0o077:
        found.warning(
            f"others on this machine may open {path} (mode {facts['mode']})",
            f"chmod 600 {path}",
        )
    if facts["free_bytes"] * 2 > facts["bytes"] > 1 << 20:
        found.warning("more than half of the file is free space", "call compact() of a DiskStore")
    if facts["disk_free_bytes"] is not None and facts["disk_free_bytes"] < facts["bytes"]:
        found.warning(
            f"the disk has {bytes_of(facts['disk_free_bytes'])} left, less than the file has",
            "make room: a full disk refuses writes",
        )
    if facts["journal"] != "wal":
        found.warning(
            f"the file's journal is {facts['journal']}, not wal", "open it once with DiskStore"
        )


def _free(path: str) -> int | None:
    try:
        disk = os.statvfs(path)
    except (AttributeError, OSError):
        return None
    return disk.f_bavail * disk.f_frsize


def _examine_contents(
    place: Place, store: StoreLike, facts: dict[str, Any], found: Findings
) -> None:
    namespaces = store.namespaces()
    held = engine(store)
    facts["namespaces"] = len(namespaces)
    facts["threads"] = len(settled(held, held.threads()))
    if place.is_memory:
        facts["kind"] = "memory: new, empty, and gone with the process"
        return
    broken: list[tuple[str, str]] = []
    zstd = 0
    codec = codecs.get(place.codec)
    with place.as_stored().reading() as stored:
        left = _SAMPLES
        for namespace in namespaces:
            keys = stored.keys(namespace)[:left]
            for key, data in zip(
                keys, stored.get_many([(namespace, key) for key in keys]), strict=True
            ):
                if data is None:
                    continue
                try:
                    codec.decode(data)
                except DecodeError:
                    broken.append((namespace, key))
                    zstd += data.startswith(_ZSTD)
            left -= len(keys)
            if left <= 0:
                break
    facts["values_that_cannot_be_decoded"] = (
        f"{len(broken)} of the {_SAMPLES - max(left, 0)} looked at"
    )
    if not broken:
        return
    namespace, key = broken[0]
    if zstd == len(broken):
        do = "they look like Zstandard: give --codec zstd, and Store(..., codec='zstd')"
    else:
        do = f"look at one: swarmstate get {namespace!r} {key!r}; another program may write there"
    what = plural(len(broken), "value")
    found.error(f"{what} cannot be decoded with the codec {place.codec}", do)
