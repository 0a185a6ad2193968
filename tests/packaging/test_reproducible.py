"""The same sources give the same distributions to the byte, wherever they are built."""

from __future__ import annotations

import hashlib
import os
import tarfile
import zipfile
from pathlib import Path

import pytest
from built import Distributions, build_once, copy_sources

pytestmark = [
    pytest.mark.skipif(
        "SWARMSTATE_TEST_REPRODUCIBLE" not in os.environ,
        reason="builds everything twice, which takes minutes; set SWARMSTATE_TEST_REPRODUCIBLE=1",
    ),
    pytest.mark.timeout(3600),
]
MOMENT = 1_750_000_000


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory) -> tuple[Distributions, Distributions]:
    """Two builds, in folders of other names, at other moments, with other rights for new files."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOURCE_DATE_EPOCH", str(MOMENT))
        # Of both, so that whoever works on the sources meanwhile does no harm.
        original = copy_sources(tmp_path_factory.mktemp("original") / "sources")
        first = build_once(tmp_path_factory.mktemp("here"), original)
        mask = os.umask(0o077)
        try:
            second = build_once(tmp_path_factory.mktemp("in-another-place"), original)
        finally:
            os.umask(mask)
    return first, second


def contents(distribution: Path) -> dict[str, tuple[str, int, int]]:
    """Return hash, time and mode of each file, which say more than one hash of all."""
    if distribution.suffix == ".whl":
        with zipfile.ZipFile(distribution) as wheel:
            return {
                one.filename: (
                    hashlib.sha256(wheel.read(one)).hexdigest(),
                    int("".join(f"{part:02}" for part in one.date_time)),
                    one.external_attr >> 16,
                )
                for one in wheel.infolist()
            }
    with tarfile.open(distribution) as sdist:
        found = {}
        for one in sdist:
            file = sdist.extractfile(one)
            data = b"" if file is None else file.read()
            found[one.name] = (hashlib.sha256(data).hexdigest(), int(one.mtime), one.mode)
        return found


@pytest.mark.parametrize("kind", ["sdist", "wheel"])
def test_two_builds_are_equal_to_the_byte(
    twice: tuple[Distributions, Distributions], kind: str
) -> None:
    first, second = (getattr(one, kind) for one in twice)
    assert contents(first) == contents(second)
    assert first.read_bytes() == second.read_bytes()


def test_the_sdist_has_one_time_and_nobody_s_name(
    twice: tuple[Distributions, Distributions],
) -> None:
    with tarfile.open(twice[0].sdist) as sdist:
        assert {(one.mtime, one.uid, one.uname) for one in sdist} == {(MOMENT, 0, "")}
