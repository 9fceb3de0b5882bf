import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ideal import IdealDenoiser
from tests.scheduler.paths import LEVEL_NAMES, NAMES, path
from tpdm.scheduler.path import by_noise_level, ends, expand, raw_output, retimed

READABLE = [
    *(("flow", predicts) for predicts in ("velocity", "x0")),
    *((name, predicts) for name in NAMES[1:] for predicts in ("eps", "eps_and_variance", "x0")),
]


@pytest.mark.parametrize("name", NAMES + LEVEL_NAMES)
def test_derivatives_are_those_of_autograd(name):
    t = torch.rand(256, dtype=torch.float64).mul(0.98).add(0.01).requires_grad_()
    c = path(name)(t)
    for value, derivative in ((c.alpha, c.d_alpha), (c.sigma, c.d_sigma)):
        (expected,) = torch.autograd.grad(value.sum(), t, retain_graph=True)
        torch.testing.assert_close(derivative, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_paths_run_from_data_to_noise(name):
    c = path(name)(torch.tensor([0.0, 1.0]))
    assert c.alpha[0] == 1
    assert c.sigma[0] == 0
    assert c.alpha[1] < 0.007
    torch.testing.assert_close(c.sigma[1], torch.tensor(1.0), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", NAMES[1:] + LEVEL_NAMES)
def test_variance_is_preserved(name):
    c = path(name)(torch.rand(256))
    torch.testing.assert_close(c.alpha**2 + c.sigma**2, torch.ones(256))


@pytest.mark.parametrize("name", NAMES)
def test_noise_level_is_sigma_over_the_sum_and_time_at_inverts_it(name):
    t = torch.linspace(0, 1, 4001)
    level = path(name).noise_level(t)
    c = path(name)(t)
    torch.testing.assert_close(level, c.sigma / (c.alpha + c.sigma))
    assert (level.diff() > 0).all()
    torch.testing.assert_close(path(name).noise_level(path(name).time_at(level)), level, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(
    "name", NAMES[:2]
)  # the cosine path has all of its last times within 1e-5 of level 1
def test_time_at_is_exact_to_float32(name):
    t = torch.linspace(0, 0.99, 991)
    torch.testing.assert_close(path(name).time_at(path(name).noise_level(t)), t, atol=2e-6, rtol=2e-6)


@pytest.mark.parametrize("name", NAMES)
def test_time_at_stays_on_the_path(name):
    t = path(name).time_at(torch.tensor([0.0, path(name).noise_level(torch.ones(1)).item(), 1.0]))
    assert t[0] == 0
    assert (t <= 1).all()
    torch.testing.assert_close(t[1:], torch.ones(2))


@pytest.mark.parametrize(("name", "predicts"), READABLE)
@settings(max_examples=25, deadline=None)
@given(times=st.lists(st.floats(2**-10, 1, width=32), min_size=1, max_size=4), seed=st.integers(0, 2**31))
def test_ends_recompose_the_state_and_are_the_ends(name, predicts, times, seed):
    t = torch.tensor(times)
    x0, eps = torch.randn(2, len(t), 2, 3, 3, generator=torch.Generator().manual_seed(seed))
    c = path(name, predicts)(t)
    alpha, sigma, d_alpha, d_sigma = (expand(value, x0) for value in c)
    x = alpha * x0 + sigma * eps
    raw = {
        "velocity": d_alpha * x0 + d_sigma * eps,
        "x0": x0,
        "eps": eps,
        "eps_and_variance": torch.cat([eps, torch.rand_like(eps)], 1),
    }[predicts]
    got_x0, got_eps = ends(predicts, c, x, raw)
    torch.testing.assert_close(alpha * got_x0 + sigma * got_eps, x, atol=2e-6, rtol=1e-5)
    lost = 1e-5 / (alpha if predicts.startswith("eps") else sigma if predicts == "x0" else torch.ones(1))
    assert ((got_x0 - x0).abs() <= lost).all()  # float32, divided by the coefficient of what is sought
    assert ((got_eps - eps).abs() <= lost).all()


def test_a_velocity_is_read_on_any_path():
    t, (x0, eps) = torch.rand(64) * 0.9 + 0.05, torch.randn(2, 64, 1, 2, 2)
    for name in NAMES + LEVEL_NAMES:
        c = path(name)(t)
        alpha, sigma, d_alpha, d_sigma = (expand(value, x0) for value in c)
        got = ends("velocity", c, alpha * x0 + sigma * eps, d_alpha * x0 + d_sigma * eps)
        torch.testing.assert_close(torch.stack(got), torch.stack([x0, eps]), atol=1e-3, rtol=1e-3)


def test_ends_refuse_an_unknown_reading():
    with pytest.raises(ValueError, match=r"scheduler.predicts='score'"):
        ends("score", path("flow")(torch.ones(1)), torch.ones(1, 1), torch.ones(1, 1))


@pytest.mark.parametrize("name", NAMES)
def test_retimed_is_the_same_path_in_noise_levels(name):
    """One state, named by its time or by its noise level, gets one answer."""
    denoiser = IdealDenoiser(path(name), mean=0.3, std=0.5)
    by_level = retimed(denoiser)
    t, x, cond = torch.rand(64) * 0.98 + 0.01, torch.randn(64, 1, 2, 2), torch.zeros(64, 1)
    level = path(name).noise_level(t)
    torch.testing.assert_close(by_level.scheduler.timestep(level), path(name).timestep(t), atol=2, rtol=1e-4)
    for mine, base in zip(by_level.scheduler(level)[:2], path(name)(t)[:2], strict=True):
        torch.testing.assert_close(mine, base, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(
        torch.stack(by_level(x, level, cond)[:2]), torch.stack(denoiser(x, t, cond)[:2]), atol=1e-5, rtol=1e-5
    )
    identity = by_level.scheduler
    assert torch.equal(identity.noise_level(level), level)
    assert torch.equal(identity.time_at(level), level)


def test_a_path_in_noise_levels_is_left_alone():
    flow = IdealDenoiser(path("flow"))
    ddpm = retimed(IdealDenoiser(path("ddpm")))
    assert retimed(flow) is flow
    assert retimed(ddpm) is ddpm
    assert by_noise_level(ddpm.scheduler) is ddpm.scheduler


def test_a_path_in_noise_levels_ends_where_its_table_does():
    assert by_noise_level(path("flow")).t_max == 1
    c = path("ddpm")(torch.ones(1))
    t_max = by_noise_level(path("ddpm")).t_max
    assert t_max == pytest.approx((c.sigma / (c.alpha + c.sigma)).item())
    assert by_noise_level(path("ddpm")).warp(torch.ones(1, dtype=torch.float64)).item() == t_max


@pytest.mark.parametrize("name", NAMES + LEVEL_NAMES)
def test_coefficients_work_on_the_meta_device_and_keep_float32(name):
    for value in (*path(name)(torch.ones(3, device="meta")), *path(name)(torch.rand(3))):
        assert value.dtype == torch.float32
        assert value.shape == (3,)


@pytest.mark.parametrize(("name", "predicts"), READABLE)
def test_what_a_network_would_answer_is_what_its_ends_are_read_from(name, predicts):
    scheduler, t = path(name, predicts), torch.rand(64, dtype=torch.float64) * 0.9 + 0.05
    x0, eps = torch.randn(2, 64, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    c = scheduler(t)
    x = expand(c.alpha, x0) * x0 + expand(c.sigma, x0) * eps
    torch.testing.assert_close(ends(predicts, c, x, raw_output(predicts, c, x0, eps)), (x0, eps))


@pytest.mark.parametrize("name", NAMES)
def test_a_timestep_tells_its_time(name):
    t = torch.rand(256, dtype=torch.float64) * 0.99 + 0.005
    torch.testing.assert_close(path(name).time_told(path(name).timestep(t)), t, atol=1e-9, rtol=1e-9)
