import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ideal import IdealDenoiser
from tests.scheduler.paths import NAMES, path
from tpdm.registry import build
from tpdm.sampler import grid
from tpdm.sampler.fixed import DDIM, DPMPP_2M, FixedSampler
from tpdm.sampler.integrate import follow, integrate
from tpdm.sampler.noise import initial_noise
from tpdm.sampler.step import LONGEST, Past, ab2, abm, ddim, dpmpp_2m, remember
from tpdm.scheduler.path import by_noise_level
from tpdm.types import Prediction

STEPS = {ddim: 1, dpmpp_2m: 2, ab2: 2, abm: 2}  # and their orders, whatever the path
NOISE = initial_noise(range(4), (1, 2, 2))
COND = torch.zeros(4, 1)


def gaussian(name):
    mean, std = torch.tensor([[[0.3, -0.5], [0.1, 0.9]]]), torch.tensor([[[0.5, 0.8], [0.6, 1.2]]])
    return IdealDenoiser(path(name), mean, std)


def walk(step, denoiser, times, noise=NOISE):
    """Along given noise levels, one row for all or a row for each sample."""
    rows = times.expand(len(noise), -1)
    return integrate(denoiser, noise, COND[: len(noise)], follow(rows), step, rows.shape[1] - 1).x0


def uniform(name, num_steps):
    return by_noise_level(path(name)).t_max * grid.uniform(num_steps)


@st.composite
def schedules(draw, samples=3):
    """Falling noise levels from 1 for each sample, of its own length, padded with 0: (samples, K+1)."""
    ratios = st.lists(st.floats(0.2, 0.95), min_size=0, max_size=6)
    rows = [torch.tensor([1.0, *draw(ratios)]).cumprod(0) for _ in range(samples)]
    return torch.nn.utils.rnn.pad_sequence(
        [torch.cat([row, torch.zeros(1)]) for row in rows], batch_first=True
    )


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("name", NAMES)
def test_a_step_has_its_order(name, step):
    """The slope of its error against the end of a Gaussian's ODE, over two doublings."""
    order = 3 if (step, name) == (abm, "flow") else STEPS[step]
    denoiser, noise = gaussian(name), NOISE.double()
    walks = (walk(step, denoiser, uniform(name, n).double(), noise) for n in (64, 256))
    errors = [(x - denoiser.end(noise)).square().mean().sqrt().log2() for x in walks]
    assert (errors[0] - errors[1]) / 2 > 0.85 * order
    assert errors[1] < {1: -7, 2: -13, 3: -19}[order]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=10, deadline=None)
@given(times=schedules())
def test_a_step_is_exact_where_the_denoiser_sees_the_end(name, step, times):
    """Of a point mass both ends are known from anywhere, so that any schedule lands on the point."""
    target = torch.tensor([[[0.7, -0.2], [0.0, 1.0]]])
    got = walk(step, IdealDenoiser(path(name), target), by_noise_level(path(name)).t_max * times, NOISE[:3])
    torch.testing.assert_close(got, target.expand(3, 1, 2, 2), atol=1e-5, rtol=0)


PARITY = [(ddim, DDIM, 1e-5), (dpmpp_2m, DPMPP_2M, 1e-4)]


@pytest.mark.parametrize(("step", "solver", "atol"), PARITY)
@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=15, deadline=None)
@given(times=schedules())
def test_with_given_times_it_is_the_solver_of_diffusers(name, step, solver, atol, times):
    """A schedule for each sample: ours walks them in one batch, diffusers' own solver one after the other."""
    denoiser, times = gaussian(name), by_noise_level(path(name)).t_max * times
    ours = walk(step, denoiser, times, NOISE[:3])
    for b, row in enumerate(times):
        levels = row[: int((row > 0).sum()) + 1]
        one = NOISE[b : b + 1]
        theirs = FixedSampler(1, grid.uniform, solver).along(levels, denoiser, one, COND[:1], [b]).x0
        torch.testing.assert_close(ours[b : b + 1], theirs, atol=atol, rtol=0)


READS_X0 = {"timestep_spacing": "trailing", "prediction_type": "sample"}


@pytest.mark.parametrize(
    ("step", "theirs", "atol"),
    [
        (ddim, DDIMScheduler(clip_sample=False, **READS_X0), 1e-5),
        (dpmpp_2m, DPMSolverMultistepScheduler(**READS_X0), 1e-4),
    ],
)
@pytest.mark.parametrize("num_steps", [1, 2, 10, 20])
def test_it_ends_where_a_plain_loop_of_diffusers_does(step, theirs, atol, num_steps):
    """Its own grid on the ddpm path; table entry n is our t = (n + 1) / 1000."""
    denoiser = gaussian("ddpm")
    theirs.set_timesteps(num_steps)
    x, times = NOISE, [path("ddpm").noise_level((theirs.timesteps + 1) / 1000), torch.zeros(1)]
    for key in theirs.timesteps:
        x = theirs.step(denoiser(x, ((key + 1) / 1000).expand(4), COND).x0, key, x).prev_sample
    torch.testing.assert_close(walk(step, denoiser, torch.cat(times)), x, atol=atol, rtol=0)


@settings(max_examples=20, deadline=None)
@given(times=schedules(samples=1))
def test_ab2_is_the_textbook_formula_on_the_flow_path(times):
    """x + h ((1 + w / 2) f_n - w / 2 f_(n-1)) with w = h / h_past (Hairer, Norsett & Wanner 1993, III.5)."""
    denoiser, x, before = gaussian("flow"), NOISE.double(), None
    for t, t_next in pairwise(times[0].double()):
        p = denoiser(x, t.expand(4), COND)
        f, h = p.eps - p.x0, t_next - t
        w = 0 if before is None else h / before[1]
        x = x + h * ((1 + w / 2) * f - (w / 2 * before[0] if before else 0))
        before = f, h
    torch.testing.assert_close(walk(ab2, denoiser, times), x.float(), atol=1e-5, rtol=0)


@settings(max_examples=20, deadline=None)
@given(times=schedules(samples=1))
def test_abm_starts_from_the_state_that_a_parabola_leads_to(times):
    """AB2's prediction, then the last step again by the integral of the polynomial through all that is known
    around it, on the flow path; in part where it is over twice as long as the next step."""
    denoiser, x, left, known = gaussian("flow"), NOISE.double(), None, []
    for t, t_next in pairwise(times[0].double()):
        p = denoiser(x, t.expand(4), COND)
        known = [*known[-2:], (t.item(), p.eps - p.x0)]
        if left is not None:
            part = min(1, LONGEST * (t - t_next) / (left[0] - t)) ** 2
            x = x + part * (left[1] + integral(known, left[0], t.item()) - x)
        left = t.item(), x
        x = x + integral(known[-2:], t.item(), t_next.item())
    torch.testing.assert_close(walk(abm, denoiser, times), x.float(), atol=1e-5, rtol=0)


class Settled(IdealDenoiser):
    """Sees the end the better the less noise there is, whatever x is: x0 = mean + t. The ODE ends at mean."""

    def __call__(self, x, t, cond):
        x0, level = self.mean + t.view(-1, 1, 1, 1), t.view(-1, 1, 1, 1)
        return Prediction(x0, (x - (1 - level) * x0) / level, None)


@pytest.mark.parametrize("times", [[1, 0.1, 0], [1, 0.3, 0.05, 0]])
def test_abm_leaves_x_alone_where_it_does_not_count(times):
    """Put right wholly, x would end 80 and 49 times as far off as it does by AB2."""
    denoiser, times = Settled(path("flow"), torch.zeros(1, 2, 2), torch.ones(1, 2, 2)), torch.tensor(times)
    errors = [walk(step, denoiser, times).abs().max() for step in (abm, ab2)]
    assert errors[0] < 6 * errors[1]


@pytest.mark.parametrize("times", [[1, 0.5, 0.4995, 0.001, 0], [1, 0.7, 0.69, 0.4, 0.39, 0.2, 0.19, 0]])
def test_abm_bears_a_short_step_between_long_ones(times):
    """Where a correction before it, made wholly, would be taken for a slope."""
    denoiser, times = gaussian("flow"), torch.tensor(times)
    errors = [(walk(s, denoiser, times) - denoiser.end(NOISE)).square().mean() for s in (abm, ab2)]
    assert errors[0] < 2 * errors[1]


def integral(known, start, end):
    """Of the polynomial through (time, value), by Lagrange's formula."""
    total = 0
    for t, value in known:
        others = [other for other, _ in known if other != t]
        basis = np.poly1d(others, r=True) / math.prod(t - other for other in others)
        total = total + (basis.integ()(end) - basis.integ()(start)) * value
    return total


@pytest.mark.parametrize("step", [dpmpp_2m, ab2, abm])
@pytest.mark.parametrize("name", NAMES)
def test_each_row_has_its_own_history(name, step):
    """A batch of rows with different times and pasts is those rows one by one."""
    by_level, (x0, eps, *old) = by_noise_level(path(name)), torch.randn(6, 3, 1, 2, 2)
    t, t_next, t_past, t_before = torch.tensor(
        [[0.5, 0.3, 0.9], [0.2, 0.0, 0.5], [0.8, 0.4, 0.95], [0.9, 0.7, 0.97]]
    )
    past = Past(old[0], old[1], t_past, Past(old[2], old[3], t_before))
    together = step(by_level, Prediction(x0, eps, None), t, t_next, past)
    for b in range(3):
        r = slice(b, b + 1)
        alone = step(by_level, Prediction(x0[r], eps[r], None), t[r], t_next[r], past.of(r))
        torch.testing.assert_close(together[r], alone)


def test_no_more_is_remembered_than_a_step_looks_back():
    """Or the memory of a long walk would grow with its steps."""
    p, past = Prediction(NOISE, -NOISE, None), None
    for t in (0.9, 0.8, 0.7, 0.6):
        past = remember(p, torch.full((4,), t), past)
    assert [past.t[0], past.before.t[0]] == pytest.approx([0.6, 0.7])
    assert past.before.before is None


@pytest.mark.parametrize("step", STEPS)
def test_every_step_is_built_by_name(step):
    assert build("sampler/step", {"name": step.__name__}).func is step
