"""The reference: what both built-in codecs accept, and the only place that makes their errors.

What is plain goes at C speed: :mod:`swarmstate._codec` packs it, and a library unpacks it. What is
not plain ends here: subclasses of built-in types, values for a ``default`` hook, and everything
that is refused. :func:`encode` makes a plain copy of the value, which is then packed as any other,
so both codecs accept the same and say the same.

The rules, on top of the list of types in :mod:`swarmstate.codecs`: containers nest at most
``MAX_DEPTH`` levels, tuples within a key ``MAX_KEY_DEPTH``; two keys of a dict must not become one,
and no more than ``MAX_SAME_HASH`` of its tuple keys may have the same hash; a datetime must be
within the years 1 to 9999 in UTC; timestamps lose what is finer than a microsecond when read.
"""

from __future__ import annotations

import itertools
import re
import sys
from collections import OrderedDict
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

import msgpack  # type: ignore[import-untyped]

from swarmstate._codec import (
    MAX_DEPTH,
    MAX_KEY_DEPTH,
    MAX_SAME_HASH,
    REFUSED,
    TUPLE_KEYS,
    MsgpackUnpacker,
    examine,
    frozen,
    know_zone_info,
    pack,
    plain_datetime,
    same_hash,
)
from swarmstate.codecs._ways_out import way_out
from swarmstate.errors import ArgumentTypeError, ArgumentValueError, DecodeError, EncodeError
from swarmstate.protocols import Default
from swarmstate.shown import shown

__all__ = ["as_bytes", "decode", "encode", "unpack"]

_UTC = timezone.utc
# Formats of memoryviews that hold nothing but data: numbers, text, and structures and arrays of
# them (see PEP 3118). What is left out are addresses: of objects, functions and other memory.
_DATA = re.compile(
    r"""(?: [@=<>!^\s\d] | \([\d,]*\)  # byte order, padding, counts
          | T\{ | \} | :[^:]*:  # structures and the names of their fields
          | Z[efdg] | [xcbB?hHiIlLqQnNefdgspuwFDG] )*""",
    re.VERBOSE,
)
# What subclasses of datetime call the digits below a microsecond.
_FINER = ("nanosecond", "picosecond", "femtosecond", "attosecond", "yoctosecond")
_KEY_CONVERSIONS = {".value", ".item()", ".isoformat()", ".total_seconds()", "bytes()"}
_SAME_HASH = f"more than {MAX_SAME_HASH} of its tuple keys have the same hash"
_MAX_DEFAULTS = 16  # how often in a row a hook may answer with something unsupported
_SHOWN_STEPS = 16  # of a path


unpack = MsgpackUnpacker(msgpack.unpackb).unpack


class _Refused(Exception):  # noqa: N818 (never leaves this module)
    """Why a value is refused, before its place is known.

    Args:
        reason: What is wrong with it.
        conversion: What turns it into something that is accepted, if we know.
    """

    def __init__(self, reason: str, conversion: str = "") -> None:
        super().__init__(reason)
        self.conversion = conversion

    def advice(self, default: Default | None) -> str:
        """Return the reason and the way out."""
        ways = [f"convert it with {self.conversion}"] if self.conversion else []
        if default is None and not isinstance(self, _Final):
            ways.append("pass a default= function that converts it")
        return f"{self}; {' or '.join(ways)}" if ways else str(self)


class _Final(_Refused):
    """A refusal that no hook is asked about, because converting the value would not help."""


class _Dict(list[tuple[Any, Any]]):
    """The items of a dict, as they were at one moment."""


def encode(value: object, default: Default | None) -> bytes:
    """Return ``value`` in msgpack, or say why it cannot be.

    Args:
        value: Anything.
        default: Turns what is not supported, values and keys alike, into what is.

    Raises:
        EncodeError: ``value`` is outside the domain; the text names the type and the path.
        Exception: whatever ``default`` raises, unchanged.
    """
    plain = _plain(value, default)
    try:
        return pack(plain)
    except TypeError:  # all the rest has been refused by now
        raise EncodeError(
            f"cannot encode {type(value).__name__} at value: a length in it exceeds 2**32-1"
        ) from None


def decode(data: object) -> Any:
    """Return the value that ``data`` holds, or say why it holds none.

    Raises:
        DecodeError: ``data`` is not exactly one value; the text names the fault and the byte.
        InvalidArgumentError: ``data`` is not bytes at all.
    """
    raw = as_bytes(data)
    found, fault, where = examine(raw)
    if found & REFUSED:
        raise DecodeError(f"cannot decode {len(raw)} bytes: {fault}, at byte {where}")
    try:
        if found & TUPLE_KEYS:
            return msgpack.unpackb(
                raw, strict_map_key=False, timestamp=3, object_pairs_hook=_dict_with_tuple_keys
            )
        return unpack(raw)
    except UnicodeDecodeError as error:
        raise DecodeError(
            f"cannot decode {len(raw)} bytes: a text is not UTF-8: {error.reason} "
            f"at byte {error.start} of {len(error.object)}"
        ) from None


def as_bytes(data: object) -> bytes:
    """Return what a codec is given to decode as bytes that cannot change meanwhile."""
    if isinstance(data, (bytes, bytearray, memoryview)):
        try:
            return bytes(data)
        except ValueError as error:  # a released memoryview
            raise ArgumentValueError(f"data cannot be read: {error}") from None
    raise ArgumentTypeError(
        f"data must be bytes, bytearray or memoryview, not {type(data).__name__} ({shown(data)})"
    )


def _dict_with_tuple_keys(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    items = [(frozen(key) if type(key) is list else key, item) for key, item in pairs]
    if len(items) > MAX_SAME_HASH:
        keys = [key for key, _ in items if type(key) is tuple]
        if same_hash(keys):
            _check_hashes(keys)
    return dict(items)


def _check_hashes(keys: list[tuple[Any, ...]]) -> None:
    """Raise if it would take long to make a dict of these keys: see MAX_SAME_HASH."""
    keys.sort(key=hash)
    for _, group in itertools.groupby(keys, hash):
        different: list[tuple[Any, ...]] = []
        for key in group:
            if key not in different:  # the same key may come any number of times
                different.append(key)
            if len(different) > MAX_SAME_HASH:
                raise DecodeError(f"cannot decode a map: {_SAME_HASH}")


# ---- the plain copy ----------------------------------------------------------------------------


def _plain(value: object, default: Default | None) -> Any:
    """Copy a value into exact built-in types, which can be packed.

    Without recursion, because nesting may exceed the interpreter's limit. Each container is read
    at one moment, when it is met, so a hook that changes it later does no harm.
    """
    root: list[Any] = []
    # One entry for each open container: what is still to come of it, as (place, item) pairs, and
    # its copy. `path` has the place of the current item of each.
    open_: list[tuple[Iterator[tuple[Any, Any]], list[Any] | dict[Any, Any]]] = [
        (iter([(None, value)]), root)
    ]
    path: list[Any] = [None]
    while open_:
        items, copy = open_[-1]
        for place, item in items:
            path[-1] = place
            try:
                key = _plain_key(place, default, len(open_) - 1) if type(copy) is dict else None
            except _Refused as refusal:
                raise EncodeError(
                    f"cannot encode {type(place).__name__} as a key of {_shown_path(path[1:-1])} "
                    f"({shown(place)}): {refusal.advice(default)}"
                ) from None
            try:
                plain = _supported(item, default, _base)
                inner = _opened(plain)
                if inner is not None and len(open_) > MAX_DEPTH:
                    raise _Final(f"nested deeper than {MAX_DEPTH} levels")
                if type(copy) is dict and key in copy:
                    raise _Final(f"another key of the same dict becomes {shown(key)} too")
            except _Refused as refusal:
                raise EncodeError(
                    f"cannot encode {type(item).__name__} at {_shown_path(path[1:])}: "
                    f"{refusal.advice(default)}"
                ) from None
            if inner is not None:
                plain = inner[1]
            if type(copy) is dict:
                copy[key] = plain
            else:
                copy.append(plain)  # type: ignore[union-attr]
            if inner is not None:
                open_.append(inner)
                path.append(None)
                break
        else:
            open_.pop()
            path.pop()
            if type(copy) is dict and same_hash([key for key in copy if type(key) is tuple]):
                raise EncodeError(f"cannot encode dict at {_shown_path(path[1:])}: {_SAME_HASH}")
    return root[0]


def _opened(
    plain: Any,
) -> tuple[Iterator[tuple[Any, Any]], list[Any] | dict[Any, Any]] | None:
    """Return the places and items of a container with an empty copy of it; None for the rest."""
    if type(plain) is _Dict:
        return iter(plain), {}
    if type(plain) is list:
        return iter(list(enumerate(plain))), []
    return None


def _supported(item: Any, default: Default | None, base: Any) -> Any:
    """Return what ``base`` makes of an item, asking ``default`` for what it refuses."""
    try:
        return base(item)
    except _Final:
        raise
    except _Refused:
        if default is None:
            raise
    answers = 0
    while True:
        item = default(item)
        answers += 1
        try:
            return base(item)
        except _Final:
            raise
        except _Refused as refusal:
            if answers == _MAX_DEFAULTS:
                reason = f"default= returned {type(item).__name__}: {refusal}"
                raise _Refused(reason, refusal.conversion) from None


def _base(item: Any) -> Any:
    """Return a value as its built-in base type; lists are copied, dicts become their items.

    Methods of the base types are called by name, because a subclass may override anything.
    """
    kind = type(item)
    if kind is str or issubclass(kind, str):
        return _text(item)
    if item is None or kind is bool or kind is float or kind is bytes:
        return item
    if issubclass(kind, int):
        return _int64(item)
    if issubclass(kind, float):
        return float.__pos__(item)
    if issubclass(kind, dict):
        return _items(item)
    if issubclass(kind, list):
        return list.copy(item)
    if issubclass(kind, tuple):
        if issubclass(kind, msgpack.ExtType):
            raise _Refused("unsupported type")
        return list(tuple.__iter__(item))
    if issubclass(kind, bytes):
        return b"".join((item,))
    if issubclass(kind, bytearray):
        return bytes(bytearray.copy(item))
    if kind is memoryview:
        return _data(item)
    moment = plain_datetime(item)
    if moment is not None:
        return _utc(item, moment)
    raise _Refused("unsupported type", way_out(kind))


def _plain_key(key: Any, default: Default | None, depth: int) -> Any:
    """Return a key as a plain one; ``depth`` is the number of containers around it."""
    if type(key) is str:
        return _text(key)
    return _supported(key, default, lambda item: _base_key(item, default, depth, 0))


def _base_key(key: Any, default: Default | None, depth: int, key_depth: int) -> Any:
    kind = type(key)
    if issubclass(kind, tuple) and not issubclass(kind, msgpack.ExtType):
        if key_depth >= MAX_KEY_DEPTH:
            raise _Final(f"a key is nested deeper than {MAX_KEY_DEPTH} levels")
        if depth + key_depth >= MAX_DEPTH:
            raise _Final(f"nested deeper than {MAX_DEPTH} levels")
        # No generator: it would change a StopIteration of the hook into something else.
        items = [
            _supported(item, default, lambda item: _base_key(item, default, depth, key_depth + 1))
            for item in tuple.__iter__(key)
        ]
        return tuple(items)
    if key is None or issubclass(kind, (str, int, float, bytes)):
        return _base(key)
    conversion = way_out(kind)
    if conversion not in _KEY_CONVERSIONS:
        conversion = "str()"
    raise _Refused("unsupported type of a key", conversion)


def _text(text: str) -> str:
    plain = str.__str__(text)
    if not plain.isascii():
        try:
            plain.encode()
        except UnicodeEncodeError as error:
            raise _Refused(f"lone surrogate at index {error.start}") from None
    return plain


def _int64(number: int) -> int:
    plain = int.__pos__(number)
    if not -(2**63) <= plain < 2**64:
        raise _Refused("an int must be from -2**63 to 2**64-1", "str()")
    return plain


def _items(mapping: dict[Any, Any]) -> _Dict:
    items = _Dict(dict.items(mapping))
    if isinstance(mapping, OrderedDict):
        # Its order is not the dict's. Matched by identity, as keys may compare in any way.
        places = {id(key): place for place, key in enumerate(OrderedDict.__iter__(mapping))}
        items.sort(key=lambda pair: places.get(id(pair[0]), -1))
    return items


def _data(view: memoryview) -> bytes:
    try:
        if not _DATA.fullmatch(view.format):
            raise _Refused(
                f"a memoryview of format {shown(view.format)} holds addresses, not only data"
            )
        return view.tobytes()
    except ValueError:
        raise _Refused("it has been released") from None


def _utc(moment: datetime, plain: datetime) -> datetime:
    """Return a datetime in UTC; ``plain`` is the same without what a subclass adds."""
    if type(moment) is not type(plain) and not _same(moment, plain):
        raise _Refused("a datetime keeps microseconds, and it is finer: round it")
    try:
        offset = plain.utcoffset()
    except Exception as error:  # a time zone may be written by anybody; the cause is kept
        raise _Refused(f"its time zone raises {type(error).__name__}") from error
    if offset is None:
        raise _Refused(
            "a naive datetime: it needs a time zone", ".replace(tzinfo=...) or .astimezone()"
        )
    zone = plain.tzinfo
    if zone is not None and type(zone) is getattr(sys.modules.get("_zoneinfo"), "ZoneInfo", None):
        know_zone_info(type(zone))
    try:
        return plain.replace(tzinfo=_UTC, fold=0) - offset
    except OverflowError:
        raise _Refused("out of the years 1 to 9999 in UTC") from None


def _same(moment: datetime, plain: datetime) -> bool:
    """Return whether an instance of a subclass holds nothing that its plain copy does not."""
    try:
        for name in _FINER:
            finer = getattr(moment, name, 0)
            # Some count the nanoseconds of the microsecond, others those of the second.
            if finer % 1000 if name == "nanosecond" else finer:
                return False
        # In one and the same zone no offset is asked for.
        return bool(moment == plain)
    except Exception:  # noqa: BLE001 - what a subclass overrides may raise; it counts as its base
        return True


def _shown_path(path: list[Any]) -> str:
    left_out = len(path) - _SHOWN_STEPS
    if left_out <= 0:
        return "value" + "".join(f"[{shown(step)}]" for step in path)
    half = _SHOWN_STEPS // 2
    start, end = _shown_path(path[:half]), _shown_path(path[-half:]).removeprefix("value")
    return f"{start}...({left_out} more)...{end}"
