"""How a store's operations send what they ask: the rules that hold for all of them.

Writes and reads carry the marker along when it is due, restart the time to live of what expires,
say who refused what and why, and keep within the limits of servers.
"""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from time import monotonic
from typing import Any, NoReturn

from swarmstate import codecs
from swarmstate.arguments import check_default, milliseconds, shown
from swarmstate.backends.redis.commands import Batch, Command, CommandRefused, Script
from swarmstate.backends.redis.keys import Layout
from swarmstate.backends.redis.marker import Marker
from swarmstate.backends.redis.scripts import READ
from swarmstate.backends.redis.transport.topology import key_of, slot_of
from swarmstate.errors import (
    AccessDenied,
    ArgumentValueError,
    DecodeError,
    StoreUnavailable,
)
from swarmstate.protocols import Default
from swarmstate.snapshots import History
from swarmstate.steps import Steps

__all__ = [
    "FOREIGN",
    "MOST_ARGUMENTS",
    "SUSPECT_BYTES",
    "TRIES",
    "Sending",
    "no_transaction",
    "size_of",
]

FOREIGN = ("WRONGTYPE",)
"""What a command answers about a key that belongs to another program."""

MOST_ARGUMENTS = 1_000_000
"""Arguments of one command; Redis before 7.0 takes 1,048,576."""

TRIES = 50
"""How often what others were faster at is tried."""

SUSPECT_BYTES = 256 * 1024
"""From here on a transaction may be why a server cut the connection: what one queues counts against
the client-query-buffer-limit, which is 1 GB if nothing else is set."""

_NO_SCRIPTS = re.compile("unknown command|run the 'eval", re.IGNORECASE)
_IN_SCRIPT = re.compile("ACL failure in script|user executing the script can't")
_NO_TRANSACTION = re.compile("run the '(multi|exec)'")
_LIMIT = re.compile("client-query-buffer-limit|proto-max-bulk-len")
_NO_KEY = re.compile("access .*key", re.IGNORECASE)
# How long after PEXPIRE was refused it is asked for again.
_PATIENCE_SECONDS = 60.0


class Sending:
    """What all operations of a store under one prefix share.

    Args:
        layout: the keys of the prefix.
        codec: the name of the codec.
        default: encodes what the codec does not know.
        max_history: how many snapshots to keep.
        ttl: how long a namespace lives after its last write, in seconds, or None.
        ttl_on_read: whether a read restarts that time.
        near: on a cluster, whether two keys are served by one node; None for a single server.
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
        near: Callable[[bytes, bytes], bool] | None = None,
    ) -> None:
        check_default(default)
        self.layout = layout
        self.codec = codecs.get(codec)
        self.encode: Callable[[Any], bytes] = functools.partial(self.codec.encode, default=default)
        self.ttl_ms = milliseconds(ttl)
        if ttl_on_read and self.ttl_ms is None:
            raise ArgumentValueError(
                "ttl_on_read=True needs a ttl: without one there is nothing to renew"
            )
        self.ttl_on_read = ttl_on_read
        self.history = History(max_history)
        self._clustered = near is not None
        # As far as known. On a cluster only those that touch nothing but what they declare.
        self._scripting = True
        self._marker = Marker(
            layout, None if near is None else functools.partial(near, layout.marker)
        )
        self._may_watch = True
        self._renews_from = 0.0
        self._warned = False

    # Values ------------------------------------------------------------------------------------

    def _value(self, data: bytes | None, default: Any, namespace: str, key: str) -> Any:
        if data is None:
            return default
        try:
            return self.codec.decode(data)
        except DecodeError as error:
            raise DecodeError(
                f"key {shown(key)} of namespace {shown(namespace)}: {error}"
            ) from error

    def _values(
        self, found: Sequence[bytes | None], name: Callable[[int], tuple[str, str]]
    ) -> list[Any]:
        """Return values, None for none; ``name`` says which namespace and key one belongs to."""
        decode = self.codec.decode
        try:
            return [None if data is None else decode(data) for data in found]
        except DecodeError:
            return [self._value(data, None, *name(place)) for place, data in enumerate(found)]

    def _key_name(self, field: bytes, namespace: str) -> str:
        try:
            return field.decode()
        except UnicodeDecodeError as error:
            raise DecodeError(
                f"a key of namespace {shown(namespace)} is not UTF-8: {shown(field)} "
                "(written by another program?)"
            ) from error

    # Writes ------------------------------------------------------------------------------------

    def written(
        self, commands: Sequence[Command], *, atomic: bool = True, idempotent: bool = False
    ) -> Steps[list[Any]]:
        """Send a write and return its replies.

        The first write of this object sends the marker ahead; later, one in a while carries it
        along.

        Raises:
            AccessDenied: the user may not write the marker.
            CommandRefused: a command was refused.
        """
        marker = self._marker
        along: list[Command] = []
        due = monotonic() >= marker.due_to_writes
        if due:
            if self._clustered and not marker.written:
                # Atomic ends with the slot, and the marker's node could be the slower one.
                yield from marker.write()
            else:
                along = marker.carried(key_of(commands[0]), write=True)
            if along and len(commands) == 1 and size_of(commands) > SUSPECT_BYTES:
                # No transaction for its sake: a server limits these.
                yield from marker.write()
                along = []
        together = [*along, *commands] if along else commands
        try:
            replies: list[Any] = yield Batch(
                # A script alone goes by its name.
                together,
                atomic=atomic and len(together) > 1,
                idempotent=idempotent,
            )
        except CommandRefused as refused:
            if along and refused.command == "SET":
                marker.tell(refused)
            raise
        if along:
            yield from marker.wrote(replies[: len(along)])
            return replies[len(along) :]
        if due:
            yield from marker.visit()
        return replies

    def stored(
        self, commands: list[Command], keys: Iterable[bytes], *, idempotent: bool
    ) -> Steps[list[Any]]:
        """Send a write, restart its namespaces' time to live, and return the write's replies."""
        expiry = self._expiry(keys)
        if expiry:
            try:
                replies = yield from self.written([*commands, *expiry], idempotent=idempotent)
            except CommandRefused as refused:
                if refused.command != "PEXPIRE":
                    self._tell(refused)
                self._lasting(str(refused))
            except StoreUnavailable as error:
                self._tell_size(error, commands)
            else:
                return replies[: len(commands)]
        try:
            return (yield from self.written(commands, idempotent=idempotent))
        except CommandRefused as refused:
            self._tell(refused)
        except StoreUnavailable as error:
            self._tell_size(error, commands)

    def _sent(
        self,
        commands: Sequence[Command],
        *,
        atomic: bool = False,
        idempotent: bool = False,
        ignore: tuple[str, ...] = (),
        inline: bool = False,
    ) -> Steps[list[Any]]:
        """Send what carries nothing along, and return the replies."""
        try:
            replies: list[Any] = yield Batch(
                commands, atomic=atomic, idempotent=idempotent, ignore=ignore, inline=inline
            )
        except CommandRefused as refused:
            self._tell(refused)
        except StoreUnavailable as error:
            self._tell_size(error, commands)
        return replies

    def _expiry(self, keys: Iterable[bytes]) -> list[Command]:
        """Return the commands that restart the namespaces' time to live, if they have one."""
        if self.ttl_ms is None or not self._may_expire:
            return []
        return [("PEXPIRE", key, self.ttl_ms) for key in keys]

    @property
    def _script_ttl(self) -> int | str:
        return "" if self.ttl_ms is None or not self._may_expire else self.ttl_ms

    @property
    def _may_expire(self) -> bool:
        """Whether PEXPIRE was not refused lately."""
        return monotonic() >= self._renews_from

    def _lasting(self, refused: str) -> None:
        """Go on without expiry for a while, and warn of it once: the value matters more."""
        self._renews_from = monotonic() + _PATIENCE_SECONDS
        if self.ttl_ms is not None and not self._warned:
            self._warned = True
            warnings.warn(
                f"namespaces of prefix {self.layout.prefix!r} do not expire: {refused}",
                RuntimeWarning,
                stacklevel=3,
            )

    # Reads -------------------------------------------------------------------------------------

    def read(self, commands: list[Command], keys: Iterable[bytes] = ()) -> Steps[list[Any]]:
        """Send reads and return their replies; what another program keeps there reads as None.

        Several are one moment (on a cluster one per slot). One in a while touches the marker.

        Args:
            commands: the reads.
            keys: the namespaces whose time restarts, if reads do that.
        """
        # A transaction only where one is needed: a full server before Redis 7.2 refuses everything
        # in one.
        atomic = len(commands) > 1
        marker = self._marker
        while True:
            expiry: list[Command] = []
            along: list[Command] = []
            together = commands
            if due := monotonic() >= marker.due_to_reads:
                along = marker.carried(key_of(commands[0]), write=False)
            if along or self.ttl_on_read:
                expiry = self._expiry(keys) if self.ttl_on_read else []
                together = [*commands, *expiry, *along]
            try:
                replies: list[Any] = yield Batch(
                    together, atomic=atomic, idempotent=True, ignore=FOREIGN
                )
            except CommandRefused as refused:
                if refused.command == "PEXPIRE" and expiry:
                    self._lasting(str(refused))
                elif refused.command == "TOUCH" and along:
                    marker.untouchable()
                elif atomic and no_transaction(refused):
                    replies = yield from self._moment(commands, refused)
                    yield from self._renew(expiry)
                    return replies
                else:
                    self._tell(refused)
            except StoreUnavailable as error:
                if not atomic or not _suspect(error, commands):
                    self._tell_size(error, commands)
                replies = yield from self._moment(commands, error)
                yield from self._renew(expiry)
                return replies
            else:
                break
        if along:
            yield from marker.touched(replies[-1:])
        elif due:
            yield from marker.visit()
        return replies if together is commands else replies[: len(commands)]

    def _renew(self, expiry: list[Command]) -> Steps[None]:
        """Restart times to live in a request of their own, if that is not refused."""
        if expiry:
            try:
                yield Batch(expiry, idempotent=True)
            except CommandRefused as refused:
                self._lasting(str(refused))

    def asked(self, commands: Sequence[Command], keys: Iterable[bytes] = ()) -> Steps[list[Any]]:
        """Send reads that need no moment in common, and return their replies.

        Scripts that read among them; one call in a while touches the marker.

        Args:
            commands: the reads.
            keys: the namespaces whose time starts again, if reads do that.
        """
        if not commands:
            return []
        marker = self._marker
        due = monotonic() >= marker.due_to_reads
        along = marker.carried(key_of(commands[0]), write=False) if due else []
        while True:
            expiry = self._expiry(keys) if self.ttl_on_read else []
            together = [*commands, *expiry, *along] if expiry or along else commands
            try:
                replies: list[Any] = yield Batch(together, idempotent=True)
            except CommandRefused as refused:
                if refused.command == "TOUCH" and along:
                    marker.untouchable()
                    along = []
                elif refused.command == "PEXPIRE" and expiry:
                    self._lasting(str(refused))
                else:
                    raise
            else:
                break
        if along:
            yield from marker.touched(replies[-1:])
        elif due:
            yield from marker.visit()
        return replies if together is commands else replies[: len(commands)]

    def _moment(self, commands: Sequence[Command], error: Exception) -> Steps[list[Any]]:
        """Return the replies to HMGETs of one moment where a transaction ended in an error."""
        if self._scripting and sum(map(len, commands)) <= MOST_ARGUMENTS:
            keys = [key_of(command) or b"" for command in commands]
            groups = self._slots(keys)
            asked: list[Command] = []
            for group in groups:
                arguments: list[Any] = []
                for index in group:
                    arguments += (len(commands[index]) - 2, *commands[index][2:])
                asked.append(READ([keys[index] for index in group], arguments))
            replies = yield from self._scripted(asked, idempotent=True)
            if replies is not None:
                result: list[Any] = [None] * len(commands)
                for group, reply in zip(groups, replies, strict=True):
                    for index, values in zip(group, reply, strict=True):
                        result[index] = values
                return result
        if self._clustered:
            raise error
        for _ in range(TRIES):
            unchanged, replies = yield from self._watched(commands)
            if unchanged:
                return replies
        raise StoreUnavailable(
            f"others wrote to the namespaces while they were read, {TRIES} times in a row, and the "
            "server refused the transaction and the script that would have needed one try"
        )

    def _watched(self, commands: Sequence[Command]) -> Steps[tuple[bool, list[Any]]]:
        """Send reads, the enumerations last, where a transaction was refused.

        They go between WATCH and an empty transaction, which a full server does not refuse. A user
        who may not do that either has them sent twice.

        Returns whether nothing that was read changed meanwhile, and the replies.
        """
        watched = dict.fromkeys(command[1] for command in commands if command[0] != "SCAN")
        watch: list[Command] = [("WATCH", *watched)] if watched else []
        if self._may_watch:
            together = [*watch, *commands, ("MULTI",), ("EXEC",)]
            try:
                replies = yield from self._sent(together, idempotent=True, ignore=FOREIGN)
            except AccessDenied:
                self._may_watch = False
            else:
                return replies[-1] is not None, replies[len(watch) : -2]
        replies = yield from self._sent([*commands, *commands], idempotent=True, ignore=FOREIGN)
        first, second = replies[: len(commands)], replies[len(commands) :]
        return list(map(_sorted, first)) == list(map(_sorted, second)), second

    # Scripts -----------------------------------------------------------------------------------

    def _scripted(
        self,
        commands: Sequence[Command],
        *,
        write: bool = False,
        idempotent: bool,
        ignore: tuple[str, ...] = (),
    ) -> Steps[list[Any] | None]:
        """Return the replies of scripts, or None where scripts cannot be used."""
        if not self._scripting:
            return None
        try:
            if write:
                replies: list[Any] = yield from self.written(
                    commands, atomic=not self._clustered, idempotent=idempotent
                )
            else:
                replies = yield Batch(commands, idempotent=idempotent, ignore=ignore)
        except CommandRefused as refused:
            # What a script does, or one of its keys, may be refused where scripts are not.
            if not refused.scripting_refused and not _IN_SCRIPT.search(str(refused)):
                self._tell(refused)
            if _NO_SCRIPTS.search(str(refused)):
                self._scripting = False
            return None
        except StoreUnavailable as error:
            self._tell_size(error, commands)
        return replies

    def _whole(self, script: Script, *arguments: Any, keys: Sequence[bytes] = ()) -> Command:
        layout = self.layout
        return script(
            keys,
            [layout.pattern, len(layout.head), layout.apart_pattern, layout.marker, *arguments],
        )

    def _slots(self, keys: Sequence[bytes]) -> list[list[int]]:
        """Return which of the keys may meet in one command: on a cluster those of one slot."""
        if not self._clustered:
            return [list(range(len(keys)))]
        groups: dict[int, list[int]] = {}
        for index, key in enumerate(keys):
            groups.setdefault(slot_of(key), []).append(index)
        return list(groups.values())

    # Errors ------------------------------------------------------------------------------------

    def _tell(self, refused: CommandRefused) -> NoReturn:
        """Raise what a refused command means for the caller.

        What can be done without is raised as it is: there the call goes on.
        """
        if refused.scripting_refused or refused.command in ("PEXPIRE", "TOUCH"):
            raise refused
        if refused.code == "WRONGTYPE":
            raise ArgumentValueError(
                f"a namespace cannot be written, because another program keeps something else than "
                f"a hash at its key: {refused}"
            ) from refused
        if "invalid bulk length" in str(refused):
            raise ArgumentValueError(
                f"a value is larger than the server takes (its proto-max-bulk-len, 512 MB if not "
                f"set): {refused}"
            ) from refused
        if refused.code == "NOPERM" or _IN_SCRIPT.search(str(refused)):
            keys = ""
            if _NO_KEY.search(str(refused)):
                needed = " and ".join(self.layout.patterns)
                keys = f" (a store of this prefix needs the key patterns {needed})"
            raise AccessDenied(f"{refused}{keys}") from refused
        raise refused

    def _tell_foreign(self, key: bytes, kind: bytes) -> NoReturn:
        rest = "namespaces of other slots may have been written" if self._clustered else ""
        raise ArgumentValueError(
            f"a namespace cannot be written, because another program keeps a {kind.decode()} at "
            f"the key {shown(key)}; {rest or 'nothing was changed'}"
        )

    def _tell_size(self, error: StoreUnavailable, commands: Sequence[Command]) -> NoReturn:
        """Raise an error, with the limits that a large call may have met."""
        if not _suspect(error, commands) or _LIMIT.search(str(error)):
            raise error
        largest = max(size_of([[part]]) for command in commands for part in command)
        raise StoreUnavailable(
            f"{error}; the call is of {size_of(commands):,} bytes, its largest value of "
            f"{largest:,}: a server cuts the connection of one that is over its "
            "client-query-buffer-limit (1 GB if not set) or has a value over its "
            "proto-max-bulk-len (512 MB)"
        ) from error


def no_transaction(refused: CommandRefused) -> bool:
    """Return whether a transaction was refused where its commands may not be.

    A full server before Redis 7.2 refuses whatever is in one, and a user may lack the right.
    """
    return refused.code == "OOM" or _NO_TRANSACTION.search(str(refused)) is not None


def _sorted(reply: Any) -> Any:
    """Return a reply such that two of the same content are equal."""
    if isinstance(reply, list) and len(reply) == 2 and isinstance(reply[1], list):
        return reply[0], sorted(reply[1])
    return reply


def size_of(commands: Iterable[Sequence[Any]]) -> int:
    """Return about how many bytes commands are."""
    return sum(
        len(part) if isinstance(part, (bytes, str)) else 8
        for command in commands
        for part in command
    )


def _suspect(error: StoreUnavailable, commands: Iterable[Command]) -> bool:
    """Return whether a limit of the server may be why a connection broke."""
    cause = error.__cause__
    if isinstance(error, CommandRefused) or cause is None:
        return False
    # Either library's: a server that is slow cuts nothing.
    slow = any(base.__name__ == "TimeoutError" for base in type(cause).__mro__)
    return not slow and size_of(commands) > SUSPECT_BYTES
