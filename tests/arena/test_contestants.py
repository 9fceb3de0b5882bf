"""What each contestant does with its budget, and on whom it may lean."""

import json
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch.distributions import Beta

from tests.arena.parts import CONTESTANTS, arena, static_error
from tpdm.arena import camp as camps
from tpdm.arena.adaptive import Adaptive
from tpdm.arena.borrowed import MeanSchedule, OwnSteps, Shuffled
from tpdm.arena.camp import Trained
from tpdm.arena.contestant import Contestant
from tpdm.arena.controlled import Controlled
from tpdm.arena.standing import against_static
from tpdm.arena.static import BySolver
from tpdm.evaluation.schedule import along
from tpdm.sampler import grid
from tpdm.sampler.fixed import HEUN, FixedSampler
from tpdm.sampler.grid_file import read_table
from tpdm.sampler.step import ddim
from tpdm.types import CostRange


def test_adaptive_ones_meet_the_budget_on_average(played):
    rings = [played[0].ring(seed) for seed in (0, 1)]
    for name in ("adaptive", "controlled"):
        for target in (3, 4):
            nfe = torch.cat([ring.played(name, target).nfe for ring in rings])
            assert nfe.mean().item() == pytest.approx(target, rel=0.15)


def test_who_borrows_schedules_has_the_calls_of_their_owner(ring):
    for target in (2, 3, 4):
        own = ring.played("adaptive", target).nfe
        assert torch.equal(ring.played("shuffled", target).nfe.sort().values, own.sort().values)
        assert torch.equal(ring.played("own_steps", target).nfe, own)
        assert ring.played("mean_schedule", target).nfe.mean() == pytest.approx(own.mean().item(), rel=1e-5)


def test_more_steps_than_the_baseline_has_are_as_many_as_it_has(ring):
    rows = ring.camp.rows(torch.tensor([2.0, 8.0, 11.0]))
    assert rows.shape == (3, 9)
    assert torch.equal(rows[2], rows[1])
    assert torch.equal(rows[0, :3], ring.camp.static_times(2))
    assert not rows[0, 3:].any()


def test_bounds_hold_below_what_they_bound(ring):
    """The best number of steps below the same for all and below the number that the predictor chose; the best
    shape below the schedule that it varies."""
    for target in (2, 3, 4):
        best = ring.played("oracle_steps", target)
        assert best.error.mean() <= static_error(ring, best.nfe.mean().item()) + 1e-7
        assert (ring.played("oracle_shape", target).error <= ring.static(target).error + 1e-6).all()
        assert against_static([ring], [best]).value <= 1 + 1e-6


def test_a_predictor_that_is_told_a_cost_meets_the_budget_by_it(tmp_path):
    """It takes longer steps the dearer they are, and hears the cost alone."""

    def heard(features, t, cost):
        return Beta(1 - cost.log() / 4, torch.full_like(cost, 4.0))

    one = arena(tmp_path, targets=[3], seeds=[0])
    costs = CostRange(1e-5, 1e-1)
    one.camp.runner.predictors["predictor"] = Trained(heard, costs, 0.0)
    ring = one.ring(0)
    played, knob = ring.played("adaptive", 4), ring.played("adaptive", 4).found
    assert played.nfe.unique().tolist() == [4]
    assert knob.keys() == {"cost"}
    assert costs.low < knob["cost"] < costs.high


def test_one_that_steps_otherwise_takes_that_step(ring):
    """`first_order` is the same times, and Euler's steps along them."""
    first = Adaptive("predictor", "ddim").enter(ring, 3)
    (_, run), *_ = first.shares
    problems = ring.evaluation
    drawn = run(problems.noise, problems.cond, problems.seeds)
    euler = along(ring.camp.runner.denoiser, ddim, drawn.t, problems.seeds)
    assert torch.allclose(euler(problems.noise, problems.cond, problems.seeds).x0, drawn.x0, atol=1e-5)
    assert not torch.allclose(ring.along(drawn.t)(problems.noise, problems.cond, problems.seeds).x0, drawn.x0)


def test_a_solver_of_two_stages_takes_half_the_steps_whatever_its_name(ring):
    two = BySolver(FixedSampler(1, grid.uniform, replace(HEUN, name="another")))
    entry = two.enter(ring, 4)
    assert [share.weight for share in entry.shares] == [0.5, 0.5]
    assert [len(row) - 1 for row in entry.found["levels"]] == [2, 3]
    assert [two.playing(target) for target in (3, 4)] == [3, 3 + 5]


def test_a_mean_leaves_a_grid_of_each_budget_and_it_is_what_was_played(played):
    one, _ = played
    found = json.loads((one.folder / "schedules.json").read_text())["mean_schedule"]
    left = read_table(one.folder / "mean_schedule.json")
    assert list(left) == [2, 3, 4]
    for target, levels in left.items():
        lists = [row for row in found[str(target)]["0"]["levels"] if len(row) == target + 1]
        assert all(row == levels.tolist() for row in lists)
    assert any(len(row) == 4 for row in found["3"]["0"]["levels"])


OWN = "accepted: adaptive, allocator, one_shot, controlled"


@pytest.mark.parametrize("borrowing", [MeanSchedule, Shuffled, OwnSteps])
@pytest.mark.parametrize("of", ["shuffled", "mine", "own_steps", "table", "heun", "oracle_steps", "nobody"])
def test_who_has_no_schedules_of_its_own_cannot_be_borrowed_from(borrowing, of, tmp_path):
    """Before anything is looked for; a contestant that borrows from itself would ask itself for ever."""
    mine = {**CONTESTANTS, "mine": partial(borrowing, of=of)}
    wrong = "is no contestant" if of == "nobody" else "has no schedules of its own"
    with pytest.raises(ValueError, match=rf"^suite\.contestants\.mine\.of={of} {wrong}; {OWN}$"):
        arena(tmp_path, contestants=mine)
    assert not list(tmp_path.iterdir())


def test_where_nobody_has_schedules_of_its_own_that_is_said(tmp_path):
    alone = {"table": CONTESTANTS["table"], "shuffled": CONTESTANTS["shuffled"]}
    with pytest.raises(ValueError, match=r"of=adaptive is no contestant; accepted: none, as nobody"):
        arena(tmp_path, contestants=alone)


def test_one_that_leans_on_somebody_who_is_not_there_is_refused(tmp_path):
    class Leaning(Contestant):
        leans_on = lambda self: ("nobody",)  # noqa: E731
        enter = None

    with pytest.raises(
        ValueError, match=r"suite\.contestants\.mine leans on nobody, which is no contestant; accepted: t"
    ):
        arena(tmp_path, contestants={**CONTESTANTS, "mine": Leaning})


def test_a_budget_is_met_on_the_matching_set(ring, monkeypatch):
    """Its evaluation set is another, and no knob was turned on that."""
    asked = []

    class Turned:
        def __init__(self, run_at, problems, low, high):
            asked.append(problems)

        def turn(self, target):
            return float(target)

    monkeypatch.setattr(camps, "Dial", Turned)
    camp = ring.camp
    assert camp.matched("somebody", {}, None, (1.0, 2.0), 3).numbers == {"knob": 3.0}
    assert asked == [camp.sets.matching]
    assert asked[0].target.isnan().all()
    assert not set(camp.sets.matching.seeds) & set(ring.evaluation.seeds)


def test_knobs_of_two_of_a_kind_are_turned_apart(tmp_path):
    """They have one label, and each its own step that is the first."""
    two = {f"first_{first}": partial(Controlled, first, 12, 0.01) for first in (0.2, 0.8)}
    ring = arena(tmp_path, contestants={"table": CONTESTANTS["table"], **two}, seeds=[0]).ring(0)
    together = [ring.camp.contestants[name].enter(ring, 3).found for name in two]
    alone = arena(tmp_path / "alone", contestants={"table": CONTESTANTS["table"], **two}, seeds=[0]).ring(0)
    assert alone.camp.contestants["first_0.8"].enter(alone, 3).found == together[1] != together[0]
