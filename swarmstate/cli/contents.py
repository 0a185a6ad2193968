"""What a store holds, as it is stored: which namespaces a thread has, and until when they live."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

from swarmstate.checkpoints.format import id_of, names, thread_namespace
from swarmstate.protocols import Expiring, StoreLike
from swarmstate.steps import Steps, named

__all__ = ["expire", "expiries", "namespaces_of_thread", "thread_in"]

_LEAST = 0.001
_WRITES = "langgraph:writes:"
_TAG = b"{t:"
_PARTS = 4


def namespaces_of_thread(store: StoreLike, thread: str) -> Iterator[str]:
    """Yield the namespaces that hold a thread, with what makes it exist last.

    Whoever copies them in this order never shows a part of a checkpoint: values come before the
    records that name them, and a checkpoint namespace exists once the last of them is there.
    """
    first = thread_namespace(thread)
    for space in dict.fromkeys(("", *store.keys(first))):
        where = names(thread, space)
        yield where.values
        ids = {*store.keys(where.orphans), *map(id_of, store.keys(where.checkpoints))}
        yield from (where.writes + each for each in sorted(ids))
        yield where.orphans
        yield where.checkpoints
    yield first


def expiries(store: StoreLike, namespaces: Sequence[str]) -> dict[str, int]:
    """Return when namespaces expire, in milliseconds since the Unix epoch; without those that stay.

    One round trip. Stores whose namespaces do not expire, and stores of other makes, tell nothing.
    """
    steps, driver = getattr(store, "steps", None), getattr(store, "driver", None)
    if steps is None or driver is None:
        return {}
    from swarmstate.backends.disk.store import DiskStore

    ask = _in_file if isinstance(store, DiskStore) else _on_server
    found: dict[str, int] = driver.run(named("expiries", ask(steps, namespaces)))
    return found


def _on_server(steps: Any, namespaces: Sequence[str]) -> Steps[dict[str, int]]:
    from swarmstate.backends.redis.commands import Batch

    asked = [("PTTL", steps.layout.key(namespace)) for namespace in namespaces]
    left = (yield Batch(asked, idempotent=True)) if asked else []
    now = int(time.time() * 1000)
    return {name: now + ms for name, ms in zip(namespaces, left, strict=True) if ms >= 0}


def _in_file(steps: Any, namespaces: Sequence[str]) -> Steps[dict[str, int]]:
    from swarmstate.backends.disk.driver import Read

    def work(connection: Any) -> dict[str, int]:
        found: dict[str, int] = {}
        for namespace in namespaces:
            row = connection.execute(
                "SELECT expires FROM space WHERE name=? AND expires IS NOT NULL",
                (steps.split(namespace)[0],),
            ).fetchone()
            if row is not None:
                found[namespace] = row[0]
        return found

    return (yield Read(work))  # type: ignore[no-any-return]


def expire(store: StoreLike, namespace: str, at: int) -> bool:
    """Let a namespace expire at a time, in milliseconds since the Unix epoch, if the store can.

    In a file the pending writes of all checkpoints of a LangGraph namespace expire together.

    Returns:
        Whether that is so now.
    """
    if not isinstance(store, Expiring):
        return False
    if namespace.startswith(_WRITES):
        from swarmstate.backends.disk.store import DiskStore

        if isinstance(store, DiskStore):
            return store.driver.run(named("expire", _expire_in_file(store.steps, namespace, at)))
    return store.expire(namespace, max(at / 1000 - time.time(), _LEAST))


def _expire_in_file(steps: Any, namespace: str, at: int) -> Steps[bool]:
    from swarmstate.backends.disk.driver import Write

    def work(connection: Any) -> bool:
        # The public method refuses this, because it is asked for one checkpoint.
        changed = connection.execute(
            "UPDATE space SET expires=? WHERE name=?", (at, steps.split(namespace)[0])
        )
        return bool(changed.rowcount)

    return (yield Write(work))  # type: ignore[no-any-return]


def thread_in(namespace: str) -> str | None:
    """Return the LangGraph thread that a namespace is of, by its name; None if of none."""
    parts = namespace.split(":", 3)
    if len(parts) < _PARTS or parts[0] != "langgraph" or not parts[2].isdecimal():
        return None
    tagged = parts[3].encode()
    end = len(_TAG) + int(parts[2])
    if not tagged.startswith(_TAG) or tagged[end : end + 1] != b"}":
        return None
    return tagged[len(_TAG) : end].decode(errors="replace")
