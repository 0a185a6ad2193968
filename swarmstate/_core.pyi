"""Types of the compiled engine; a test compares them with it."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, final

from pyrsistent import PMap
from typing_extensions import Self

from swarmstate.checkpoints.protocol import (
    NO_VALUES,
    Blob,
    CheckpointEngine,
    CheckpointName,
    CheckpointRecord,
    StoredCheckpoint,
    Surplus,
)
from swarmstate.protocols import Default, Diff, Pair, SnapshotLike

def work_done() -> dict[str, int]: ...

@final
class Snapshot:
    """A store, frozen at one moment.

    Immutable, hashable by identity, and safe to hold after its store is closed or gone. What it
    holds in memory is in proportion to what has changed since it was taken. Stores make it, by
    ``snapshot()``; so does :meth:`from_values`, for those who write a store.
    """

    @classmethod
    def from_values(
        cls,
        values: dict[str, dict[str, bytes]],
        *,
        codec: str = "msgpack",
        parent: int | None = None,
    ) -> Snapshot:
        """Return a snapshot that holds ``values``, for those who write a store.

        Args:
            values: namespace -> key -> encoded value, as dicts. The bytes are not trusted: they are
                checked when they are decoded.
            codec: the name of the codec that decodes them.
            parent: the id of the snapshot taken before from the same store, if any.

        Raises:
            InvalidArgumentError: names or values of the wrong type.
            UnknownCodecError: there is no such codec.

        Cost: O(number of keys).
        """
    @property
    def id(self) -> int:
        """A number that grows with every snapshot taken in this process."""
    @property
    def timestamp(self) -> float:
        """When the snapshot was taken, in seconds since the Unix epoch."""
    @property
    def parent(self) -> int | None:
        """The id of the snapshot taken before this one from the same store, or None."""
    @property
    def wire(self) -> str:
        """The wire format of the values."""
    @property
    def size_bytes(self) -> int:
        """The size of all encoded values, in bytes. O(1)."""
    @property
    def keys(self) -> list[Pair]:
        """Every (namespace, key) pair. O(all keys)."""
    @property
    def state(self) -> PMap[str, PMap[str, bytes]]:
        """The content as persistent maps: a ``PMap`` of namespace -> ``PMap`` of key -> bytes.

        The first call costs O(all keys), or O(what changed) where a snapshot of the same store not
        far away has its maps already, with which these then share their structure; later calls
        return the same object.
        """
    def get(self, namespace: str, key: str, default: Any = None) -> Any:
        """Return one decoded value, or ``default`` where there is none.

        Raises:
            DecodeError: the bytes, which came from elsewhere, are not a valid value; the text names
                namespace and key.

        Cost: the codec's, and a step for each newer snapshot held, but never for more than some
        hundred of them in a row a second time.
        """
    def values(self) -> dict[str, dict[str, bytes]]:
        """Return the encoded content as a fresh dict: namespace -> key -> bytes. O(all keys)."""
    def diff(self, base: SnapshotLike) -> Diff:
        """Return how to go from ``base`` to this snapshot.

        Args:
            base: a snapshot of the same wire format, of any store.

        Returns:
            ``{"added": [...], "removed": [...], "changed": [...]}``: sorted (namespace, key) pairs.

        Raises:
            InvalidArgumentError: ``base`` is not a snapshot.
            WireFormatError: ``base`` holds values of another wire format.

        Cost: O(what was written between the two) for snapshots of one in-memory store, else
        O(all keys).
        """
    def __len__(self) -> int: ...

class Store:
    """A key/value store in memory, with free snapshots.

    Values are encoded by ``set`` and decoded by ``get``, so callers never share mutable state with
    the store. Names of namespaces and keys are ``str`` without lone surrogates; a namespace that
    starts with NUL is reserved and refused. A namespace without keys does not exist. Every method
    is atomic, batches included, also when several threads use the store. After :meth:`close`, every
    method raises :class:`~swarmstate.errors.StoreUnavailable`.

    All methods that take names raise :class:`~swarmstate.errors.InvalidArgumentError` for one that
    no store accepts, before anything is read or written.

    Args:
        backend: ``"memory"``, the only one; other stores have classes of their own.
        codec: the name of the codec of the values, see :mod:`swarmstate.codecs`.
        max_history: how many snapshots :meth:`history` keeps: 0 none, n the last n, None all.
        default: turns a value that the codec does not know into one that it does, or raises.

    Raises:
        InvalidArgumentError: an argument that is none of these.
        UnknownCodecError: there is no such codec.
    """

    def __init__(
        self,
        backend: str = "memory",
        codec: str = "msgpack",
        max_history: int | None = 0,
        *,
        default: Default | None = None,
    ) -> None: ...
    @property
    def codec(self) -> str:
        """The name of the codec."""
    @property
    def max_history(self) -> int | None:
        """How many snapshots :meth:`history` keeps: 0 none, n the last n, None all."""
    def set(self, namespace: str, key: str, value: Any) -> None:
        """Store one value.

        Raises:
            EncodeError: the codec does not accept the value; nothing was written.

        Cost: the codec's, and O(1).
        """
    def get(self, namespace: str, key: str, default: Any = None) -> Any:
        """Return one value, or ``default`` where there is none.

        Raises:
            DecodeError: the bytes, which came from elsewhere by ``restore``, are not a valid value;
                the text names namespace and key.

        Cost: the codec's, and O(1).
        """
    def set_many(self, items: Iterable[tuple[str, str, Any]]) -> None:
        """Store all the (namespace, key, value) triples at once, or none.

        Args:
            items: an iterable of triples; of two for one key the later counts.

        Raises:
            EncodeError: the codec does not accept a value; nothing was written.
        """
    def get_many(self, pairs: Iterable[Pair]) -> list[Any]:
        """Return the values of (namespace, key) pairs at one moment, in their order.

        Args:
            pairs: an iterable of pairs.

        Returns:
            The values; None where there is none.

        Raises:
            DecodeError: as :meth:`get` does.
        """
    def set_default(self, namespace: str, key: str, value: Any) -> bool:
        """Store ``value`` only if the key is absent.

        Returns:
            Whether it was stored.

        Raises:
            EncodeError: the codec does not accept the value, whether or not the key is absent.
        """
    def contains(self, namespace: str, key: str) -> bool:
        """Return whether the key exists. O(1)."""
    def delete(self, namespace: str, key: str) -> bool:
        """Remove a key. O(1).

        Returns:
            Whether it existed.
        """
    def delete_many(self, pairs: Iterable[Pair]) -> int:
        """Remove the keys of (namespace, key) pairs at once.

        Returns:
            How many existed.
        """
    def delete_namespace(self, namespace: str) -> int:
        """Remove a namespace with all its keys. O(its keys).

        Returns:
            How many keys there were.
        """
    def expire(self, namespace: str, seconds: float) -> bool:
        """Let a namespace be gone, with all its keys, from some time on.

        Writes do not put it off; calling this again does. A namespace that is removed, restored or
        loses its last key before then, and comes back, stays.

        Args:
            namespace: the namespace.
            seconds: from 0.001 to 10**10.

        Returns:
            Whether there is such a namespace.

        Cost: O(log n) in the number of namespaces that expire.
        """
    def scratch(self) -> Store:
        """Return the store's place for what need not last, such as a cache.

        It is a store of the same codec, always the same one, and no part of this one: not of
        ``snapshot``, ``restore``, ``clear``, ``len`` or any listing. It is closed with this one.
        """
    def update(
        self, namespace: str, key: str, fn: Callable[[Any], Any], default: Any = None
    ) -> Any:
        """Replace a value by ``fn(value)`` atomically.

        Args:
            namespace: the namespace.
            key: the key.
            fn: is given the value, or ``default`` where there is none, and returns the new one. It
                is called again when another writer was faster, so it should have no side effects.
            default: what ``fn`` is given where there is no value.

        Returns:
            What ``fn`` returned.

        Raises:
            EncodeError: the codec does not accept what ``fn`` returned; nothing was written.
            StoreUnavailable: other writers were faster 1,000 times in a row.
            DecodeError: as :meth:`get` does.
        """
    def commit(
        self,
        items: Iterable[tuple[str, str, Any]] = (),
        delete: Iterable[Pair] = (),
        *,
        expect: Mapping[Pair, Any] | None = None,
    ) -> bool:
        """Store and remove keys if others hold what is expected: everything or nothing.

        Values are compared as their encoded bytes. Where these differ, what is stored is decoded
        and encoded again, because another program may have encoded the same value otherwise.

        Args:
            items: (namespace, key, value) triples to store; of two for one key the later counts.
            delete: (namespace, key) pairs to remove; one that does not exist is passed over.
            expect: (namespace, key) -> the value that must be there, or ``ABSENT`` for none.

        Returns:
            Whether all expectations held before anything was done; if not, nothing was changed.

        Raises:
            InvalidArgumentError: as the names of any call; or a pair both in items and in delete.
            EncodeError: the codec does not accept a value; nothing was changed.
            StoreUnavailable: other writers were faster 1,000 times in a row.

        Cost: the codec's, and O(1) for each entry.
        """
    def append(self, namespace: str, values: Iterable[Any]) -> list[str]:
        """Add values to the end of a log, all or none.

        Args:
            namespace: the namespace of the log.
            values: an iterable of values.

        Returns:
            Their keys, in order: each of exactly 16 digits, and above all such keys that are there.

        Raises:
            EncodeError: the codec does not accept a value; nothing was written.
            ArgumentValueError: there are not enough keys of 16 digits above the last one.

        Cost: the codec's, and O(1) for each value; the first time O(keys of the namespace).
        """
    def tail(
        self, namespace: str, limit: int | None = None, *, before: str | None = None
    ) -> list[tuple[str, Any]]:
        """Return the last (key, value) pairs of a log, oldest first.

        Args:
            namespace: the namespace of the log; its keys that are not of 16 digits are ignored.
            limit: how many at most; None: all.
            before: a key of 16 digits; only entries before it are returned.

        Raises:
            DecodeError: as :meth:`get` does.

        Cost: O(what is returned), plus O(log n) with ``before``; the first time O(keys of the
        namespace).
        """
    def pop(self, namespace: str) -> tuple[str, Any] | None:
        """Remove the last entry of a log; return its (key, value), or None if there is none.

        The key may be given again by :meth:`append`.

        Raises:
            DecodeError: as :meth:`get` does; the entry stays.
            StoreUnavailable: other writers were faster 1,000 times in a row.

        Cost: the codec's, and O(1); the first time O(keys of the namespace).
        """
    def keys(self, namespace: str, prefix: str | None = None) -> list[str]:
        """Return the keys of a namespace, or those that start with ``prefix`` in ascending order.

        Cost: O(its keys); with a prefix, once it was asked for one, O(log n) and what is returned.
        """
    def namespaces(self, prefix: str | None = None) -> list[str]:
        """Return the namespaces, or those that start with ``prefix`` in ascending order.

        Cost: O(namespaces); with a prefix, once asked for one, O(log n) and what is returned.
        """
    def items(self, namespace: str) -> list[tuple[str, Any]]:
        """Return the (key, value) pairs of a namespace at one moment. O(its keys).

        Raises:
            DecodeError: as :meth:`get` does.
        """
    def max_key(self, namespace: str) -> str | None:
        """Return the greatest key of a namespace by code point, or None if it has none.

        Cost: O(n log n) the first time; then O(1) while keys come in ascending order, and O(log n)
        otherwise.
        """
    def clear(self) -> None:
        """Remove everything; history and held snapshots stay. O(1) while a snapshot is held."""
    def snapshot(self) -> Snapshot:
        """Freeze the whole store. O(1), whatever has changed since the last time."""
    def restore(self, snapshot: SnapshotLike) -> None:
        """Make the store what ``snapshot`` holds, all of it or nothing.

        Args:
            snapshot: of any store of the same wire format.

        Raises:
            InvalidArgumentError: it is not a snapshot.
            WireFormatError: its values are of another wire format; nothing was changed.
            MemoryError: some of it may be restored; the snapshot is intact, so restore it again.

        Cost: O(what was written in between) for a snapshot of this very store, else O(all keys).
        """
    def checkpoint_engine(
        self, *, ttl: float | None = None, ttl_on_read: bool = False
    ) -> CheckpointEngine:
        """Return how a checkpointer keeps threads here; see :mod:`swarmstate.checkpoints`.

        Raises:
            InvalidArgumentError: a ttl, or ``ttl_on_read``: nothing expires in memory.
        """
    def history(self) -> list[SnapshotLike]:
        """Return the kept snapshots, oldest first."""
    def clear_history(self) -> None:
        """Let go of the kept snapshots."""
    def close(self) -> None:
        """Release what the store holds; calling it again does nothing.

        Snapshots that are held elsewhere stay as they are.
        """
    def __len__(self) -> int: ...
    def __contains__(self, namespace: object) -> bool: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

@final
class Mirror:
    """The encoded content of a store that lies elsewhere, for those who write a store.

    Its snapshots share all that has not changed between them, as those of a :class:`Store` do. Who
    keeps it tells it every change, and uses it from one thread at a time.

    Args:
        values: namespace -> key -> encoded value, as dicts. The bytes are not trusted: they are
            checked when they are decoded.
        codec: the name of the codec that decodes them.

    Raises:
        InvalidArgumentError: names or values of the wrong type.
        UnknownCodecError: there is no such codec.

    Cost: O(number of keys).
    """

    def __init__(self, values: dict[str, dict[str, bytes]], *, codec: str = "msgpack") -> None: ...
    def write(self, changes: Iterable[tuple[str, str, bytes | None]]) -> None:
        """Take over what has changed, as (namespace, key, encoded value or None for none) triples.

        Raises:
            InvalidArgumentError: names or values of the wrong type; those before are taken over.

        Cost: O(their number).
        """
    def freeze(self, parent: int | None = None) -> Snapshot:
        """Return a snapshot of the content. O(1).

        Args:
            parent: the id of the snapshot taken before from the same store, if any.
        """
    def changes_to(self, snapshot: SnapshotLike) -> list[tuple[str, str, bytes | None]] | None:
        """Return what would have to be written so that the content became that of a snapshot.

        Returns:
            Triples as :meth:`write` takes them; None for a snapshot that this did not make.

        Cost: O(what has changed since the snapshot).
        """
    @property
    def held(self) -> bool:
        """Whether a snapshot of it is held by anyone."""

class Checkpoints:
    """The operations that are done at one moment; see :class:`swarmstate.checkpoints.memory`.

    Args:
        store: the store.
    """

    def __init__(self, store: Store) -> None: ...
    def put(
        self,
        name: CheckpointName,
        record: CheckpointRecord,
        values: Mapping[str, Blob],
        inherited: Sequence[str],
        *,
        keep: int | None = None,
        caller: CheckpointName | None = None,
    ) -> tuple[Surplus | None, list[str]]:
        """Store a checkpoint; see :class:`~swarmstate.checkpoints.protocol.CheckpointEngine`."""
    def put_writes(
        self,
        name: CheckpointName,
        writes: Mapping[str, Any],
        values: Mapping[str, Blob] = NO_VALUES,
        inherited: Sequence[str] = (),
    ) -> list[str]:
        """Store pending writes of a task, and the segments that are new."""
    def get(self, name: CheckpointName) -> StoredCheckpoint | None:
        """Return a whole checkpoint; the latest is found in O(1)."""
    def list_ids(
        self,
        threads: Sequence[str],
        checkpoint_ns: str | None,
        before: str | None,
        limit: int | None,
    ) -> list[CheckpointName]:
        """Return the names of checkpoints, greatest id first. With a limit, O(what is found)."""
    def load(
        self,
        names: Sequence[CheckpointName],
        *,
        channels: Collection[str] | None,
        writes: bool,
        most: int | None = None,
    ) -> list[StoredCheckpoint | None]:
        """Return all of these checkpoints by name: nothing has to be fetched here."""
