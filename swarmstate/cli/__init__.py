"""The ``swarmstate`` command: looks into the state of agents, moves it and removes it.

Nothing else in the package imports this. Each room has the commands of one kind, and what all of
them share is in :mod:`~swarmstate.cli.commands`.
"""

from __future__ import annotations

import io
import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line of this process, and exit: 0 fine, 1 something is wrong, 2 usage."""
    try:
        import click  # noqa: F401
        import rich  # noqa: F401
    except ImportError as error:
        print(
            "the swarmstate command needs the libraries click and rich: pip install click rich "
            f"({error})",
            file=sys.stderr,
        )
        sys.exit(1)
    from swarmstate.cli.app import cli

    for stream in (sys.stdout, sys.stderr):
        # A name that the terminal cannot show must not end the program.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    cli(prog_name="swarmstate")
