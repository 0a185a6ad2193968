"""Stores in files of a test's own folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from swarmstate.backends.disk import DiskStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where no file is yet."""
    return tmp_path / "state.db"


@pytest.fixture
def make(path: Path) -> Iterator[Callable[..., DiskStore]]:
    """Open stores, all of one file; close them at the end."""
    made: list[DiskStore] = []

    def make(**options: Any) -> DiskStore:
        made.append(DiskStore(path, **options))
        return made[-1]

    yield make
    for store in made:
        store.close()


@pytest.fixture
def store(make: Callable[..., DiskStore]) -> DiskStore:
    return make()
