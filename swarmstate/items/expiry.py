"""What expires next, as far as this process knows."""

from __future__ import annotations

import threading
from heapq import heappop, heappush

from swarmstate.items.protocol import Place

__all__ = ["Due"]

_MOST = 100_000


class Due:
    """When items expire, so that writes find what has expired without looking at everything.

    Only a hint: an item may have been renewed, or be gone, and of more than 100,000 some are not
    known. Each item is noted once, in O(log n).
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._heap: list[tuple[int, Place]] = []
        self._noted: set[Place] = set()

    def note(self, place: Place, expires: int) -> None:
        """Note when an item expires, unless an earlier time is noted."""
        with self._lock:
            if place not in self._noted and len(self._noted) < _MOST:
                self._noted.add(place)
                heappush(self._heap, (expires, place))

    def take(self, now: int, count: int) -> list[Place]:
        """Return some items that may have expired, and forget them."""
        found: list[Place] = []
        with self._lock:
            while self._heap and self._heap[0][0] <= now and len(found) < count:
                _, place = heappop(self._heap)
                self._noted.discard(place)
                found.append(place)
        return found
