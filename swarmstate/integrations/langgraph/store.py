"""LangGraph's long-term memory over any store.

Every operation is written once, as steps around the operations of an
:class:`~swarmstate.items.protocol.ItemEngine`. A batch is carried out in three parts: what has to
be embedded is embedded, then everything that reads reads, then everything that writes writes.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from time import time
from typing import TYPE_CHECKING, Any, cast

from langgraph.store.base import (
    BaseStore,
    GetOp,
    IndexConfig,
    Item,
    ListNamespacesOp,
    Op,
    PutOp,
    Result,
    SearchItem,
    SearchOp,
    TTLConfig,
)

from swarmstate import codecs
from swarmstate.arguments import check_count, check_key, check_number, shown
from swarmstate.errors import (
    ArgumentTypeError,
    ArgumentValueError,
    EncodeError,
    UnknownCodecError,
)
from swarmstate.integrations.langgraph.matching import (
    check_filter,
    columns_of,
    field_tests,
    matcher,
    prefix_of,
    select_namespaces,
)
from swarmstate.integrations.langgraph.owning import Owner
from swarmstate.integrations.langgraph.ranking import Found, ranked
from swarmstate.integrations.langgraph.sweeping import Sweeper
from swarmstate.integrations.langgraph.times import moment
from swarmstate.items.format import Row, labels_of, name_of, right_names
from swarmstate.items.generic import engine_of
from swarmstate.items.protocol import Change, Place, Wanted
from swarmstate.protocols import StoreLike
from swarmstate.steps import Steps, finish, named

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["SwarmStateStore"]

_MINUTE = 60_000_000
_MOST_MINUTES = 10**8
_NOTHING: tuple[Mapping[str, bytes], Mapping[str, Any]] = {}, {}
_TTL_KEYS = ("refresh_on_read", "omit_expired", "default_ttl", "sweep_interval_minutes")


class _Plan:
    """A batch, sorted by what is to be done; the numbers are places among its results."""

    __slots__ = ("gets", "indexed", "listings", "puts", "queries", "searches", "size", "texts")

    def __init__(self) -> None:
        self.size = 0
        self.gets: list[tuple[int, GetOp, Place]] = []
        self.searches: list[tuple[int, SearchOp, str]] = []
        self.listings: list[tuple[int, ListNamespacesOp]] = []
        self.puts: dict[Place, PutOp] = {}
        self.indexed: dict[Place, list[str]] = {}
        self.texts: dict[str, None] = {}
        self.queries: dict[str, None] = {}


class SwarmStateStore(Owner, BaseStore):
    """Keeps the long-term memory of LangGraph graphs in a store; sync and async in one class.

    All of a batch's reads come before its writes; of several puts for one key the last counts. A
    search without a query gives the items that were updated last first, one with a query those that
    are most alike, then those that have no vectors. A put keeps the ``created_at`` of what it
    overwrites. An item that has expired is absent at once, whatever ``omit_expired`` says.

    Args:
        store: Any store whose methods block, or one of ours; a new in-memory one if omitted. It is
            not closed, unless it was opened by :meth:`from_conn_string`.
        index: What is embedded, and by what, for semantic search, which needs numpy.
        ttl: When items expire; times in minutes, as everywhere in LangGraph's stores.
        vector_cache_bytes: How much memory the vectors that were read may take between two
            searches, in bytes. What does not fit is read again by the next search.

    Raises:
        ArgumentTypeError, ArgumentValueError: an argument that is not accepted.
        ImportError: numpy is needed and not installed.

    Example:
        >>> from swarmstate.integrations.langgraph import SwarmStateStore
        >>> store = SwarmStateStore()
        >>> store.put(("users", "ana"), "food", {"likes": "figs"})
        >>> store.get(("users", "ana"), "food").value
        {'likes': 'figs'}
    """

    supports_ttl = True

    def __init__(
        self,
        store: StoreLike | None = None,
        *,
        index: IndexConfig | None = None,
        ttl: TTLConfig | None = None,
        vector_cache_bytes: int = 256 * 1024 * 1024,
    ) -> None:
        if store is None:
            from swarmstate import Store

            store = Store()
        check_count("vector_cache_bytes", vector_cache_bytes, 0)
        self.store = store
        self.ttl_config = _checked_ttl(ttl)
        self.index_config = index
        self._engine = engine_of(store)
        self._index = None
        if index is not None:
            from swarmstate.integrations.langgraph.vectors import Index

            self._index = Index(index, vector_cache_bytes)
        self._vector_cache_bytes = vector_cache_bytes
        self._clock = _Clock()
        self._sweeper = Sweeper(self)

    @property
    def embeddings(self) -> Any:
        """What turns texts into vectors; None without an index."""
        return None if self._index is None else self._index.embeddings

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """Carry out operations and return their results, in the same order.

        Over Redis one round trip for all gets, one for all puts (on a cluster two where a
        namespace is new), one for all listings; two for a search, and one more where items of its
        page are renewed.

        Raises:
            ArgumentTypeError, ArgumentValueError: an operation that no store would accept; nothing
                was written.
            EncodeError: a value that the store's codec does not take; nothing was written.
            DecodeError: an item that was stored cannot be read.
            StoreUnavailable: the store cannot be reached.
        """
        plan = self._plan(ops)
        vectors = _NOTHING
        if self._index is not None and (plan.texts or plan.queries):
            vectors = self._index.embed(plan.texts, plan.queries)
        return self._engine.run(named("batch", self._carried_out(plan, vectors)))

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """Await :meth:`batch`."""
        plan = self._plan(ops)
        vectors = _NOTHING
        if self._index is not None and (plan.texts or plan.queries):
            vectors = await self._index.aembed(plan.texts, plan.queries)
        return await self._engine.arun(named("batch", self._carried_out(plan, vectors)))

    def _plan(self, ops: Iterable[Op]) -> _Plan:
        plan = _Plan()
        for number, op in enumerate(ops):
            plan.size = number + 1
            if isinstance(op, GetOp):
                plan.gets.append((number, op, Place(name_of(op.namespace), check_key(op.key))))
            elif isinstance(op, PutOp):
                place = Place(name_of(op.namespace), check_key(op.key))
                _check_put(op)
                # The order of the last ones, which is that of their times.
                plan.puts.pop(place, None)
                plan.puts[place] = op
            elif isinstance(op, SearchOp):
                check_count("limit", op.limit, 0)
                check_count("offset", op.offset, 0)
                check_filter(op.filter)
                if op.query is not None and not isinstance(op.query, str):
                    raise ArgumentTypeError(
                        f"query must be None or a str, not {type(op.query).__name__} "
                        f"({shown(op.query)})"
                    )
                plan.searches.append((number, op, name_of(op.namespace_prefix)))
                if op.query and op.limit:
                    plan.queries[op.query] = None
            elif isinstance(op, ListNamespacesOp):
                select_namespaces(op, ())
                plan.listings.append((number, op))
            else:
                raise ArgumentValueError(
                    f"Unknown operation type: {type(op).__name__} ({shown(op)}); there are GetOp, "
                    "SearchOp, PutOp and ListNamespacesOp"
                )
        if self._index is not None:
            for place, op in plan.puts.items():
                if texts := self._index.texts(op):
                    plan.indexed[place] = texts
                    plan.texts.update(dict.fromkeys(texts))
        return plan

    def _carried_out(
        self,
        plan: _Plan,
        vectors: tuple[Mapping[str, bytes], Mapping[str, Any]],
    ) -> Steps[list[Result]]:
        by_text, by_query = vectors
        results: list[Result] = [None] * plan.size
        if plan.gets:
            yield from self._get(plan.gets, results)
        if len(plan.searches) == 1 and not plan.listings and not by_query:
            # The usual search: what lies under the prefix may be read together with the names.
            ((number, search, prefix),) = plan.searches
            results[number] = yield from self._search(search, prefix, None, by_query)
        elif plan.searches or plan.listings:
            prefixes = [prefix_of(listing) for _, listing in plan.listings]
            prefixes += [prefix for _, _, prefix in plan.searches]
            named = iter((yield from finish(self._engine.names(prefixes))))
            for number, listing in plan.listings:
                known = [labels for labels in map(labels_of, next(named)) if labels is not None]
                results[number] = select_namespaces(listing, known)
            for number, search, prefix in plan.searches:
                within = right_names(next(named))
                results[number] = yield from self._search(search, prefix, within, by_query)
        if plan.puts:
            try:
                yield from self._put(plan, by_text)
            except EncodeError:
                # The error of a batch names places within what the store keeps for an item.
                _check_values(plan.puts.values(), self.store)
                raise
        return results

    def _get(self, gets: Sequence[tuple[int, GetOp, Place]], results: list[Result]) -> Steps[None]:
        places = [place for _, _, place in gets]
        renew = [bool(op.refresh_ttl) for _, op, _ in gets]
        rows = yield from finish(self._engine.fetch(places, renew, self._clock.now()))
        for (number, op, _), row in zip(gets, rows, strict=True):
            if row is not None:
                created = moment(row.created)
                results[number] = Item(
                    value=row.value,
                    key=op.key,
                    namespace=op.namespace,
                    created_at=created,
                    updated_at=created if row.updated == row.created else moment(row.updated),
                )

    def _search(
        self,
        op: SearchOp,
        prefix: str,
        names: Sequence[str] | None,
        by_query: Mapping[str, Any],
    ) -> Steps[list[SearchItem]]:
        if (names is not None and not names) or not op.limit:
            return []
        now = self._clock.now()
        query = by_query.get(op.query) if op.query else None
        tests = field_tests(op.filter)
        keep = matcher(tests)
        page: list[Found]
        last = op.offset + op.limit
        if query is None or self._index is None:
            wanted = Wanted(keep, columns_of(tests), last)
            rows = yield from finish(self._engine.newest(prefix, wanted, now, names))
            page = [(None, place, row) for place, row in rows]
        else:
            page = yield from ranked(self._engine, self._index, names or (), query, keep, now, last)
        page = page[op.offset :]
        if op.refresh_ttl:
            again = [place for _, place, row in page if row.minutes is not None]
            if again:
                yield from finish(self._engine.renew(again, self._clock.now()))
        found = []
        for score, (name, key), (created, updated, _, _, _, value) in page:
            first = moment(created)
            last_time = first if updated == created else moment(updated)
            labels = cast("tuple[str, ...]", labels_of(name))
            found.append(SearchItem(labels, key, value, first, last_time, score))
        return found

    def _put(self, plan: _Plan, by_text: Mapping[str, bytes]) -> Steps[None]:
        changes = []
        now = self._clock.now()
        times = self._clock.several(len(plan.puts))
        for (place, op), written in zip(plan.puts.items(), times, strict=True):
            if op.value is None:
                changes.append(Change(place, None))
                continue
            minutes = None if op.ttl is None else float(op.ttl)
            expires = None if minutes is None else now + int(minutes * _MINUTE)
            vectors = [by_text[text] for text in plan.indexed.get(place, ())]
            row = Row(written, written, expires, minutes, bool(vectors), dict(op.value))
            changes.append(Change(place, row, vectors))
        yield from finish(self._engine.write(changes, now))

    # Expiry ------------------------------------------------------------------------------------

    def sweep_ttl(self) -> int:
        """Remove all expired items and return how many there were.

        Reads remove nothing and writes only some, so that a store whose items expire needs this
        now and then; :meth:`start_ttl_sweeper` sees to it. Over Redis one round trip for each 500
        items of each 100 namespaces.
        """
        return self._engine.run(named("sweep_ttl", self._swept()))

    async def asweep_ttl(self) -> int:
        """Await :meth:`sweep_ttl`."""
        return await self._engine.arun(named("sweep_ttl", self._swept()))

    def _swept(self) -> Steps[int]:
        return (yield from finish(self._engine.sweep(self._clock.now())))

    def start_ttl_sweeper(self, sweep_interval_minutes: float | None = None) -> Any:
        """Start a thread that sweeps; if it runs already, do nothing.

        Args:
            sweep_interval_minutes: How long it waits between two sweeps; that of the ``ttl``
                configuration, or else 5, if omitted.

        Returns:
            A :class:`concurrent.futures.Future` that is done when the thread has ended; cancelling
            it ends the thread.
        """
        interval = sweep_interval_minutes
        if interval is None:
            interval = (self.ttl_config or {}).get("sweep_interval_minutes") or 5
        check_number("sweep_interval_minutes", interval, 0.0001, "minutes")
        return self._sweeper.start(interval * 60)

    def stop_ttl_sweeper(self, timeout: float | None = None) -> bool:
        """End the thread that sweeps, if there is one.

        Args:
            timeout: How many seconds to wait until it has ended; None: as long as it takes.

        Returns:
            Whether there is none any more.
        """
        return self._sweeper.stop(timeout)

    def __exit__(self, *error: Any) -> None:
        """End the thread that sweeps, and close the store if it is owned."""
        self.stop_ttl_sweeper()
        super().__exit__(*error)

    def __copy__(self) -> Self:
        """Return another one over the same store, with a sweeper of its own."""
        made = super().__copy__()
        made._sweeper = Sweeper(made)
        return made

    def _attach(self, store: StoreLike) -> None:
        self.store = store
        self._engine = engine_of(store)
        if self.index_config is not None:
            from swarmstate.integrations.langgraph.vectors import Index

            self._index = Index(self.index_config, self._vector_cache_bytes)


class _Clock:
    """Microseconds since the Unix epoch; no two puts of one process have the same."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = 0

    def now(self) -> int:
        return int(time() * 1_000_000)

    def several(self, count: int) -> Iterator[int]:
        with self._lock:
            first = max(self.now(), self._last + 1)
            self._last = first + count - 1
        return iter(range(first, first + count))


def _check_put(op: PutOp) -> None:
    if op.value is not None:
        try:
            dict(op.value)
        except (TypeError, ValueError):
            raise ArgumentTypeError(
                f"the value of item {shown(op.key)} must be None or a dict, not "
                f"{type(op.value).__name__} ({shown(op.value)})"
            ) from None
    if op.ttl is not None:
        _check_minutes("ttl", op.ttl)


def _check_minutes(what: str, value: Any) -> None:
    check_number(what, value, 0, "minutes")
    if not 0 < value <= _MOST_MINUTES:
        raise ArgumentValueError(
            f"{what} must be above 0 and at most 10**8 minutes, not {shown(value)}"
        )


def _checked_ttl(ttl: Any) -> TTLConfig | None:
    if ttl is None:
        return None
    if not isinstance(ttl, dict):
        raise ArgumentTypeError(
            f"ttl must be None or a dict, not {type(ttl).__name__} ({shown(ttl)})"
        )
    for key in ttl:
        if key not in _TTL_KEYS:
            raise ArgumentValueError(
                f"ttl has the unknown key {shown(key)}; there are {', '.join(_TTL_KEYS)}"
            )
    if ttl.get("default_ttl") is not None:
        _check_minutes("ttl['default_ttl']", ttl["default_ttl"])
    if ttl.get("sweep_interval_minutes") is not None:
        check_number(
            *("ttl['sweep_interval_minutes']", ttl["sweep_interval_minutes"], 0.0001, "minutes")
        )
    return cast("TTLConfig", ttl)


def _check_values(ops: Iterable[PutOp], store: Any) -> None:
    """Raise the error of the first value that its codec does not take, as for the value alone."""
    try:
        codec = codecs.get(store.codec)
    except (AttributeError, UnknownCodecError):
        return
    for op in ops:
        if op.value is not None:
            codec.encode(dict(op.value))
