"""From a URL to what connections are made with; what is wrong with one is told without secrets."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, NoReturn
from urllib.parse import unquote

from swarmstate.errors import ArgumentTypeError, ArgumentValueError

__all__ = ["SCHEMES", "Target", "parse"]


class Scheme(NamedTuple):
    """What a URL's scheme says."""

    transport: str
    """``"tcp"``, ``"tls"`` or ``"unix"``."""

    clustered: bool


SCHEMES = {
    "redis": Scheme("tcp", False),
    "rediss": Scheme("tls", False),
    "valkey": Scheme("tcp", False),
    "valkeys": Scheme("tls", False),
    "unix": Scheme("unix", False),
    "redis+cluster": Scheme("tcp", True),
    "rediss+cluster": Scheme("tls", True),
    "valkey+cluster": Scheme("tcp", True),
    "valkeys+cluster": Scheme("tls", True),
}
_DIGITS = 9
_EXAMPLE = "redis://user:password@localhost:6379/0"


class Target(NamedTuple):
    """What a URL names."""

    scheme: Scheme
    options: dict[str, Any]
    """Arguments of the client library's connections."""


def parse(url: object) -> Target:
    """Return what a URL names.

    Raises:
        InvalidArgumentError: it is not a URL that is accepted, names something that cannot be, or
            has a parameter that is not honoured.
    """
    if not isinstance(url, str):
        shown = f" ({url})" if isinstance(url, (int, float)) else ""
        raise ArgumentTypeError(
            f"url must be a str as {_EXAMPLE}, not {type(url).__name__}{shown}" + _hint(url)
        )
    name, separator, rest = url.partition("://")
    if not separator or name not in SCHEMES:
        hint = ""
        if name.lower() in SCHEMES and separator:
            hint = f"; schemes are written in lower case: {name.lower()}://"
        _refuse(
            url,
            "it must start with one of " + ", ".join(f"{known}://" for known in SCHEMES) + hint,
        )
    if any(character.isspace() or not character.isprintable() for character in url):
        _refuse(url, "it contains white space or a character that cannot be printed")
    login = rest.partition("?")[0].rpartition("@")[0]
    if "#" in rest or (name != "unix" and ("/" in login or "@" in login)):
        _refuse(
            url,
            "@ : / ? # % in a user name, a password or a path are written percent-encoded, "
            "as by urllib.parse.quote(password, safe='')",
        )
    return Target(SCHEMES[name], _options(url, SCHEMES[name]))


def _options(url: str, scheme: Scheme) -> dict[str, Any]:
    # Not urlsplit: its errors quote what they are about.
    body, _, query = url.partition("://")[2].partition("?")
    netloc, slash, path = body.partition("/")
    path = _unquoted(url, slash + path)
    login, at, place = netloc.rpartition("@")
    options: dict[str, Any] = {}
    if at:
        user, _, password = login.partition(":")
        if user:
            options["username"] = _unquoted(url, user)
        if password:
            options["password"] = _unquoted(url, password)
    if scheme.transport == "unix":
        if place:
            _refuse(url, "the path of a socket is absolute, as in unix:///path/to/socket?db=0")
        if not path.strip("/"):
            _refuse(url, "the path of the socket is missing, as in unix:///path/to/socket?db=0")
        options["path"] = path
    else:
        options["host"], options["port"] = _place(url, place)
        if path.strip("/"):
            options["db"] = _database(url, path.strip("/"))
    _read_query(url, scheme, query, options)
    if scheme.clustered and options.pop("db", 0):
        _refuse(url, "a cluster has only database 0")
    return options


def _place(url: str, place: str) -> tuple[str, int]:
    if place.startswith("["):
        host, closed, rest = place[1:].partition("]")
    else:
        host, colon, port = place.partition(":")
        closed, rest = "]", colon + port
    if not closed or rest.count(":") > 1 or (rest and not rest.startswith(":")):
        _refuse(url, "an IPv6 address is written in brackets, as in redis://[::1]:6379/0")
    if not host:
        _refuse(url, f"the host is missing, as in {_EXAMPLE}")
    port = rest[1:] if rest else "6379"
    if not (port.isascii() and port.isdecimal()):
        _refuse(url, "the port must be a number")
    if len(port) > _DIGITS or not 1 <= int(port) <= 65535:
        _refuse(url, f"the port must be between 1 and 65535, not {port[:_DIGITS]}")
    return _unquoted(url, host), int(port)


def _database(url: str, text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= _DIGITS):
        _refuse(url, "the database must be a number of at least 0, as in " + _EXAMPLE)
    return int(text)


# The query ---------------------------------------------------------------------------------------


def _text(value: str) -> str:
    if not value:
        raise ValueError("a text")
    return value


def _bool(value: str) -> bool:
    known = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if value.lower() not in known:
        raise ValueError("true or false")
    return known[value.lower()]


def _natural(value: str) -> int:
    if not (value.isascii() and value.isdecimal() and len(value) <= _DIGITS):
        raise ValueError("a number of at least 0")
    return int(value)


def _choice(*choices: str) -> Callable[[str], str]:
    def choose(value: str) -> str:
        if value.lower() not in choices:
            raise ValueError("one of " + ", ".join(choices))
        return value.lower()

    return choose


def _protocol(value: str) -> int:
    return int(_choice("2", "3")(value))


def _tls_version(value: str) -> ssl.TLSVersion:
    name = value.replace(".", "_")
    if name not in ("TLSv1_2", "TLSv1_3"):
        raise ValueError("TLSv1.2 or TLSv1.3")
    return ssl.TLSVersion[name]


_PARAMETERS: Mapping[str, Callable[[str], Any]] = {
    "client_name": _text,
    "db": _natural,
    "health_check_interval": _natural,
    "password": _text,
    "protocol": _protocol,
    "socket_keepalive": _bool,
    "socket_read_size": _natural,
    "username": _text,
}
_TLS_PARAMETERS: Mapping[str, Callable[[str], Any]] = {
    "ssl_ca_certs": _text,
    "ssl_ca_data": _text,
    "ssl_ca_path": _text,
    "ssl_cert_reqs": _choice("none", "optional", "required"),
    "ssl_certfile": _text,
    "ssl_check_hostname": _bool,
    "ssl_ciphers": _text,
    "ssl_keyfile": _text,
    "ssl_min_version": _tls_version,
    "ssl_password": _text,
    "ssl_validate_ocsp": _bool,
    "ssl_validate_ocsp_stapled": _bool,
}
# Parameters of other programs' URLs, and what says the same here.
_KEYWORDS = {
    "codec": "codec",
    "max_connections": "max_connections",
    "max_history": "max_history",
    "prefix": "prefix",
    "retries": "retries",
    "retry": "retries",
    "retry_on_error": "retries",
    "retry_on_timeout": "retries",
    "socket_connect_timeout": "timeout",
    "socket_timeout": "timeout",
    "timeout": "timeout",
    "ttl": "ttl",
    "ttl_on_read": "ttl_on_read",
}
_SECRET = {"password", "ssl_password"}
_NEVER = {
    "decode_responses": "stored values are bytes, not text",
    "encoding": "names are encoded as UTF-8",
    "encoding_errors": "names are encoded as UTF-8",
}


def _read_query(url: str, scheme: Scheme, query: str, options: dict[str, Any]) -> None:
    known = dict(_PARAMETERS)
    if scheme.transport == "tls":
        known |= _TLS_PARAMETERS
    seen: set[str] = set()
    for part in filter(None, query.split("&")):
        name, equals, text = part.partition("=")
        if not equals:
            # What follows an & may be the rest of a password.
            _refuse(url, "each parameter is written name=value")
        name = _unquoted(url, name)
        if name in _KEYWORDS:
            _refuse(url, f"the parameter {name} is not read: use the keyword {_KEYWORDS[name]}=")
        if name in _NEVER:
            _refuse(url, f"the parameter {name} is not accepted, because {_NEVER[name]}")
        if name in _TLS_PARAMETERS and name not in known:
            _refuse(url, f"the parameter {name} needs TLS: rediss:// or valkeys://")
        if name not in known:
            # What follows a password may be the rest of it.
            shown = name if name.isidentifier() and not seen & _SECRET else "of this name"
            _refuse(url, f"there is no parameter {shown}; those that are read: " + ", ".join(known))
        if name in seen:
            _refuse(url, f"the parameter {name} is there twice")
        seen.add(name)
        # A plus is a plus, as in the rest of the URL.
        text = _unquoted(url, text)
        try:
            value = known[name](text)
        except ValueError as error:
            _refuse(url, f"the parameter {name} must be {error}")
        if name in options and options[name] != value:
            _refuse(url, f"the parameter {name} contradicts the rest of the URL")
        options[name] = value


# Errors ------------------------------------------------------------------------------------------


def _unquoted(url: str, text: str) -> str:
    plain = unquote(text)
    if "\ufffd" in plain and "\ufffd" not in text:
        _refuse(url, "what is percent-encoded must be UTF-8")
    return plain


def _refuse(url: str, why: str) -> NoReturn:
    raise ArgumentValueError(f"url {hidden(url)!r} is not accepted: {why}") from None


def _hint(url: object) -> str:
    if hasattr(type(url), "get_encoder") or hasattr(type(url), "execute_command"):
        return "; a client goes into the keyword client="
    return ""


def hidden(url: str) -> str:
    """Return as much of a URL as holds no secret, not even what could be one if it is malformed."""
    head, separator, rest = url.partition("://")
    if not separator:
        # As in "localhost:6379?password=...", or not a URL at all.
        head, rest = "", head
    if len(head) > 20 or not all(character.isalnum() or character in "+-." for character in head):
        head = _HIDDEN
    login, at, rest = rest.rpartition("@")
    rest, question, _ = rest.partition("?")
    rest = rest.partition("#")[0]
    place, slash, path = rest.partition("/")
    host, colon, port = place.partition(":")
    if place.startswith("["):
        host, colon, port = place, "", ""
    if colon and (not host or not (port.isascii() and port.isdecimal())):
        # It may be a login without @ and host.
        place = f"{host}:{_HIDDEN}" if host else _HIDDEN
        slash = ""
    shown = head + separator
    if at:
        user, colon, _ = login.partition(":")
        known = colon and user.isascii() and user.isalnum()
        shown += f"{user}:{_HIDDEN}@" if known else f"{_HIDDEN}@"
    shown += place[:100]
    if slash:
        shown += slash + path[:60]
    return shown + ("?..." if question else "")


_HIDDEN = "***"
