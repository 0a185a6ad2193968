"""Checkpoints as they are read from the file: first their bytes, which are decoded afterwards."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

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

__all__ = ["IS_ID", "Found", "assembled", "read", "with_values", "with_writes"]

# Marks lie among the records; no checkpoint has such an id.
IS_ID = "space=? AND sub='' AND (key<char(0)||'p' OR key>=char(0)||'x')"
"""Which entries are records, given a space."""

_ROW = "SELECT key, value FROM entry WHERE space=? AND sub='' AND key=?"
_NEWEST = f"SELECT key, value FROM entry WHERE {IS_ID} ORDER BY key DESC LIMIT 1"


class Found(NamedTuple):
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
    name = name._replace(id=key)
    record = decode_record(store.value(data, where.checkpoints, key), name)
    return Found(name, record, record_fields(record, channels), {}, (), False)


def with_writes(connection: sqlite3.Connection, one: Found, spaces: Any) -> Found:
    """Return what was read, with the pending writes."""
    checkpoint_id = one.name.id
    rows = connection.execute(
        "SELECT key, value FROM entry WHERE space=? AND sub=?", (spaces[2], checkpoint_id)
    ).fetchall()
    if rows:
        return one._replace(writes=rows)
    mark = (spaces[0], "", mark_of_writes(checkpoint_id))
    return one._replace(marked=connection.execute(HAS, mark).fetchone() is not None)


def with_values(
    connection: sqlite3.Connection, one: Found, space: int | None, known: dict[int, dict[str, Any]]
) -> tuple[Found, int]:
    """Return what was read, with its values and segments, and how many bytes it has.

    What several have in common is read once, and counts once.

    Args:
        connection: Where to read.
        one: What was read.
        space: That of the values.
        known: What was read of values before, by space and key.
    """
    keys = [*one.fields.values(), *segments_among(key for key, _ in one.writes)]
    held, size = values_of(connection, space, keys, known)
    size += sum(len(row[1] or b"") for row in one.writes)
    return one._replace(held=held), size


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
