"""What SQLite says when it fails, as errors of ours; Python 3.10 gives its texts only."""

from __future__ import annotations

import sqlite3

import pytest

from swarmstate.backends.disk.faults import is_busy, primary_code, translated
from swarmstate.errors import (
    AccessDenied,
    ArgumentValueError,
    DecodeError,
    StoreUnavailable,
    SwarmStateError,
)

TEXTS: list[tuple[type[sqlite3.Error], str, type[SwarmStateError], str]] = [
    (sqlite3.OperationalError, "database is locked", StoreUnavailable, "locked"),
    (sqlite3.OperationalError, "locking protocol", StoreUnavailable, "locked"),
    (sqlite3.OperationalError, "database or disk is full", StoreUnavailable, "no room left"),
    (sqlite3.OperationalError, "disk I/O error", StoreUnavailable, "disk I/O error"),
    (sqlite3.DatabaseError, "database disk image is malformed", StoreUnavailable, "damaged"),
    (sqlite3.DatabaseError, "file is not a database", StoreUnavailable, "damaged"),
    (
        sqlite3.OperationalError,
        "attempt to write a readonly database",
        AccessDenied,
        "cannot be written",
    ),
    (sqlite3.DataError, "string or blob too big", ArgumentValueError, "1,000,000,000 bytes"),
    (sqlite3.OperationalError, "Could not decode to UTF-8 column 'key'", DecodeError, "UTF-8"),
    (sqlite3.OperationalError, "no such table: entry", StoreUnavailable, "no such table"),
]


@pytest.mark.parametrize(
    ("kind", "text", "error", "said"), TEXTS, ids=lambda value: str(value)[:40]
)
def test_each_failure_becomes_one_of_our_errors_that_names_the_file(
    kind: type[sqlite3.Error], text: str, error: type[SwarmStateError], said: str
) -> None:
    cause = kind(text)
    made = translated(cause, "/a/state.db", 5.0)
    assert type(made) is error
    assert "/a/state.db" in str(made)
    assert said in str(made)
    assert made.__cause__ is cause


def test_what_is_not_sqlite_s_stays_as_it_is() -> None:
    error = ZeroDivisionError()
    assert translated(error, "/a/state.db", 5.0) is error
    assert primary_code(error) == 0


def test_only_what_passes_by_itself_is_waited_for() -> None:
    assert is_busy(sqlite3.OperationalError("database is locked"))
    assert not is_busy(sqlite3.OperationalError("database or disk is full"))
    assert not is_busy(ZeroDivisionError("database is locked"))


def test_the_codes_of_this_python_mean_what_the_texts_do() -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute("PRAGMA query_only=ON")
    with pytest.raises(sqlite3.OperationalError, match="readonly") as caught:
        connection.execute("CREATE TABLE t(x)")
    assert primary_code(caught.value) == primary_code(sqlite3.OperationalError(str(caught.value)))
    connection.close()
