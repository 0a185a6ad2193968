"""State for AI agents: a fast store with free snapshots, in memory or over plain Redis."""

from swarmstate import codecs, errors
from swarmstate._core import Snapshot, Store
from swarmstate.codecs import dumps, loads

__all__ = ["Snapshot", "Store", "codecs", "dumps", "errors", "loads"]
__version__ = "0.1.0"
