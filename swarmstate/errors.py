"""The errors of swarmstate: one tree, one root.

Every error that the package raises on purpose is a :class:`SwarmStateError`. Most are also the
built-in error that a Python programmer would expect in their place, so that ``except TypeError``
or ``except ConnectionError`` around a store keeps working.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "AccessDenied",
    "ArgumentTypeError",
    "ArgumentValueError",
    "DecodeError",
    "EncodeError",
    "InvalidArgumentError",
    "StoreUnavailable",
    "SwarmStateError",
    "UnknownCodecError",
    "WireFormatError",
]


class SwarmStateError(Exception):
    """Root of every error that swarmstate raises. Pickled, it comes back as it was."""

    def __reduce__(self) -> tuple[Any, ...]:
        # The default calls the class with the text alone, which is not enough for some.
        return _made, (type(self), self.args, self.__dict__)


def _made(kind: type[SwarmStateError], args: tuple[Any, ...], attributes: dict[str, Any]) -> Any:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(attributes)
    return error


class InvalidArgumentError(SwarmStateError):
    """An argument that no store would accept; nothing was read or written.

    Raised as :class:`ArgumentTypeError` or :class:`ArgumentValueError`.
    """


class ArgumentTypeError(InvalidArgumentError, TypeError):
    """An argument of the wrong type."""


class ArgumentValueError(InvalidArgumentError, ValueError):
    """An argument of the right type with a value that is not accepted."""


class EncodeError(SwarmStateError, TypeError, ValueError):
    """A value outside the domain of the codecs; nothing was written.

    The text names the type and the path, as in
    ``cannot encode set at value['a'][1]: unsupported type``.
    """


class DecodeError(SwarmStateError, ValueError):
    """Bytes that are not one complete, valid value."""


class UnknownCodecError(SwarmStateError, LookupError, ValueError):
    """A codec name that is not registered, or whose package is not installed."""


class WireFormatError(SwarmStateError, ValueError):
    """A snapshot of one wire format was given to a store of another; nothing was changed."""


class StoreUnavailable(SwarmStateError, ConnectionError):  # noqa: N818 (the name is public)
    """The store cannot be reached, refuses to work, or has been closed.

    A :class:`ConnectionError`, so retry policies that know the built-in one (LangGraph's default
    ``RetryPolicy`` among them) treat it as transient.
    """


class AccessDenied(SwarmStateError, PermissionError):  # noqa: N818 (the name is public)
    """The server does not let us in, or not do this: trying again does not help.

    A wrong password, a missing permission, a database that does not exist. Not a
    :class:`ConnectionError`, so neither a store nor a caller's retry policy tries again.
    """
