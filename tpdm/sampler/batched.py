"""Samples of many seeds, a batch at a time."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tpdm.sampler.noise import initial_noise
from tpdm.types import Condition, DataShape, DenoiserLike, Trajectory

Sampler = Callable[[DenoiserLike, Tensor, Condition, Sequence[int]], Trajectory]


@torch.no_grad()
def in_batches(
    sampler: Sampler,
    denoiser: DenoiserLike,
    seeds: Sequence[int],
    cond: Condition,
    shape: DataShape,
    batch_size: int,
    device: torch.device,
) -> tuple[Float[Tensor, "B C H W"], Int[Tensor, "B"]]:
    """(x0, NFE) of each seed, which do not depend on the batches they are drawn in."""
    parts: list[Trajectory] = []
    for start in range(0, len(seeds), batch_size):
        chosen = slice(start, start + batch_size)
        noise = initial_noise(seeds[chosen], shape).to(device)
        parts.append(sampler(denoiser, noise, cond[chosen].to(device), seeds[chosen]))
    return torch.cat([part.x0 for part in parts]), torch.cat([part.nfe for part in parts])
