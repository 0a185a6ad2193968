"""Passwords are not shown: not in the text of an error, nor in an error behind it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote, quote_plus

__all__ = ["Redaction", "secrets_of"]

# Shorter secrets may be words of any text, as "redis" is: they are hidden where a text quotes them.
_LONG = 8
_HIDDEN = "***"


class Redaction:
    """Hides secrets in errors of the client library and of servers.

    A server quotes what it did not understand, a login among it, and some versions of the client
    libraries show a client with all of its arguments.

    Args:
        secrets: what to hide: text, bytes, or None for nothing.
    """

    def __init__(self, secrets: Iterable[Any] = ()) -> None:
        forms: set[str] = set()
        for secret in secrets:
            text = secret.decode("utf-8", "replace") if isinstance(secret, bytes) else secret
            if isinstance(text, str) and text:
                forms |= {text, repr(text)[1:-1], quote(text, safe=""), quote(text)}
                forms.add(quote_plus(text))
        # The longest first, as one form may hold another.
        patterns = [_pattern(form) for form in sorted(forms, key=len, reverse=True)]
        self._pattern = re.compile("|".join(patterns)) if patterns else None

    def __repr__(self) -> str:
        return "<Redaction>"

    def text(self, text: str) -> str:
        """Return a text without secrets."""
        return text if self._pattern is None else self._pattern.sub(_HIDDEN, text)

    def of(self, error: Exception) -> Exception:
        """Return an error, cleaned together with the errors behind it."""
        if self._pattern is None:
            return error
        for each in _chain(error):
            if self._shows(each):
                each.args = tuple(
                    self.text(arg if isinstance(arg, str) else str(arg)) for arg in each.args
                )
                if self._shows(each):
                    return ConnectionError(f"{type(error).__name__}; its text holds a password")
        return error

    def _shows(self, error: BaseException) -> bool:
        shown = (str(error), repr(error), repr(error.args), repr(vars(error)))
        return any(self.text(each) != each for each in shown)


def _pattern(secret: str) -> str:
    secret = re.escape(secret)
    if len(secret) >= _LONG:
        return secret
    return (
        rf"(?<=['\"`]){secret}(?=['\"`])"
        rf"|(?<==){secret}(?=[\s,&;)'\"]|$)"
        rf"|(?<=[:/]){secret}(?=@)"
    )


def _chain(error: BaseException) -> list[BaseException]:
    """Return an error and all that a traceback would show with it."""
    chain: list[BaseException] = []
    rest: list[BaseException | None] = [error]
    while rest:
        each = rest.pop()
        if each is not None and not any(each is known for known in chain):
            chain.append(each)
            rest += (each.__cause__, each.__context__)
    return chain


def secrets_of(options: Mapping[str, Any]) -> list[Any]:
    """Return what must not be shown of the options of a connection."""
    provider = options.get("credential_provider")
    return [
        # A lone user name may be a password that was written to the wrong place.
        options.get("password") or options.get("username"),
        options.get("ssl_password"),
        getattr(provider, "password", None),
    ]
