"""Checkpoints as they are read from the file: first their bytes, which are decoded afterwards."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from swarmstate.backends.disk.rows import HAS
from swarmstate.backends.disk.steps import StoreSteps
from swarmstate.backends.disk.threads import values_of
from swarmstate.checkpoints.format import (
    Place,
    assemble,
    decode_record,
    is_id,
    mark_of_segment,
    mark_of_writes,
    names,
    record_fields,
    segments_among,
)
from swarmstate.checkpoints.protocol import CheckpointName, CheckpointRecord, StoredCheckpoint
from swarmstate.errors import DecodeError

__all__ = ["IS_ID", "Found", "add_values", "add_writes", "assembled", "read"]

# Marks lie among the records; no checkpoint has such an id.
IS_ID = "space=? AND sub='' AND (key<char(0)||'p' OR key>=char(0)||'x')"
"""Which entries are records, given a space."""

_ROW = "SELECT key, value FROM entry WHERE space=? AND sub='' AND key=?"
_NEWEST = f"SELECT key, value FROM entry WHERE {IS_ID} ORDER BY key DESC LIMIT 1"


@dataclass(slots=True)
class Found:
    """A checkpoint as it was read: only its record is decoded."""

    name: CheckpointName
    record: CheckpointRecord
    fields: Mapping[Place, str]
    held: Mapping[str, Any]
    writes: Sequence[tuple[str, Any]]
    marked: bool


def read(
    connection: sqlite3.Connection,
    store: StoreSteps,
    name: CheckpointName,
    spaces: Any,
    channels: Collection[str] | None,
) -> Found | None:
    """Return the record of a checkpoint, and which values it has."""
    where = names(name.thread, name.checkpoint_ns)
    checkpoints = spaces[0]
    if not name.id:
        row = connection.execute(_NEWEST, (checkpoints,)).fetchone()
    elif is_id(name.id):
        row = connection.execute(_ROW, (checkpoints, name.id)).fetchone()
    else:
        row = None
    if row is None:
        return None
    key, data = row
    name = CheckpointName(name.thread, name.checkpoint_ns, key)
    record = decode_record(store.value(data, where.checkpoints, key), name)
    return Found(name, record, record_fields(record, channels), {}, (), False)


def add_writes(connection: sqlite3.Connection, one: Found, spaces: Any) -> None:
    """Add the pending writes to what was read."""
    checkpoint_id = one.name.id
    rows = connection.execute(
        "SELECT key, value FROM entry WHERE space=? AND sub=?", (spaces[2], checkpoint_id)
    ).fetchall()
    one.writes = rows
    if not rows:
        mark = (spaces[0], "", mark_of_writes(checkpoint_id))
        one.marked = connection.execute(HAS, mark).fetchone() is not None


def add_values(
    connection: sqlite3.Connection, one: Found, space: int | None, known: dict[int, dict[str, Any]]
) -> int:
    """Add the values and segments to what was read; return how many bytes it has.

    What several have in common is read once, and counts once.

    Args:
        connection: Where to read.
        one: What was read.
        space: That of the values.
        known: What was read of values before, by space and key.
    """
    keys = list(one.fields.values())
    if one.writes:
        keys += segments_among(key for key, _ in one.writes)
    one.held, size = values_of(connection, space, keys, known)
    for _, data in one.writes:
        size += len(data or b"")
    return size


def assembled(
    store: StoreSteps, one: Found, decoded: dict[tuple[str, str], Any]
) -> StoredCheckpoint:
    """Return a checkpoint from what was read; values that others have too are decoded once."""
    name = one.name
    where = names(name.thread, name.checkpoint_ns)
    held: dict[str, Any] = {}
    for key, data in one.held.items():
        place = (where.values, key)
        if place not in decoded:
            try:
                decoded[place] = store.value(data, where.values, key)
            except DecodeError as error:
                decoded[place] = error
        held[key] = decoded[place]
    target = where.writes + name.id
    written = [
        (key, store.value(data, target, key))
        for key, data in one.writes
        if not key.startswith(mark_of_segment(""))
    ]
    return assemble(name, one.record, one.fields, held, written, marked=one.marked)
