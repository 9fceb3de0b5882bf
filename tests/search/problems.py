"""Small problems to search on: one curved enough to have a best schedule, cheap enough to scan."""

import torch

from tests.sampler.test_reference import TwoPoints
from tests.scheduler.paths import path
from tests.tiny import SHAPE, conditions, tiny_denoiser
from tpdm.sampler.noise import initial_noise
from tpdm.sampler.reference import reference
from tpdm.sampler.step import ab2
from tpdm.search.problem import Problem


def curved(name="flow", step=ab2, std=0.3, count=24):
    """Two blurred points per pixel, with the exact posterior mean."""
    denoiser, noise = TwoPoints(path(name), std), initial_noise(range(count), (1, 2, 2))
    cond = torch.zeros(count, 1)
    return Problem(denoiser, step, noise, cond, reference(denoiser, noise, cond, 32))


def networked(step=ab2, count=4):
    """A small transformer with random weights, smooth in t."""
    denoiser, noise, cond = tiny_denoiser(path("flow")), initial_noise(range(count), SHAPE), conditions(count)
    return Problem(denoiser, step, noise, cond, reference(denoiser, noise, cond, 8))
