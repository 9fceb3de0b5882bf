import json

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from scipy import stats

from tests.scheduler.paths import path
from tpdm.registry import build
from tpdm.sampler import grid

CHOICES = [
    {"name": "uniform"},
    {"name": "shifted", "shift": 3.0},
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
    for content in ('{"levels": 3}', '[1, "a", 0]', "[[1, 0]]", "[1, true, 0]"):
        file.write_text(content)
        with pytest.raises(ValueError, match=r"sampler.grid.path=.*grid.json is no JSON list"):
            learned(2)
