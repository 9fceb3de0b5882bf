"""Intervals by drawing the samples again, the same draws for all (Efron & Tibshirani 1993)."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


@cache
def resampled(size: int, draws: int, seed: int) -> Float[Tensor, "D B"]:
    """How often each of `size` samples is drawn in so many drawings of as many, as shares of the drawing."""
    counts = np.random.default_rng(seed).multinomial(size, np.full(size, 1 / size), draws)
    return torch.from_numpy(counts).double() / size


def interval(values: Float[Tensor, "D"], level: float) -> tuple[float, float]:
    """The middle `level` of what the drawings gave."""
    tail = (1 - level) / 2
    low, high = torch.quantile(values.double(), torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return low, high


def trimmed_mean(values: Float[Tensor, "B"], share: float) -> float:
    """The mean without the lowest and the highest `share` of the values."""
    cut = int(share * len(values))
    return values.sort().values[cut : len(values) - cut].mean().item()
