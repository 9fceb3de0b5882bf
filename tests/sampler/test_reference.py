import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from tests.ideal import IdealDenoiser
from tests.scheduler.paths import NAMES, path
from tpdm.sampler.reference import reference, reference_levels
from tpdm.scheduler.path import by_noise_level, expand, retimed
from tpdm.types import Prediction

NOISE = torch.randn(32, 1, 2, 2, generator=torch.Generator().manual_seed(0))
COND = torch.zeros(32, 1)


class TwoPoints:
    """The ideal denoiser of two blurred points per pixel, at -1 and 1: a curved ODE without a closed form."""

    def __init__(self, scheduler, std):
        self.scheduler, self.parts = scheduler, [IdealDenoiser(scheduler, m, std) for m in (-1.0, 1.0)]
        self.std = std

    def __call__(self, x, t, cond):
        c = self.scheduler(t)
        alpha, sigma = expand(c.alpha, x), expand(c.sigma, x)
        share = torch.sigmoid(2 * alpha * x / (alpha**2 * self.std**2 + sigma**2))  # posterior of the point 1
        low, high = (part(x, t, cond) for part in self.parts)
        return Prediction(
            torch.lerp(low.x0, high.x0, share), torch.lerp(low.eps, high.eps, share), low.features
        )


@pytest.mark.parametrize("name", NAMES)
def test_it_ends_where_the_ode_does_and_is_of_fourth_order(name):
    denoiser = IdealDenoiser(path(name), mean=torch.tensor([[0.3, -0.5], [0.1, 0.9]]), std=0.7)
    end = denoiser.end(NOISE)
    errors = [(reference(denoiser, NOISE, COND, n) - end).square().mean().sqrt().log2() for n in (4, 8, 64)]
    assert errors[0] - errors[1] > 3.5
    assert errors[2] < -20


def test_it_makes_four_calls_a_step_and_one_at_the_end():
    denoiser = IdealDenoiser(path("flow"), std=0.5)
    reference(denoiser, NOISE, COND, 7)
    assert len(denoiser.calls) == 4 * 7 + 1
    assert torch.cat(denoiser.calls).min() > 0


@pytest.mark.parametrize("name", NAMES[:2])
def test_it_agrees_with_scipy(name):
    denoiser, by_level = TwoPoints(path(name), 0.4), by_noise_level(path(name))

    def velocity(level, x):
        x, level = torch.from_numpy(x).reshape(8, 1, 2, 2), torch.full((8,), level, dtype=torch.float64)
        p, c = retimed(denoiser)(x, level, COND[:8]), by_level(level)
        return (expand(c.d_alpha, x) * p.x0 + expand(c.d_sigma, x) * p.eps).flatten().numpy()

    start = NOISE[:8].double().flatten().numpy()
    exact = solve_ivp(velocity, (by_level.t_max, 0), start, method="DOP853", rtol=1e-9, atol=1e-9).y[:, -1]
    ours = reference(denoiser, NOISE[:8], COND[:8], 100).flatten().double()
    torch.testing.assert_close(ours, torch.from_numpy(exact), atol=2e-5, rtol=0)


class Biased:
    """Predicts x0, and all of it a tenth too much: near the data its eps is wrong by .1 / sigma."""

    def __init__(self, std):
        self.scheduler = path("flow", "x0")
        self.ideal = IdealDenoiser(self.scheduler, std=std)

    def __call__(self, x, t, cond):
        c, x0 = self.scheduler(t), self.ideal(x, t, cond).x0 + 0.1
        return Prediction(x0, (x - expand(c.alpha, x) * x0) / expand(c.sigma, x), None)


@pytest.mark.parametrize("num_steps", [4, 8, 16])
def test_what_an_x0_is_wrong_by_is_not_magnified_near_the_data(num_steps):
    """dx / dl = (x - x0) / l, by scipy in log l, where it is smooth, down to the same last level."""
    denoiser, x = Biased(std=0.7), NOISE[:4]
    last = reference_levels(denoiser.scheduler, num_steps)[-1]

    def slope(log_level, flat):
        t = torch.full((4,), np.exp(log_level), dtype=torch.float64)
        state = torch.from_numpy(flat).reshape(x.shape)
        return (state - denoiser(state, t, COND[:4]).x0).flatten().numpy()

    near = solve_ivp(slope, (0, np.log(last)), x.double().flatten().numpy(), rtol=1e-9, atol=1e-9).y[:, -1]
    exact = denoiser(torch.from_numpy(near).reshape(x.shape), torch.full((4,), last).double(), COND[:4]).x0
    ours = reference(denoiser, x, COND[:4], num_steps).double()
    torch.testing.assert_close(ours, exact, atol=0.1 / num_steps**2, rtol=0)
