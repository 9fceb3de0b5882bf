import pytest
import torch

from tests.ideal import IdealDenoiser
from tests.scheduler.paths import NAMES, path
from tpdm.sampler.integrate import follow, integrate
from tpdm.sampler.noise import initial_noise
from tpdm.sampler.step import ab2, ddim
from tpdm.scheduler.path import by_noise_level

NOISE = initial_noise(range(3), (1, 2, 2))
COND = torch.arange(3)[:, None]
TIMES = torch.tensor([[1.0, 0.6, 0.3, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0, 0.0], [1.0, 0.9, 0.8, 0.7, 0.0]])


class Recorder(IdealDenoiser):
    """Remembers the conditions of each call, which name its rows."""

    def __init__(self, name):
        super().__init__(path(name), mean=0.3, std=0.5)
        self.rows = []

    def __call__(self, x, t, cond):
        self.rows.append(cond[:, 0].tolist())
        return super().__call__(x, t, cond)


@pytest.mark.parametrize("name", NAMES)
def test_a_finished_sample_leaves_the_batch(name):
    denoiser, times = Recorder(name), by_noise_level(path(name)).t_max * TIMES
    trajectory = integrate(denoiser, NOISE, COND, follow(times), ab2, max_steps=4)
    assert denoiser.rows == [[0, 1, 2], [0, 2], [0, 2], [2]]
    assert trajectory.nfe.tolist() == [3, 1, 4]
    assert torch.equal(trajectory.t, times)
    assert torch.equal(trajectory.alive, times[:, :-1] > 0)
    for asked, level in zip(denoiser.calls, times.T, strict=False):  # each call at its rows' times
        torch.testing.assert_close(path(name).noise_level(asked), level[level > 0], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("step", [ddim, ab2])
@pytest.mark.parametrize("name", NAMES)
def test_a_sample_does_not_know_its_batch(name, step):
    times = by_noise_level(path(name)).t_max * TIMES
    together = integrate(Recorder(name), NOISE, COND, follow(times), step, 4).x0
    for b in range(3):
        r = slice(b, b + 1)
        alone = integrate(Recorder(name), NOISE[r], COND[r], follow(times[r]), step, 4).x0
        torch.testing.assert_close(together[r], alone, atol=1e-6, rtol=1e-6)


def test_the_last_step_goes_to_the_data_whatever_was_wished():
    trajectory = integrate(Recorder("flow"), NOISE, COND, lambda _, t, *__: 0.9 * t, ddim, max_steps=3)
    torch.testing.assert_close(trajectory.t, torch.tensor([[1, 0.9, 0.81, 0]]).expand(3, -1))
    assert (trajectory.nfe == 3).all()


def test_times_below_t_min_are_the_end():
    times = torch.tensor([[1.0, 0.1, 0.0], [1.0, 0.0999, 0.0], [1.0, 0.5, 0.0]])
    trajectory = integrate(Recorder("flow"), NOISE, COND, follow(times), ddim, 2, t_min=0.1)
    assert trajectory.nfe.tolist() == [2, 1, 2]
    assert trajectory.t[1].tolist() == [1, 0, 0]


def test_the_record_is_as_long_as_the_longest_sample():
    for rows, longest in (([0, 1, 2], 4), ([0, 1, 0], 3), ([1, 1, 1], 1)):
        trajectory = integrate(Recorder("flow"), NOISE, COND, follow(TIMES[rows]), ddim, 4)
        assert trajectory.t.shape == (3, longest + 1)
        assert trajectory.alive.shape == (3, longest)


@pytest.mark.parametrize("steps", [2, 8])
def test_a_residual_end_keeps_the_noise_of_the_time_that_was_chosen(steps):
    """As the published loop: below t_min, or after the last step, the sample is what stands at that time."""
    denoiser, flow = Recorder("flow"), path("flow")
    x, t = NOISE, torch.ones(len(NOISE))
    for _ in range(min(steps, 4)):  # 0.5 ** 4 is the first below 0.1
        x, t = ddim(flow, denoiser(x, t, COND), t, 0.5 * t, None), 0.5 * t
    halving = lambda _, t, *__: 0.5 * t  # noqa: E731
    trajectory = integrate(Recorder("flow"), NOISE, COND, halving, ddim, steps, t_min=0.1, residual=True)
    torch.testing.assert_close(trajectory.x0, x)
    assert (trajectory.nfe == min(steps, 4)).all()
    assert (trajectory.t[:, -1] == 0).all()
