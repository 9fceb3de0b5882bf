"""Levels where the trajectories bend."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from tpdm.registry import Fraction, Positive, register
from tpdm.sampler.grid import Levels
from tpdm.search.dynamic import EVENLY, Power, fine
from tpdm.search.problem import Problem


@register("search", "sharpness")
@torch.no_grad()
def sharpness(
    problem: Problem,
    num_steps: int,
    /,
    candidates: Positive[int],
    power: Power,
    order: Fraction[float],
) -> Levels:
    """Equal shares of the bend |d2x / dl2|^order along a fine trajectory, l the level.

    With order 1/2 every Euler step then has the same local error, h^2 / 2 |d2x / dl2| (Hairer, Norsett &
    Wanner 1993, II.4).
    """
    levels = fine(num_steps, candidates, power).double()
    x = torch.stack([walk.x.flatten() for walk in problem[:EVENLY].follow(levels)]).double().cpu()
    velocity = x.diff(dim=0) / levels.diff()[:, None]
    middle = (levels[1:] + levels[:-1]) / 2
    bend = (velocity.diff(dim=0) / middle.diff()[:, None]).square().mean(1).sqrt()  # at levels[1:-1]
    density = torch.cat([bend[:1], bend, bend[-1:]]).clamp(min=torch.finfo(bend.dtype).tiny) ** order
    weight = (density[1:] + density[:-1]) / 2 * -levels.diff()
    passed = torch.cat([weight.new_zeros(1), weight.cumsum(0)])
    shares = torch.linspace(0, 1, num_steps + 1, dtype=torch.float64)
    return interpolate(shares[1:-1] * passed[-1], passed, levels)


def interpolate(
    at: Float[Tensor, "N-1"], x: Float[Tensor, "M"], y: Float[Tensor, "M"]
) -> Float[Tensor, "N+1"]:
    """y at `at`, linear between rising x, and between the ends of y."""
    k = torch.searchsorted(x, at).clamp(1, len(x) - 1)
    inner = torch.lerp(y[k - 1], y[k], (at - x[k - 1]) / (x[k] - x[k - 1]))
    return torch.cat([y[:1], inner, y[-1:]]).float()
