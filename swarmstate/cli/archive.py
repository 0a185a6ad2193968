"""The file that ``export`` and ``snapshot`` write: a stream of msgpack, compressed by gzip.

One object after the other, each readable in any language:

1. a map: ``format`` is ``"swarmstate-archive"``, ``version`` 1, ``kind`` ``"export"`` or
   ``"snapshot"``, ``codec`` and ``wire`` say how the values are encoded, ``made`` is the time in
   seconds since the Unix epoch;
2. for each namespace ``["namespace", name, expires]``, where ``expires`` is nil or in milliseconds
   since the Unix epoch, and then for each key ``["entry", key, value]``, the value as the bytes
   that the store holds;
3. ``["end", namespaces, entries]`` with how many there were. A file without it was cut.

Namespaces come in the order of their names, so that LangGraph's records come before the values and
the writes that they name: what is exported while a thread grows has the values of every record.
"""

from __future__ import annotations

import gzip
import os
import secrets
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import msgpack  # type: ignore[import-untyped]

from swarmstate.errors import SwarmStateError
from swarmstate.shown import shown

__all__ = ["ArchiveError", "Header", "Namespace", "Totals", "header_of", "read", "write"]

_FORMAT = "swarmstate-archive"
_VERSION = 1
_MOST_BYTES = (1 << 31) - 1
_LONGEST_PART = 8
_LONGEST_HEADER = 32
_PIECE = 1 << 20


class ArchiveError(SwarmStateError, ValueError):
    """A file that is no archive, is damaged or was cut, or is of a newer version."""


class Header(NamedTuple):
    """What an archive says of itself."""

    kind: str
    codec: str
    wire: str
    made: float


class Totals(NamedTuple):
    """How much an archive holds."""

    namespaces: int
    entries: int


class Namespace(NamedTuple):
    """A namespace, or a part of a large one: then others of the same name follow."""

    name: str
    expires: int | None
    entries: list[tuple[str, bytes]]
    last: bool
    """Whether nothing of it follows."""


def write(
    path: Path,
    header: Header,
    namespaces: Iterable[tuple[str, int | None, Iterable[tuple[str, bytes]]]],
    told: Callable[[Totals], None] = lambda _: None,
) -> Totals:
    """Write an archive: under another name beside it, which becomes that of the file at the end.

    Args:
        path: Where it is to be. It is readable for its owner alone.
        header: What it says of itself.
        namespaces: (name, expires, entries), in the order of their names; those without entries
            are left out.
        told: Called after each namespace.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    pack = msgpack.Packer().pack
    count = entries = 0
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            with gzip.GzipFile("", "wb", fileobj=file, compresslevel=6, mtime=0) as out:
                head = {"format": _FORMAT, "version": _VERSION, **header._asdict()}
                out.write(pack(head))
                for name, expires, held in namespaces:
                    known = entries
                    for key, data in held:
                        if known == entries:
                            out.write(pack(["namespace", name, expires]))
                            count += 1
                        out.write(pack(["entry", key, data]))
                        entries += 1
                    told(Totals(count, entries))
                out.write(pack(["end", count, entries]))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:  # an interrupt too must leave nothing behind
        with suppress(OSError):
            os.unlink(temporary)
        raise
    return Totals(count, entries)


def new_header(kind: str, codec: str, wire: str) -> Header:
    """Return the header of an archive that is made now."""
    return Header(kind, codec, wire, round(time.time(), 3))


def header_of(path: Path) -> Header:
    """Return what an archive says of itself.

    Raises:
        ArchiveError: it is none, or one of a newer version.
    """
    for record in _records(path):
        return _header(path, record)
    raise ArchiveError(f"{path} is empty, and not an archive")


def read(path: Path) -> Iterator[Namespace]:
    """Yield what an archive holds; whether it is whole is known at the end.

    Raises:
        ArchiveError: it is none, is damaged or was cut.
    """
    current: Namespace | None = None
    size = namespaces = entries = 0
    records = _records(path)
    _header(path, next(records, None))
    for record in records:
        kind = record[0] if isinstance(record, list) and len(record) == 3 else None
        if kind == "entry" and current is not None and _is_entry(record):
            if size >= _PIECE:
                yield current._replace(last=False)
                current = current._replace(entries=[])
                size = 0
            current.entries.append((record[1], record[2]))
            size += len(record[1]) + len(record[2])
            entries += 1
        elif kind == "namespace" and _is_namespace(record):
            if current is not None:
                yield current
            current, size = Namespace(record[1], record[2], [], True), 0
            namespaces += 1
        elif kind == "end":
            if record[1:] != [namespaces, entries]:
                raise ArchiveError(f"{path} is damaged: it does not hold what its end says")
            if next(records, None) is not None:
                raise ArchiveError(f"{path} is damaged: something follows its end")
            if current is not None:
                yield current
            return
        else:
            raise ArchiveError(f"{path} is damaged: it holds {shown(record)}")
    raise ArchiveError(f"{path} was cut: it has no end")


def _is_entry(record: list[Any]) -> bool:
    return type(record[1]) is str and type(record[2]) is bytes


def _is_namespace(record: list[Any]) -> bool:
    return type(record[1]) is str and (record[2] is None or type(record[2]) is int)


def _header(path: Path, record: Any) -> Header:
    if not isinstance(record, dict) or record.get("format") != _FORMAT:
        raise ArchiveError(f"{path} is not an archive of swarmstate")
    if record.get("version") != _VERSION:
        raise ArchiveError(
            f"{path} is of version {shown(record.get('version'))}, and this version of swarmstate "
            f"reads {_VERSION}"
        )
    try:
        header = Header(*(record[name] for name in Header._fields))
    except KeyError as error:
        raise ArchiveError(f"{path} is damaged: its head lacks {error.args[0]}") from None
    if not all(type(text) is str for text in header[:3]):
        raise ArchiveError(f"{path} is damaged: its head holds {shown(list(header))}")
    return header


def _records(path: Path) -> Iterator[Any]:
    """Yield the objects of the stream; one that the file ends in the middle of is left out."""
    try:
        with gzip.open(path, "rb") as file:
            # No length that a damaged file declares makes room that its bytes do not fill.
            yield from msgpack.Unpacker(
                file,
                max_buffer_size=_MOST_BYTES,
                max_array_len=_LONGEST_PART,
                max_map_len=_LONGEST_HEADER,
                max_ext_len=0,
            )
    except EOFError as error:
        raise ArchiveError(f"{path} was cut") from error
    except gzip.BadGzipFile as error:
        raise ArchiveError(f"{path} is not an archive, or is damaged: {error}") from error
    except (zlib.error, ValueError, msgpack.UnpackException) as error:
        if isinstance(error, ArchiveError):
            raise
        raise ArchiveError(f"{path} is damaged: {error or type(error).__name__}") from error
