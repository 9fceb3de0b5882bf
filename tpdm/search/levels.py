"""Schedules as numbers to search over, and the shape of one with another number of steps."""

from __future__ import annotations

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from tpdm.sampler.grid import Levels

Table = dict[int, Levels]  # N: a schedule of N steps
SHORT = 0.03  # of the way


def uniform(num_steps: int) -> Levels:
    return torch.linspace(1, 0, num_steps + 1)


def fall(logits: Float[Tensor, "N"]) -> Levels:
    """Levels whose steps take softmax(logits) of it: any logits are a schedule. Both ends are exact."""
    shares = logits.softmax(0)
    one = shares.new_ones(1)
    return torch.cat([one, 1 - shares[:-1].cumsum(0), one - 1]).float()


def logits_of(levels: Levels) -> Float[Tensor, "N"]:
    """Logits, in float64, of which `fall` makes these levels."""
    return (-levels.double().diff()).log()


def stretched(levels: Levels, num_steps: int) -> Levels:
    """The same shape with another number of steps: linear between levels at equal shares of the steps."""
    size = len(levels) - 1
    position = torch.arange(num_steps + 1, dtype=torch.float64) * size / num_steps
    low = position.floor().long().clamp(max=size - 1)
    return torch.lerp(levels.double()[low], levels.double()[low + 1], position - low).float()


def delayed(levels: Levels) -> Levels:
    """One step more: a short one first, then the same on what is left of the way."""
    return torch.cat([levels[:1], (1 - SHORT) * levels])


def between(table: Table) -> Table:
    """With every N from the first to the last: where one is missing, a mean of the shapes on both sides."""
    whole = dict(table)
    for low, high in pairwise(sorted(table)):
        for n in range(low + 1, high):
            weight = (n - low) / (high - low)
            whole[n] = torch.lerp(stretched(table[low], n), stretched(table[high], n), weight)
    return dict(sorted(whole.items()))
