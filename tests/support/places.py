"""Stores as the command is told of them, and the command run in this process."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from click.testing import CliRunner, Result

from swarmstate.cli.app import cli


def run(*arguments: str, answer: str = "") -> Result:
    """Run the command; what it asks is answered by ``answer``, or by the end of the input."""
    return CliRunner().invoke(cli, arguments, input=answer, prog_name="swarmstate")


def good(*arguments: str, answer: str = "") -> str:
    """Run the command, which must end well, and return what it printed."""
    result = run(*arguments, answer=answer)
    assert result.exit_code == 0, result.output
    return result.stdout


@dataclass
class Where:
    """A store, and how the command is told of it."""

    store: Any
    url: str
    prefix: str | None

    @property
    def options(self) -> list[str]:
        """The options that name it."""
        return ["--url", self.url, *(["--prefix", self.prefix] if self.prefix else [])]

    def run(self, *arguments: str, answer: str = "") -> Result:
        """Run a command here."""
        return run(*arguments, *self.options, answer=answer)

    def good(self, *arguments: str, answer: str = "") -> str:
        """Run a command here, which must end well."""
        return good(*arguments, *self.options, answer=answer)

    def json(self, *arguments: str) -> Any:
        """Return the JSON that a command prints here."""
        return json.loads(self.good(*arguments, "--json"))
