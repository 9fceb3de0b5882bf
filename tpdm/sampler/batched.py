"""Samples of many seeds, a batch at a time."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tpdm.sampler.noise import initial_noise
from tpdm.types import Condition, DataShape, DenoiserLike, Trajectory

Sampler = Callable[[DenoiserLike, Tensor, Condition, Sequence[int]], Trajectory]


@torch.no_grad()
def walks(
    run: Callable[[Tensor, Condition, Sequence[int]], Trajectory],
    seeds: Sequence[int],
    cond: Condition,
    shape: DataShape,
    batch_size: int,
    device: torch.device,
) -> Iterator[tuple[slice, Trajectory]]:
    """A batch at a time: which of the seeds they are, and where their samples went."""
    for start in range(0, len(seeds), batch_size):
        chosen = slice(start, start + batch_size)
        noise = initial_noise(seeds[chosen], shape).to(device)
        yield chosen, run(noise, cond[chosen].to(device), seeds[chosen])


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
    drawn = walks(partial(sampler, denoiser), seeds, cond, shape, batch_size, device)
    parts = [walk for _, walk in drawn]
    return torch.cat([part.x0 for part in parts]), torch.cat([part.nfe for part in parts])
