"""Noise that belongs to a seed: sample b depends on seeds[b] alone, whatever the batch size and the order."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Generator, Tensor

SEEDS = 2**32  # torch's CPU generator reads the low 32 bits of a seed and ignores the others


def generators(seeds: Sequence[int], stream: int = 0) -> list[Generator]:
    """One CPU generator per sample: torch's own for that seed, or another stream, independent of it."""
    return [Generator().manual_seed(_mixed(seed, stream)) for seed in seeds]


def draw(sources: Sequence[Generator], shape: Iterable[int]) -> Tensor:
    """(B, *shape) of unit Gaussians, row b from sources[b]."""
    size = tuple(shape)
    return torch.stack([torch.randn(size, generator=source) for source in sources])


def initial_noise(seeds: Sequence[int], shape: Iterable[int]) -> Tensor:
    """(B, *shape): where the trajectories of these seeds start, as in diffusers' pipelines."""
    return draw(generators(seeds), shape)


def step_generators(seeds: Sequence[int]) -> list[Generator]:
    """Sources of what a stochastic solver adds on its way; hand them to `draw` at every step."""
    return generators(seeds, stream=1)


def _mixed(seed: int, stream: int) -> int:
    if not 0 <= seed < SEEDS:
        raise ValueError(f"seeds: {seed} is outside 0..{SEEDS - 1}")
    return seed if stream == 0 else int(np.random.SeedSequence([seed, stream]).generate_state(1)[0])
