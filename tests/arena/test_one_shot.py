"""A whole schedule at once, where the best one for each condition can be looked up."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.arena.parts import CONTESTANTS, arena
from tests.ideal import IdealDenoiser
from tests.tiny import scrambled
from tpdm.arena import one_shot
from tpdm.arena.one_shot import CAP, OneShot, Plan, falling, sure
from tpdm.arena.static import problem_of
from tpdm.arena.store import Store
from tpdm.evaluation.result import measure
from tpdm.scheduler.flow import Flow
from tpdm.search.levels import fall

CHOICES = {"width": 16, "concentration": 250.0, "updates": 100, "batch_size": 16, "lr": 6e-3, "held_out": 0.2}
OTHERS = {"table": CONTESTANTS["table"], "one_shot": partial(OneShot, **CHOICES)}


@pytest.fixture(scope="module")
def ring(tmp_path_factory):
    """One whose learning set is large enough to learn something."""
    sizes = {"search": 64, "learning": 512, "evaluation": 256, "batch_size": 256}
    return arena(tmp_path_factory.mktemp("arena"), **sizes, contestants=OTHERS, grids={}, samplers={}).ring(0)


def plan(start, seed=None):
    """Over three numbers; untrained, or with weights that are far out."""
    made = Plan(torch.zeros(3), torch.ones(3), start, 8)
    return made if seed is None else scrambled(made, seed, std=30.0)


@settings(max_examples=30, deadline=None)
@given(logits=st.lists(st.floats(-4, 4), min_size=2, max_size=20), seed=st.integers(0, 1000))
def test_untrained_it_is_the_schedule_that_it_starts_at(logits, seed):
    levels = fall(torch.tensor(logits))
    shown = torch.randn(5, 3, generator=torch.Generator().manual_seed(seed))
    found = torch.stack(falling(plan(-1000 * levels.diff())(shown).mean), 1)
    torch.testing.assert_close(found, levels.expand(5, -1), rtol=0, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(logits=st.lists(st.floats(-4, 4), min_size=2, max_size=20), seed=st.integers(0, 1000))
def test_whatever_its_weights_shares_sum_to_one_and_levels_fall(logits, seed):
    """And no step gets longer or shorter than the cap on both sides allows."""
    start = -1000 * fall(torch.tensor(logits)).diff()
    policy = plan(start, seed)(torch.randn(50, 3, generator=torch.Generator().manual_seed(seed)))
    torch.testing.assert_close(policy.mean.sum(1), torch.ones(50))
    levels = torch.stack(falling(policy.mean), 1)
    assert (levels[:, 0] == 1).all()
    assert (levels[:, -1] == 0).all()
    assert (levels.diff() < 0).all()
    moved = (policy.mean / (start / start.sum())).log()
    assert moved.abs().max() <= 2 * CAP + 1e-4
    assert (policy.concentration / start).log().abs().max() > 0.1


def best_levels(camp):
    """By condition: the middle one of three levels whose error is least, and that error, of all on a grid."""
    problem, grid = problem_of(camp, camp.sets.learning), torch.linspace(0.02, 0.98, 97)
    errors = torch.stack([problem.errors(problem.follow([1.0, level, 0.0])[-1].x) for level in grid])
    of_each = torch.stack([errors[:, problem.cond[:, 0] == kind].mean(1) for kind in range(12)], 1)
    return grid[of_each.argmin(0)]


def test_it_finds_the_schedule_of_each_condition(ring):
    """Of two steps there is one level to choose, and all of them can be tried."""
    best, mine = best_levels(ring.camp), ring.played("one_shot", 2)
    kind = ring.evaluation.cond[:, 0]
    problem = problem_of(ring.camp, ring.evaluation)
    least = problem.errors(problem.follow([1.0, best[kind], 0.0])[-1].x).mean()
    static = ring.static(2).error.mean()
    heard = kind > 2  # the narrow ones have hardly any error, whatever is done
    assert (mine.t[:, 1] - best[kind])[heard].abs().mean() < 0.1 * (best.max() - best.min())
    assert mine.error.mean() < static - 0.8 * (static - least)


def test_it_makes_as_many_calls_as_the_budget_allows(ring):
    mine = ring.played("one_shot", 4)
    assert (mine.nfe == 4).all()
    assert mine.t.shape == (256, 5)
    assert (mine.t.diff() < 0).all()
    assert mine.error.mean() < ring.static(4).error.mean()
    (share,) = ring.camp.contestants["one_shot"].enter(ring, 4).shares
    asked = ring.camp.runner.denoiser.denoiser.calls  # behind the meter
    asked.clear()
    share.run(ring.evaluation.noise[:7], ring.evaluation.cond[:7], ring.evaluation.seeds[:7])
    assert [len(t) for t in asked] == [7] * 4


def test_what_it_does_with_a_sample_does_not_depend_on_the_others(ring):
    (share,) = ring.camp.contestants["one_shot"].enter(ring, 4).shares
    alone = share.run(ring.evaluation.noise[:1], ring.evaluation.cond[:1], ring.evaluation.seeds[:1])
    torch.testing.assert_close(alone.t[0], ring.played("one_shot", 4).t[0])


def test_it_learns_the_same_every_time_and_leaves_the_global_randomness_alone(ring, tmp_path):
    camp = ring.camp
    problem, levels = problem_of(camp, camp.sets.learning)[:128], camp.static_times(3)
    torch.manual_seed(7)
    once = camp.contestants["one_shot"].learned(problem, levels).state_dict()
    after = torch.rand(1)
    torch.manual_seed(7)
    assert torch.equal(after, torch.rand(1))
    again = camp.contestants["one_shot"].learned(problem, levels).state_dict()
    assert all(torch.equal(once[name], again[name]) for name in once)


def test_without_a_sure_gain_it_plays_exactly_the_baseline(tmp_path, monkeypatch):
    """No matter what it has learned."""
    monkeypatch.setattr(one_shot, "errors", lambda *_: (torch.ones(9), torch.linspace(0.9, 1.09, 9)))
    small = {"contestants": OTHERS, "grids": {}, "samplers": {}}
    ring = arena(tmp_path, **small).ring(0)
    entry = ring.camp.contestants["one_shot"].enter(ring, 3)
    assert entry.found == {"better": False, "held_out_ratio": pytest.approx(0.995)}
    result = measure(entry.shares[0].run, ring.evaluation, lambda x: x)
    assert torch.equal(result.squared_error, ring.static(3).error)


def test_no_sample_that_it_learned_on_says_whether_it_gained(ring, tmp_path, monkeypatch):
    """A fifth is kept aside to say so; the learning set lies whole in the two."""
    seen, judged, learned = {}, one_shot.errors, OneShot.learned

    def remember(of, problem):
        seen[of] = {tuple(noise.flatten().tolist()) for noise in problem.noise}

    def judging(plan, problem, *rest):
        remember("judged", problem)
        return judged(plan, problem, *rest)

    def learning(self, problem, levels):
        remember("learned", problem)
        return learned(self, problem, levels)

    monkeypatch.setattr(one_shot, "errors", judging)
    monkeypatch.setattr(OneShot, "learned", learning)
    monkeypatch.setattr(ring.camp, "store", Store(tmp_path, {}))
    OneShot(**CHOICES | {"updates": 2, "batch_size": 256}).find(ring.camp, 2)
    assert not seen["judged"] & seen["learned"]
    assert len(seen["judged"]) == round(0.2 * 512) == 512 - len(seen["learned"])


def test_two_samples_to_learn_from_and_errors_of_zero_are_no_gain(tmp_path):
    """Of a point every schedule finds the end, so that no error is left to be a share of."""
    camp = arena(tmp_path, learning=2, contestants={"table": CONTESTANTS["table"]}).camp
    plan, point = OneShot(**CHOICES | {"updates": 1, "held_out": 0.9}), IdealDenoiser(Flow(1.0, "velocity"))
    found = plan.find(camp, 2).numbers
    assert found["held_out_ratio"] > 0
    camp.runner, camp.store = replace(camp.runner, denoiser=point), Store(tmp_path, {})
    camp.sets.learning = replace(camp.sets.learning, target=torch.zeros_like(camp.sets.learning.noise))
    assert plan.find(camp, 2).numbers == {"better": False, "held_out_ratio": None}


def test_a_gain_that_is_chance_is_hardly_ever_believed():
    """The normal law lies above two standard errors once in 44 times."""
    gains = torch.randn(4000, 200, generator=torch.Generator().manual_seed(0))
    assert sum(map(sure, gains)) / 4000 == pytest.approx(0.023, abs=0.008)
    assert sure(gains[0] + 0.3)
    assert not sure(gains[0, :1] + 9)


def test_of_one_step_there_is_nothing_to_choose(ring):
    assert ring.camp.absence("one_shot", 1) == "one step leaves nothing to choose"
    assert ring.camp.absence("one_shot", 8) is None
    assert ring.camp.absence("one_shot", 9) == "its table ends at 8 steps (largest)"
