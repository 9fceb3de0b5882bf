from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch.distributions import Beta

from tests.ideal import IdealDenoiser
from tests.scheduler.paths import NAMES, path
from tests.tiny import SHAPE, conditions, scrambled, tiny_denoiser, tiny_predictor
from tpdm.predictor.time_only import TimeOnlyPredictor
from tpdm.runtime.size import saved_bytes
from tpdm.sampler.adaptive import AdaptiveSampler, mode, sample, sample_by_seed
from tpdm.sampler.noise import initial_noise
from tpdm.sampler.replay import Replay, replay, select
from tpdm.sampler.step import ab2, abm, ddim, dpmpp_2m, remember
from tpdm.scheduler.path import by_noise_level
from tpdm.types import CostRange, FeatureSpec

COUNT = 12
COSTS, FEATURES = CostRange(1e-6, 1e-2), FeatureSpec(4, 1, None, (1, 1))
NOISE, COND = initial_noise(range(COUNT), SHAPE), conditions(COUNT)


class Constant:
    """The same Beta everywhere; remembers the times it was asked at."""

    def __init__(self, concentration1, concentration0):
        self.concentrations, self.asked = (concentration1, concentration0), []

    def __call__(self, features, t):
        self.asked.append(t)
        return Beta(*(torch.full_like(t, c) for c in self.concentrations))


def adaptive(step=ddim, max_steps=10, t_min=0.02, bounds=(0.05, 0.95), draw="mode", predictor=None):
    return AdaptiveSampler(step, max_steps, t_min, *bounds, draw, "data", predictor=predictor)


def drawing(seed=0):
    return sample(torch.Generator().manual_seed(seed))


def tiny(name="flow", predicts=None):
    denoiser = tiny_denoiser(path(name, predicts))
    return denoiser, tiny_predictor(denoiser.backbone.features).eval()


def fresh(step=ab2, name="flow"):
    """(predictor, rollout) of a real predictor on a real denoiser."""
    denoiser, predictor = tiny(name)
    return predictor, adaptive(step).rollout(predictor, denoiser, NOISE, COND, drawing())


concentrations = st.floats(0.1, 50)


@settings(max_examples=40, deadline=None)
@given(
    c1=concentrations,
    c0=concentrations,
    max_steps=st.integers(1, 8),
    t_min=st.floats(1e-3, 0.9),
    bounds=st.tuples(st.floats(1e-3, 0.4), st.floats(0.5, 0.999)),
    name=st.sampled_from(NAMES),
)
def test_every_trajectory_keeps_the_rules(c1, c0, max_steps, t_min, bounds, name):
    sampler, predictor = adaptive(ddim, max_steps, t_min, bounds), Constant(c1, c0)
    noise = NOISE[:, :, :2, :2]
    rollout = sampler.rollout(predictor, IdealDenoiser(path(name), 0.3, 0.5), noise, COND, drawing())
    t, alive, drawn, ratio = rollout.trajectory.t, rollout.trajectory.alive, rollout.drawn, rollout.ratio

    assert (t[:, 0] == by_noise_level(path(name)).t_max).all()
    assert not t[:, -1].any()  # always ends at the data
    assert torch.equal(alive, t[:, :-1] > 0)
    assert torch.equal(rollout.trajectory.nfe, alive.sum(1))
    assert alive.any(0).all()
    assert alive.shape[1] <= max_steps

    forced = torch.arange(alive.shape[1]) == max_steps - 1
    assert torch.equal(drawn, alive & ~forced)  # the forced last step is not scored
    wished = t[:, :-1] * ratio
    assert torch.equal(t[:, 1:], torch.where(drawn & (wished >= t_min), wished, 0))

    assert ((ratio[drawn] >= bounds[0]) & (ratio[drawn] <= bounds[1])).all()
    assert (ratio[~drawn] == 1).all()
    expected = Beta(torch.tensor(c1), torch.tensor(c0)).log_prob(ratio[drawn])
    torch.testing.assert_close(rollout.log_prob[drawn], expected)
    assert not rollout.log_prob[~drawn].any()
    assert sum(len(asked) for asked in predictor.asked) == drawn.sum()


@pytest.mark.parametrize(("concentrations", "ratio"), [((1.01, 1e6), 0.05), ((1e6, 1.01), 0.95)])
def test_ratios_are_clamped(concentrations, ratio):
    rollout = adaptive(t_min=1e-6).rollout(
        Constant(*concentrations), IdealDenoiser(path("flow")), NOISE, COND, mode
    )
    torch.testing.assert_close(rollout.ratio[:, 0], torch.full((COUNT,), ratio))


@pytest.mark.parametrize("name", NAMES)
def test_the_network_evaluates_as_many_rows_as_the_trajectories_are_long(name):
    (denoiser, predictor), rows = tiny(name), {"denoiser": 0, "predictor": 0}

    def count(key):
        def add(module, args, out):
            rows[key] += len(args[1])  # (x, t, cond) or (features, t)

        return add

    denoiser.backbone.register_forward_hook(count("denoiser"))
    predictor.register_forward_hook(count("predictor"))
    rollout = adaptive().rollout(predictor, denoiser, NOISE, COND, drawing())
    assert rollout.trajectory.nfe.unique().numel() > 2  # there is something to save
    assert rows["denoiser"] == rollout.trajectory.nfe.sum()
    assert rows["predictor"] == rollout.drawn.sum() == len(rollout.features)
    assert len(rollout.features.read().first) == len(rollout.features)


@pytest.mark.parametrize("draw", ["mode", "sample"])
@pytest.mark.parametrize("step", [ddim, dpmpp_2m, ab2, abm])
@pytest.mark.parametrize(("name", "predicts"), [("flow", "velocity"), ("ddpm", "x0")])
def test_a_sample_belongs_to_its_seed_and_not_to_its_batch(name, predicts, step, draw):
    """Batched equals one by one, in any order, the draws of its times included.

    Of an eps at alpha = .006, where the ddpm path starts, x0 would keep four digits only.
    """
    denoiser, predictor = tiny(name, predicts)
    sampler = adaptive(step, draw=draw, predictor=predictor)
    together = sampler(denoiser, NOISE, COND, range(COUNT))
    assert together.nfe.unique().numel() > 1
    order = torch.randperm(COUNT, generator=torch.Generator().manual_seed(0))
    for rows in (order, *(slice(b, b + 1) for b in range(3))):
        part = sampler(denoiser, NOISE[rows], COND[rows], torch.arange(COUNT)[rows].tolist())
        torch.testing.assert_close(part.x0, together.x0[rows], atol=1e-5, rtol=0)
        longest = part.t.shape[1]
        torch.testing.assert_close(part.t, together.t[rows, :longest], atol=1e-5, rtol=0)
        assert torch.equal(part.nfe, together.nfe[rows])


def test_other_seeds_draw_other_times():
    denoiser, predictor = tiny()
    sampler = adaptive(draw="sample", predictor=predictor)
    first, again, other = (sampler(denoiser, NOISE, COND, range(s, s + COUNT)).t[:, 1] for s in (0, 0, 99))
    assert torch.equal(first, again)
    assert not torch.isclose(first, other, atol=1e-3).any()


@pytest.mark.parametrize("step", [ddim, dpmpp_2m, ab2, abm])
@pytest.mark.parametrize("name", NAMES)
def test_replay_of_a_fresh_rollout_is_its_record(name, step):
    predictor, rollout = fresh(step, name)
    _, log_prob = replay(predictor, rollout)
    torch.testing.assert_close(log_prob, rollout.log_prob.sum(1), atol=1e-5, rtol=1e-5)


def test_replay_leaves_a_gradient_and_answers_in_the_order_of_the_features():
    predictor, rollout = fresh()
    dist, log_prob = replay(predictor, rollout)
    torch.testing.assert_close(
        dist.log_prob(rollout.ratio.T[rollout.drawn.T]), rollout.log_prob.T[rollout.drawn.T]
    )
    log_prob.sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in predictor.parameters())


@settings(max_examples=20, deadline=None)
@given(rows=st.lists(st.sampled_from(range(COUNT)), min_size=1, unique=True).map(sorted))
def test_a_selection_keeps_rows_and_features_together(rows):
    predictor, rollout = fresh()
    rows = torch.tensor(rows)
    part = select(rollout, rows)
    for whole, chosen in ((rollout.ratio, part.ratio), (rollout.trajectory.t, part.trajectory.t)):
        assert torch.equal(chosen, whole[rows])
    torch.testing.assert_close(
        replay(predictor, part)[1], replay(predictor, rollout)[1][rows], atol=1e-5, rtol=1e-5
    )
    assert len(part.features.read().first) == part.drawn.sum()
    assert part.features.steps is rollout.features.steps


@pytest.mark.parametrize("rows", [1, 7, 1000])
def test_a_few_rows_at_a_time_have_the_same_score_and_gradient(rows):
    predictor, rollout = fresh()
    part = select(rollout, torch.tensor([0, 2, 3, 7]))
    answers = []
    for replayed in (Replay(predictor), Replay(predictor, rows)):
        dist, log_prob = replayed(part)
        gradient = torch.autograd.grad(log_prob @ torch.arange(4.0), list(predictor.parameters()))
        answers.append((dist.concentration1, dist.concentration0, log_prob, *gradient))
    torch.testing.assert_close(answers[0], answers[1], atol=1e-4, rtol=1e-4)


def test_what_waits_for_the_gradient_does_not_grow_with_the_steps():
    predictor, rollout = fresh()
    few = select(rollout, torch.arange(2))

    def waiting(part, rows):
        replayed = Replay(predictor, rows)
        return saved_bytes(replayed, lambda: replayed(part)[1].sum())

    assert waiting(rollout, None) > 3 * waiting(few, None)
    assert waiting(rollout, 4) < 0.1 * waiting(rollout, None)


@pytest.mark.parametrize("name", NAMES)
def test_the_predictor_works_through_the_noise_level(name):
    """It is asked at noise levels, whatever the path; the denoiser at the times of those levels."""
    predictor, denoiser = Constant(3.0, 2.0), IdealDenoiser(path(name), 0.3, 0.5)
    rollout = adaptive(max_steps=4, t_min=1e-6).rollout(predictor, denoiser, NOISE, COND, mode)
    levels = by_noise_level(path(name)).t_max * (2 / 3) ** torch.arange(
        4
    )  # the mode is (3 - 1) / (3 + 2 - 2)
    torch.testing.assert_close(torch.stack(predictor.asked)[:, 0], levels[:3])
    torch.testing.assert_close(rollout.trajectory.t[0, :4], levels)
    asked = path(name).noise_level(torch.stack(denoiser.calls)[:, 0])
    torch.testing.assert_close(asked, levels, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("step", [ddim, dpmpp_2m, ab2, abm])
def test_predicted_and_given_times_share_the_step(step):
    """The same levels walked by hand end at the same image: a comparison compares times and nothing else."""
    denoiser = IdealDenoiser(path("flow"), 0.3, 0.5)
    trajectory = adaptive(step, predictor=Constant(5.0, 3.0))(denoiser, NOISE, COND, range(COUNT))
    x, past = NOISE, None
    for t, t_next in pairwise(trajectory.t.T):
        p = denoiser(x, t, COND)
        x, past = step(path("flow"), p, t, t_next, past), remember(p, t, past)
    torch.testing.assert_close(trajectory.x0, x, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(("c1", "c0"), [(4.0, 2.5), (0.5, 0.5), (50.0, 1.2)])
def test_draws_follow_the_beta(c1, c0):
    dist, n = Beta(torch.full((4000,), c1), torch.full((4000,), c0)), torch.arange(4000)
    for draw in (drawing(), sample_by_seed(range(4000))):
        assert stats.kstest(draw(dist, n).numpy(), stats.beta(c1, c0).cdf).pvalue > 1e-3


def told(predictor):
    """A rollout whose samples are told costs of their own, and those."""
    costs = COSTS.at(torch.rand(COUNT, generator=torch.Generator().manual_seed(1)))
    denoiser = tiny()[0]
    return adaptive().rollout(predictor, denoiser, NOISE, COND, drawing(), cost=costs), costs


def budgeted():
    torch.manual_seed(0)
    predictor = TimeOnlyPredictor(8, 8, (0.5, 0.4), 4.0, 1.0, features=FEATURES, costs=COSTS)
    return scrambled(predictor).eval()


def test_replay_tells_each_step_the_cost_that_its_sample_was_told():
    predictor = budgeted()
    rollout, costs = told(predictor)
    assert torch.equal(rollout.cost, costs)
    torch.testing.assert_close(replay(predictor, rollout)[1], rollout.log_prob.sum(1), atol=1e-5, rtol=1e-5)
    rows = torch.tensor([0, 3, 4, 10])
    part = select(rollout, rows)
    torch.testing.assert_close(
        replay(predictor, part)[1], replay(predictor, rollout)[1][rows], atol=1e-5, rtol=1e-5
    )
    otherwise = replace(rollout, cost=costs.flip(0))
    assert (replay(predictor, otherwise)[1] - replay(predictor, rollout)[1]).abs().max() > 0.1


@settings(max_examples=40, deadline=None)
@given(
    c1=concentrations,
    c0=concentrations,
    max_nfe=st.integers(1, 9),
    max_steps=st.integers(1, 12),
    draw=st.sampled_from(["mode", "sample"]),
)
def test_a_cap_is_never_exceeded_and_met_in_steps_no_longer_than_even_ones(c1, c0, max_nfe, max_steps, draw):
    """Even at a predictor that would hardly move."""
    choices = (ddim, max_steps, 0.02, 0.05, 0.95, draw, "data")
    sampler = AdaptiveSampler(*choices, predictor=Constant(1 + c1, 1 + c0), max_nfe=max_nfe)
    trajectory = sampler(IdealDenoiser(path("flow")), NOISE, COND, range(COUNT))
    assert trajectory.nfe.max() <= min(max_nfe, max_steps)
    assert not trajectory.t[:, -1].any()
    for k in range(trajectory.alive.shape[1]):
        t, t_next = trajectory.t[:, k], trajectory.t[:, k + 1]
        assert (t_next <= t * (1 - 1 / (max_nfe - k)) + 1e-6).all()
    free = AdaptiveSampler(*choices, predictor=Constant(1 + c1, 1 + c0))
    without = free(IdealDenoiser(path("flow")), NOISE, COND, range(COUNT))
    first = torch.minimum(without.t[:, 1], without.t[:, 0] * (1 - 1 / max_nfe))
    first = torch.where((first < 0.02) | (max_steps == 1), 0, first)
    torch.testing.assert_close(trajectory.t[:, 1], first)


def test_without_a_predictor_it_says_what_to_do():
    with pytest.raises(ValueError, match=r"needs a trained predictor; choose a fixed sampler"):
        adaptive()(IdealDenoiser(path("flow")), NOISE, COND, range(COUNT))


def test_bounds_must_be_ordered():
    with pytest.raises(ValueError, match=r"sampler.min_ratio=0.9 is not below sampler.max_ratio=0.5"):
        adaptive(bounds=(0.9, 0.5))
