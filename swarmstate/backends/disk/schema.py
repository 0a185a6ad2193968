"""How a store lies in its file: the tables, and where a namespace is in them.

This is a public format. Each namespace is a row of ``space`` with its entries in ``entry``; whoever
reads with other tools finds all of it in the view ``entries``.
"""

from __future__ import annotations

from swarmstate.checkpoints.format import names

__all__ = [
    "APPLICATION",
    "FORMAT",
    "LIVE",
    "SCHEMA",
    "WRITES",
    "beyond",
    "split",
]

FORMAT = 1
"""The version of the format, kept as the file's ``user_version``."""

APPLICATION = 0x73776D73
"""What marks the files as ours, kept as the file's ``application_id``: "swms" in ASCII."""

SCHEMA = (
    # `expires` is in milliseconds since the Unix epoch.
    "CREATE TABLE space(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, expires INTEGER)",
    "CREATE TABLE entry(space INTEGER, sub TEXT, key TEXT, value BLOB,"
    " PRIMARY KEY(space, sub, key))",
    # Costs nothing where nothing expires, and finds what has without going through all.
    "CREATE INDEX expiring ON space(expires) WHERE expires IS NOT NULL",
    "CREATE VIEW entries(namespace, key, value) AS SELECT s.name || e.sub, e.key, e.value"
    " FROM space s JOIN entry e ON e.space = s.id WHERE (s.name = '' OR s.name >= char(1))"
    " AND (s.expires IS NULL OR s.expires > (julianday('now') - 2440587.5) * 86400000)",
)

LIVE = "(s.name = '' OR s.name >= char(1)) AND (s.expires IS NULL OR s.expires > :now)"
"""Which spaces are namespaces. A name that starts with NUL is the store's own: what is kept there
is no part of its content."""

WRITES = "langgraph:writes:"
"""What the names of spaces start with that hold several namespaces, told apart by ``sub``."""


def split(namespace: str) -> tuple[str, str]:
    """Return the name of a namespace's space, and its ``sub`` there.

    The pending writes of all checkpoints of one checkpoint namespace share a space, and ``sub`` is
    the checkpoint id, so that a thread has a handful of spaces. Elsewhere ``sub`` is empty. Name
    and ``sub`` together are the namespace, so no two namespaces share a place.
    """
    if not namespace.startswith(WRITES):
        return namespace, ""
    # langgraph:writes:<len(thread)>:{t:<thread>}:<len(ns)>:<ns><id>, lengths in bytes of UTF-8.
    data = namespace.encode()[len(WRITES) :]
    length, colon, rest = data.partition(b":")
    if colon and length.isdigit() and rest.startswith(b"{t:"):
        end = int(length) + 3
        thread = rest[3:end]
        length, colon, rest = rest[end:].removeprefix(b"}:").partition(b":")
        if colon and length.isdigit() and int(length) <= len(rest):
            try:
                where = names(thread.decode(), rest[: int(length)].decode())
            except UnicodeDecodeError:
                return namespace, ""
            # Only what is exactly as the checkpoints' layout has it.
            if namespace.startswith(where.writes):
                return where.writes, namespace[len(where.writes) :]
    return namespace, ""


def beyond(prefix: str) -> str | None:
    """Return the least text that is greater than all texts with a prefix; None if there is none."""
    while prefix:
        after = ord(prefix[-1]) + 1
        if after == 0xD800:  # surrogates are no text
            after = 0xE000
        if after <= 0x10FFFF:
            return prefix[:-1] + chr(after)
        prefix = prefix[:-1]
    return None
