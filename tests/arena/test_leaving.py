"""What lies in the folder at the end is of this start, and whatever else lies there stays."""

import json

import pytest

from tests.arena.parts import CONTESTANTS, arena
from tpdm.arena.leaving import LEFT, clear

FEW = ("table", "adaptive", "mean_schedule", "allocator")


def played(folder, *names):
    """A small arena of these."""
    settings = {"targets": [2], "seeds": [0], "grids": {}, "samplers": {}, "learning": 16, "matching": 8}
    one = arena(folder, contestants={name: CONTESTANTS[name] for name in names}, evaluation=8, **settings)
    one()
    return one


def left(one):
    """Beside what every arena leaves."""
    always = {"arena.csv", "report.html", "schedules.json", "kept", LEFT}
    return {path.name for path in one.folder.iterdir() if path.suffix != ".png"} - always


def test_what_an_earlier_start_left_and_this_one_does_not_goes_and_nothing_else(tmp_path):
    one = played(tmp_path, *FEW)
    assert left(one) == {"table.json", "mean_schedule.json", "allocator"}
    for name in ("mine.json", "adaptive.json", "notes"):
        (one.folder / name).mkdir() if name == "notes" else (one.folder / name).write_text("[1, 0]")
    theirs = {"mine.json", "adaptive.json", "notes"}
    assert left(played(tmp_path, "table", "adaptive")) == {"table.json"} | theirs
    assert left(played(tmp_path, *FEW)) == {"table.json", "mean_schedule.json", "allocator"} | theirs


@pytest.mark.parametrize("names", [["../kept"], [".."], [""], ["/tmp"], [1], {"1": 1}])
def test_a_list_of_what_lies_elsewhere_takes_nothing_away(names, tmp_path):
    folder, near = tmp_path / "arena", tmp_path / "kept"
    folder.mkdir(), near.mkdir()
    (folder / "1").touch()
    (folder / LEFT).write_text(json.dumps(names))
    with pytest.raises(ValueError, match=r"left\.json is no list of names in its folder; it was edited"):
        clear(folder)
    assert near.exists()
    assert len(list(folder.iterdir())) == 2
