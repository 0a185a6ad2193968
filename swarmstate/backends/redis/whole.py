"""What the stores do with all namespaces at once: find, count, freeze, restore and remove them."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from time import monotonic
from typing import Any

from swarmstate._core import Snapshot
from swarmstate.arguments import check_prefix, check_snapshot
from swarmstate.backends.redis.commands import Batch, Command, CommandRefused, fields, fill
from swarmstate.backends.redis.keys import Found
from swarmstate.backends.redis.scripts import ADOPT, CLEAR, COUNT, DUMP, FILL, NAMES, RESTORE
from swarmstate.backends.redis.sending import (
    FOREIGN,
    MOST_ARGUMENTS,
    TRIES,
    Sending,
    no_transaction,
    size_of,
)
from swarmstate.errors import AccessDenied, StoreUnavailable
from swarmstate.protocols import SnapshotLike
from swarmstate.snapshots import contents
from swarmstate.steps import Steps

__all__ = ["Content", "WholeStore", "measured"]

Content = dict[bytes, list[bytes | str]]
"""The key of each namespace, and its fields and values in turns."""

# What a script is given at once. It copies all of it: beyond that, parts are faster and need less.
_SCRIPT_BYTES = 64 * 1024 * 1024
_PART_BYTES = 16 * 1024 * 1024
_MOVES: Command = ("CLUSTER", "NODES")
# How long what was sent in parts waits for the last one, if its sender is gone, in milliseconds.
_STAGED_MS = 600_000


class WholeStore(Sending):
    """The operations on the whole store."""

    # Whether a user of a cluster may ask which slots are being moved.
    _sees_moves = True
    # Whether scripts may enumerate what is the store's.
    _enumerable = True

    # Enumerations ------------------------------------------------------------------------------

    def _found(self) -> Steps[Found]:
        """Return what is there."""
        return self._classified((yield from self._scanned()))

    def _scanned(self) -> Steps[list[list[Any]]]:
        """Return what SCANs of each kind found, on each node.

        One round trip per node, two while slots of a cluster move.
        """
        scans = self.layout.scans()
        seen: list[list[Any]] = [[] for _ in scans]
        looks = 1 if self._sees_moves or not self._clustered else 2
        while looks:
            watch: list[Command] = [_MOVES] if self._clustered and self._sees_moves else []
            try:
                replies = yield Batch([*scans, *watch], idempotent=True, everywhere=True)
            except CommandRefused as refused:
                if refused.command != "CLUSTER":
                    self._tell(refused)
                self._sees_moves = False
                looks = 2
                continue
            for pages, reply in zip(seen, replies, strict=False):
                pages += reply
            # Nodes are asked at the same time, not at one moment: a key that moves from one that
            # answers late to one that answered early is seen by a second look.
            if watch and len(seen[0]) == len(replies[0]) and any(map(_moving, replies[-1])):
                looks = 2
            looks -= 1
        return seen

    def _classified(self, replies: Sequence[Iterable[Any]]) -> Found:
        """Return what a SCAN of each kind found, each on one node or several."""
        return self.layout.classify(
            *([key for page in scan for key in _page(page)] for scan in replies)
        )

    def _over_all(
        self, commands: Callable[[Found], list[Command]], *, reads: bool
    ) -> Steps[tuple[Found, list[Any]]]:
        """Send commands about everything found, with the enumeration in the same transaction.

        A namespace that appeared meanwhile shows in the enumeration inside, and all is done again.
        A cluster has no such moment: there the commands are atomic per slot.
        """
        seen = yield from self._scanned()
        transaction = True
        for _ in range(TRIES):
            found = self._classified(seen)
            asked = commands(found)
            if self._clustered:
                replies = yield from self._sent(asked, atomic=True, idempotent=True, ignore=FOREIGN)
                return found, replies
            scans = self.layout.scans()
            if transaction:
                try:
                    replies = yield Batch(
                        [*scans, *asked], atomic=True, idempotent=True, ignore=FOREIGN
                    )
                except CommandRefused as refused:
                    if not reads or not no_transaction(refused):
                        self._tell(refused)
                    transaction = False
                    continue
                except StoreUnavailable as error:
                    self._tell_size(error, asked)
                unchanged = True
            else:
                unchanged, replies = yield from self._watched([*asked, *scans])
                replies = [*replies[len(asked) :], *replies[: len(asked)]]
            inside = [[reply] for reply in replies[: len(scans)]]
            if unchanged and self._classified(inside) <= found:
                return found, replies[len(scans) :]
            # All that was ever seen: what comes and goes is there the next time.
            seen = [[*pages, *page] for pages, page in zip(seen, inside, strict=True)]
        raise StoreUnavailable(
            f"prefix {self.layout.prefix!r} gained namespaces faster than they could be read "
            f"{TRIES} times in a row; a server that allows EVALSHA and EVAL needs one try"
        )

    def _enumerating(self, command: Command) -> Steps[Any | None]:
        """Return the reply of a script that reads the whole store; None where there is none."""
        # Scripts see one node.
        if self._clustered or not self._scripting or not self._enumerable:
            return None
        marker = self._marker
        due = monotonic() >= marker.due_to_reads
        along = marker.carried(None, write=False) if due else []
        try:
            replies = yield from self._scripted([command, *along], idempotent=True)
        except CommandRefused as refused:
            if refused.command != "TOUCH":
                raise
            marker.untouchable()
            replies = yield from self._scripted([command], idempotent=True)
        else:
            if along and replies is not None:
                yield from marker.touched(replies[-1:])
        return None if replies is None else replies[0]

    def namespaces(self, prefix: str | None = None) -> Steps[list[str]]:
        """Return the namespaces, or those that start with ``prefix``.

        One round trip (on a cluster one per node, two while slots move); O(keys on the server), as
        every enumeration.
        """
        start = check_prefix(prefix)
        found: Iterable[bytes] | None = yield from self._enumerating(self._whole(NAMES))
        if found is None:
            found = (yield from self._found()).hashes
        names = [self.layout.namespace(key) for key in found]
        return [name for name in names if name.startswith(start)] if start else names

    def count(self) -> Steps[int]:
        """Return the number of keys in all namespaces, at one moment. One round trip."""
        counted: int | None = yield from self._enumerating(self._whole(COUNT))
        if counted is not None:
            return counted
        _, counts = yield from self._over_all(
            lambda found: [("HLEN", key) for key in sorted(found.hashes)], reads=True
        )
        return sum(count or 0 for count in counts)

    def clear(self) -> Steps[None]:
        """Remove every namespace and everything derived; history and held snapshots stay.

        One round trip, sent again if the connection broke.
        """
        scripted = None
        if not self._clustered and self._enumerable:
            scripted = yield from self._scripted([self._whole(CLEAR)], idempotent=True)
        if scripted is not None:
            return
        try:
            yield from self._over_all(_removal, reads=False)
        except CommandRefused as refused:
            if refused.code != "OOM":
                raise
            # A full server refuses the transaction, and one command for all is one as well.
            found = yield from self._found()
            if gone := found.keys:
                yield from self._sent([("UNLINK", *gone)], idempotent=True)

    # Snapshots ---------------------------------------------------------------------------------

    def snapshot(self) -> Steps[Snapshot]:
        """Freeze the whole store at one moment (on a cluster: one moment per namespace).

        One round trip; the server is busy in proportion to its keys.
        """
        reply: Sequence[Any] | None = yield from self._enumerating(self._whole(DUMP))
        dumped: Iterable[tuple[bytes, Any]]
        if reply is not None:
            entries = iter(reply)
            dumped = zip(entries, entries, strict=True)
        else:
            order: list[bytes] = []

            def dump(found: Found) -> list[Command]:
                order[:] = found.hashes
                return [("HGETALL", key) for key in order]

            _, replies = yield from self._over_all(dump, reads=True)
            dumped = zip(order, replies, strict=True)
        values: dict[str, dict[str, bytes]] = {}
        for key, content in dumped:
            if content:
                namespace = self.layout.namespace(key)
                values[namespace] = {
                    self._key_name(field, namespace): data
                    for field, data in fields(content).items()
                }
        return self.history.take(values, self.codec.name)

    def restore(self, snapshot: SnapshotLike) -> Steps[None]:
        """Make the store what ``snapshot`` holds, all of it or nothing (per slot on a cluster).

        One round trip, up to four without scripting or on a cluster; sent again if the connection
        broke.

        Raises:
            ArgumentValueError: another program keeps something else at the key of a namespace.
            WireFormatError: the snapshot's values are of another wire format.
        """
        checked = check_snapshot(snapshot, self.codec.wire)
        content: Content = {}
        for namespace, entries in contents(checked).items():
            if entries:
                flat: list[bytes | str] = []
                for name, data in entries.items():
                    flat += (name, data)
                content[self.layout.key(namespace)] = flat
        if not content:
            # So that it makes room on a full server.
            yield from self.clear()
            return
        if self._clustered and not self._marker.written:
            yield from self._marker.write()
        if self._clustered or not (yield from self._put_in(content, everything=True)):
            yield from self._restore_plainly(content)

    def _put_in(self, content: Content, *, everything: bool) -> Steps[bool]:
        """Store namespaces by a script, all or none, on one server.

        Args:
            content: what to store.
            everything: also remove everything else.

        Returns:
            False, with nothing done, where the server does not let us.
        """
        if not self._scripting or (everything and not self._enumerable):
            return False
        arguments = measured(content)
        if len(arguments) <= MOST_ARGUMENTS and size_of([arguments]) <= _SCRIPT_BYTES:
            keys = list(content)
            if everything:
                restore = self._whole(RESTORE, self._script_ttl, *arguments, keys=keys)
                commands = [restore, *self._marker.first()[1:]]
            else:
                commands = [FILL(keys, [self._script_ttl, 0, *arguments])]
            replies = yield from self._scripted(commands, write=not everything, idempotent=True)
            if replies is None:
                return False
            self._take_filled(replies[0])
            if everything:
                yield from self._marker.wrote(replies)
            return True
        if not self._enumerable:
            return False
        return (yield from self._put_in_parts(content, everything=everything))

    def _put_in_parts(self, content: Content, *, everything: bool) -> Steps[bool]:
        """As :meth:`_put_in`, for what is too large for one command or one transaction.

        It is written where no namespace is, and a script puts all of it in place.
        """
        layout = self.layout
        if monotonic() >= self._marker.due_to_writes:
            yield from self._marker.write()
        where = layout.derived(f"staged:{secrets.token_hex(8)}:")
        batches: list[list[Command]] = [[]]
        size = count = 0
        for key, flat in content.items():
            staged = where + key[len(layout.head) :]
            for command in fill(staged, flat):
                size += size_of([command])
                if size > _PART_BYTES:
                    batches.append([])
                    size = 0
                batches[-1].append(command)
                if self._may_expire:
                    batches[-1].append(("PEXPIRE", staged, _STAGED_MS))
            count += len(flat) // 2
        adopt = self._whole(
            *(ADOPT, self._script_ttl, int(everything), where, layout.head, count),
            keys=list(content),
        )
        replies: list[Any] | None = None
        try:
            for batch in [*batches, [adopt]]:
                replies = yield from self._part(batch)
                if replies is None:
                    break
        except (AccessDenied, StoreUnavailable):
            yield from self._drop(where, content)
            raise
        if replies is None:
            yield from self._drop(where, content)
            return False
        self._take_filled(replies[-1])
        return True

    def _drop(self, where: bytes, content: Content) -> Steps[None]:
        """Remove what was sent in parts, as far as the server lets us; else it expires."""
        head = len(self.layout.head)
        with suppress(CommandRefused, StoreUnavailable):
            yield Batch([("UNLINK", where + key[head:]) for key in content], idempotent=True)

    def _part(self, commands: list[Command]) -> Steps[list[Any] | None]:
        try:
            return (yield from self._scripted(commands, idempotent=True))
        except CommandRefused as refused:
            if refused.command != "PEXPIRE":
                raise
            self._lasting(str(refused))
        needed = [command for command in commands if command[0] != "PEXPIRE"]
        return (yield from self._scripted(needed, idempotent=True))

    def _take_filled(self, reply: Sequence[bytes]) -> None:
        """Take what a script that stores namespaces says."""
        if len(reply) > 1:
            key, kind = reply
            if not key:
                raise StoreUnavailable(
                    "what was sent in parts did not arrive as a whole, and nothing was changed"
                )
            self._tell_foreign(key, kind)
        if reply[0]:
            self._lasting(reply[0].decode(errors="replace"))

    def _restore_plainly(self, content: Content) -> Steps[None]:
        # A transaction does not stop at a command that fails, so nothing in it must.
        yield from self._check_types(content)
        scripted = self._clustered and self._scripting
        marks = [] if self._clustered else self._marker.first()

        def replace(found: Found) -> list[Command]:
            gone = found.keys
            if scripted:
                commands: list[Command] = [("UNLINK", key) for key in gone - content.keys()]
                return commands + self._fills(content, replace=True)
            commands = [*marks, *(("UNLINK", key) for key in gone | content.keys())]
            for key, flat in content.items():
                commands += fill(key, flat)
            return commands + self._expiry(content)

        replies: list[Any] = []
        for _ in range(3):
            try:
                _, replies = yield from self._over_all(replace, reads=False)
            except CommandRefused as refused:  # noqa: PERF203 (a second time without what was)
                if refused.command == "PEXPIRE":
                    self._lasting(str(refused))
                elif scripted and refused.scripting_refused:
                    scripted = self._scripting = False
                else:
                    raise
            else:
                break
        if marks:
            yield from self._marker.wrote(replies[: len(marks)])
        if scripted:
            for reply in replies:
                if isinstance(reply, list):
                    self._take_filled(reply)

    def _fills(self, content: Content, *, replace: bool) -> list[Command]:
        """Return the scripts that store namespaces, on a cluster one for each slot."""
        keys = list(content)
        return [
            FILL(
                [keys[index] for index in group],
                [
                    self._script_ttl,
                    int(replace),
                    *measured({keys[index]: content[keys[index]] for index in group}),
                ],
            )
            for group in self._slots(keys)
        ]

    def _check_types(self, keys: Iterable[bytes]) -> Steps[None]:
        """Raise if another program keeps something else than a hash at one of the keys."""
        order = list(keys)
        kinds = yield from self._sent([("TYPE", key) for key in order], idempotent=True)
        for key, kind in zip(order, kinds, strict=True):
            if kind not in (b"hash", b"none"):
                self._tell_foreign(key, kind)


def _moving(nodes: bytes) -> bool:
    """Return whether the node that answered gives slots away or takes some over."""
    return any(b"myself" in line and b"[" in line for line in nodes.splitlines())


def _removal(found: Found) -> list[Command]:
    return [("UNLINK", key) for key in found.keys]


def measured(content: Mapping[bytes, Sequence[bytes | str]]) -> list[bytes | str | int]:
    """Return, for each namespace, the length of what follows, and its fields and values."""
    return [part for flat in content.values() for part in (len(flat), *flat)]


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
