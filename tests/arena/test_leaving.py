"""What lies in the folder at the end is of this start, and whatever else lies there stays."""

import json
from errno import ENOSPC

import pytest

from tests.arena.parts import CONTESTANTS, arena
from tpdm.arena import leaving
from tpdm.arena.leaving import LEFT, listed

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


def test_what_was_left_before_it_was_cut_short_goes_too(tmp_path, monkeypatch):
    """The table is written, and then there is no room for the next."""
    write = leaving.write_table

    def full(path, table):
        write(path, table)
        raise OSError(ENOSPC, "No space left on device")

    monkeypatch.setattr(leaving, "write_table", full)
    with pytest.raises(OSError, match="No space"):
        played(tmp_path, *FEW)
    monkeypatch.undo()
    assert "table.json" in listed(tmp_path / "arena")


def test_a_link_that_stands_for_what_was_left_goes_alone(tmp_path):
    one = played(tmp_path, *FEW)
    (one.folder / "allocator").rename(tmp_path / "moved")
    (one.folder / "allocator").symlink_to(tmp_path / "moved")
    assert left(played(tmp_path, "table", "adaptive")) == {"table.json"}
    assert list((tmp_path / "moved").iterdir())


@pytest.mark.parametrize(
    "names",
    [["../kept"], [".."], [""], ["/tmp"], [1], {"1": 1}, ["kept"], [LEFT], ["arena.csv"], ["report.html"],
     ["schedules.json"], ["pareto_nfe.png"], ["a\0b"], ["\ud800"], ["x" * 300]],
)  # fmt: skip
def test_a_list_of_what_no_contestant_leaves_stops_an_arena_before_it_plays(names, tmp_path):
    folder = tmp_path / "arena"
    folder.mkdir()
    (folder / LEFT).write_text(json.dumps(names))
    with pytest.raises(ValueError, match=r"left\.json lists what no contestant leaves; it was edited"):
        played(tmp_path, "table")
    assert {path.name for path in folder.iterdir()} <= {LEFT, "kept"}
    assert not list(folder.glob("kept/*"))
