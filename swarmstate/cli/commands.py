"""What all commands share: options, errors, questions."""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from swarmstate import __version__
from swarmstate.cli.opening import Place
from swarmstate.cli.showing import Display, printable
from swarmstate.errors import InvalidArgumentError, SwarmStateError
from swarmstate.shown import shown

__all__ = ["agreed", "cli", "command", "duration", "yes_option"]

F = TypeVar("F", bound=Callable[..., Any])

_LONGEST = 2000
_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


def duration(value: str | float) -> float:
    """Return a length of time in seconds: ``30d``, ``12h``, ``45m``, or seconds."""
    if isinstance(value, (int, float)):
        return float(value)
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw]?)", value.strip())
    if match is None:
        raise click.BadParameter(
            f"{value!r} is not a length of time such as 30d, 12h, 45m, 90s or 90"
        )
    return float(match[1]) * _UNITS[match[2]]


class _Group(click.Group):
    """The commands; what swarmstate raises ends them with one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands, those that belong together side by side."""
        return list(self.commands)

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Parse the arguments."""
        with _without_secrets():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        with warnings.catch_warnings(), _without_secrets():
            warnings.showwarning = _warned
            try:
                return super().invoke(ctx)
            except InvalidArgumentError as error:
                raise click.UsageError(_line(error)) from error
            except (SwarmStateError, ImportError, OSError) as error:
                if isinstance(error, BrokenPipeError):
                    raise
                raise click.ClickException(_line(error)) from error


@contextmanager
def _without_secrets() -> Iterator[None]:
    """Take the passwords out of what click says of arguments, which it quotes."""
    try:
        yield
    except click.UsageError as error:
        text = error.format_message()
        if "://" not in text and not re.search("passw", text, re.IGNORECASE):
            raise
        raise click.UsageError(shown(text, _LONGEST)[1:-1], error.ctx) from None


def _line(error: Exception) -> str:
    return printable(" ".join(str(error).split())) or type(error).__name__


def _warned(message: Warning | str, *_: Any, **__: Any) -> None:
    click.echo(f"Warning: {printable(' '.join(str(message).split()))}", err=True)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="swarmstate")
def cli() -> None:
    """Look into the state of agents, move it and remove it.

    A URL is sqlite:///relative.db or sqlite:////absolute/path.db, or redis://, rediss://,
    valkey://, valkeys:// (each also +cluster), or unix://. Most commands take it from --url or
    from the variable SWARMSTATE_URL.
    """


def command(*, url: bool = True, **settings: Any) -> Callable[[Callable[..., Any]], click.Command]:
    """Make a command of a function of a display and, if not said otherwise, of a place.

    Args:
        url: Whether it has the option ``--url``, and so a place.
        settings: Those of :meth:`click.Group.command`.
    """

    def make(function: Callable[..., Any]) -> click.Command:
        @functools.wraps(function)
        def run(as_json: bool, **values: Any) -> Any:
            chosen = {name: values.pop(name) for name in ("prefix", "codec", "timeout")}
            if not url:
                return function(Display(as_json), functools.partial(_place, **chosen), **values)
            given = values.pop("url")
            if not given:
                raise click.UsageError("give --url, or set the variable SWARMSTATE_URL")
            return function(Display(as_json), _place(given, **chosen), **values)

        options = [
            click.option("--json", "as_json", is_flag=True, help="Print JSON."),
            click.option("--timeout", type=duration, help="How long to wait for a reply."),
            click.option(
                "--codec",
                envvar="SWARMSTATE_CODEC",
                default="msgpack",
                show_default=True,
                help="The codec of the values.",
            ),
            click.option(
                "--prefix",
                envvar="SWARMSTATE_PREFIX",
                help="What all keys on a server start with.  [default: swarmstate]",
            ),
        ]
        if url:
            options.append(
                click.option("--url", "-u", envvar="SWARMSTATE_URL", help="Where the store is.")
            )
        decorated: Any = run
        for option in options:
            decorated = option(decorated)
        return cli.command(**settings)(decorated)

    return make


def _place(url: str, prefix: str | None, codec: str, timeout: float | None) -> Place:
    """Return a place; options that are only about servers do not count for others."""
    place = Place(url, prefix, codec, timeout)
    if place.is_memory:
        return Place(url, None, codec)
    return Place(url, None, codec, timeout) if place.is_file else place


def agreed(question: str, yes: bool) -> None:
    """Go on only if whoever runs the command says so, or has said ``--yes``."""
    if not yes:
        click.confirm(question, abort=True, err=True)


def yes_option(function: F) -> F:
    """Add ``--yes``."""
    return click.option("--yes", "-y", is_flag=True, help="Do not ask.")(function)
