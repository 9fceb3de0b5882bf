import pytest
import torch

from tests.ideal import IdealDenoiser
from tests.sampler.test_reference import TwoPoints
from tests.scheduler.paths import NAMES, path
from tpdm.registry import build
from tpdm.sampler.error_controlled import ErrorControlledSampler
from tpdm.sampler.noise import initial_noise
from tpdm.sampler.reference import reference
from tpdm.sampler.step import Past, ab2, abm, ddim, dpmpp_2m

NOISE, COND, SEEDS = initial_noise(range(24), (1, 2, 2)), torch.zeros(24, 1), range(24)


def drawn(denoiser, tolerance, step=ab2, first=0.1, max_steps=100, rows=slice(None)):
    sampler = ErrorControlledSampler(step, tolerance, first, max_steps, 0.01)
    return sampler(denoiser, NOISE[rows], COND[rows], SEEDS[rows])


@pytest.mark.parametrize("step", [ddim, dpmpp_2m, ab2, abm])
@pytest.mark.parametrize("name", NAMES)
def test_a_smaller_tolerance_takes_more_steps_and_ends_nearer(name, step):
    denoiser = TwoPoints(path(name), 0.3)
    exact = reference(denoiser, NOISE, COND, 32)
    made = [drawn(denoiser, tolerance, step) for tolerance in (1e-1, 1e-2, 1e-3)]
    nfe = [trajectory.nfe.float().mean() for trajectory in made]
    error = [(trajectory.x0 - exact).square().mean() for trajectory in made]
    assert nfe == sorted(nfe)
    assert error == sorted(error, reverse=True)
    assert error[-1] < error[0] / 10


def test_each_step_differs_from_ddim_by_the_tolerance():
    """On the flow path, where the difference is exactly quadratic in the length."""
    denoiser, tolerance = TwoPoints(path("flow"), 0.3), 5e-3
    trajectory = drawn(denoiser, tolerance)
    x, past, met = NOISE, None, []
    for k in range(trajectory.t.shape[1] - 1):
        t, t_next = trajectory.t[:, k], trajectory.t[:, k + 1]
        p = denoiser(x, t.clamp(min=1e-6), COND)
        moved = ab2(path("flow"), p, t, t_next, past)
        if past is not None:
            apart = (moved - ddim(path("flow"), p, t, t_next, None)).square().flatten(1).mean(1).sqrt()
            growth = (t - t_next) / (past.t - t)
            met.append(apart[(t_next > 0) & (growth > 0.21) & (growth < 4.9)])
        x, past = moved, Past(p.x0, p.eps, t)
    met = torch.cat(met)
    assert len(met) > 100
    torch.testing.assert_close(met, torch.full_like(met, tolerance), rtol=1e-2, atol=0)


def test_it_takes_one_call_a_step_and_samples_go_their_own_ways():
    denoiser = TwoPoints(path("flow"), 0.3)
    together = drawn(denoiser, 1e-2)
    assert len(set(together.nfe.tolist())) > 1
    torch.testing.assert_close(together.t[:, 1], torch.full((24,), 0.9))
    calls = len(denoiser.parts[0].calls)
    assert calls == together.nfe.max()
    alone = drawn(denoiser, 1e-2, rows=slice(3, 4))
    torch.testing.assert_close(alone.x0, together.x0[3:4], atol=1e-5, rtol=1e-5)
    assert alone.nfe == together.nfe[3]


def test_every_sample_ends_in_time():
    trajectory = drawn(TwoPoints(path("flow"), 0.3), 1e-9, max_steps=5)
    assert (trajectory.nfe == 5).all()
    assert (trajectory.t[:, -1] == 0).all()


def test_steps_that_make_no_error_keep_their_length():
    """Of a point DDIM's and AB2's steps land where they should, and nothing says how far one may go."""

    class Still(IdealDenoiser):
        def __call__(self, x, t, cond):
            return super().__call__(x, t, cond)._replace(x0=torch.ones_like(x), eps=-torch.ones_like(x))

    t = drawn(Still(path("flow")), 1e-3).t[0]
    torch.testing.assert_close(t[:10], 1 - 0.1 * torch.arange(10))


def test_its_title_names_the_step():
    cfg = {"name": "error_controlled", "tolerance": 0.1, "first": 0.1, "max_steps": 5, "t_min": 0.01}
    assert build("sampler", {**cfg, "step": {"name": "ab2"}}).title == "ab2 by its error"
