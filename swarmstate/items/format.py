"""How the items of LangGraph's long-term memory lie in a store.

This is a public format, the same for every store. The *name* of a LangGraph namespace is each of
its labels after the label's length in bytes of UTF-8 and a colon, so ``("users", "ana")`` is
``5:users3:ana``: whatever labels contain, no two namespaces have one name, and one namespace is
within another exactly if its name starts with the other's. The braces put the items and the vectors
of a namespace into one Redis Cluster slot.

================================ ==================== ============================================
namespace                        key                  value
================================ ==================== ============================================
``langgraph:store``              a name               1
``langgraph:items:{s:<name>}``   the item's key       created, updated, expires, minutes, indexed,
                                                      value
``langgraph:vectors:{s:<name>}`` ``=`` and the key    a list of vectors
the same                         ``version``          an int
================================ ==================== ============================================

The first namespace names every LangGraph namespace that has an item, and may name some that have
none any more. Times are integers, in microseconds since the Unix epoch; ``expires`` is nil where an
item stays, and ``minutes``, a 64-bit float or nil, is by how much each renewal puts that off.
``indexed`` says whether there are vectors. A vector is the little-endian 32-bit floats of an
embedding, as binary. The version is a random number, written with each change of the vectors: who
has read the vectors under a version may keep them while it is the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, NamedTuple

from swarmstate.arguments import shown
from swarmstate.errors import ArgumentTypeError, DecodeError

__all__ = [
    "LONGEST",
    "NAMES",
    "VECTOR",
    "VERSION",
    "Row",
    "decode_row",
    "encode_row",
    "items_of",
    "labels_of",
    "name_of",
    "right_names",
    "vectors_of",
]

LONGEST = 256
"""How many characters a name may have to be kept in a cache, whose size would else depend on what
users choose as names."""

NAMES = "langgraph:store"
"""The namespace whose keys are the names of all LangGraph namespaces."""

VERSION = "version"
"""The key of the version among the vectors."""

VECTOR = "="
"""What the keys of vectors start with."""


class Row(NamedTuple):
    """An item as it is stored, without the names of its place; times in microseconds."""

    created: int
    updated: int
    expires: int | None
    minutes: float | None
    indexed: bool
    value: dict[str, Any]

    def live(self, now: int) -> bool:
        """Return whether the item has not expired."""
        return self.expires is None or self.expires > now

    def renewed(self, now: int) -> Row:
        """Return the item with all of its time before it, if it expires at all."""
        if self.minutes is None:
            return self
        return self._replace(expires=now + int(self.minutes * 60_000_000))


def name_of(labels: tuple[str, ...]) -> str:
    """Return the name of a LangGraph namespace.

    Raises:
        ArgumentTypeError: it is not a tuple of texts.
    """
    try:
        if type(labels) is tuple and sum(map(len, labels)) <= LONGEST:
            return _kept_name(labels)
        if isinstance(labels, tuple | list):
            return _name(tuple(labels))
    except (AttributeError, TypeError):
        pass
    raise ArgumentTypeError(
        f"a namespace must be a tuple of str, not {type(labels).__name__} ({shown(labels)})"
    )


def _name(labels: tuple[str, ...]) -> str:
    texts = map(str.__str__, labels)
    return "".join([f"{len(text.encode('utf-8', 'surrogatepass'))}:{text}" for text in texts])


_kept_name = lru_cache(4096)(_name)


def labels_of(name: str) -> tuple[str, ...] | None:
    """Return the labels of a LangGraph namespace; None for what cannot be the name of one."""
    return _kept_labels(name) if len(name) <= LONGEST else _labels(name)


def right_names(names: Iterable[str]) -> list[str]:
    """Return those that can be names of LangGraph namespaces."""
    return [name for name in names if labels_of(name) is not None]


def _labels(name: str) -> tuple[str, ...] | None:
    raw = name.encode()
    labels = []
    at = 0
    while at < len(raw):
        colon = raw.find(b":", at)
        if colon < 0 or not raw[at:colon].isdigit():
            return None
        at = colon + 1 + int(raw[at:colon])
        try:
            labels.append(raw[colon + 1 : at].decode())
        except UnicodeDecodeError:
            return None
    found = tuple(labels)
    return found if _name(found) == name else None


_kept_labels = lru_cache(16_384)(_labels)


def items_of(name: str) -> str:
    """Return the namespace of the store that holds the items of a LangGraph namespace."""
    return f"langgraph:items:{{s:{name}}}"


def vectors_of(name: str) -> str:
    """Return the namespace of the store that holds the vectors of a LangGraph namespace."""
    return f"langgraph:vectors:{{s:{name}}}"


_new = tuple.__new__
_FIELDS = len(Row._fields)


def encode_row(row: Row) -> list[Any]:
    """Return what is stored for an item."""
    return list(row)


def decode_row(data: Any, name: str, key: str) -> Row:
    """Return an item that was stored.

    Raises:
        DecodeError: this is not one.
    """
    if type(data) is list and len(data) == _FIELDS:
        created, updated, expires, minutes, _, value = data
        if (
            type(created) is type(updated) is int
            and (expires is None or type(expires) is int)
            and (minutes is None or type(minutes) is float)
            and type(value) is dict
        ):
            # As Row(*data), in a third of the time: a search makes one for each item.
            return _new(Row, data)
    raise DecodeError(
        f"item {shown(key)} of namespace {shown(labels_of(name))} is not in the format of one: "
        f"{shown(data)}"
    )
