"""Conditions and noises to explore from, each with the end of its exact ODE; computed once, met often."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tpdm.runtime.artifact import load_artifact, save_artifact
from tpdm.runtime.progress import Progress
from tpdm.sampler.noise import initial_noise
from tpdm.sampler.reference import reference
from tpdm.types import DenoiserLike


@dataclass(frozen=True)
class Pool:
    """M conditions, each with V noises: one that a group of samples shares, or one for every sample of it."""

    cond: Int[Tensor, "M slots"]
    noise: Float[Tensor, "M V C H W"]
    target: Float[Tensor, "M V C H W"]

    def pick(self, index: Int[Tensor, "P"], samples: int) -> tuple[Tensor, Tensor, Tensor]:
        """(noise, cond, target) for `samples` of each picked condition, flat: (P * S, ...)."""
        variants = self.noise.shape[1]
        noise, target = (
            x[index].repeat_interleave(samples // variants, dim=1).flatten(0, 1)
            for x in (self.noise, self.target)
        )
        return noise, self.cond[index].repeat_interleave(samples, dim=0), target

    def to(self, device: torch.device) -> "Pool":
        return Pool(self.cond.to(device), self.noise.to(device), self.target.to(device))


def make_pool(
    denoiser: DenoiserLike,
    cond: Int[Tensor, "M slots"],
    shape: tuple[int, ...],
    variants: int,
    num_steps: int,
    batch_size: int,
    first_seed: int,
    silent: bool,
) -> Pool:
    """Draws the noises by seed, counted from `first_seed`, and follows each to its end."""
    seeds = range(first_seed, first_seed + len(cond) * variants)
    noise = initial_noise(seeds, shape)
    flat = cond.repeat_interleave(variants, dim=0)
    ends = []
    with Progress(-(-len(noise) // batch_size), "reference", silent=silent) as progress:
        for x, c in batches(batch_size, noise.to(cond.device), flat):
            ends.append(reference(denoiser, x, c, num_steps))
            progress.advance()
    unflatten = (len(cond), variants)
    return Pool(cond, noise.to(cond.device).unflatten(0, unflatten), torch.cat(ends).unflatten(0, unflatten))


def batches(batch_size: int, *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    yield from zip(*(x.split(batch_size) for x in tensors), strict=True)


def load_pool(folder: Path) -> Pool | None:
    """A pool that an interrupted run left; None where there is none."""
    if not folder.exists():
        return None
    _, state = load_artifact(folder)
    return Pool(**state)


def save_pool(folder: Path, pool: Pool) -> None:
    save_artifact(folder, {}, vars(pool))
