"""The table of stores: every test of the store interface runs on each of them.

A backend added later adds one line to :data:`STORES`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from swarmstate import Store
from swarmstate.protocols import StoreLike

CODECS = ("msgpack", "ormsgpack")
_prefixes = itertools.count()


def _memory(url: str, **options: Any) -> StoreLike:
    return Store(**options)


def _redis(url: str, **options: Any) -> StoreLike:
    from swarmstate.backends.redis import RedisStore

    options.setdefault("prefix", f"test{next(_prefixes)}")
    return RedisStore(url, **options)


STORES: dict[str, Callable[..., StoreLike]] = {
    "memory": _memory,
    "redis": _redis,
}
