"""Conditions and noises to explore from, each with the end of its exact ODE where that is asked for."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tpdm.runtime.artifact import load_artifact, save_artifact
from tpdm.runtime.progress import Progress
from tpdm.sampler.noise import initial_noise
from tpdm.sampler.reference import reference
from tpdm.types import Condition, DenoiserLike, Text

Picked = tuple[Tensor, Condition, Tensor | None, list[str] | None]


@dataclass(frozen=True)
class Pool:
    """M conditions, each with V noises: one that a group of samples shares, or one for every sample of it.

    It stays in the machine's memory; what is picked goes to the device.
    """

    cond: Condition  # (M, ...)
    noise: Float[Tensor, "M V C H W"]
    target: Float[Tensor, "M V C H W"] | None  # where the exact ODE ends; None where no reward asks
    prompts: Sequence[str] | None  # the captions that `cond` encodes; None for labels

    def pick(self, index: Int[Tensor, "P"], samples: int, device: torch.device) -> Picked:
        """(noise, cond, target, prompts) for `samples` of each picked condition, flat: (P * S, ...)."""
        repeats = samples // self.noise.shape[1]
        noise, target = (
            None if x is None else x[index].repeat_interleave(repeats, dim=1).flatten(0, 1).to(device)
            for x in (self.noise, self.target)
        )
        assert noise is not None, "every pool has noises"
        cond = self.cond[index].to(device).repeat_interleave(samples, dim=0)
        rows = index.repeat_interleave(samples).tolist()
        return noise, cond, target, None if self.prompts is None else [self.prompts[row] for row in rows]


def captions_of(cond: Any) -> list[str] | None:
    """The texts themselves, where that is what the data are conditioned on."""
    return cond if isinstance(cond, list) else None


def make_pool(
    cond: Condition, shape: tuple[int, ...], variants: int, first_seed: int, prompts: Sequence[str] | None
) -> Pool:
    """Draws the noises by seed, counted from `first_seed`."""
    seeds = range(first_seed, first_seed + len(cond) * variants)
    noise = initial_noise(seeds, shape).unflatten(0, (len(cond), variants))
    return Pool(cond.cpu(), noise, None, prompts)


def with_targets(
    pool: Pool, denoiser: DenoiserLike, num_steps: int, batch_size: int, device: torch.device, silent: bool
) -> Pool:
    """The pool with each noise followed to its end."""
    unflatten = pool.noise.shape[:2]
    noise, cond = pool.noise.flatten(0, 1), pool.cond.repeat_interleave(unflatten[1], dim=0)
    ends = []
    with Progress(-(-len(noise) // batch_size), "reference", silent=silent) as progress:
        for x, c in batches(batch_size, noise, cond):
            ends.append(reference(denoiser, x.to(device), c.to(device), num_steps).cpu())
            progress.advance()
    return Pool(pool.cond, pool.noise, torch.cat(ends).unflatten(0, unflatten), pool.prompts)


def batches(batch_size: int, *tensors: Any) -> Iterator[tuple[Any, ...]]:
    yield from zip(*(x.split(batch_size) for x in tensors), strict=True)


def load_pool(folder: Path) -> Pool | None:
    """A pool that an interrupted run left; None where there is none."""
    if not folder.exists():
        return None
    config, state = load_artifact(folder)
    noise, target = state.pop("noise"), state.pop("target")
    return Pool(state["cond"] if "cond" in state else Text(**state), noise, target, config["prompts"])


def save_pool(folder: Path, pool: Pool) -> None:
    assert pool.target is not None, "one without ends is made again at once"
    cond = {"cond": pool.cond} if isinstance(pool.cond, Tensor) else vars(pool.cond)
    prompts = None if pool.prompts is None else list(pool.prompts)
    save_artifact(folder, {"prompts": prompts}, {**cond, "noise": pool.noise, "target": pool.target})
