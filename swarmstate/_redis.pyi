"""Types of the compiled way to a server; a test compares them with it."""

import socket as sockets
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from threading import Lock
from typing import Any

from swarmstate.backends.redis.commands import Argument, Command, Script
from swarmstate.backends.redis.transport.fence import Guard
from swarmstate.backends.redis.transport.pool import Identity
from swarmstate.backends.redis.transport.stock import Stock
from swarmstate.backends.redis.transport.topology import Node
from swarmstate.checkpoints.protocol import (
    Blob,
    CheckpointName,
    CheckpointRecord,
    StoredCheckpoint,
)
from swarmstate.protocols import Codec, Default

def pack(commands: Sequence[Command], *, source: bool = False) -> list[bytes]: ...

class Batch:
    commands: Sequence[Command]
    atomic: bool
    idempotent: bool
    everywhere: bool
    ignore: tuple[str, ...]
    inline: bool
    part: bool
    then: Callable[[list[Any]], Sequence[Command] | None] | None
    def __init__(
        self,
        commands: Sequence[Command],
        atomic: bool = False,
        idempotent: bool = False,
        everywhere: bool = False,
        ignore: tuple[str, ...] = (),
        inline: bool = False,
        part: bool = False,
        then: Callable[[list[Any]], Sequence[Command] | None] | None = None,
    ) -> None: ...
    @property
    def reads(self) -> bool: ...

class Job:
    batch: Batch
    operation: str
    deadline: float
    replies: list[Any]
    error: BaseException | None
    units: Sequence[Unit]
    given_up: bool
    done: Callable[[Job], object] | None
    future: Any
    def __init__(self, batch: Batch, operation: str, deadline: float) -> None: ...
    def divide(self, parts: int) -> None: ...
    def settle(self, error: BaseException | None = None) -> None: ...
    def pause(self, now: float, until: float) -> None: ...

class Unit:
    job: Job
    indexes: Sequence[int]
    slot: int | None
    part: int | None
    node: Node | None
    taught: Sequence[Script] | None
    more: Sequence[Command]
    chunks: list[bytes] | None
    replies: list[Any]
    size: int
    expected: int
    failures: int
    delays: int
    asking: bool
    source: bool
    settled: bool
    suspect: bool
    doubled: bool
    decided: bool
    not_before: float
    trip: Trip | None
    def __init__(self, job: Job, indexes: Sequence[int], slot: int | None = None) -> None: ...
    @property
    def under_way(self) -> bool: ...
    @property
    def share(self) -> str: ...
    @property
    def repeatable(self) -> bool: ...
    def command(self, index: int) -> Command: ...
    def follow(self, commands: Sequence[Command] | None) -> list[bytes]: ...
    def settle(self, error: BaseException | None = None) -> None: ...
    def pack(self, known: Set[Script]) -> bool: ...

class Peer:
    socket: sockets.socket
    identity: Identity | None
    era: int
    timeout: float | None
    fenced: bool
    def __init__(
        self, socket: Any, identity: Identity | None, era: int, parser: Any = None
    ) -> None: ...
    def shut_down(self) -> None: ...
    def silent(self) -> bool: ...

class Trip:
    node: Node
    guard: Guard
    units: list[Unit]
    unread: list[Unit]
    connection: Any
    peer: Peer | None
    def __init__(
        self, node: Node, guard: Guard, units: list[Unit], lock: Lock | None = None
    ) -> None: ...
    @property
    def deadline(self) -> float: ...
    @property
    def writes(self) -> bool: ...
    def hurry(self, seconds: float) -> None: ...
    def leave(self) -> None: ...
    def break_off(self) -> None: ...
    def end(self) -> None: ...

class AtHand:
    stock: Stock[Any]
    epoch: object
    process: int
    pid: int
    closed: bool
    def ready(self) -> Any: ...
    def release(self, connection: Any) -> None: ...

class Courier:
    failures: tuple[type[Exception], ...]
    timeout: float
    def __init__(
        self,
        only: tuple[Node, Guard] | None,
        failures: tuple[type[Exception], ...],
        timeout: float,
        read: Callable[[Any], Any],
    ) -> None: ...
    def perform(self, job: Job) -> None: ...
    def carry(self, trip: Trip) -> list[Unit]: ...
    def send(self, trip: Trip, again: list[Unit]) -> None: ...
    def receive(self, trip: Trip, again: list[Unit]) -> None: ...

class Values:
    codec: Codec
    def __init__(self, codec: Codec, default: Default | None = None) -> None: ...
    def encode(self, value: object) -> bytes: ...
    def decode(self, data: bytes) -> Any: ...

def entry(encoded: bytes, parent: str | None, fields: Iterable[str]) -> bytes: ...
def put_arguments(
    codec: Values,
    id: str,
    record: list[Any],
    values: Mapping[str, Blob],
    inherited: Sequence[str],
    deltas: Sequence[str],
    one: bytes,
) -> list[Argument]: ...
def writes_arguments(
    codec: Values,
    id: str,
    writes: Mapping[str, Any],
    values: Mapping[str, Blob],
    inherited: Sequence[str],
    drawn: bytes | str,
    one: bytes,
) -> list[Argument]: ...
def blobs(
    codec: Values, keys: Iterable[bytes | str], data: Iterable[bytes | None]
) -> dict[str, Any]: ...
def record_of(codec: Values, data: bytes, name: CheckpointName) -> CheckpointRecord: ...
def writes_of(codec: Values, reply: Any, name: CheckpointName) -> list[tuple[str, Any]]: ...
def unknown(reply: list[Any]) -> list[tuple[bytes, bytes]]: ...
def assembled(
    codec: Values, space: CheckpointName, reply: list[Any], channels: Collection[str] | None
) -> list[StoredCheckpoint]: ...
