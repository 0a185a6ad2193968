"""Every read of a store, with what it answers of two small namespaces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from swarmstate.backends.redis import RedisStore

CONTENT = [("a", "k", 1), ("b", "k", 2), ("a", "x", 3), ("b", "x", 4)]

READS: dict[str, tuple[Callable[[RedisStore], Any], Any]] = {
    "get": (lambda store: store.get("a", "k"), 1),
    "get_many": (lambda store: store.get_many([("a", "k"), ("b", "k"), ("c", "k")]), [1, 2, None]),
    "contains": (lambda store: store.contains("a", "k"), True),
    "keys": (lambda store: sorted(store.keys("a")), ["k", "x"]),
    "items": (lambda store: dict(store.items("a")), {"k": 1, "x": 3}),
    "max_key": (lambda store: store.max_key("a"), "x"),
    "in": (lambda store: "a" in store, True),
    "namespaces": (lambda store: sorted(store.namespaces()), ["a", "b"]),
    "len": (len, 4),
    "snapshot": (lambda store: len(store.snapshot()), 4),
}
