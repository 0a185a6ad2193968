"""What stores share about snapshots: the history they keep, and the content of any snapshot."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from swarmstate._core import Snapshot
from swarmstate.arguments import check_max_history
from swarmstate.forks import ProcessLock
from swarmstate.protocols import SnapshotLike

__all__ = ["History", "contents"]


class History:
    """The snapshots that a store keeps, and the id of the last one that was taken.

    Args:
        bound: How many are kept: 0 none, n the last n, None all.
    """

    def __init__(self, bound: int | None) -> None:
        self.bound = check_max_history(bound)
        self._kept: deque[SnapshotLike] = deque(maxlen=self.bound)
        self._last: int | None = None
        self._lock = ProcessLock()

    def take(self, values: dict[str, dict[str, bytes]], codec: str) -> Snapshot:
        """Return a snapshot of ``values``, which it takes over, and keep it as the bound says."""
        return self.keep(lambda parent: Snapshot.from_values(values, codec=codec, parent=parent))

    def keep(self, freeze: Callable[[int | None], Snapshot]) -> Snapshot:
        """Return the snapshot that ``freeze`` makes, given the last one's id, and keep it."""
        with self._lock:
            taken = freeze(self._last)
            self._last = taken.id
            self._kept.append(taken)
        return taken

    def kept(self) -> list[SnapshotLike]:
        """Return the kept snapshots, oldest first."""
        with self._lock:
            return list(self._kept)

    def clear(self) -> None:
        """Let go of the kept snapshots."""
        with self._lock:
            self._kept.clear()


def contents(snapshot: SnapshotLike) -> dict[str, dict[str, bytes]]:
    """Return what a snapshot of any store holds as plain dicts: namespace -> key -> encoded value.

    Cost: O(number of keys).
    """
    # Ours has them at hand, where persistent maps would have to be built first.
    if isinstance(snapshot, Snapshot):
        return snapshot.values()
    return {namespace: dict(entries) for namespace, entries in snapshot.state.items()}
