"""State for AI agents: a fast store with free snapshots, in memory, in a file or over Redis."""

from swarmstate import codecs, errors
from swarmstate._core import Snapshot, Store
from swarmstate.backends.memory import AsyncStore
from swarmstate.backends.opening import open_async_store, open_store
from swarmstate.codecs import dumps, loads
from swarmstate.handoff import HandoffGraph

__all__ = [
    "AsyncStore",
    "HandoffGraph",
    "Snapshot",
    "Store",
    "codecs",
    "core_version",
    "dumps",
    "errors",
    "loads",
    "open_async_store",
    "open_store",
]
__version__ = "0.1.0"


def core_version() -> str:
    """Return the version of the compiled modules, which is that of the package."""
    return __version__
