r"""The layout in Redis: which key is what.

The public part: a namespace is the hash ``{prefix}:{namespace}``; its fields are the keys, its
values the encoded values. Under ``{prefix}:`` there is nothing else, so that any program may
enumerate ``{prefix}:*`` and read what it finds as hashes.

What is derived from the hashes lies apart, at ``!{prefix}:\0<name>``. No prefix starts with ``!``,
so no enumeration of a prefix meets it; no prefix holds NUL, so the first ``:\0`` of such a key ends
its prefix.

A prefix may contain ``:``, so the keys of prefix ``app:prod`` look like namespaces of prefix
``app``. The marker tells them apart: every store writes the key ``!{prefix}:\0store`` with its
first write, and an enumeration leaves alone all keys under a longer prefix that has a marker.

Version 0.1.0 kept the marker and what is derived at ``{prefix}:\0<name>``. There they still count,
until the first write moves them.
"""

from __future__ import annotations

import binascii
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from swarmstate.arguments import check_namespace, shown
from swarmstate.backends.redis.commands import Command
from swarmstate.errors import ArgumentTypeError, ArgumentValueError

__all__ = ["APART", "Found", "Layout", "ScratchLayout"]

APART = "!"
"""What the keys of everything derived start with, and no prefix does."""

MARKER = b"\0store"
SCRATCH = b"\0scratch"
# What version 0.1.0 derived. Whatever else lies under such names is a foreign program's.
_DERIVED_BEFORE = (b"\0ids:", b"\0fields:")
_SPECIAL = frozenset(b"\\*?[]^")
_SLOTS = 16384
# More keys than any server holds: one SCAN then goes through all of them, as one command.
_ALL = 1_000_000_000


@dataclass(frozen=True)
class Found:
    """What an enumeration found under a prefix.

    Attributes:
        hashes: the keys of the store's namespaces.
        derived: the keys of what is derived from them, without the marker.
    """

    hashes: frozenset[bytes]
    derived: frozenset[bytes]

    @property
    def keys(self) -> frozenset[bytes]:
        """All of them."""
        return self.hashes | self.derived

    def __le__(self, other: Found) -> bool:
        return self.hashes <= other.hashes and self.derived <= other.derived


class Layout:
    """The keys of one prefix.

    Args:
        prefix: taken literally; NUL, lone surrogates and ``!`` at its start are refused.
    """

    __slots__ = ("apart", "apart_pattern", "head", "marker", "marker_before", "pattern", "prefix")

    def __init__(self, prefix: str) -> None:
        if not isinstance(prefix, str):
            raise ArgumentTypeError(
                f"prefix must be a str, not {type(prefix).__name__} ({shown(prefix)})"
            )
        if "\0" in prefix:
            raise ArgumentValueError(f"prefix must not contain NUL, not {shown(prefix)}")
        if prefix.startswith(APART):
            raise ArgumentValueError(
                f"prefix must not start with {APART!r}, not {shown(prefix)}: keys that start with "
                f"it hold what stores of other prefixes derive"
            )
        try:
            self.head = prefix.encode() + b":"
        except UnicodeEncodeError:
            raise ArgumentValueError(
                f"prefix must be text that UTF-8 can hold, not {shown(prefix)}"
            ) from None
        self.prefix = prefix
        self.apart = APART.encode() + self.head
        self.marker = self.apart + MARKER
        self.marker_before = self.head + MARKER
        self.pattern = _escaped(self.head) + b"*"
        self.apart_pattern = _escaped(self.apart) + b"*"

    def key(self, namespace: str) -> bytes:
        """Return the key of a namespace, or raise for a name that no store accepts."""
        return self.head + check_namespace(namespace).encode()

    def derived(self, name: str, of: bytes | None = None) -> bytes:
        r"""Return the key of something derived, ``!{prefix}:\0<name>``.

        Args:
            name: what it is. Without ``of`` the caller sees to the slot, if it matters, by a hash
                tag in the name.
            of: the key of the namespace that it is derived from. The two share a cluster slot,
                because the result goes on with the hash tag of that key (or all of the key as one)
                and the namespace. Then ``name`` must hold no brace. Only where the prefix opens a
                brace and does not close it, no tag that follows counts, and the slots differ.
        """
        key = self.apart + b"\0" + name.encode()
        if of is None:
            return key
        return b"%b{%b}%b" % (key, _tag(of), of[len(self.head) :])

    def derived_before(self, name: str) -> bytes:
        r"""Return where version 0.1.0 kept something derived: ``{prefix}:\0<name>``."""
        return self.head + b"\0" + name.encode()

    def namespace(self, key: bytes) -> str:
        """Return the namespace that a key holds."""
        return key[len(self.head) :].decode()

    def mark(self) -> Command:
        """Return the command that writes the marker, if it is not there."""
        return ("SET", self.marker, b"1", "NX")

    @property
    def patterns(self) -> tuple[str, str]:
        """The patterns of keys that a user of this prefix needs, as ACL SETUSER takes them."""
        return f"~{self.prefix}:*", f"~{APART}{self.prefix}:*"

    def scan_before(self) -> Command:
        """Return the command that enumerates what version 0.1.0 kept under names with NUL."""
        return ("SCAN", b"0", "MATCH", self.pattern[:-1] + b"\0*", "COUNT", _ALL)

    def scans(self) -> list[Command]:
        """Return the commands that enumerate.

        These are: every hash under the prefix, what has NUL in its name there (as what 0.1.0 wrote
        has), and everything apart.
        """
        return [
            ("SCAN", b"0", "MATCH", self.pattern, "COUNT", _ALL, "TYPE", "hash"),
            ("SCAN", b"0", "MATCH", self.pattern + b"\0*", "COUNT", _ALL),
            ("SCAN", b"0", "MATCH", self.apart_pattern, "COUNT", _ALL),
        ]

    def classify(
        self, hashes: Iterable[bytes], before: Iterable[bytes], apart: Iterable[bytes]
    ) -> Found:
        """Return what of an enumeration belongs to this prefix.

        Args:
            hashes: the keys under the prefix that are hashes.
            before: the keys under the prefix that have NUL in their name.
            apart: the keys of everything derived, of this prefix and of longer ones.
        """
        length = len(self.head)
        hashes = frozenset(hashes)
        before = frozenset(before)
        own = self.apart + b"\0"
        scratch = self.apart + SCRATCH
        derived = {
            key
            for key in apart
            if key.startswith(own) and key != self.marker and not key.startswith(scratch)
        }
        derived.update(key for key in before if key.startswith(_DERIVED_BEFORE, length))
        nested = {
            key[len(APART) : -len(MARKER)]
            for key in apart
            # The first of these ends the prefix: later ones stand in the name of what is derived.
            if key.find(b":\0") == len(key) - len(MARKER) - 1
            and key.endswith(MARKER)
            and key != self.marker
        }
        nested.update(
            key[: -len(MARKER)]
            for key in before
            # A hash of that name is another program's namespace, not a marker.
            if key.endswith(b":" + MARKER) and key != self.marker_before and key not in hashes
        )

        def ours(key: bytes) -> bool:
            end = key.find(b":", length)
            while end >= 0:
                if key[: end + 1] in nested:
                    return False
                end = key.find(b":", end + 1)
            return True

        return Found(
            hashes=frozenset(
                key
                for key in hashes
                if key[length : length + 1] != b"\0" and _is_text(key) and (not nested or ours(key))
            ),
            derived=frozenset(derived),
        )


class ScratchLayout(Layout):
    r"""The keys of the scratch store of a prefix, all of them apart: ``!{prefix}:\0scratch``.

    A namespace is the hash ``!{prefix}:\0scratch:{namespace}``; what is derived is at
    ``!{prefix}:\0scratch\0<name>``. The marker is the one of the prefix.
    """

    __slots__ = ()

    def __init__(self, prefix: str) -> None:
        super().__init__(prefix)
        self.apart += SCRATCH
        self.head = self.apart + b":"
        self.pattern = _escaped(self.head) + b"*"
        self.apart_pattern = _escaped(self.apart + b"\0") + b"*"

    def scans(self) -> list[Command]:
        """Return the commands that enumerate: the hashes, and what is derived."""
        return [
            ("SCAN", b"0", "MATCH", self.pattern, "COUNT", _ALL, "TYPE", "hash"),
            ("SCAN", b"0", "MATCH", self.apart_pattern, "COUNT", _ALL),
        ]

    def classify(
        self, hashes: Iterable[bytes], before: Iterable[bytes], apart: Iterable[bytes]
    ) -> Found:
        """Return what of an enumeration belongs here: all of it, there are no longer prefixes."""
        return Found(
            hashes=frozenset(filter(_is_text, hashes)), derived=frozenset((*before, *apart))
        )


def _escaped(text: bytes) -> bytes:
    """Return the pattern that matches just this text."""
    return b"".join(b"\\%c" % byte if byte in _SPECIAL else b"%c" % byte for byte in text)


def _tag(key: bytes) -> bytes:
    """Return what decides the slot of a key: what its first braces hold, or all of it."""
    start = key.find(b"{")
    end = key.find(b"}", start + 1)
    if 0 <= start < end - 1:
        return key[start + 1 : end]
    # Within braces it would end at its own.
    return _stand_in(binascii.crc_hqx(key, 0) % _SLOTS) if b"}" in key else key


@lru_cache(maxsize=_SLOTS)
def _stand_in(slot: int) -> bytes:
    """Return a text of that slot."""
    number = 0
    while binascii.crc_hqx(b"%d" % number, 0) % _SLOTS != slot:
        number += 1
    return b"%d" % number


def _is_text(key: bytes) -> bool:
    """Return whether a key can be a namespace; others are a foreign program's."""
    try:
        key.decode()
    except UnicodeDecodeError:
        return False
    return True
