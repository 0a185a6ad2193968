"""The commands that put a store into a file, and back into any store."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from swarmstate import Snapshot, codecs
from swarmstate.cli import archive
from swarmstate.cli.archive import Namespace, Totals
from swarmstate.cli.commands import agreed, command, yes_option
from swarmstate.cli.contents import expire, expiries, thread_in
from swarmstate.cli.opening import Place, check_not_memory, written_as
from swarmstate.cli.showing import Display, plural
from swarmstate.cli.threads import in_parts
from swarmstate.protocols import StoreLike
from swarmstate.snapshots import contents

__all__: list[str] = []

_file = click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
_there = click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
_AT_ONCE = 500
_THREADS = 2


# Out --------------------------------------------------------------------------------------------


@command(name="export")
@_file
@yes_option
def export(display: Display, place: Place, file: Path, yes: bool) -> None:
    """Write all that a store holds to FILE, one namespace after the other.

    For any size. What is written meanwhile may be in it or not; a checkpoint that is removed
    meanwhile may be in it in part. A snapshot is of one moment.
    """
    check_not_memory(place)
    _ask_to_replace(file, yes)
    with place.as_stored().reading() as store:
        done = archive.write(file, _head("export", place), _namespaces(store))
    _tell_written(display, file, done)


def _namespaces(store: StoreLike) -> Iterator[tuple[str, int | None, Iterable[tuple[str, bytes]]]]:
    for some in in_parts(sorted(store.namespaces())):
        expiring = expiries(store, some)
        for namespace in some:
            yield namespace, expiring.get(namespace), store.items(namespace)


@command(name="snapshot")
@_file
@yes_option
def snapshot(display: Display, place: Place, file: Path, yes: bool) -> None:
    """Write what a store holds at one moment to FILE.

    All of it is in memory meanwhile. On a cluster it is one moment for each namespace.
    """
    check_not_memory(place)
    _ask_to_replace(file, yes)
    with place.as_stored().reading() as store:
        held = contents(store.snapshot())
        expiring: dict[str, int] = {}
        for some in in_parts(sorted(held)):
            expiring.update(expiries(store, some))
    parts = ((name, expiring.get(name), held[name].items()) for name in sorted(held))
    done = archive.write(file, _head("snapshot", place), parts)
    _tell_written(display, file, done)


def _head(kind: str, place: Place) -> archive.Header:
    return archive.new_header(kind, place.codec, codecs.get(place.codec).wire)


def _ask_to_replace(file: Path, yes: bool) -> None:
    if file.exists():
        agreed(f"{file} is there already. Replace it?", yes)


def _tell_written(display: Display, file: Path, done: Totals) -> None:
    size = file.stat().st_size
    if display.as_json:
        display.json({"file": str(file), "bytes": size, **done._asdict()})
        return
    display.line(
        f"wrote {plural(done.entries, 'key')} of {plural(done.namespaces, 'namespace')} to {file}"
    )


# In ---------------------------------------------------------------------------------------------


@command(name="import")
@_there
@yes_option
def import_(display: Display, place: Place, file: Path, yes: bool) -> None:
    """Add what FILE holds to a store; whatever else is there stays.

    The file is read to its end before anything is written. Where keys are there with another value,
    the command asks. It can be run again after it was interrupted.
    """
    header = archive.header_of(file)
    for _ in archive.read(file):
        pass  # what is damaged or cut shows before a store is opened, and perhaps made
    with place.as_stored().writing(make=True) as store:
        plan = _Plan(file, header.codec, place.codec)
        plan.compare(store)
        if plan.different:
            what = plural(plan.different, "key")
            agreed(f"{what} of the store have another value in the file. Replace them?", yes)
        if plan.new or plan.different:
            plan.carry_out(store)
    if display.as_json:
        display.json(plan.told())
        return
    display.line(
        f"added {plural(plan.new, 'key')}; replaced: {plan.different:,}; unchanged: {plan.same:,}"
    )
    _tell_expiry(display, plan.expired, plan.staying)


def _tell_expiry(display: Display, expired: int, staying: int) -> None:
    if expired:
        display.note(f"left out {plural(expired, 'namespace')} that had expired by now")
    if staying:
        display.note(
            f"{plural(staying, 'namespace')} had a time to live that could not be kept here"
        )


class _Plan:
    """What importing a file does to a store.

    Args:
        file: The archive.
        source: The codec of its values.
        target: That of the store.
    """

    def __init__(self, file: Path, source: str, target: str) -> None:
        self._file = file
        self._codecs = source, target
        self._now = time.time() * 1000
        self._known: set[str] | None = None
        # Those that are to expire, and of which nothing is there that would expire with them.
        self._fresh: set[str] = set()
        self.new = self.same = self.different = 0
        self.expired = self.staying = 0

    def told(self) -> dict[str, int]:
        """Return what was done, for a program."""
        return {
            "added": self.new,
            "replaced": self.different,
            "unchanged": self.same,
            "expired_namespaces": self.expired,
            "namespaces_without_their_expiry": self.staying,
        }

    def compare(self, store: StoreLike) -> None:
        """Read the whole file, and find out what is new; nothing is written."""
        for part in archive.read(self._file):
            if self._has_expired(part):
                self.expired += part.last
                continue
            if part.expires is not None and self._is_new(store, part.name):
                self._fresh.add(part.name)
            for some in in_parts(part.entries, _AT_ONCE):
                there = store.get_many([(part.name, key) for key, _ in some])
                for (_, data), found in zip(some, there, strict=True):
                    if found is None:
                        self.new += 1
                    elif found == written_as(data, *self._codecs):
                        self.same += 1
                    else:
                        self.different += 1

    def carry_out(self, store: StoreLike) -> None:
        """Store what is not there yet.

        What makes a LangGraph thread exist comes last: an import that is interrupted shows no part
        of a checkpoint.
        """
        for rank in range(_THREADS + 1):
            for part in archive.read(self._file):
                if _rank(part.name) != rank or self._has_expired(part):
                    continue
                # A thread has all of its namespaces at once.
                at_once = len(part.entries) if rank == _THREADS else _AT_ONCE
                for some in in_parts(part.entries, at_once):
                    store.set_many(
                        (part.name, key, written_as(data, *self._codecs)) for key, data in some
                    )
                if part.last and part.expires is not None:
                    kept = part.name in self._fresh and expire(store, part.name, part.expires)
                    self.staying += not kept

    def _is_new(self, store: StoreLike, namespace: str) -> bool:
        """Return whether nothing is there of a namespace, or of the thread that it is of."""
        thread = thread_in(namespace)
        if thread is None:
            return namespace not in store
        if self._known is None:
            threads = map(thread_in, store.namespaces("langgraph:"))
            self._known = {each for each in threads if each is not None}
        return thread not in self._known

    def _has_expired(self, part: Namespace) -> bool:
        return part.expires is not None and part.expires <= self._now


def _rank(namespace: str) -> int:
    """Return when a namespace is to be written: values, then what names them, then threads."""
    if namespace.startswith("langgraph:thread:"):
        return _THREADS
    return int(namespace.startswith(("langgraph:checkpoints:", "langgraph:strays:")))


@command(name="restore")
@_there
@yes_option
def restore(display: Display, place: Place, file: Path, yes: bool) -> None:
    """Make a store what FILE holds, no more and no less, and ask before that.

    The store is all of it or as it was (on a cluster for each namespace).
    """
    header = archive.header_of(file)
    now = time.time() * 1000
    expired = staying = 0
    values: dict[str, dict[str, bytes]] = {}
    expiring: dict[str, int] = {}
    for part in archive.read(file):
        if part.expires is not None and part.expires <= now:
            expired += part.last
            continue
        if part.expires is not None:
            expiring[part.name] = part.expires
        held = values.setdefault(part.name, {})
        held.update(
            (key, written_as(data, header.codec, place.codec)) for key, data in part.entries
        )
    target = Snapshot.from_values(values, codec=place.codec)
    with place.as_stored().writing(make=True) as store:
        difference: Any = target.diff(store.snapshot())
        counts = {what: len(difference[what]) for what in ("added", "removed", "changed")}
        if any(counts.values()):
            told = ", ".join(f"{count:,} {what}" for what, count in counts.items())
            agreed(f"The keys of {place.shown} change: {told}. Go on?", yes)
            store.restore(target)
        for name, at in expiring.items():
            staying += not expire(store, name, at)
    if display.as_json:
        display.json(
            {
                **counts,
                "expired_namespaces": expired,
                "namespaces_without_their_expiry": staying,
            }
        )
        return
    display.line(", ".join(f"{count:,} {what}" for what, count in counts.items()))
    _tell_expiry(display, expired, staying)
