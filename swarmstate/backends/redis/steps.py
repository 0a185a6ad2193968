"""What every method of the stores does, written once: generators of batches.

:class:`RedisStore` runs them blocking, :class:`AsyncRedisStore` awaited. The docstrings here are
those of both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from swarmstate.arguments import (
    check_callable,
    check_item,
    check_key,
    check_pair,
    check_prefix,
    check_seconds,
    iterate,
    shown,
)
from swarmstate.backends.redis.commands import Command, CommandRefused, fields, fill
from swarmstate.backends.redis.keys import ScratchLayout
from swarmstate.backends.redis.scripts import DROP, EXPIRE, REMOVE, SWAP
from swarmstate.backends.redis.sending import FOREIGN, MOST_ARGUMENTS, SUSPECT_BYTES, size_of
from swarmstate.backends.redis.whole import Content, WholeStore, measured
from swarmstate.errors import AccessDenied, ArgumentTypeError, StoreUnavailable
from swarmstate.protocols import Pair
from swarmstate.snapshots import History
from swarmstate.steps import Steps

__all__ = ["ScratchSteps", "StoreSteps"]

# Of one update: as many as the in-memory store's.
_ATTEMPTS = 1000


class StoreSteps(WholeStore):
    """The logic of a store under one prefix: see :class:`~.sending.Sending` for the arguments."""

    # Single keys -------------------------------------------------------------------------------

    def set(self, namespace: str, key: str, value: Any) -> Steps[None]:
        """Store one value. One round trip; sent again if the connection broke."""
        at = self.layout.key(namespace)
        field = check_key(key)
        yield from self.stored([("HSET", at, field, self.encode(value))], (at,), idempotent=True)

    def get(self, namespace: str, key: str, default: Any = None) -> Steps[Any]:
        """Return one value, or ``default`` where there is none. One round trip."""
        at = self.layout.key(namespace)
        replies = yield from self.read([("HGET", at, check_key(key))], (at,))
        return self._value(replies[0], default, namespace, key)

    def contains(self, namespace: str, key: str) -> Steps[bool]:
        """Return whether the key exists. One round trip."""
        at = self.layout.key(namespace)
        replies = yield from self.read([("HEXISTS", at, check_key(key))], (at,))
        return bool(replies[0])

    def set_default(self, namespace: str, key: str, value: Any) -> Steps[bool]:
        """Store ``value`` only if the key is absent; return whether it was stored.

        One round trip; not sent again if the connection broke after it was sent.
        """
        at = self.layout.key(namespace)
        field = check_key(key)
        command: Command = ("HSETNX", at, field, self.encode(value))
        replies = yield from self.stored([command], (at,), idempotent=False)
        return bool(replies[0])

    def delete(self, namespace: str, key: str) -> Steps[bool]:
        """Remove a key; return whether it existed.

        One round trip; not sent again if the connection broke after it was sent.
        """
        at = self.layout.key(namespace)
        replies = yield from self._sent([("HDEL", at, check_key(key))], ignore=FOREIGN)
        return bool(replies[0])

    def update(
        self, namespace: str, key: str, fn: Callable[[Any], Any], default: Any = None
    ) -> Steps[Any]:
        """Replace a value by ``fn(value)`` atomically, across processes; return the new value.

        Optimistic: a script stores the new value if the old one is still there, otherwise ``fn``
        is called again with what is there now. Two round trips, and one more for every writer that
        was faster. Needs EVALSHA and EVAL. Not sent again if the connection broke after it was
        sent.

        Raises:
            AccessDenied: the user may not run scripts; nothing was stored.
            StoreUnavailable: other writers were faster 1,000 times in a row.
        """
        at = self.layout.key(namespace)
        field = check_key(key)
        check_callable("fn", fn)
        replies = yield from self._sent([("HGET", at, field)], idempotent=True, inline=True)
        old: bytes | None = replies[0]
        for _ in range(_ATTEMPTS):
            new = self.encode(fn(self._value(old, default, namespace, key)))
            known = (b"0", b"") if old is None else (b"1", old)
            swap = SWAP([at], [field, *known, new])
            try:
                replies = yield from self.stored([swap], (at,), idempotent=False)
            except CommandRefused as refused:
                if not refused.scripting_refused:
                    raise
                raise AccessDenied(
                    "update() needs a server that lets its user run scripts (EVALSHA and EVAL), "
                    f"and nothing was stored: {refused}"
                ) from refused
            outcome = replies[0]
            if outcome[0] == 1:
                return self.codec.decode(new)
            old = outcome[1] if len(outcome) > 1 else None
        raise StoreUnavailable(
            f"update of {shown(key)} in {shown(namespace)} gave way to other writers {_ATTEMPTS} "
            "times: does the function itself write this key?"
        )

    # Batches -----------------------------------------------------------------------------------

    def set_many(self, items: Iterable[tuple[str, str, Any]]) -> Steps[None]:
        """Store all the (namespace, key, value) triples at once, or none.

        One round trip (on a cluster one per node, atomic per slot; where a node fails, the error
        says so and what went to the others stays); sent again if the connection broke. Above 64 MB
        or a million arguments for several namespaces it goes in parts, one round trip each, and
        needs RENAME and PERSIST.
        """
        content: Content = {}
        for index, item in enumerate(iterate("items", items, "(namespace, key, value) triples")):
            namespace, key, value = check_item(item, index)
            content.setdefault(self.layout.key(namespace), []).extend((key, self.encode(value)))
        if not content:
            return
        if len(content) == 1 and self._fits(content):
            ((at, flat),) = content.items()
            yield from self.stored([("HSET", at, *flat)], content, idempotent=True)
        elif self._clustered:
            yield from self._set_per_slot(content)
        elif not (yield from self._put_in(content, everything=False)):
            # A transaction does not stop at a command that fails, so nothing in it must.
            yield from self._check_types(content)
            yield from self.stored(_filled(content), content, idempotent=True)

    def _fits(self, content: Content) -> bool:
        """Return whether one command for each namespace will do, and one for its time."""
        if any(len(flat) > MOST_ARGUMENTS for flat in content.values()):
            return False
        return not self._script_ttl or size_of(content.values()) <= SUSPECT_BYTES

    def _set_per_slot(self, content: Content) -> Steps[None]:
        if self._scripting:
            keys = list(content)
            commands: list[Command] = []
            renewed: list[bytes] = []
            for group in self._slots(keys):
                part = {keys[index]: content[keys[index]] for index in group}
                if len(part) == 1 and self._fits(part):
                    ((at, flat),) = part.items()
                    commands.append(("HSET", at, *flat))
                    renewed.append(at)
                else:
                    commands += self._fills(part, replace=False)
            try:
                replies = yield from self.stored(commands, renewed, idempotent=True)
            except CommandRefused as refused:
                if not refused.scripting_refused:
                    raise
                self._scripting = False
            else:
                for reply in replies:
                    if isinstance(reply, list):
                        self._take_filled(reply)
                return
        yield from self._check_types(content)
        yield from self.stored(_filled(content), content, idempotent=True)

    def get_many(self, pairs: Iterable[Pair]) -> Steps[list[Any]]:
        """Return the values at one moment, in input order; a missing one is None.

        One round trip (on a cluster one per node, one moment per slot); one or two more on a full
        server before Redis 7.2, and where the call is larger than the server's transactions.
        """
        grouped, places = self._grouped(pairs)
        if not grouped:
            return []
        commands = _in_parts("HMGET", grouped)
        replies = yield from self.read(commands, grouped)
        values: dict[Any, list[bytes | None]]
        if len(commands) == len(grouped):
            values = {at: reply for at, reply in zip(grouped, replies, strict=True) if reply}
        else:
            values = {}
            for command, reply in zip(commands, replies, strict=True):
                if reply:
                    values.setdefault(command[1], []).extend(reply)
        found = [values[at][index] if at in values else None for at, index in places]

        def name(place: int) -> tuple[str, str]:
            at, index = places[place]
            return self.layout.namespace(at), grouped[at][index]

        return self._values(found, name)

    def delete_many(self, pairs: Iterable[Pair]) -> Steps[int]:
        """Remove all the keys at once; return how many existed.

        One round trip (on a cluster one per node, atomic per slot); not sent again if the
        connection broke after it was sent.
        """
        grouped, _ = self._grouped(pairs)
        if not grouped:
            return 0
        commands = _in_parts("HDEL", grouped)
        replies = None
        # Not a transaction where there is a choice: a full server before Redis 7.2 refuses those.
        if len(commands) > 1 and sum(map(len, commands)) <= MOST_ARGUMENTS:
            keys = list(grouped)
            removals: list[Command] = []
            for group in self._slots(keys):
                part = {keys[index]: grouped[keys[index]] for index in group}
                if len(part) == 1:
                    removals += _in_parts("HDEL", part)
                else:
                    removals.append(REMOVE(list(part), measured(part)))
            replies = yield from self._scripted(removals, idempotent=False, ignore=FOREIGN)
        if replies is None:
            replies = yield from self._sent(commands, atomic=len(commands) > 1, ignore=FOREIGN)
        return sum(reply or 0 for reply in replies)

    def _grouped(
        self, pairs: Iterable[Pair]
    ) -> tuple[dict[bytes, list[str]], list[tuple[bytes, int]]]:
        grouped: dict[bytes, list[str]] = {}
        places: list[tuple[bytes, int]] = []
        for index, pair in enumerate(iterate("pairs", pairs, "(namespace, key) pairs")):
            namespace, key = check_pair(pair, index)
            at = self.layout.key(namespace)
            names = grouped.setdefault(at, [])
            places.append((at, len(names)))
            names.append(key)
        return grouped, places

    # Namespaces --------------------------------------------------------------------------------

    def delete_namespace(self, namespace: str) -> Steps[int]:
        """Remove a namespace with all its keys; return how many there were.

        One round trip, two without scripting; not sent again if the connection broke after it was
        sent.
        """
        at = self.layout.key(namespace)
        if (reply := (yield from self._scripted([DROP([at])], idempotent=False))) is not None:
            return int(reply[0])
        kind = yield from self._sent([("TYPE", at)], idempotent=True)
        if kind[0] != b"hash":
            return 0
        try:
            replies = yield from self._sent([("HLEN", at), ("UNLINK", at)], atomic=True)
            return int(replies[0])
        except CommandRefused as refused:
            if refused.code != "OOM":
                raise
        # A full server before Redis 7.2 refuses transactions; this command tells what it removed.
        removed = 0
        while True:
            names = yield from self._sent([("HKEYS", at)], idempotent=True, ignore=FOREIGN)
            if not names[0]:
                return removed
            gone = yield from self._sent(_in_parts("HDEL", {at: names[0]}), ignore=FOREIGN)
            removed += sum(count or 0 for count in gone)

    def expire(self, namespace: str, seconds: float) -> Steps[bool]:
        """Let a namespace be gone, with all its keys, from some time on.

        Writes of a store that was made without a ttl do not put that off; calling this again does.
        A namespace that is removed, restored or loses its last key before then, and comes back,
        stays. One round trip, two without scripting; sent again if the connection broke.

        Args:
            namespace: the namespace.
            seconds: from 0.001 to 10**10.

        Returns:
            Whether there is such a namespace.

        Raises:
            AccessDenied: the user may not let keys expire.
        """
        at = self.layout.key(namespace)
        left = int(check_seconds("seconds", seconds) * 1000)
        replies = yield from self._scripted([EXPIRE([at], [left])], idempotent=True)
        if replies is None:
            kind = yield from self._sent([("TYPE", at)], idempotent=True)
            if kind[0] != b"hash":
                return False
            replies = yield from self._sent([("PEXPIRE", at, left)], idempotent=True)
        return bool(replies[0])

    def keys(self, namespace: str, prefix: str | None = None) -> Steps[list[str]]:
        """Return the keys of a namespace, or those that start with ``prefix``.

        One round trip; O(keys of the namespace).
        """
        at = self.layout.key(namespace)
        start = check_prefix(prefix)
        replies = yield from self.read([("HKEYS", at)], (at,))
        names = [self._key_name(field, namespace) for field in replies[0] or ()]
        return [name for name in names if name.startswith(start)] if start else names

    def items(self, namespace: str) -> Steps[list[tuple[str, Any]]]:
        """Return the (key, value) pairs of a namespace at one moment. One round trip."""
        at = self.layout.key(namespace)
        replies = yield from self.read([("HGETALL", at)], (at,))
        entries = fields(replies[0] or ())
        names = [self._key_name(field, namespace) for field in entries]
        values = self._values(list(entries.values()), lambda place: (namespace, names[place]))
        return list(zip(names, values, strict=True))

    def max_key(self, namespace: str) -> Steps[str | None]:
        """Return the greatest key of a namespace (by code point), or None if it has none.

        One round trip; O(keys of the namespace), because Redis does not order the fields of a
        hash.
        """
        at = self.layout.key(namespace)
        replies = yield from self.read([("HKEYS", at)], (at,))
        # The order of UTF-8 bytes is that of the code points.
        return self._key_name(max(replies[0]), namespace) if replies[0] else None

    def has_namespace(self, namespace: object) -> Steps[bool]:
        """Return whether the namespace has a key. One round trip."""
        if not isinstance(namespace, str):
            raise ArgumentTypeError(
                f"namespace must be a str, not {type(namespace).__name__} ({shown(namespace)})"
            )
        at = self.layout.key(namespace)
        replies = yield from self.read([("HLEN", at)], (at,))
        return bool(replies[0])


class ScratchSteps(StoreSteps):
    """The logic of the scratch store of another one, with whose marker it is marked."""

    _enumerable = False

    def __init__(self, store: StoreSteps) -> None:
        vars(self).update(vars(store))
        self.layout = ScratchLayout(store.layout.prefix)
        self.history = History(0)


def _in_parts(name: str, grouped: Mapping[bytes, Sequence[bytes | str]]) -> list[Command]:
    """Return commands about fields, no longer than servers take."""
    if all(len(names) <= MOST_ARGUMENTS for names in grouped.values()):
        return [(name, at, *names) for at, names in grouped.items()]
    return [
        (name, at, *names[first : first + MOST_ARGUMENTS])
        for at, names in grouped.items()
        for first in range(0, len(names), MOST_ARGUMENTS)
    ]


def _filled(content: Content) -> list[Command]:
    """Return the commands that fill hashes from flat lists of fields and values."""
    return [command for key, flat in content.items() for command in fill(key, flat)]
