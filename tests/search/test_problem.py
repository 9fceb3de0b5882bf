import pytest
import torch

from tests.scheduler.paths import NAMES
from tests.search.problems import curved
from tpdm.sampler.integrate import follow, integrate
from tpdm.sampler.step import ab2, abm, ddim, dpmpp_2m

LEVELS = torch.tensor([1.0, 0.7, 0.45, 0.1, 0.0])


@pytest.mark.parametrize("step", [ddim, ab2, abm, dpmpp_2m])
@pytest.mark.parametrize("name", NAMES)
def test_a_walk_is_what_the_samplers_walk(name, step):
    problem = curved(name, step)
    times = (problem.path.t_max * LEVELS).expand(len(problem), -1)
    x0 = integrate(problem.denoiser, problem.noise, problem.cond, follow(times), step, 4).x0
    torch.testing.assert_close(problem.follow(LEVELS)[-1].x, x0)
    torch.testing.assert_close(problem.cost(LEVELS), (x0 - problem.target).square().mean())


def test_a_walk_goes_on_from_any_of_its_levels():
    problem = curved()
    walks = problem.follow(LEVELS)
    for k, walk in enumerate(walks):
        assert torch.equal(problem.follow(LEVELS[k:], walk)[-1].x, walks[-1].x)


def test_some_of_the_samples_are_a_problem_of_their_own():
    problem = curved()
    parts = [problem[start : start + 8] for start in range(0, len(problem), 8)]
    costs = torch.stack([part.cost(LEVELS) for part in parts])
    torch.testing.assert_close(costs.mean(), problem.cost(LEVELS))


def test_a_few_samples_stand_for_all_of_a_heavy_tail():
    """What they say of another schedule, too, is nearer than what as many drawn evenly say."""
    problem = curved(count=400)
    problem.target[::57] += 1  # a few hard ones
    few = problem.concentrated(LEVELS, 40)
    assert len(few) <= 40
    torch.testing.assert_close(few.cost(LEVELS), problem.cost(LEVELS), rtol=0.05, atol=0)
    assert few.weight.max() <= 2 * len(few) / 40 + 1e-5
    other = torch.tensor([1.0, 0.75, 0.5, 0.15, 0.0])
    evenly = torch.stack([problem[start : start + 40].cost(other) for start in range(0, 400, 40)])
    spread = (evenly / problem.cost(other) - 1).square().mean().sqrt()
    assert (few.cost(other) / problem.cost(other) - 1).abs() < spread / 5
    assert problem.concentrated(LEVELS, 400) is problem


def test_weights_are_those_of_the_squares():
    problem = curved()
    weighted = problem.on(slice(None), torch.linspace(0.5, 1.5, len(problem)))
    x = weighted.follow(LEVELS)[-1].x
    torch.testing.assert_close(weighted.weighed(x - problem.target).square().mean(), weighted.error(x))


def test_what_is_no_number_costs_more_than_anything():
    problem = curved()
    assert problem.error(torch.full_like(problem.target, torch.nan)) == torch.inf
