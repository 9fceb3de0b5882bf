"""Where the probability-flow ODE really ends: what every cheaper sampler is measured against."""

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from tpdm.scheduler.path import by_noise_level, expand, retimed
from tpdm.types import Condition, DenoiserLike, Scheduler

Velocity = Callable[[Tensor, float], Tensor]
LAST = 1e-4  # the level where Runge-Kutta stops: an eps of (x - alpha x0) / sigma has no value at 0
# Where x0 is predicted, eps holds what it is wrong by over sigma. Carried on, the ODE drifts by that times
# the log of the level, and a step over a larger RATIO of levels multiplies it.
LAST_OF_X0, RATIO = 1e-2, 2.5
POWER = 1.5  # even steps leave a hundred times the error on an empty canvas, which is stiff near the data


@torch.no_grad()
def reference(
    denoiser: DenoiserLike, noise: Float[Tensor, "B C H W"], cond: Condition, num_steps: int
) -> Float[Tensor, "B C H W"]:
    """num_steps of the classical Runge-Kutta method, closer together near the data; 4 calls each, and one.

    dx / dl = d_alpha x0 + d_sigma eps. The tiny step to 0 is DDIM's, with an
    error of the order of the last level squared.
    """
    path, denoiser = by_noise_level(denoiser.scheduler), retimed(denoiser)

    def velocity(x: Tensor, level: float) -> Tensor:
        p, c = denoiser(x, _filled(level, x), cond), path(_filled(level, x))
        return expand(c.d_alpha, x) * p.x0 + expand(c.d_sigma, x) * p.eps

    x, levels = noise, reference_levels(denoiser.scheduler, num_steps)
    for level, level_next in pairwise(levels):
        x = _runge_kutta(velocity, x, level, level_next)
    return denoiser(x, _filled(levels[-1], x), cond).x0


def reference_levels(scheduler: Scheduler, num_steps: int) -> list[float]:
    """Where the Runge-Kutta steps begin and end: num_steps of them, and a few more where x0 is predicted."""
    last = LAST_OF_X0 if scheduler.predicts == "x0" else LAST
    position = torch.linspace(1, 0, num_steps + 1, dtype=torch.float64)
    levels = (last + (by_noise_level(scheduler).t_max - last) * position**POWER).tolist()
    if scheduler.predicts != "x0":
        return levels
    *graded, start, _ = levels
    tail = math.ceil(math.log(start / last) / math.log(RATIO))
    return [*graded, *(start * (last / start) ** (k / tail) for k in range(tail + 1))]


def _runge_kutta(velocity: Velocity, x: Tensor, level: float, level_next: float) -> Tensor:
    h, middle = level_next - level, (level + level_next) / 2
    k1 = velocity(x, level)
    k2 = velocity(x + h / 2 * k1, middle)
    k3 = velocity(x + h / 2 * k2, middle)
    k4 = velocity(x + h * k3, level_next)
    return x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


def _filled(level: float, x: Tensor) -> Float[Tensor, "B"]:
    return torch.full((len(x),), level, device=x.device)
