"""What a store holds of lists in segments, and what it should hold."""

from __future__ import annotations

from typing import Any

from swarmstate.checkpoints import decode_record, is_segment, names, record_fields, segments_among
from swarmstate.checkpoints.format import id_of, is_id, thread_namespace, thread_of
from swarmstate.checkpoints.protocol import CheckpointName
from swarmstate.protocols import StoreLike


def held_and_needed(store: StoreLike) -> tuple[set[Any], set[Any]]:
    """Return the segments that a store holds, and those that its records and writes name."""
    held: set[Any] = set()
    needed: set[Any] = set()
    for namespace in store.namespaces("langgraph:thread:"):
        thread = thread_of(namespace)
        assert thread is not None
        for space in store.keys(thread_namespace(thread)):
            where = names(thread, space)
            held.update((where.values, key) for key in store.keys(where.values) if is_segment(key))
            ids = set(store.keys(where.orphans))
            for key, raw in store.items(where.checkpoints):
                ids.add(id_of(key))
                if is_id(key):
                    record = decode_record(raw, CheckpointName(thread, space, key))
                    fields = record_fields(record).values()
                    needed.update((where.values, each) for each in fields if is_segment(each))
            for each in ids:
                marks = segments_among(store.keys(where.writes + each))
                needed.update((where.values, key) for key in marks)
    return held, needed


def sizes(store: StoreLike, thread: str = "thread") -> dict[str, int]:
    """Return the bytes of each value of a thread's root, by key."""
    where = names(thread, "")
    return {key: len(value[1]) for key, value in store.items(where.values)}
