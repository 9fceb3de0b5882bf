"""Who cannot serve a budget is told before anything is played, with the reason, and all others play."""

import csv
import json
from dataclasses import replace
from functools import partial

import pytest
import torch

from tests.arena.parts import CONTESTANTS, arena
from tpdm.arena import sets
from tpdm.arena.allocator import Allocator
from tpdm.arena.oracle import OracleSteps
from tpdm.arena.static import BySolver, OnGrid, Searched
from tpdm.registry import build
from tpdm.sampler.fixed import EULER, FixedSampler
from tpdm.sampler.grid import uniform
from tpdm.search.least_squares import least_squares

TABLE = {"table": CONTESTANTS["table"]}
ALL = {
    "gits": {"power": 1.0},
    "oss": {"power": 1.0},
    "sharpness": {"power": 1.0, "order": 0.5},
    "brute_force": {},
}
FILE = {"2": [1, 0.4, 0], "4": [1, 0.7, 0.4, 0.2, 0]}


def search(name, candidates):
    return build("search", {"name": name, "candidates": candidates, **ALL[name]})


def on_file(path, content):
    path.write_text(json.dumps(content))
    return build("sampler/grid", {"name": "learned", "path": str(path)})


def reasons(contestant, tmp_path, **settings):
    """At budgets of 2 to 4, by budget; the meter stands still."""
    one = arena(tmp_path, contestants=TABLE, **settings)
    found = {target: contestant.absent(one.camp, target) for target in (2, 3, 4)}
    assert one.meter.calls == 0
    return {target: reason for target, reason in found.items() if reason}


@pytest.mark.parametrize("name", ALL)
def test_a_search_with_fewer_candidates_than_steps_is_absent_there(name, tmp_path):
    found = reasons(Searched(search(name, 3)), tmp_path)
    assert list(found) == [4]
    assert found[4].startswith("candidates=3 ")


def test_a_search_of_too_many_schedules_is_absent_where_they_are(tmp_path):
    assert list(reasons(Searched(search("brute_force", 400)), tmp_path)) == [4]
    assert not reasons(Searched(partial(least_squares, iterations=1)), tmp_path)


def test_a_grid_file_takes_part_where_it_has_a_schedule(tmp_path):
    mine = on_file(tmp_path / "mine.json", FILE)
    for contestant in (OnGrid(mine), BySolver(FixedSampler(28, mine, EULER))):
        found = reasons(contestant, tmp_path)
        assert list(found) == [3]
        assert found[3].endswith("mine.json has only N = 2, 4")


def test_a_solver_is_tried_with_the_steps_that_it_would_take(tmp_path):
    """Heun's of three calls are two, of four a mixture of two and three; its preset's are never taken."""
    heun = replace(build("sampler", {"name": "heun", "num_steps": 28, "grid": {"name": "uniform"}}))
    on_two = replace(heun, grid=on_file(tmp_path / "mine.json", {"2": [1, 0.4, 0]}))
    assert list(reasons(BySolver(on_two), tmp_path)) == [2, 4]


def test_who_is_absent_is_told_before_anything_is_followed_and_the_others_play(tmp_path, capfd, monkeypatch):
    told = []
    follow = sets.Sets.follow
    monkeypatch.setattr(
        sets.Sets, "follow", lambda *it: (told.append(capfd.readouterr().err), follow(*it))[1]
    )
    settings = {"searches": {"gits": search("gits", 3)}, "grids": {}, "samplers": {}}
    one = arena(tmp_path, contestants=TABLE, seeds=[0], targets=[3, 4], **settings)
    one()
    line = "suite=arena: gits takes no part at NFE 4: candidates=3 are too few for 4 steps; use 4 or more.\n"
    assert told[0].startswith(f"{line}suite=arena: about ")
    with open(one.folder / "arena.csv") as file:
        met = {(row["contestant"], row["target"]) for row in csv.DictReader(file)}
    assert met == {("table", "3"), ("table", "4"), ("gits", "3")}
    assert "gits takes no part at NFE 4" in (one.folder / "report.html").read_text()


@pytest.mark.parametrize(
    ("baseline", "longest", "reason"),
    [
        ("file", 0, r"sampler\.num_steps=1, .* has only N = 2, 4"),
        ("gits", 3, "candidates=3 are too few for 4 steps"),
    ],
)
def test_a_baseline_that_lacks_a_schedule_up_to_the_budgets_is_refused(baseline, longest, reason, tmp_path):
    contestants = {
        "grids": {"file": on_file(tmp_path / "f.json", FILE)},
        "searches": {"gits": search("gits", 3)},
    }
    one = arena(tmp_path, contestants={}, samplers={}, targets=[2, 4], baseline=baseline, **contestants)
    with pytest.raises(
        ValueError, match=rf"^suite\.targets holds 4, .*=\w+; accepted: up to {longest}, since {reason}"
    ):
        one()
    assert not one.folder.exists()


def test_whoever_picks_from_the_baseline_needs_all_of_its_lengths(tmp_path):
    """A file without five steps may be the baseline at four calls, and has not all of one to six."""
    levels = {str(n): uniform(n).tolist() for n in (1, 2, 3, 4, 6)}
    picking = {"allocator": partial(Allocator, most=6), "oracle_steps": partial(OracleSteps, most=6)}
    grids = {"file": on_file(tmp_path / "f.json", levels)}
    one = arena(tmp_path, contestants=picking, grids=grids, samplers={}, targets=[3, 4], baseline="file")
    assert one.camp.longest(9) == 4
    for name in picking:
        assert "num_steps=5" in one.camp.absence(name, 3)
    ring = one.ring(0)
    assert [around.nfe[0] for around in ring.static_around(5.5)] == [4, 4]
    assert one.camp.rows(torch.tensor([2.0, 6.0])).shape == (2, 5)
