"""Samplers of schedules that are known, even ones, and those made of others: the mean of many, and the same
ones dealt to other samples."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tpdm.evaluation.result import Run
from tpdm.sampler.integrate import Step, follow, integrate
from tpdm.scheduler.flow import Flow
from tpdm.scheduler.path import NoiseLevelPath
from tpdm.types import Condition, DenoiserLike, Trajectory


def along(
    denoiser: DenoiserLike,
    step: Step,
    t: Float[Tensor, "N+1"] | Float[Tensor, "B K+1"],
    seeds: Sequence[int],
) -> Run:
    """The sampler that takes `step` over given times: one row for all, or a row for each of `seeds`, which
    follow each other."""

    def run(noise: Tensor, cond: Condition, asked: Sequence[int]) -> Trajectory:
        rows = t.expand(len(noise), -1) if t.ndim == 1 else t[[seed - seeds[0] for seed in asked]]
        return integrate(denoiser, noise, cond, follow(rows.to(noise)), step, t.shape[-1] - 1)

    return run


def mean_schedule(t: Float[Tensor, "B K+1"], nfe: Int[Tensor, "B"], num_steps: int) -> Float[Tensor, "N+1"]:
    """The mean over samples of t at equal shares of each sample's own steps, from exactly t[0] to 0."""
    position = torch.linspace(0, 1, num_steps + 1)[None] * nfe[:, None].cpu()  # (B, N+1), in steps
    low = position.floor().long().clamp(max=t.shape[1] - 2)
    weight = position - low
    t = t.cpu()
    each = (1 - weight) * t.gather(1, low) + weight * t.gather(1, low + 1)
    return each.double().mean(0).float()  # the sum of equal numbers is exact there


def shuffled(t: Float[Tensor, "B K+1"], generator: torch.Generator) -> Float[Tensor, "B K+1"]:
    """The same schedules, each given to another sample."""
    return t[torch.randperm(len(t), generator=generator).to(t.device)]


def even(path: Flow | NoiseLevelPath, counts: Sequence[int]) -> Float[Tensor, "B K+1"]:
    """For each sample so many steps at even positions on the path, which is bent as it was for training."""
    return _levels(counts, lambda position: path.warp(position))


def uniform(path: Flow | NoiseLevelPath, counts: Sequence[int]) -> Float[Tensor, "B K+1"]:
    """For each sample so many steps of even noise levels."""
    return _levels(counts, lambda position: path.t_max * position)


def dealt(total: int, count: int) -> list[int]:
    """`total` steps over `count` samples, as evenly as whole numbers go: their mean is exactly that."""
    return [(k + 1) * total // count - k * total // count for k in range(count)]


def _levels(counts: Sequence[int], level: Callable[[Tensor], Tensor]) -> Float[Tensor, "B K+1"]:
    """A row falls to 0 and stays there."""
    t = torch.zeros(len(counts), max(counts) + 1, dtype=torch.float64)
    for row, steps in zip(t, counts, strict=True):
        row[:steps] = level(torch.linspace(1, 0, steps + 1, dtype=torch.float64)[:-1])
    return t.float()
