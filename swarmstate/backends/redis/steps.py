"""What every method of the stores does, written once: generators of batches.

:class:`RedisStore` runs them blocking, :class:`AsyncRedisStore` awaited. The docstrings here are
those of both.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterable, Sequence
from time import monotonic
from typing import Any, ParamSpec, TypeVar

from swarmstate import codecs
from swarmstate._core import Snapshot
from swarmstate.arguments import (
    check_callable,
    check_default,
    check_item,
    check_key,
    check_pair,
    check_prefix,
    check_snapshot,
    iterate,
    milliseconds,
    shown,
)
from swarmstate.backends.redis.commands import (
    Batch,
    Command,
    CommandRefused,
    Script,
    fields,
    fill,
)
from swarmstate.backends.redis.keys import Found, Layout
from swarmstate.backends.redis.scripts import CLEAR, COUNT, DROP, DUMP, NAMES, SWAP
from swarmstate.errors import (
    ArgumentTypeError,
    ArgumentValueError,
    DecodeError,
    StoreUnavailable,
)
from swarmstate.protocols import Default, Pair, SnapshotLike
from swarmstate.snapshots import History, contents
from swarmstate.steps import Steps

__all__ = ["StoreSteps"]

P = ParamSpec("P")
T = TypeVar("T")

_FOREIGN = ("WRONGTYPE",)
_TRIES = 50
# How long a marker is taken to be there: a server that was flushed, or restarted without its data,
# has it again soon after.
_MARK_SECONDS = 1.0


def _into_hashes(step: Callable[P, Steps[T]]) -> Callable[P, Steps[T]]:
    """Make a write say so when a namespace's key is not a hash, but somebody else's."""

    @functools.wraps(step)
    def steps(*args: P.args, **kwargs: P.kwargs) -> Steps[T]:
        try:
            return (yield from step(*args, **kwargs))
        except CommandRefused as refused:
            if refused.code != "WRONGTYPE":
                raise
            raise ArgumentValueError(
                f"a namespace cannot be written, because another program keeps something else than "
                f"a hash at its key: {refused}"
            ) from refused

    return steps


class StoreSteps:
    """The logic of a store under one prefix.

    Args:
        layout: the keys of the prefix.
        codec: the name of the codec.
        default: encodes what the codec does not know.
        max_history: how many snapshots to keep.
        ttl: how long a namespace lives after its last write, in seconds, or None.
        ttl_on_read: whether a read starts that time anew.
        clustered: whether the server is a cluster.
    """

    def __init__(
        self,
        layout: Layout,
        *,
        codec: str,
        default: Default | None,
        max_history: int | None,
        ttl: float | None,
        ttl_on_read: bool,
        clustered: bool,
    ) -> None:
        check_default(default)
        self.layout = layout
        self.codec = codecs.get(codec)
        self.encode: Callable[[Any], bytes] = functools.partial(self.codec.encode, default=default)
        self.ttl_ms = milliseconds(ttl)
        self.ttl_on_read = ttl_on_read and self.ttl_ms is not None
        self.history = History(max_history)
        self._clustered = clustered
        # Scripts see one node: on a cluster the same is done with transactions per slot.
        self._scripting = not clustered
        self._marked_until = 0.0

    # Parts that several methods share ----------------------------------------------------------

    def _value(self, data: bytes | None, default: Any = None) -> Any:
        return default if data is None else self.codec.decode(data)

    def _key_name(self, field: bytes) -> str:
        try:
            return field.decode()
        except UnicodeDecodeError as error:
            raise DecodeError(
                f"a key of prefix {self.layout.prefix!r} is not UTF-8: {shown(field)} "
                "(written by another program?)"
            ) from error

    def written(
        self, commands: Sequence[Command], *, atomic: bool = True, idempotent: bool = False
    ) -> Steps[list[Any]]:
        """Send a write and return its replies; the first one in a while also writes the marker."""
        replies: list[Any]
        if monotonic() < self._marked_until:
            replies = yield Batch(commands, atomic=atomic, idempotent=idempotent)
            return replies
        first: list[Command] = [self.layout.mark()]
        if self._clustered and self._marked_until == 0.0:
            # Atomic ends with the slot: the marker goes ahead, or its node could be the slower one.
            yield Batch(first, idempotent=True)
            first = []
        replies = yield Batch([*first, *commands], atomic=atomic, idempotent=idempotent)
        self._marked_until = monotonic() + _MARK_SECONDS
        return replies[len(first) :]

    def _store(
        self, commands: list[Command], keys: Iterable[bytes], *, idempotent: bool
    ) -> Steps[list[Any]]:
        """Send a write and start the time of its namespaces anew; return the write's replies."""
        if self.ttl_ms is None:
            return (yield from self.written(commands, idempotent=idempotent))
        expiry = [self._expire(key) for key in keys]
        try:
            replies = yield from self.written([*commands, *expiry], idempotent=idempotent)
        except CommandRefused as refused:
            self._without_expiry(refused)
            return (yield from self.written(commands, idempotent=idempotent))
        return replies[: len(commands)]

    def _read(self, commands: list[Command], keys: Iterable[bytes]) -> Steps[list[Any]]:
        """Send reads and return their replies; what another program keeps there reads as None."""
        plain = Batch(commands, atomic=True, idempotent=True, ignore=_FOREIGN)
        replies: list[Any]
        if not self.ttl_on_read:
            replies = yield plain
            return replies
        expiry = [self._expire(key) for key in keys]
        try:
            replies = yield Batch(
                [*commands, *expiry], atomic=True, idempotent=True, ignore=_FOREIGN
            )
        except CommandRefused as refused:
            self._without_expiry(refused)
            replies = yield plain
            return replies
        return replies[: len(commands)]

    def _without_expiry(self, refused: CommandRefused) -> None:
        """Warn that namespaces do not expire, if that was refused: the value matters more."""
        if refused.command != "PEXPIRE":
            raise refused
        warnings.warn(
            f"namespaces of prefix {self.layout.prefix!r} do not expire: {refused}",
            RuntimeWarning,
            stacklevel=3,
        )

    def _expire(self, key: bytes) -> Command:
        return ("PEXPIRE", key, self.ttl_ms or 0)

    def _scripted(self, command: Command, *, idempotent: bool) -> Steps[tuple[Any] | None]:
        """Return a script's reply, or None where scripts cannot be used."""
        if self._scripting:
            try:
                reply = yield Batch([command], idempotent=idempotent)
            except CommandRefused as refused:
                if not refused.scripting_refused:
                    raise
                self._scripting = False
            else:
                return (reply[0],)
        return None

    def _whole(self, script: Script) -> Command:
        layout = self.layout
        return script([layout.marker], [layout.pattern, len(layout.head), layout.apart_pattern])

    # Enumerations ------------------------------------------------------------------------------

    def _found(self) -> Steps[Found]:
        replies = yield Batch(self.layout.scans(), atomic=True, idempotent=True, everywhere=True)
        return self._classified(replies)

    def _classified(self, replies: Sequence[Sequence[Any]]) -> Found:
        pages = [[_page(reply) for reply in nodes] for nodes in replies]
        return self.layout.classify(*([key for page in scan for key in page] for scan in pages))

    def _over_all(
        self,
        commands: Callable[[Found], list[Command]],
        *,
        write: bool = False,
    ) -> Steps[tuple[Found, list[Any]]]:
        """Send commands about everything found, with the enumeration in the same transaction.

        A namespace that appeared meanwhile shows in the enumeration inside, and all is done again.
        A cluster has no such moment: there the commands are atomic per slot.
        """
        found = yield from self._found()
        for _ in range(_TRIES):
            asked = commands(found)
            if self._clustered:
                replies = yield Batch(asked, atomic=True, idempotent=True, ignore=_FOREIGN)
                return found, replies
            scans = self.layout.scans()
            replies = yield Batch([*scans, *asked], atomic=True, idempotent=True, ignore=_FOREIGN)
            inside = self._classified([[reply] for reply in replies[: len(scans)]])
            if inside.hashes <= found.hashes and inside.derived <= found.derived:
                return found, replies[len(scans) :]
            found = Found(found.hashes | inside.hashes, found.derived | inside.derived)
        raise StoreUnavailable(
            f"prefix {self.layout.prefix!r} gained namespaces faster than they could be read "
            f"{_TRIES} times in a row; a server that allows EVALSHA and EVAL needs one try"
        )

    # Single keys -------------------------------------------------------------------------------

    @_into_hashes
    def set(self, namespace: str, key: str, value: Any) -> Steps[None]:
        """Store one value. One round trip; sent again if the connection broke."""
        at = self.layout.key(namespace)
        field = check_key(key)
        yield from self._store([("HSET", at, field, self.encode(value))], (at,), idempotent=True)

    def get(self, namespace: str, key: str, default: Any = None) -> Steps[Any]:
        """Return one value, or ``default`` where there is none. One round trip."""
        at = self.layout.key(namespace)
        replies = yield from self._read([("HGET", at, check_key(key))], (at,))
        return self._value(replies[0], default)

    def contains(self, namespace: str, key: str) -> Steps[bool]:
        """Return whether the key exists. One round trip."""
        at = self.layout.key(namespace)
        replies = yield from self._read([("HEXISTS", at, check_key(key))], (at,))
        return bool(replies[0])

    @_into_hashes
    def set_default(self, namespace: str, key: str, value: Any) -> Steps[bool]:
        """Store ``value`` only if the key is absent; return whether it was stored.

        One round trip; not sent again if the connection broke after it was sent.
        """
        at = self.layout.key(namespace)
        field = check_key(key)
        command: Command = ("HSETNX", at, field, self.encode(value))
        replies = yield from self._store([command], (at,), idempotent=False)
        return bool(replies[0])

    def delete(self, namespace: str, key: str) -> Steps[bool]:
        """Remove a key; return whether it existed.

        One round trip; not sent again if the connection broke after it was sent.
        """
        at = self.layout.key(namespace)
        replies = yield Batch([("HDEL", at, check_key(key))], ignore=_FOREIGN)
        return bool(replies[0])

    @_into_hashes
    def update(
        self, namespace: str, key: str, fn: Callable[[Any], Any], default: Any = None
    ) -> Steps[Any]:
        """Replace a value by ``fn(value)`` atomically, across processes; return the new value.

        Optimistic: a script stores the new value if the old one is still there, otherwise ``fn``
        is called again with what is there now. Two round trips, and one more for every writer that
        was faster. Needs EVALSHA and EVAL. Not sent again if the connection broke after it was
        sent.
        """
        at = self.layout.key(namespace)
        field = check_key(key)
        check_callable("fn", fn)
        replies = yield Batch([("HGET", at, field)], idempotent=True)
        old: bytes | None = replies[0]
        # Without a bound: whenever one loses, another one has won.
        while True:
            new = self.encode(fn(self._value(old, default)))
            known = (b"0", b"") if old is None else (b"1", old)
            swap = SWAP([at], [field, *known, new])
            try:
                replies = yield from self._store([swap], (at,), idempotent=False)
            except CommandRefused as refused:
                if not refused.scripting_refused:
                    raise
                raise StoreUnavailable(
                    "update() needs a server that lets its user run scripts (EVALSHA and EVAL), "
                    f"and nothing was stored: {refused}"
                ) from refused
            outcome = replies[0]
            if outcome[0] == 1:
                return self.codec.decode(new)
            old = outcome[1] if len(outcome) > 1 else None

    # Batches -----------------------------------------------------------------------------------

    @_into_hashes
    def set_many(self, items: Iterable[tuple[str, str, Any]]) -> Steps[None]:
        """Store all the (namespace, key, value) triples at once, or none.

        One round trip (on a cluster one per node, atomic per slot; where a node fails, the error
        says so and what went to the others stays); sent again if the connection broke.
        """
        grouped: dict[bytes, list[bytes | str]] = {}
        for index, item in enumerate(iterate("items", items, "(namespace, key, value) triples")):
            namespace, key, value = check_item(item, index)
            grouped.setdefault(self.layout.key(namespace), []).extend((key, self.encode(value)))
        if not grouped:
            return
        yield from self._store(_filled(grouped), grouped, idempotent=True)

    def get_many(self, pairs: Iterable[Pair]) -> Steps[list[Any]]:
        """Return the values at one moment, in input order; a missing one is None.

        One round trip (on a cluster one per node, one moment per slot).
        """
        grouped, places = self._grouped(pairs)
        if not grouped:
            return []
        commands: list[Command] = [("HMGET", at, *names) for at, names in grouped.items()]
        replies = yield from self._read(commands, grouped)
        values = {at: reply for at, reply in zip(grouped, replies, strict=True) if reply}
        return [self._value(values[at][index]) if at in values else None for at, index in places]

    def delete_many(self, pairs: Iterable[Pair]) -> Steps[int]:
        """Remove all the keys at once; return how many existed.

        One round trip (on a cluster one per node, atomic per slot); not sent again if the
        connection broke after it was sent.
        """
        grouped, _ = self._grouped(pairs)
        if not grouped:
            return 0
        commands: list[Command] = [("HDEL", at, *names) for at, names in grouped.items()]
        replies = yield Batch(commands, atomic=True, ignore=_FOREIGN)
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
        if (reply := (yield from self._scripted(DROP([at]), idempotent=False))) is not None:
            return int(reply[0])
        kind = yield Batch([("TYPE", at)], idempotent=True)
        if kind[0] != b"hash":
            return 0
        replies = yield Batch([("HLEN", at), ("UNLINK", at)], atomic=True)
        return int(replies[0])

    def keys(self, namespace: str, prefix: str | None = None) -> Steps[list[str]]:
        """Return the keys of a namespace, or those that start with ``prefix``.

        One round trip; O(keys of the namespace).
        """
        at = self.layout.key(namespace)
        start = check_prefix(prefix)
        replies = yield from self._read([("HKEYS", at)], (at,))
        names = [self._key_name(field) for field in replies[0] or ()]
        return [name for name in names if name.startswith(start)] if start else names

    def items(self, namespace: str) -> Steps[list[tuple[str, Any]]]:
        """Return the (key, value) pairs of a namespace at one moment. One round trip."""
        at = self.layout.key(namespace)
        replies = yield from self._read([("HGETALL", at)], (at,))
        entries = fields(replies[0] or ())
        return [(self._key_name(field), self._value(data)) for field, data in entries.items()]

    def max_key(self, namespace: str) -> Steps[str | None]:
        """Return the greatest key of a namespace (by code point), or None if it has none.

        One round trip; O(keys of the namespace), because Redis does not order the fields of a
        hash.
        """
        at = self.layout.key(namespace)
        replies = yield from self._read([("HKEYS", at)], (at,))
        # The order of UTF-8 bytes is that of the code points.
        return self._key_name(max(replies[0])) if replies[0] else None

    def has_namespace(self, namespace: object) -> Steps[bool]:
        """Return whether the namespace has a key. One round trip."""
        if not isinstance(namespace, str):
            raise ArgumentTypeError(
                f"namespace must be a str, not {type(namespace).__name__} ({shown(namespace)})"
            )
        at = self.layout.key(namespace)
        replies = yield from self._read([("HLEN", at)], (at,))
        return bool(replies[0])

    def namespaces(self, prefix: str | None = None) -> Steps[list[str]]:
        """Return the namespaces, or those that start with ``prefix``.

        One round trip (on a cluster one per node); O(keys on the server), as every enumeration.
        """
        start = check_prefix(prefix)
        reply = yield from self._scripted(self._whole(NAMES), idempotent=True)
        if reply is not None:
            found: Iterable[bytes] = reply[0]
        else:
            found = (yield from self._found()).hashes
        names = [self.layout.namespace(key) for key in found]
        return [name for name in names if name.startswith(start)] if start else names

    # The whole store ---------------------------------------------------------------------------

    def count(self) -> Steps[int]:
        """Return the number of keys in all namespaces, at one moment. One round trip."""
        reply = yield from self._scripted(self._whole(COUNT), idempotent=True)
        if reply is not None:
            return int(reply[0])
        _, counts = yield from self._over_all(
            lambda found: [("HLEN", key) for key in sorted(found.hashes)]
        )
        return sum(count or 0 for count in counts)

    def clear(self) -> Steps[None]:
        """Remove every namespace and everything derived; history and held snapshots stay.

        One round trip, sent again if the connection broke.
        """
        if (yield from self._scripted(self._whole(CLEAR), idempotent=True)) is None:
            yield from self._over_all(
                lambda found: [("UNLINK", key) for key in found.hashes | found.derived]
            )

    def snapshot(self) -> Steps[Snapshot]:
        """Freeze the whole store at one moment (on a cluster: one moment per namespace).

        One round trip; the server is busy in proportion to its keys.
        """
        reply = yield from self._scripted(self._whole(DUMP), idempotent=True)
        dumped: Iterable[tuple[bytes, Any]]
        if reply is not None:
            entries = iter(reply[0])
            dumped = zip(entries, entries, strict=True)
        else:
            order: list[bytes] = []

            def dump(found: Found) -> list[Command]:
                order[:] = found.hashes
                return [("HGETALL", key) for key in order]

            _, replies = yield from self._over_all(dump)
            dumped = zip(order, replies, strict=True)
        values: dict[str, dict[str, bytes]] = {}
        for key, content in dumped:
            if content:
                values[self.layout.namespace(key)] = {
                    self._key_name(field): data for field, data in fields(content).items()
                }
        return self.history.take(values, self.codec.name)

    def restore(self, snapshot: SnapshotLike) -> Steps[None]:
        """Make the store what ``snapshot`` holds, all of it or nothing (per slot on a cluster).

        Two round trips, three without scripting; sent again if the connection broke.

        Raises:
            WireFormatError: the snapshot's values are of another wire format.
        """
        checked = check_snapshot(snapshot, self.codec.wire)
        grouped: dict[bytes, list[bytes | str]] = {}
        for namespace, content in contents(checked).items():
            if content:
                flat: list[bytes | str] = []
                for name, data in content.items():
                    flat += (name, data)
                grouped[self.layout.key(namespace)] = flat
        # A transaction does not stop at a command that fails, so nothing in it must.
        kinds = yield Batch([("TYPE", key) for key in grouped], idempotent=True)
        for key, kind in zip(grouped, kinds, strict=True):
            if kind not in (b"hash", b"none"):
                raise ArgumentValueError(
                    f"the snapshot cannot be restored, because another program keeps a "
                    f"{kind.decode()} at the key {shown(key)}"
                )
        fill = _filled(grouped)
        if self.ttl_ms is not None:
            fill += [self._expire(key) for key in grouped]
        fill.append(self.layout.mark())
        if self._scripting:
            try:
                yield Batch([self._whole(CLEAR), *fill], atomic=True, idempotent=True)
            except CommandRefused as refused:
                if not refused.scripting_refused:
                    raise
                self._scripting = False
            else:
                self._marked_until = monotonic() + _MARK_SECONDS
                return
        yield from self._over_all(
            lambda found: [
                *(("UNLINK", key) for key in found.hashes | found.derived | grouped.keys()),
                *fill,
            ]
        )
        self._marked_until = monotonic() + _MARK_SECONDS


def _page(reply: Any) -> list[bytes]:
    """Return the keys of a SCAN that must have come to its end."""
    cursor, keys = reply
    if cursor != b"0":
        raise StoreUnavailable(
            "the server ends a SCAN before its COUNT is reached, so that its keys cannot be "
            "enumerated in one command"
        )
    found: list[bytes] = keys
    return found


def _filled(grouped: dict[bytes, list[bytes | str]]) -> list[Command]:
    """Return the commands that fill hashes from flat lists of fields and values."""
    return [command for key, flat in grouped.items() for command in fill(key, flat)]
