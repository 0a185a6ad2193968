"""What the generic engine knows of namespaces that have a limit, to find what exceeds it.

A store tells neither how many keys a namespace has nor which is the least without going through all
of them. So :class:`~swarmstate.checkpoints.references.References` are kept in memory, for all
engines over one store together, bounded by size. Before they are relied on they are held against
the store: its greatest key must be theirs, and the checkpoint that was noted last must be there,
which fails after a ``restore`` and after whatever another program puts at the end. How many there
are is compared from time to time. What does not fit is read again.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from weakref import WeakKeyDictionary

from swarmstate.checkpoints.format import (
    ThreadNames,
    decode_record,
    id_of,
    is_id,
    is_segment,
    mark_of_parent,
    mark_of_writes,
    names,
    segments_among,
)
from swarmstate.checkpoints.protocol import (
    CheckpointName,
    CheckpointRecord,
    StoredCheckpoint,
    Surplus,
)
from swarmstate.checkpoints.references import References, calls_below
from swarmstate.protocols import Pair, StoreLike

__all__ = ["Limits"]

_KEPT_BYTES = 32 * 1024 * 1024
"""How much memory the references of one store's namespaces may take, roughly."""


class _Noted:
    """The references of one namespace, and what they are held against.

    Attributes:
        references: what is known.
        last: the id that was noted last.
        until: how many more may be noted before all ids are compared.
        epoch: that of the table when they last were.
        size: how large the references were when that was last looked at.
    """

    __slots__ = ("epoch", "last", "references", "size", "until")

    def __init__(self, references: References, last: str, epoch: int) -> None:
        self.references = references
        self.last = last
        self.epoch = epoch
        self.until = len(references.ids) // 2
        self.size = references.size


class _Table:
    """What is known of a store's namespaces, by name; what was not used for long goes first."""

    def __init__(self) -> None:
        self.noted: OrderedDict[str, _Noted] = OrderedDict()
        self._size = 0
        self.epoch = 0
        """How often others may have been there unnoticed."""

    def get(self, name: str) -> _Noted | None:
        noted = self.noted.get(name)
        if noted is not None:
            self.noted.move_to_end(name)
        return noted

    def pop(self, name: str) -> _Noted | None:
        noted = self.noted.pop(name, None)
        if noted is not None:
            self._size -= noted.size
        return noted

    def put(self, name: str, noted: _Noted) -> None:
        self.pop(name)
        self.noted[name] = noted
        noted.size = noted.references.size
        self._size += noted.size
        while self._size > _KEPT_BYTES:
            self._size -= self.noted.popitem(last=False)[1].size


_tables: WeakKeyDictionary[StoreLike, _Table] = WeakKeyDictionary()
_tables_guard = threading.Lock()


class Limits:
    """Finds and removes what a namespace holds beyond its newest checkpoints.

    Every method is called with the lock of the store's engines held.

    Args:
        store: The store.
        owner: By whom to share what is known, if not by the store: what it was made of.
    """

    def __init__(self, store: StoreLike, owner: StoreLike | None = None) -> None:
        self._store = store
        with _tables_guard:
            try:
                self._table = _tables.setdefault(store if owner is None else owner, _Table())
            except TypeError:  # a third-party store without weak references or a hash
                self._table = _Table()

    @property
    def noted(self) -> Collection[str]:
        """The namespaces of records of which something is known; it goes on to change."""
        return self._table.noted

    def forget(self, where: ThreadNames) -> None:
        """Let go of what is known of a namespace: it changes in a way that is not noted."""
        noted = self._table.pop(where.checkpoints)
        if noted is not None:
            noted.references.changes += 1

    def need(self, where: ThreadNames, checkpoint_id: str, segments: Sequence[str]) -> None:
        """Note that writes of a checkpoint, which may be yet to come, need segments."""
        noted = self._table.get(where.checkpoints)
        if noted is not None:
            noted.references.need(checkpoint_id, segments)

    def doubt(self) -> None:
        """Compare all ids of each namespace the next time: others may have changed any."""
        self._table.epoch += 1

    def before(self, where: ThreadNames, checkpoint_id: str, keep: int | None) -> _Noted | None:
        """Return what is known of a namespace to which a checkpoint is about to be added."""
        noted = self._table.get(where.checkpoints)
        if noted is None:
            return None
        # One that is written again no longer refers to what it did. It is none of the known ones
        # if it is greater; and where these fit, no greater one is there.
        ids = noted.references.ids
        again = keep is None or (
            (not ids or checkpoint_id <= ids[-1])
            and self._store.contains(where.checkpoints, checkpoint_id)
        )
        if again or not self._fits(where, noted):
            self.forget(where)
            return None
        return noted

    def after(
        self,
        where: ThreadNames,
        name: CheckpointName,
        record: CheckpointRecord,
        fields: Sequence[str],
        keep: int,
        caller: CheckpointName | None,
        noted: _Noted | None,
    ) -> Surplus | None:
        """Note a checkpoint that was added, with the fields of its values, but for its deltas.

        Returns:
            What there is too much, if anything.
        """
        if caller is not None:
            above = self._table.get(names(name.thread, caller.checkpoint_ns).checkpoints)
            if above is not None:
                above.references.call(caller.id, name.checkpoint_ns)
        if noted is None:
            found = self._read(name, keep)
            return found if found.older or found.calls or self.strays(where, found) else None
        references = noted.references
        references.add(name.id, record, fields)
        noted.last = name.id
        noted.until -= 1
        excess = len(references.ids) - keep
        if excess == 1 and references.is_past(references.ids[0]):
            # The usual case: nothing can need it, so there is nothing to decide.
            self._remove_least(where, references)
            return None
        if not references.is_due(excess):
            return None
        try:
            return references.surplus(name, keep, partial(self._records, where, name))
        except KeyError:  # a record was removed by other means
            return self._read(name, keep)

    def _remove_least(self, where: ThreadNames, references: References) -> None:
        """Remove the least checkpoint of a namespace, which nothing needs."""
        store = self._store
        checkpoint_id, fields = references.pop()
        try:
            if store.keys(where.orphans):
                doomed = ((checkpoint_id, fields),)
                pairs = self.parts(where, doomed, references.ids[0], references)
            else:
                # The same without what is asked for orphans: a fifth of what the limit costs.
                writes, checkpoints = where.writes + checkpoint_id, where.checkpoints
                pairs = [
                    (checkpoints, checkpoint_id),
                    (checkpoints, mark_of_writes(checkpoint_id)),
                    (checkpoints, mark_of_parent(checkpoint_id)),
                ]
                for key in fields:
                    pairs.append((where.values, key))
                for key in store.keys(writes):
                    pairs.append((writes, key))
            store.delete_many(pairs)
        except BaseException:  # raised again: what is known no longer fits the store
            self.forget(where)
            raise

    def surplus(self, thread: str, checkpoint_ns: str, keep: int) -> Surplus | None:
        """Return what a namespace holds beyond its newest checkpoints, and below it."""
        for newest in self._ids(names(thread, checkpoint_ns))[-1:]:
            return self._read(CheckpointName(thread, checkpoint_ns, newest), keep)
        return None

    def is_current(self, surplus: Surplus) -> bool:
        """Return whether nothing has been added or removed since a surplus was read."""
        references, changes = surplus.state
        if references.changes != changes:
            return False
        where = names(surplus.thread, surplus.checkpoint_ns)
        noted = self._table.get(where.checkpoints)
        if (
            noted is not None
            and noted.references is references
            and noted.epoch == self._table.epoch
        ):
            return True
        now = (self._ids(where), self._needed(where))
        return bool((references.ids, references.needed) == now)

    def parts(
        self,
        where: ThreadNames,
        doomed: Sequence[tuple[str, Sequence[str]]],
        oldest: str,
        references: References,
        staying: Collection[str] = (),
    ) -> list[Pair]:
        """Return all that goes with checkpoints, and with writes that came after theirs had gone.

        Args:
            where: The namespace.
            doomed: The ids, each with the fields whose values go with it.
            oldest: Writes of lesser ids go if they have no checkpoint.
            references: Who refers to what.
            staying: What lesser ids that stay refer to.
        """
        keys, contains = self._store.keys, self._store.contains
        pairs: list[Pair] = []
        ids = []
        for checkpoint_id, fields in doomed:
            ids.append(checkpoint_id)
            for key in fields:
                pairs.append((where.values, key))  # noqa: PERF401 (nearly always one or none)
        for orphan in keys(where.orphans):
            if orphan < oldest and not contains(where.checkpoints, orphan):
                ids.append(orphan)
                loose = [
                    key
                    for key in references.needed.get(orphan, ())
                    if references.values.get(key, "") < oldest and key not in staying
                ]
                pairs += [(where.values, key) for key in loose]
                references.remove(((orphan, loose),))
        for each in ids:
            writes = where.writes + each
            pairs += (
                (where.checkpoints, each),
                (where.checkpoints, mark_of_writes(each)),
                (where.checkpoints, mark_of_parent(each)),
                (where.orphans, each),
            )
            pairs += [(writes, key) for key in keys(writes)]
        return pairs

    def strays(self, where: ThreadNames, surplus: Surplus) -> list[Pair]:
        """Return the values that no checkpoint refers to, of a namespace that was read whole."""
        known = surplus.state[0].values
        return [(where.values, key) for key in self._store.keys(where.values) if key not in known]

    def removed(
        self,
        surplus: Surplus,
        doomed: Sequence[tuple[str, Sequence[str]]],
        calls: Mapping[str, Sequence[str]] | None,
    ) -> None:
        """Note that a part of a surplus is gone, and what of its calls stays."""
        references: References = surplus.state[0]
        references.remove(doomed)
        references.stay = len(surplus.older) - len(doomed)
        for caller, spaces in (calls or {}).items():
            for space in spaces:
                references.call(caller, space)

    def _fits(self, where: ThreadNames, noted: _Noted) -> bool:
        """Return whether what is known of a namespace is what the store holds."""
        ids = noted.references.ids
        if noted.until <= 0 or noted.epoch != self._table.epoch:
            noted.epoch = self._table.epoch
            self._table.put(where.checkpoints, noted)  # its size may have changed
            noted.until = len(ids) // 2
            now = (self._ids(where), self._needed(where))
            return bool((ids, noted.references.needed) == now)
        store = self._store
        return (
            store.max_key(where.checkpoints) == ids[-1]
            and (noted.last == ids[-1] or store.contains(where.checkpoints, noted.last))
            and store.contains(where.checkpoints, ids[0])
        )

    def _ids(self, where: ThreadNames) -> list[str]:
        return sorted(filter(is_id, self._store.keys(where.checkpoints)))

    def _needed(self, where: ThreadNames) -> dict[str, set[str]]:
        """Return checkpoint id -> the segments that its writes need."""
        keys = self._store.keys
        if not any(map(is_segment, keys(where.values))):
            return {}
        ids = {*keys(where.orphans), *map(id_of, keys(where.checkpoints))}
        found = ((each, set(segments_among(keys(where.writes + each)))) for each in ids)
        return {each: segments for each, segments in found if segments}

    def _read(self, name: CheckpointName, keep: int) -> Surplus:
        """Read all of a namespace, and the newest checkpoint of each call below it."""
        thread, checkpoint_ns, _ = name
        where = names(thread, checkpoint_ns)
        records = self._records(where, name, self._ids(where))
        references = References(records, self._needed(where))
        calls: list[StoredCheckpoint] = []
        for space in calls_below(checkpoint_ns, self._store.keys(where.thread)):
            there = names(thread, space)
            for newest in self._ids(there)[-1:]:
                head = CheckpointName(thread, space, newest)
                found = self._records(there, head, [newest])
                calls += [StoredCheckpoint(head, record, {}, []) for record in found.values()]
        self._table.put(where.checkpoints, _Noted(references, name.id, self._table.epoch))
        return references.surplus(name, keep, lambda _: records, calls)

    def _records(
        self, where: ThreadNames, name: CheckpointName, ids: Sequence[str]
    ) -> dict[str, CheckpointRecord]:
        # One at a time is faster, and nearly always there is one; the lock keeps them together.
        get, checkpoints = self._store.get, where.checkpoints
        return {
            each: decode_record(raw, name._replace(id=each))
            for each in ids
            if (raw := get(checkpoints, each)) is not None
        }
