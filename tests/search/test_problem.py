import pytest
import torch

from tests.scheduler.paths import NAMES
from tests.search.problems import curved
from tpdm.sampler.integrate import follow, integrate
from tpdm.sampler.step import ab2, ddim, dpmpp_2m

LEVELS = torch.tensor([1.0, 0.7, 0.45, 0.1, 0.0])


@pytest.mark.parametrize("step", [ddim, ab2, dpmpp_2m])
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


def test_what_is_no_number_costs_more_than_anything():
    problem = curved()
    assert problem.error(torch.full_like(problem.target, torch.nan)) == torch.inf
