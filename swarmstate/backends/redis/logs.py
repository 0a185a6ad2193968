"""Logs and conditional commits: scripts, and transactions where the server refuses scripts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from time import monotonic
from typing import Any

from swarmstate.arguments import (
    LOG_KEYS,
    check_commit,
    check_count,
    check_log_key,
    iterate,
    shown,
)
from swarmstate.backends.redis.commands import Batch, Command, CommandRefused, fields, fill
from swarmstate.backends.redis.log_scripts import APPEND, COMMIT, POP, TAIL
from swarmstate.backends.redis.sending import FOREIGN, MOST_ARGUMENTS, TRIES
from swarmstate.backends.redis.whole import WholeStore
from swarmstate.errors import (
    AccessDenied,
    ArgumentValueError,
    DecodeError,
    EncodeError,
    StoreUnavailable,
)
from swarmstate.protocols import ABSENT, Pair
from swarmstate.steps import Steps

__all__ = ["LogSteps"]

Place = tuple[bytes, str]
"""The key of a namespace, and a field."""


class LogSteps(WholeStore):
    """The operations of a :class:`~swarmstate.protocols.LogStore`."""

    # Commits -----------------------------------------------------------------------------------

    def commit(
        self,
        items: Iterable[tuple[str, str, Any]] = (),
        delete: Iterable[Pair] = (),
        *,
        expect: Mapping[Pair, Any] | None = None,
    ) -> Steps[bool]:
        """Store and remove keys if others hold what is expected: everything or nothing.

        Values are compared as their encoded bytes. Where these differ, what is stored is decoded
        and encoded again, because another program may have encoded the same value otherwise; that
        takes one round trip more. One round trip; two without scripting, and two more for every
        writer that was faster. Not sent again if the connection broke after it was sent.

        Args:
            items: (namespace, key, value) triples to store; of two for one key the later counts.
            delete: (namespace, key) pairs to remove; one that does not exist is passed over.
            expect: (namespace, key) -> the value that must be there, or ``ABSENT`` for none.

        Returns:
            Whether all expectations held before anything was done; if not, nothing was changed.

        Raises:
            InvalidArgumentError: a pair is both in items and in delete; on a cluster, the
                namespaces are not of one slot; it is more than a server takes in one command.
            StoreUnavailable: others were faster 50 times in a row, or the connection broke, and
                then the text says whether it may have been carried out.
        """
        writes, gone, expected = check_commit(items, delete, expect)
        key = self.layout.key
        stores = {(key(name), field): self.encode(value) for (name, field), value in writes.items()}
        removals = [(key(name), field) for name, field in gone]
        wanted = {
            (key(name), field): None if value is ABSENT else self.encode(value)
            for (name, field), value in expected.items()
        }
        spaces = list(dict.fromkeys(at for at, _ in (*stores, *removals, *wanted)))
        if not spaces:
            return True
        if len(self._slots(spaces)) > 1:
            raise ArgumentValueError(
                "a commit on a cluster takes namespaces of one slot, which those that share a hash "
                "tag, as in 'a:{x}' and 'b:{x}', are; not of several, as "
                f"{', '.join(shown(self.layout.namespace(at)) for at in spaces[:3])}"
            )
        if 3 * len(stores) + 2 * len(removals) + 4 * len(wanted) + len(spaces) > MOST_ARGUMENTS:
            raise ArgumentValueError(
                f"a commit of {len(stores) + len(removals) + len(wanted):,} entries has more than "
                f"the {MOST_ARGUMENTS:,} arguments that a server takes in one command"
            )
        attempt = dict(wanted)
        for _ in range(TRIES):
            different = yield from self._commit(spaces, stores, removals, attempt)
            for place, held in different.items():
                if held is None or self._encoded_again(held) != wanted[place]:
                    return False
                attempt[place] = held
            if not different:
                return True
        raise StoreUnavailable(f"commit gave way to other writers {TRIES} times in a row")

    def _commit(
        self,
        spaces: Sequence[bytes],
        stores: Mapping[Place, bytes],
        removals: Sequence[Place],
        expected: Mapping[Place, bytes | None],
    ) -> Steps[dict[Place, bytes | None]]:
        """Do what is asked if all that is expected is there; return what differs."""
        if not stores and not removals:
            reads, read = _held(expected)
            replies = yield from self.read(reads)
            return read(replies)
        number = {at: place for place, at in enumerate(spaces, 1)}
        arguments: list[Any] = [self._script_ttl, len(expected), len(removals)]
        for (at, field), data in expected.items():
            arguments += (number[at], field, int(data is not None), data or b"")
        for at, field in removals:
            arguments += (number[at], field)
        for (at, field), data in stores.items():
            arguments += (number[at], field, data)
        script = COMMIT(spaces, arguments)
        outcome = yield from self._scripted([script], write=bool(stores), idempotent=False)
        if outcome is None:
            return (yield from self._commit_plainly(spaces, stores, removals, expected))
        kind, *rest = outcome[0]
        if kind == 0:
            places, entries = list(expected), iter(rest[0])
            return {places[place]: held for place, held in zip(entries, entries, strict=True)}
        if kind < 0:
            self._tell_foreign(*rest)
        if rest[0]:
            self._lasting(rest[0].decode(errors="replace"))
        return {}

    def _commit_plainly(
        self,
        spaces: Sequence[bytes],
        stores: Mapping[Place, bytes],
        removals: Sequence[Place],
        expected: Mapping[Place, bytes | None],
    ) -> Steps[dict[Place, bytes | None]]:
        """As :meth:`_commit`, by a transaction."""
        reads, read = _held(expected)
        filled: dict[bytes, list[bytes | str]] = {}
        for (at, field), data in stores.items():
            filled.setdefault(at, []).extend((field, data))
        kinds: list[Command] = [("TYPE", at) for at in spaces]
        different: dict[Place, bytes | None] = {}
        foreign: list[tuple[bytes, bytes]] = []

        def decide(replies: list[Any]) -> list[Command] | None:
            different.clear()
            different.update(read(replies[len(kinds) :]))
            kind = dict(zip(spaces, replies, strict=False))
            foreign[:] = [(at, kind[at]) for at in filled if kind[at] not in (b"hash", b"none")]
            if different or foreign:
                return None
            commands = [command for at, flat in filled.items() for command in fill(at, flat)]
            commands += [("HDEL", at, field) for at, field in removals if kind[at] == b"hash"]
            return commands or None

        yield from self._transacted(spaces, [*kinds, *reads], decide, list(filled))
        if not different and foreign:
            self._tell_foreign(*foreign[0])
        return different

    def _encoded_again(self, data: bytes) -> bytes | None:
        """Return what this process would store for the value that was stored as ``data``."""
        try:
            return self.encode(self.codec.decode(data))
        except (DecodeError, EncodeError):
            return None

    # Logs --------------------------------------------------------------------------------------

    def append(self, namespace: str, values: Iterable[Any]) -> Steps[list[str]]:
        """Add values to the end of a log, all or none.

        One round trip, two without scripting; O(values), and O(keys of the namespace) up to 1,000
        keys or where another program changed them. Not sent again if the connection broke after it
        was sent.

        Args:
            namespace: the namespace of the log.
            values: an iterable of values.

        Returns:
            Their keys, in order: each of exactly 16 digits, and above all such keys that are there.

        Raises:
            EncodeError: the codec does not accept a value; nothing was written.
            ArgumentValueError: there are not enough keys of 16 digits above the last one, or more
                values than a server takes in one command.
        """
        at = self.layout.key(namespace)
        data = [self.encode(value) for value in iterate("values", values, "an iterable of values")]
        if not data:
            return []
        if len(data) > MOST_ARGUMENTS:
            raise ArgumentValueError(
                f"{len(data):,} values are more than the {MOST_ARGUMENTS:,} arguments that a "
                "server takes in one command"
            )
        script = APPEND([at, self._counter(at)], [self._script_ttl, *data])
        outcome = yield from self._scripted([script], write=True, idempotent=False)
        if outcome is None:
            first = yield from self._append_plainly(at, namespace, data)
        else:
            kind, found, *lasting = outcome[0]
            if kind < 0:
                self._tell_foreign(at, found)
            if kind == 0:
                self._tell_full(namespace, int(found), len(data))
            if lasting[0]:
                self._lasting(lasting[0].decode(errors="replace"))
            first = int(found)
        return [f"{number:016d}" for number in range(first, first + len(data))]

    def _append_plainly(self, at: bytes, namespace: str, data: Sequence[bytes]) -> Steps[int]:
        """Add to a log by a transaction; return the number of the first entry."""
        last = 0
        foreign = b""

        def decide(replies: list[Any]) -> list[Command] | None:
            nonlocal last, foreign
            foreign = b"" if replies[0] in (b"hash", b"none") else replies[0]
            last = int(max(_numbered(replies[1]), default=b"0"))
            if foreign or last + len(data) > LOG_KEYS:
                return None
            flat: list[bytes | str] = []
            for number, value in enumerate(data, last + 1):
                flat += (f"{number:016d}", value)
            return fill(at, flat)

        done = yield from self._transacted([at], [("TYPE", at), ("HKEYS", at)], decide, [at])
        if foreign:
            self._tell_foreign(at, foreign)
        if not done:
            self._tell_full(namespace, last, len(data))
        return last + 1

    def _tell_full(self, namespace: str, last: int, count: int) -> None:
        raise ArgumentValueError(
            f"namespace {shown(namespace)} cannot take {count} more entries: its last key is "
            f"'{last:016d}', and keys have 16 digits"
        )

    def tail(
        self, namespace: str, limit: int | None = None, *, before: str | None = None
    ) -> Steps[list[tuple[str, Any]]]:
        """Return the last (key, value) pairs of a log at one moment, oldest first.

        One round trip. With a limit, O(what is returned), and O(keys of the namespace) up to 1,000
        keys or where another program changed them; without one, or without scripting, the whole
        namespace is fetched.

        Args:
            namespace: the namespace of the log; its keys that are not of 16 digits are ignored.
            limit: how many at most; None: all.
            before: a key of 16 digits; only entries before it are returned.
        """
        at = self.layout.key(namespace)
        check_count("limit", limit, 0, optional=True)
        end = check_log_key("before", before)
        found = None
        if limit is not None:
            # No more than a hash holds: Lua counts in doubles.
            found = yield from self._tail_scripted(at, min(limit, 2**32), end or "")
        if found is None:
            replies = yield from self.read([("HGETALL", at)], (at,))
            entries = fields(replies[0] or ())
            stop = None if end is None else end.encode()
            names = sorted(name for name in _numbered(entries) if stop is None or name < stop)
            if limit is not None:
                names = names[max(len(names) - limit, 0) :]
            found = [(name.decode(), entries[name]) for name in names]
        values = self._values(
            [data for _, data in found], lambda place: (namespace, found[place][0])
        )
        return [(name, value) for (name, _), value in zip(found, values, strict=True)]

    def _tail_scripted(
        self, at: bytes, limit: int, before: str
    ) -> Steps[list[tuple[str, bytes]] | None]:
        """Return the last entries of a log, oldest first; None where scripts cannot be used."""
        if not self._scripting:
            return None
        ttl = self._script_ttl if self.ttl_on_read else ""
        script = TAIL([at, self._counter(at)], [limit, before, ttl])
        replies = yield from self._scripted([script], idempotent=True)
        if replies is None:
            return None
        lasting, flat = replies[0]
        if lasting:
            self._lasting(lasting.decode(errors="replace"))
        entries = iter(flat)
        return [(name.decode(), data) for name, data in zip(entries, entries, strict=True)][::-1]

    def pop(self, namespace: str) -> Steps[tuple[str, Any] | None]:
        """Remove the last entry of a log; return its (key, value), or None if there is none.

        The key may be given again by :meth:`append`. One round trip, two without scripting; O(1),
        and O(keys of the namespace) up to 1,000 keys or where another program changed them. Not
        sent again if the connection broke after it was sent.

        Raises:
            DecodeError: the bytes are not a valid value; the entry was put back.
        """
        at = self.layout.key(namespace)
        outcome = yield from self._scripted([POP([at, self._counter(at)])], idempotent=False)
        if outcome is None:
            found = yield from self._pop_plainly(at)
        else:
            found = outcome[0]
        if found is None:
            return None
        field, data = found
        key = field.decode()
        try:
            return key, self._value(data, None, namespace, key)
        except DecodeError:
            yield from self._sent([("HSETNX", at, field, data)])
            raise

    def _pop_plainly(self, at: bytes) -> Steps[tuple[bytes, bytes] | None]:
        """Remove the last entry of a log by a transaction, and return it."""
        last: bytes | None = None

        def decide(replies: list[Any]) -> list[Command] | None:
            nonlocal last
            last = max(_numbered(replies[0]), default=None)
            return None if last is None else [("HGET", at, last), ("HDEL", at, last)]

        replies = yield from self._transacted([at], [("HKEYS", at)], decide)
        return (last, replies[0]) if last is not None else None

    def _counter(self, at: bytes) -> bytes:
        return self.layout.derived("log:", at)

    # Transactions ------------------------------------------------------------------------------

    def _transacted(
        self,
        keys: Sequence[bytes],
        reads: Sequence[Command],
        decide: Callable[[list[Any]], list[Command] | None],
        written: Sequence[bytes] = (),
    ) -> Steps[list[Any]]:
        """Read, and send what follows from it as a transaction, unless others write meanwhile.

        Two round trips, and two more for every writer that was faster.

        Args:
            keys: what must not change in between.
            reads: what to read; what another program keeps there reads as None.
            decide: returns what follows from the replies; None: nothing is to be done.
            written: the namespaces whose time to live starts again.

        Returns:
            The replies of the transaction; none where nothing was to be done.
        """
        if written and monotonic() >= self.marker.due_to_writes:
            yield from self.marker.write()

        def follow(replies: list[Any]) -> list[Command] | None:
            commands = decide(replies[1:])
            return None if commands is None else [*commands, *self._expiry(written)]

        for _ in range(TRIES):
            watched = Batch(
                [("WATCH", *keys), *reads], idempotent=True, ignore=FOREIGN, then=follow
            )
            try:
                replies: list[Any] | None = yield watched
            except CommandRefused as refused:
                if refused.command == "PEXPIRE":
                    self._lasting(str(refused))
                    continue
                if refused.code == "NOPERM" and "watch" in str(refused):
                    raise AccessDenied(
                        "logs and commits need a server that lets its user run scripts (EVALSHA "
                        f"and EVAL) or WATCH, and nothing was changed: {refused}"
                    ) from refused
                self._tell(refused)
            if replies is not None:
                return replies
        raise StoreUnavailable(
            f"others wrote to the same namespaces {TRIES} times in a row between reading and "
            "writing; a server that allows EVALSHA and EVAL needs one try"
        )


def _numbered(names: Iterable[bytes] | None) -> list[bytes]:
    """Return the fields that are keys of a log."""
    return [name for name in names or () if len(name) == 16 and name.isdigit()]


def _held(
    expected: Mapping[Place, bytes | None],
) -> tuple[list[Command], Callable[[Sequence[Any]], dict[Place, bytes | None]]]:
    """Return reads of what is expected, and what makes of their replies what differs."""
    grouped: dict[bytes, list[str]] = {}
    for at, field in expected:
        grouped.setdefault(at, []).append(field)
    reads: list[Command] = [("HMGET", at, *names) for at, names in grouped.items()]

    def differing(replies: Sequence[Any]) -> dict[Place, bytes | None]:
        held = {
            (at, field): data
            for (at, names), reply in zip(grouped.items(), replies, strict=True)
            for field, data in zip(names, reply or [None] * len(names), strict=True)
        }
        return {place: held[place] for place, data in expected.items() if held[place] != data}

    return reads, differing
