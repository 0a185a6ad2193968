"""The rules of the house: each file says what it holds, holds one idea, and imports one way."""

from __future__ import annotations

from pathlib import Path

import pytest
from house import ROOT, imported, rooms, says

MOST_LINES = 650
# Whoever is in a folder imports nothing that begins like this.
ABOVE = {
    "swarmstate/cli": (),
    "swarmstate/integrations": (
        *("swarmstate.cli", "swarmstate.backends.redis.", "swarmstate.backends.disk."),
    ),
    "swarmstate/backends": ("swarmstate.cli", "swarmstate.integrations"),
    "swarmstate/items": ("swarmstate.cli", "swarmstate.integrations", "swarmstate.backends"),
    "swarmstate/checkpoints": ("swarmstate.cli", "swarmstate.integrations", "swarmstate.backends"),
    "swarmstate/codecs": (
        *("swarmstate.cli", "swarmstate.integrations", "swarmstate.backends"),
        *("swarmstate.checkpoints", "swarmstate.items"),
    ),
}
GROUND = ("errors.py", "protocols.py")


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_every_file_says_in_its_first_line_what_it_holds() -> None:
    assert [name(room) for room in rooms() if room.read_text().strip() and not says(room)] == []


def test_no_file_holds_more_than_one_idea_has_room_for() -> None:
    lines = {name(room): len(room.read_text().splitlines()) for room in rooms()}
    assert {file: count for file, count in lines.items() if count > MOST_LINES} == {}


@pytest.mark.parametrize("folder", ABOVE)
def test_imports_point_one_way(folder: str) -> None:
    wrong = [
        f"{name(room)} imports {each}"
        for room in rooms()
        if room.suffix == ".py" and name(room).startswith(folder)
        for each in imported(room)
        if each.startswith(ABOVE[folder])
    ]
    assert not wrong


def test_the_ground_floor_knows_nobody_above_it() -> None:
    known = {
        each
        for file in GROUND
        for each in imported(ROOT / "swarmstate" / file)
        if each.startswith("swarmstate.")
    }
    assert {each.split(".")[1] for each in known} <= {"errors", "checkpoints"}, known
