"""A limit keeps what reading everything would keep, and removes the rest without a trace.

The model is the plain way: look at all checkpoints and all writes after every put.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langgraph.checkpoint.serde.types import INTERRUPT
from threads import checkpoint, config

from swarmstate.checkpoints import field as field_of
from swarmstate.checkpoints import names
from swarmstate.errors import DecodeError
from swarmstate.integrations.langgraph import SwarmStateSaver
from swarmstate.protocols import StoreLike


@dataclass
class Made:
    """One checkpoint, as the model knows it."""

    parent: str | None
    versions: dict[str, str]
    stored: list[str]
    deltas: list[str]
    run: str


@dataclass
class Thread:
    """What should be there."""

    made: dict[str, Made] = field(default_factory=dict)
    asking: set[str] = field(default_factory=set)
    written: set[str] = field(default_factory=set)

    def copy(self) -> Thread:
        return Thread(dict(self.made), set(self.asking), set(self.written))

    def drop(self, ids: set[str]) -> None:
        for each in ids:
            self.made.pop(each, None)
        self.asking -= ids
        self.written -= ids

    def limit(self, keep: int, *, interrupts: bool = True) -> bool:
        """Remove what a limit removes; return whether there was anything beyond it."""
        ids = sorted(self.made, reverse=True)
        if len(ids) <= keep:
            return False
        continued = {one.parent for one in self.made.values()}
        asking = self.asking if interrupts else set()
        kept = ids[:keep] + [each for each in ids if each in asking - continued]
        needed = set(kept)
        for each in kept:
            for channel in self.made[each].deltas:
                needed |= self.replayed(each, channel)
        late = {each for each in self.written - self.made.keys() if each < ids[keep - 1]}
        self.drop((self.made.keys() - needed) | late)
        return True

    def replayed(self, start: str, channel: str) -> set[str]:
        """Return the ancestors from whose writes a channel's value is rebuilt."""
        path: set[str] = set()
        record = self.made[start]
        while record.parent in self.made and record.parent not in path:
            source = self.made[record.parent]
            same = source.versions.get(channel) == record.versions.get(channel)
            if same and channel in source.stored and channel in record.deltas:
                return path  # the value itself is found under that version
            path.add(record.parent)
            if channel in source.stored or channel not in source.versions:
                return path
            record = source
        return path

    def fields(self) -> set[str]:
        return {
            field_of(channel, one.versions[channel])
            for one in self.made.values()
            for channel in (*one.stored, *one.deltas)
        }


class Session:
    """Does to a saver what it tells the model, and compares."""

    def __init__(self, store: StoreLike, keep: int) -> None:
        self.store = store
        self.keep = keep
        self.limited = SwarmStateSaver(store, max_checkpoints_per_thread=keep)
        self.free = SwarmStateSaver(store)
        self.thread = Thread()
        self.saved: list[tuple[Any, Thread]] = []
        self.clock = 0
        self.branched: set[str] = set()

    def put(self, at: int, place: str, changes: set[str], delta: str, free: bool) -> None:
        made = self.thread.made
        ids = sorted(made)
        self.clock += 1
        parent = ids[-1 - at % len(ids)] if ids and at >= 0 else None
        checkpoint_id = f"{self.clock:04}"
        if place == "before" and ids:
            checkpoint_id = f"{ids[at % len(ids)]}-{self.clock:04}"
        elif place == "again" and ids:
            checkpoint_id = ids[at % len(ids)]
            parent = made[checkpoint_id].parent
        continued = parent in {one.parent for one in made.values()}
        if parent in self.branched or (delta == "write" and continued):
            # As LangGraph does: the writes there belong to the checkpoint that came of them.
            delta = "snapshot"
        before = made.get(parent or "", Made(None, {}, [], [], ""))
        versions = dict(before.versions)
        new = {}
        for channel in sorted(changes) + (["delta"] if delta in ("write", "snapshot") else []):
            versions[channel] = new[channel] = self.free.get_next_version(
                versions.get(channel), None
            )
        values = {c: [c, v] for c, v in versions.items() if c != "delta" or delta == "snapshot"}
        counters = {}
        if delta != "gone" and "delta" not in values:
            # Also for a channel that was never written, as LangGraph does.
            counters = {"delta": (1, 1)}
        run = f"run{self.clock % 3}"
        if delta == "write" and parent is not None:
            self.branched.add(parent)
            self.write(ids.index(parent) if parent in ids else 0, "delta", parent)
        saver = self.free if free else self.limited
        # Putting one again may itself change what others are rebuilt from.
        before_puts = self.histories() if place != "again" else {}
        saver.put(
            config(checkpoint_id=parent),
            checkpoint(versions, values, checkpoint_id),
            {"run_id": run, "counters_since_delta_snapshot": counters},  # type: ignore[typeddict-unknown-key]
            new,
        )
        deltas = [c for c in counters if c in versions]
        made[checkpoint_id] = Made(parent, versions, list(values), deltas, run)
        if free:
            return
        if self.thread.limit(self.keep):
            here = names("thread", "")
            assert set(self.store.keys(here.values)) <= self.thread.fields()
        after = self.histories()
        for each in after.keys() & before_puts.keys():
            assert after[each] == before_puts[each], "what is rebuilt is what it was"

    def histories(self) -> dict[str, Any]:
        """Return what the channel is rebuilt from at every checkpoint that does not hold it."""
        newest = sorted(self.thread.made, reverse=True)[: self.keep]
        found = {}
        for each in newest:
            one = self.free.get_tuple(config(checkpoint_id=each))
            assert one is not None
            if self.thread.made[each].deltas and "delta" not in one.checkpoint["channel_values"]:
                try:
                    found[each] = self.free.get_delta_channel_history(
                        config=config(checkpoint_id=each), channels=["delta"]
                    )
                except DecodeError as error:  # what it continued was gone when it was put
                    found[each] = str(error)
        return found

    def write(self, at: int, channel: str, checkpoint_id: str | None = None) -> None:
        ids = sorted(self.thread.made)
        if checkpoint_id is None:
            checkpoint_id = ids[at % len(ids)] if ids and at >= 0 else "0000"
        task = f"task{len(self.thread.written)}"
        self.limited.put_writes(config(checkpoint_id=checkpoint_id), [(channel, ["w"])], task)
        self.thread.written.add(checkpoint_id)
        if channel == INTERRUPT:
            self.thread.asking.add(checkpoint_id)

    def delete_run(self, number: int) -> None:
        run = f"run{number}"
        self.limited.delete_for_runs([run])
        self.thread.drop({each for each, one in self.thread.made.items() if one.run == run})

    def save(self) -> None:
        self.saved.append((self.store.snapshot(), self.thread.copy()))

    def restore(self) -> None:
        if self.saved:
            snapshot, thread = self.saved[-1]
            self.store.restore(snapshot)
            self.thread = thread.copy()

    def prune(self) -> None:
        self.limited.prune(["thread"])
        self.thread.limit(1, interrupts=False)

    def check(self) -> None:
        found = {one.checkpoint["id"]: one for one in self.free.list(config())}
        assert found.keys() == self.thread.made.keys()
        for each, one in found.items():
            made = self.thread.made[each]
            assert made.stored == [c for c in one.checkpoint["channel_values"] if c in made.stored]
            assert bool(one.pending_writes) == (each in self.thread.written)
            parent = one.parent_config
            assert (parent and parent["configurable"]["checkpoint_id"]) == made.parent


numbers = st.integers(0, 6)
puts = st.tuples(
    st.just("put"),
    st.sampled_from([0, 0, 0, 0, 1, 3, -1]),
    st.sampled_from(["end", "end", "end", "end", "before", "again"]),
    st.sets(st.sampled_from(["a", "b"])),
    st.sampled_from(["none", "write", "write", "snapshot", "gone"]),
    st.sampled_from([False, False, False, True]),
)
writes = st.tuples(
    st.just("write"), st.integers(-1, 6), st.sampled_from(["a", INTERRUPT, INTERRUPT])
)
others = st.sampled_from(
    [("save",), ("restore",), ("delete_run", 0), ("delete_run", 1), ("prune",)]
)
operations = st.lists(st.one_of(puts, puts, puts, writes, others), min_size=3, max_size=30)
regular = st.lists(
    st.tuples(
        st.just("put"),
        st.sampled_from([0, 0, 0, 0, 0, 2]),
        st.just("end"),
        st.sets(st.sampled_from(["a", "b"])),
        st.sampled_from(["none", "write", "write", "write", "snapshot"]),
        st.just(False),
    )
    | writes,
    min_size=3,
    max_size=40,
)


def run(store: StoreLike, keep: int, steps: Any) -> None:
    session = Session(store, keep)
    for name, *arguments in steps:
        getattr(session, name)(*arguments)
        session.check()
    session.free.delete_thread("thread")
    assert len(store) == 0


@given(keep=st.integers(1, 5), steps=operations | regular)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_sequence_of_calls_leaves_what_reading_everything_would_leave(
    make_store: Callable[..., StoreLike], keep: int, steps: Any
) -> None:
    run(make_store(), keep, steps)
