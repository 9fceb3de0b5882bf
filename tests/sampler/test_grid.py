import json

import pytest
import torch
from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler
from scipy import stats

from tests.scheduler.paths import path
from tpdm.registry import build
from tpdm.sampler import grid
from tpdm.scheduler.path import by_noise_level

CHOICES = [
    {"name": "uniform"},
    {"name": "shifted", "shift": 3.0},
    {"name": "shifted_twice", "shift": 3.0},
    {"name": "cosine"},
    {"name": "karras", "rho": 7.0, "last": 0.02},
    {"name": "exponential", "last": 0.02},
    {"name": "beta", "a": 0.6, "b": 0.6},
]


@pytest.mark.parametrize("cfg", CHOICES, ids=lambda cfg: cfg["name"])
@pytest.mark.parametrize("num_steps", [1, 2, 3, 28])
def test_every_grid_falls_from_one_to_zero(cfg, num_steps):
    levels = build("sampler/grid", cfg)(num_steps)
    assert levels.shape == (num_steps + 1,)
    assert levels.dtype == torch.float32
    assert (levels[0], levels[-1]) == (1, 0)
    assert (levels.diff() < 0).all()


def test_uniform_is_even():
    torch.testing.assert_close(grid.uniform(4), torch.tensor([1, 0.75, 0.5, 0.25, 0]))


def test_shifted_is_the_shift_of_the_flow_path():
    torch.testing.assert_close(grid.shifted(28, shift=3.0), path("flow").warp(grid.uniform(28)))


def test_diffusers_shifts_its_last_level_twice():
    """Why a fair baseline cannot be their default grid: its last step is as short at 10 steps as at 100."""
    for num_steps in (10, 100):
        theirs = FlowMatchEulerDiscreteScheduler(shift=3.0)
        theirs.set_timesteps(num_steps)
        assert theirs.sigmas[-2].item() == pytest.approx(0.0089, abs=1e-4)
        assert grid.shifted(num_steps, shift=3.0)[-2] > 3 * 0.0089


@pytest.mark.parametrize("shift", [1.0, 3.0, 7.0])
@pytest.mark.parametrize("num_steps", [1, 2, 28])
def test_the_grid_that_is_shifted_twice_is_that_of_diffusers(num_steps, shift):
    theirs = FlowMatchEulerDiscreteScheduler(shift=shift)
    theirs.set_timesteps(num_steps)
    torch.testing.assert_close(grid.shifted_twice(num_steps, shift=shift), theirs.sigmas)


def test_cosine_has_the_noise_levels_of_a_cosine_path():
    u = torch.linspace(1, 0, 11)
    alpha, sigma = (u * torch.pi / 2).cos(), (u * torch.pi / 2).sin()
    torch.testing.assert_close(grid.cosine(10), sigma / (alpha + sigma))


def test_karras_is_that_of_diffusers():
    theirs = FlowMatchEulerDiscreteScheduler(use_karras_sigmas=True)
    theirs.set_timesteps(sigmas=torch.linspace(1, 0.02, 12).tolist())
    torch.testing.assert_close(grid.karras(12, rho=7.0, last=0.02), theirs.sigmas)


def test_exponential_has_equal_ratios():
    levels = grid.exponential(6, last=0.02)
    torch.testing.assert_close(levels[1:-1] / levels[:-2], torch.full((5,), 0.02 ** (1 / 5)))


def test_beta_has_equal_mass_between_its_levels():
    mass = stats.beta(0.6, 0.8).cdf(grid.beta(8, a=0.6, b=0.8).double().numpy())
    torch.testing.assert_close(
        torch.from_numpy(mass), torch.linspace(1, 0, 9, dtype=torch.float64), atol=1e-4, rtol=0
    )


def entries(num_steps, spacing="even", name="ddpm"):
    """Those of the table that a respaced grid visits."""
    scheduler = path(name)
    made = build("sampler/grid", {"name": "respaced", "spacing": spacing}, scheduler=scheduler)
    levels = made(num_steps) * by_noise_level(scheduler).t_max
    assert levels[-1] == 0
    places = scheduler.time_at(levels[:-1]) * 1000 - 1
    torch.testing.assert_close(places, places.round(), atol=1e-6, rtol=0)
    return places.round().int().tolist()[::-1]


@pytest.mark.parametrize("name", ["ddpm", "ddpm_cosine"])
@pytest.mark.parametrize("num_steps", [2, 25, 250, 1000])
def test_even_respacing_is_diffusers_linspace(name, num_steps):
    theirs = DDPMScheduler(timestep_spacing="linspace")
    theirs.set_timesteps(num_steps)
    assert entries(num_steps, name=name) == theirs.timesteps.flip(0).tolist()


@pytest.mark.parametrize(("num_steps", "stride"), [(10, 100), (25, 40), (50, 20), (4, 250), (1000, 1)])
def test_ddim_respacing_is_every_so_many_entries(num_steps, stride):
    assert entries(num_steps, "ddim") == list(range(0, 1000, stride))


@pytest.mark.parametrize(
    ("num_steps", "spacing", "name", "complaint"),
    [
        (1, "even", "ddpm", "sampler.num_steps=1 cannot be spread over 1000 entries; use 2 to 1000"),
        (1001, "even", "ddpm", "sampler.num_steps=1001 cannot be spread"),
        (37, "ddim", "ddpm", "sampler.num_steps=37 is not what any whole stride through 1000 entries takes"),
        (10, "even", "flow", "scheduler=flow does not have"),
    ],
)
def test_a_respacing_that_does_not_exist_is_refused(num_steps, spacing, name, complaint):
    with pytest.raises(ValueError, match=complaint):
        entries(num_steps, spacing, name)


def test_learned_is_read_from_a_file(tmp_path):
    file = tmp_path / "grid.json"
    file.write_text(json.dumps([1.0, 0.6, 0.1, 0.0]))
    learned = build("sampler/grid", {"name": "learned", "path": str(file)})
    torch.testing.assert_close(learned(3), torch.tensor([1.0, 0.6, 0.1, 0.0]))
    with pytest.raises(ValueError, match=r"sampler.num_steps=4.* has 3 steps"):
        learned(4)
    file.write_text(json.dumps([1.0, 0.1, 0.6, 0.0]))
    with pytest.raises(ValueError, match="does not fall from 1 to 0"):
        learned(3)
    for content in ('[1, "a", 0]', "[[1, 0]]", "[1, true, 0]"):
        file.write_text(content)
        with pytest.raises(ValueError, match=r"sampler.grid.path=.*grid.json is no JSON list"):
            learned(2)
