"""Reading and writing a LangGraph config: which checkpoint it names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from langchain_core.runnables import RunnableConfig

from swarmstate._checkpoints import config_of, name_of, text
from swarmstate.arguments import iterate, shown
from swarmstate.checkpoints.protocol import CheckpointName
from swarmstate.errors import ArgumentTypeError, ArgumentValueError

__all__ = [
    "checkpoint_id_of",
    "config_of",
    "configurable_of",
    "name_of",
    "text",
    "thread_id_of",
    "thread_ids_of",
    "unnamed",
    "unusual_name_of",
    "unusual_text",
]


def unusual_name_of(config: RunnableConfig) -> CheckpointName:
    """Return what :func:`name_of` does, for a config that is not made of plain dicts and texts.

    Raises:
        ArgumentTypeError, ArgumentValueError: it names none that a store can hold.
    """
    try:
        configurable = configurable_of(config)
        thread = configurable["thread_id"]
    except (KeyError, TypeError):
        raise ArgumentValueError(
            f"config must hold configurable.thread_id, and {shown(config)} does not"
        ) from None
    if type(thread) is not str:
        thread = thread_id_of(thread)
    checkpoint_ns = configurable.get("checkpoint_ns")
    return CheckpointName(
        thread,
        text("checkpoint_ns", checkpoint_ns) if checkpoint_ns else "",
        checkpoint_id_of(configurable),
    )


def configurable_of(config: RunnableConfig) -> Mapping[str, Any]:
    """Return the part of a config that names a checkpoint.

    Raises:
        KeyError, TypeError: it has none, or is not a config.
    """
    # LangChain's type lets every key be absent.
    found: Mapping[str, Any] = cast("Mapping[str, Any]", config)["configurable"]
    return found


def checkpoint_id_of(configurable: Mapping[str, Any]) -> str:
    """Return the checkpoint id in the configurable part of a config, or "" if there is none."""
    found = configurable.get("checkpoint_id")
    return text("checkpoint_id", found) if found else ""


_NO_IDS = (Mapping, list, tuple, set, frozenset, bytes, bytearray, memoryview)


def thread_id_of(value: object) -> str:
    """Return a thread id as LangGraph does: a number or a UUID counts as what it prints as.

    Raises:
        ArgumentTypeError: it is none, but a config, say, or a collection.
    """
    if type(value) is str:
        return value
    if isinstance(value, str):
        # A member of an enum that is text too counts as the text, not as what it is printed as.
        return str.__str__(value)
    if value is None or isinstance(value, _NO_IDS) or _prints_as_nothing(value):
        hint = ""
        if isinstance(value, Mapping) and "configurable" in value:
            hint = ": of a config, give config['configurable']['thread_id']"
        raise ArgumentTypeError(
            "thread_id must be a str, or something that prints as one, such as an int or a UUID, "
            f"not {type(value).__name__} ({shown(value)}){hint}"
        )
    return str(value)


def _prints_as_nothing(value: object) -> bool:
    """Return whether an object prints as its address: no other would ever name the same thread."""
    cls = type(value)
    return cls.__str__ is object.__str__ and cls.__repr__ is object.__repr__


def thread_ids_of(what: str, value: Any) -> list[str]:
    """Return several thread ids; one alone is refused, since its characters are not meant."""
    if isinstance(value, (str, bytes, bytearray, Mapping)):
        raise ArgumentTypeError(
            f"{what} must be an iterable of thread ids, not {type(value).__name__} ({shown(value)})"
        )
    return [thread_id_of(each) for each in iterate(what, value, "an iterable of thread ids")]


def unnamed(config: RunnableConfig) -> ArgumentValueError:
    """Return the error for a config that must name a checkpoint and names only its thread."""
    return ArgumentValueError(
        f"config must hold configurable.checkpoint_id, and {shown(config)} does not"
    )


def unusual_text(what: str, value: object) -> str:
    """Return what :func:`text` does, also of a value that is no plain ASCII."""
    if not isinstance(value, str):
        raise ArgumentTypeError(
            f"{what} must be a str, not {type(value).__name__} ({shown(value)})"
        )
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ArgumentValueError(
            f"{what} must be text that UTF-8 can hold, not {shown(value)}"
        ) from None
    return str.__str__(value)
