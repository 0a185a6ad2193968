"""Pydantic AI: conversations, their branches and forks, in any store.

The layout, in namespaces that share one cluster slot (``{pydantic-ai}`` for the default namespace):

* ``{pydantic-ai}:records``: conversation id -> the record, a map, and the family it belongs to;
* ``{pydantic-ai}:revisions``: conversation id -> the record's revision;
* ``{pydantic-ai}:entries:<family>``: entry id -> the entry, a map;
* ``{pydantic-ai}:families``: entry id -> family;
* ``{pydantic-ai}:members:<family>``: conversation id -> True;
* ``{pydantic-ai}:generations``: family -> a token that changes when a conversation joins it.

A *family* is a conversation with all its forks, which share entries. So a history is one namespace,
read in one round trip, and what a deleted conversation leaves unused is found without looking at
other families.
"""

# The library may not be installed.
# pyright: reportMissingImports=false

from __future__ import annotations

import dataclasses
import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

try:
    from pydantic import ConfigDict, TypeAdapter
    from pydantic_ai.conversation_store import (
        ConversationConflict,
        ConversationEntry,
        ConversationRecord,
        ConversationStore,
    )
except ImportError as error:
    raise ImportError(
        "SwarmStateConversationStore needs the library pydantic-ai 2.68 or later: "
        "pip install 'pydantic-ai-slim>=2.68'"
    ) from error

from swarmstate.arguments import check_namespace, shown
from swarmstate.errors import ArgumentValueError, DecodeError, StoreUnavailable
from swarmstate.integrations.calls import Calls
from swarmstate.protocols import ABSENT, Pair

__all__ = ["SwarmStateConversationStore"]

# As the library's own adapter of messages: bytes are not text.
_CONFIG = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64", defer_build=True)
_RECORDS = TypeAdapter(list[ConversationRecord], config=_CONFIG)
_ENTRIES = TypeAdapter(list[ConversationEntry], config=_CONFIG)
_TRIES = 50


class _Located(str):
    """An id or a revision that also tells its family.

    The library hands these back as it was given them, so that saving what was loaded needs no
    lookup. Text that has come another way is looked up.
    """

    family: str | None

    def __new__(cls, text: str, family: str | None) -> _Located:
        """Make one."""
        located = super().__new__(cls, text)
        located.family = family
        return located

    def __getnewargs__(self) -> tuple[str, str | None]:  # type: ignore[override]
        return str(self), self.family


class SwarmStateConversationStore(ConversationStore):
    """Conversations in a store, shared by any number of processes.

    A save stores its record and its entries in one commit: of several that began from the same
    revision one wins, and the others raise ``ConversationConflict`` and leave nothing behind.
    :meth:`delete` also removes the entries that no other conversation's history or branches reach.

    Args:
        store: any store of ours, blocking or awaited, or another
            :class:`~swarmstate.protocols.LogStore`; it is not closed by this one.
        namespace: what its namespaces start with, in braces. On a cluster all conversations of one
            namespace share a slot.

    Raises:
        InvalidArgumentError: the store takes no commits, or the namespace is not accepted.
    """

    def __init__(self, store: Any, *, namespace: str = "pydantic-ai") -> None:
        if not check_namespace(namespace) or set(namespace) & {"{", "}"}:
            raise ArgumentValueError(
                f"namespace must be text without braces, not {shown(namespace)}"
            )
        self._call = Calls(store, "commit")
        self._name = f"{{{namespace}}}"
        self._records = f"{self._name}:records"
        self._revisions = f"{self._name}:revisions"
        self._families = f"{self._name}:families"
        self._generations = f"{self._name}:generations"

    def _entries(self, family: str) -> str:
        return f"{self._name}:entries:{family}"

    def _members(self, family: str) -> str:
        return f"{self._name}:members:{family}"

    async def read_record(self, conversation_id: str) -> ConversationRecord | None:
        """Return a conversation's record, or None. One round trip."""
        kept = await self._call("get", self._records, conversation_id)
        return None if kept is None else _record(kept)

    async def read_records(
        self, *, scope: str | None = None, limit: int | None = None
    ) -> Sequence[ConversationRecord]:
        """Return the records, those saved last first. One round trip; O(all records)."""
        records = [_record(kept) for _, kept in await self._call("items", self._records)]
        records = [record for record in records if scope is None or record.scope == scope]
        records.sort(key=lambda record: record.updated_at, reverse=True)
        return records[:limit]

    async def write_record(
        self,
        record: ConversationRecord,
        *,
        new_entries: Sequence[ConversationEntry] = (),
        expected_revision: str | None,
    ) -> None:
        """Store a record and new entries in one commit.

        One round trip for what this store has loaded or what is new; one more where only text is
        left of an id or a revision.

        Raises:
            ConversationConflict: the stored revision is another one, or the entry that the record
                points at is gone; nothing was stored.
        """
        conversation = record.conversation_id
        new = {entry.id for entry in new_entries}
        # What it builds on, and that must be there.
        base = [record.head_id] if record.head_id is not None and record.head_id not in new else []
        parent = new_entries[0].parent_id if new_entries else record.head_id
        family = await self._family(conversation, expected_revision, parent)
        if family is None:
            if parent is not None:
                raise ConversationConflict(conversation)
            family = str(new_entries[0].id) if new_entries else uuid.uuid4().hex
        revision = str(record.revision)
        kept = {**_plain(_RECORDS, record), "family": family}
        items: list[tuple[str, str, Any]] = [
            (self._records, conversation, kept),
            (self._revisions, conversation, revision),
        ]
        for entry in new_entries:
            items.append((self._entries(family), entry.id, _plain(_ENTRIES, entry)))
            items.append((self._families, entry.id, family))
        expect: dict[Pair, Any] = {
            (self._revisions, conversation): (
                ABSENT if expected_revision is None else str(expected_revision)
            )
        }
        for entry_id in base:
            expect[self._families, str(entry_id)] = family
        if expected_revision is None:
            if parent is not None:
                expect[self._families, str(parent)] = family
            items.append((self._members(family), conversation, True))
            items.append((self._generations, family, uuid.uuid4().hex))
        if not await self._call("commit", items, expect=expect):
            raise ConversationConflict(conversation)

    async def _family(
        self, conversation: str, revision: str | None, parent: str | None
    ) -> str | None:
        """Return the family of a conversation, or, of a new one, of the entry it goes on from."""
        known = revision if revision is not None else parent
        if known is None:
            return None
        if isinstance(known, _Located) and known.family is not None:
            return known.family
        if revision is None:
            family: str | None = await self._call("get", self._families, known)
            return family
        kept = await self._call("get", self._records, conversation)
        if kept is None:
            raise ConversationConflict(conversation)
        return str(kept["family"])

    async def delete_record(self, conversation_id: str, *, expected_revision: str) -> None:
        """Remove a conversation, and the entries that no other one of its family reaches.

        Six round trips; O(entries of the family).

        Raises:
            ConversationConflict: the stored revision is another one; nothing was removed.
        """
        for _ in range(_TRIES):
            kept = await self._call("get", self._records, conversation_id)
            if kept is None or kept["revision"] != expected_revision:
                raise ConversationConflict(conversation_id)
            family = kept["family"]
            generation = await self._call("get", self._generations, family, ABSENT)
            # The entries before the records: whoever saves meanwhile is then not taken for unused.
            entries = dict(await self._call("items", self._entries(family)))
            others = [
                name
                for name in await self._call("keys", self._members(family))
                if name != conversation_id
            ]
            found = await self._call("get_many", [(self._records, name) for name in others])
            used = _reached(entries, [record for record in found if record is not None])
            gone = [(self._records, conversation_id), (self._revisions, conversation_id)]
            gone.append((self._members(family), conversation_id))
            for entry_id in entries.keys() - used:
                gone += [(self._entries(family), entry_id), (self._families, entry_id)]
            if not others:
                gone.append((self._generations, family))
            expect = {
                (self._revisions, conversation_id): str(expected_revision),
                (self._generations, family): generation,
            }
            if await self._call("commit", (), gone, expect=expect):
                return
        raise StoreUnavailable(
            f"conversation {shown(conversation_id)} could not be deleted: it was forked {_TRIES} "
            "times in a row meanwhile"
        )

    async def read_entry(self, entry_id: str) -> ConversationEntry:
        """Return an entry. Two round trips.

        Raises:
            LookupError: there is no such entry.
        """
        family = await self._call("get", self._families, entry_id)
        kept = None
        if family is not None:
            kept = await self._call("get", self._entries(family), entry_id)
        if kept is None:
            raise LookupError(f"there is no entry {shown(entry_id)}")
        return _entry(kept, family)

    async def read_history(
        self, head_id: str | None, *, limit: int | None = None
    ) -> list[ConversationEntry]:
        """Return the entries up to one, or the last ``limit`` of them.

        One round trip for the head of a record that this store has returned, else two; O(entries of
        the conversation and its forks).

        Raises:
            LookupError: an entry is not there.
        """
        if head_id is None or limit == 0:
            return []
        family = head_id.family if isinstance(head_id, _Located) else None
        if family is None:
            family = await self._call("get", self._families, str(head_id))
        kept = dict(await self._call("items", self._entries(family))) if family is not None else {}
        entries: list[ConversationEntry] = []
        at: str | None = head_id
        while at is not None and (limit is None or len(entries) < limit):
            if at not in kept:
                raise LookupError(f"there is no entry {shown(at)}")
            # Each once: a chain that leads back to itself would have no end.
            entries.append(_entry(kept.pop(at), family))
            at = entries[-1].parent_id
        return entries[::-1]


def _plain(adapter: TypeAdapter[list[Any]], value: Any) -> dict[str, Any]:
    """Return a value as maps, lists and plain values, as the library's own JSON has it."""
    (plain,) = adapter.dump_python([value], mode="json")
    return dict(plain)


def _made(adapter: TypeAdapter[list[Any]], kept: Any) -> Any:
    try:
        # As JSON: only there does the library read its text as bytes and times.
        (made,) = adapter.validate_json(json.dumps([kept]))
    except (TypeError, ValueError) as error:
        raise DecodeError(f"this is not what a conversation store has stored: {error}") from error
    return made


def _record(kept: Any) -> ConversationRecord:
    family = kept.pop("family", None) if isinstance(kept, dict) else None
    record: ConversationRecord = _made(_RECORDS, kept)
    head = record.head_id
    return dataclasses.replace(
        record,
        head_id=None if head is None else _Located(head, family),
        branches=[_Located(tip, family) for tip in record.branches],
        revision=_Located(record.revision, family),
    )


def _entry(kept: Any, family: str | None) -> ConversationEntry:
    entry: ConversationEntry = _made(_ENTRIES, kept)
    parent = entry.parent_id
    return dataclasses.replace(
        entry,
        id=_Located(entry.id, family),
        parent_id=None if parent is None else _Located(parent, family),
    )


def _reached(entries: Mapping[str, Any], records: Iterable[Mapping[str, Any]]) -> set[str]:
    """Return the entries in the histories and branches of records."""
    reached: set[str] = set()
    for record in records:
        for tip in (record["head_id"], *record["branches"]):
            at = tip
            while at is not None and at not in reached and at in entries:
                reached.add(at)
                at = entries[at]["parent_id"]
    return reached
