r"""The layout in Redis: which key is what.

The public part: a namespace is the hash ``{prefix}:{namespace}``; its fields are the keys, its
values the encoded values. Namespaces that start with NUL are reserved: there live the store's
marker and whatever is derived from the hashes.

A prefix may contain ``:``, so the keys of prefix ``app:prod`` look like namespaces of prefix
``app``. The marker tells them apart: every store writes the key ``{prefix}:\0store`` with its
first write, and an enumeration leaves alone all keys under a longer prefix that has a marker.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from swarmstate.arguments import check_namespace, shown
from swarmstate.backends.redis.commands import Command
from swarmstate.errors import ArgumentTypeError, ArgumentValueError

__all__ = ["Found", "Layout"]

MARKER = b"\0store"
_SPECIAL = frozenset(b"\\*?[]^")
# More keys than any server holds: one SCAN then goes through all of them, as one command.
_ALL = 1_000_000_000


@dataclass(frozen=True)
class Found:
    """What an enumeration found under a prefix.

    Attributes:
        hashes: the keys of the store's namespaces.
        derived: the keys in reserved namespaces, without the marker.
    """

    hashes: frozenset[bytes]
    derived: frozenset[bytes]


class Layout:
    """The keys of one prefix.

    Args:
        prefix: taken literally; NUL and lone surrogates are refused.
    """

    __slots__ = ("head", "marker", "pattern", "prefix")

    def __init__(self, prefix: str) -> None:
        if not isinstance(prefix, str):
            raise ArgumentTypeError(
                f"prefix must be a str, not {type(prefix).__name__} ({shown(prefix)})"
            )
        if "\0" in prefix:
            raise ArgumentValueError(f"prefix must not contain NUL, not {shown(prefix)}")
        try:
            self.head = prefix.encode() + b":"
        except UnicodeEncodeError:
            raise ArgumentValueError(
                f"prefix must be text that UTF-8 can hold, not {shown(prefix)}"
            ) from None
        self.prefix = prefix
        self.marker = self.head + MARKER
        escaped = bytearray()
        for byte in self.head:
            if byte in _SPECIAL:
                escaped += b"\\"
            escaped.append(byte)
        self.pattern = bytes(escaped) + b"*"

    def key(self, namespace: str) -> bytes:
        """Return the key of a namespace, or raise for a name that no store accepts."""
        return self.head + check_namespace(namespace).encode()

    def derived(self, name: str) -> bytes:
        """Return the key of something derived: ``name`` in the reserved part of the prefix."""
        return self.head + b"\0" + name.encode()

    def namespace(self, key: bytes) -> str:
        """Return the namespace that a key holds."""
        return key[len(self.head) :].decode()

    def mark(self) -> Command:
        """Return the command that writes the marker, if it is not there."""
        return ("SET", self.marker, b"1", "NX")

    def scans(self) -> list[Command]:
        """Return the commands that enumerate: every key under the prefix, and every hash."""
        scan: Command = ("SCAN", b"0", "MATCH", self.pattern, "COUNT", _ALL)
        return [scan, (*scan, "TYPE", "hash")]

    def classify(self, keys: Iterable[bytes], hashes: Iterable[bytes]) -> Found:
        """Return what of an enumeration belongs to this prefix.

        Args:
            keys: every key under the prefix, of every type.
            hashes: those that are hashes.
        """
        length = len(self.head)
        hashes = frozenset(hashes)
        # A hash of that name is somebody's namespace, not a marker.
        nested = {
            key[: -len(MARKER)]
            for key in keys
            if key.endswith(b":" + MARKER) and key != self.marker and key not in hashes
        }

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
            derived=frozenset(
                key for key in keys if key[length : length + 1] == b"\0" and key != self.marker
            ),
        )


def _is_text(key: bytes) -> bool:
    """Return whether a key can be a namespace; others are a foreign program's."""
    try:
        key.decode()
    except UnicodeDecodeError:
        return False
    return True
