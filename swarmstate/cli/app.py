"""The command line with all of its commands, which come with the rooms that are imported here."""

# The order is that of the help.
# ruff: noqa: F401, I001
from swarmstate.cli.commands import cli
from swarmstate.cli import doctor, threads, sizes, removal, moving, archives, keys, watching

__all__ = ["cli"]
