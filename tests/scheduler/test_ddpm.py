import pytest
import torch
from diffusers import DDPMScheduler

from tests.scheduler.paths import path
from tpdm.registry import build
from tpdm.scheduler.ddpm import ddpm

TABLES = {"ddpm": "linear", "ddpm_cosine": "squaredcos_cap_v2"}
ENTRIES = torch.arange(1, 1001, dtype=torch.float64) / 1000


@pytest.mark.parametrize("name", TABLES)
def test_table_entries_are_those_of_diffusers(name):
    table = DDPMScheduler(beta_schedule=TABLES[name]).alphas_cumprod
    c = path(name)(ENTRIES.float())
    torch.testing.assert_close(c.alpha, table.sqrt(), atol=3e-6, rtol=3e-5)
    torch.testing.assert_close(c.sigma, (1 - table).sqrt(), atol=3e-6, rtol=3e-6)
    torch.testing.assert_close(
        path(name).timestep(ENTRIES.float()), torch.arange(1000.0), atol=1e-4, rtol=1e-6
    )


def test_sigma_is_accurate_next_to_the_data():
    """There alphas_cumprod = 1 - beta_0 T t to first order, which float32 could not even hold."""
    t = torch.tensor([1e-9, 1e-7, 1e-5])
    torch.testing.assert_close(path("ddpm")(t).sigma, (1e-4 * 1000 * t).sqrt(), rtol=1e-4, atol=0)


def test_times_below_the_first_entry_are_told_as_that_entry():
    assert path("ddpm").timestep(torch.tensor([0.0, 5e-4])).tolist() == [0, 0]


@pytest.mark.parametrize("name", TABLES)
def test_posterior_is_the_one_of_the_chain(name):
    """DDPM, eq. 6 and 7, from the table in float64; the first log-variance is the second's."""
    beta = DDPMScheduler(beta_schedule=TABLES[name]).betas.double()
    a = (1 - beta).cumprod(0)
    before = torch.cat([torch.ones(1), a[:-1]])
    variance = beta * (1 - before) / (1 - a)
    q = path(name).posterior(ENTRIES)
    torch.testing.assert_close(q.mean_x0, before.sqrt() * beta / (1 - a), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(q.mean_x, (1 - beta).sqrt() * (1 - before) / (1 - a), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(q.log_beta, beta.log(), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(q.log_variance, torch.cat([variance[1:2], variance[1:]]).log())


def test_posterior_is_finite_and_ordered_between_the_entries():
    q = path("ddpm").posterior(torch.linspace(1e-5, 1, 3001))
    assert all(value.isfinite().all() for value in q)
    assert (q.log_variance <= q.log_beta).all()


def test_a_velocity_that_is_infinite_at_the_data_is_refused():
    with pytest.raises(ValueError, match=r"scheduler.predicts='velocity' .* infinite"):
        ddpm(1e-4, 2e-2, 1000, "velocity")


def test_both_are_built_by_name():
    linear = {"name": "ddpm", "beta_start": 1e-4, "beta_end": 2e-2, "num_train_timesteps": 1000}
    cosine = {"name": "ddpm_cosine", "num_train_timesteps": 1000}
    for cfg in (linear, cosine):
        assert build("scheduler", cfg | {"predicts": "eps"}).num_train_timesteps == 1000
