"""What a static schedule is searched on: noises, the ends of their exact ODEs, and the step to be taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tpdm.sampler.grid import Levels
from tpdm.sampler.integrate import Step
from tpdm.sampler.step import Past, remember
from tpdm.scheduler.path import by_noise_level, expand, retimed
from tpdm.types import Condition, DenoiserLike

Level = float | Float[Tensor, ""] | Float[Tensor, "B"]  # the same for all samples, or each one's own


@dataclass(frozen=True)
class Walk:
    """All samples at one level: `past` is what was predicted a step before, None at the start."""

    x: Float[Tensor, "B C H W"]
    past: Past | None


class Problem:
    """Levels fall from 1, where the path begins, to 0. A search looks for those that are the same for all.

    `target` is where the exact ODE from `noise` ends, and the mean squared distance to it is what a schedule
    costs, of samples that may weigh differently. Nothing here turns gradients off: a cost has one in its
    levels.
    """

    def __init__(
        self,
        denoiser: DenoiserLike,
        step: Step,
        noise: Float[Tensor, "B C H W"],
        cond: Condition,
        target: Float[Tensor, "B C H W"],
        weight: Float[Tensor, "B"] | None = None,
    ):
        self.denoiser, self.path, self.step = retimed(denoiser), by_noise_level(denoiser.scheduler), step
        self.noise, self.cond, self.target = noise, cond, target
        self.weight = noise.new_ones(len(noise)) if weight is None else weight  # 1 on the mean

    def __len__(self) -> int:
        return len(self.noise)

    def __getitem__(self, rows: slice) -> Problem:
        """The same problem on some of its samples."""
        return self.on(rows, self.weight[rows])

    def on(self, rows: slice | Int[Tensor, "R"], weight: Float[Tensor, "R"]) -> Problem:
        """The same problem on some of its samples, with other weights."""
        samples = self.noise[rows], self.cond[rows], self.target[rows]
        return Problem(self.denoiser, self.step, *samples, weight)

    def concentrated(self, levels: Levels, count: int) -> Problem:
        """At most so many samples that stand for all: importance sampling by the errors along `levels`.

        A mean is carried by its tail, which few samples drawn evenly would miss or overrate. Half of the
        draws go by the error and half evenly, so that no sample weighs more than twice its share.
        """
        if len(self) <= count:
            return self
        error = (self.weight * self.errors(self.follow(levels)[-1].x)).double()
        share = (error / error.sum() + 1 / len(self)) / 2
        drawn = (torch.arange(count, dtype=torch.float64, device=share.device) + 0.5) / count
        rows = torch.searchsorted(share.cumsum(0), drawn).clamp(max=len(self) - 1)
        rows, times = rows.unique(return_counts=True)
        weight = times * len(rows) / (count * len(self) * share[rows])
        return self.on(rows, self.weight[rows] * weight.float())

    @property
    def start(self) -> Walk:
        return Walk(self.noise, None)

    def predict(self, walk: Walk, level: Level) -> Past:
        """Both ends of the path, as the denoiser sees them where `walk` stands."""
        t = self.times(level)
        p = self.denoiser(walk.x, t, self.cond)
        return remember(p, t, walk.past)

    def advance(self, walk: Walk, ends: Past, level_next: Level) -> Walk:
        """One step of all samples, from the ends that were predicted where `walk` stands."""
        return Walk(self.step(self.path, ends, ends.t, self.times(level_next), walk.past), ends)

    def follow(self, levels: Sequence[Level] | Levels, walk: Walk | None = None) -> list[Walk]:
        """The way along `levels`, from its start or from where `walk` stands: one Walk for each level."""
        walks = [walk or self.start]
        for level, level_next in pairwise(levels):
            walks.append(self.advance(walks[-1], self.predict(walks[-1], level), level_next))
        return walks

    def times(self, level: Level) -> Float[Tensor, "B"]:
        t = torch.as_tensor(level, dtype=torch.float32, device=self.noise.device)
        return (self.path.t_max * t).expand(len(self.noise))

    def errors(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B"]:
        """Mean squared distance to the end of the exact ODE, of each sample."""
        return (x - self.target).square().flatten(1).mean(1)

    def error(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, ""]:
        """Their weighted mean; infinite where it is no number."""
        return (self.weight * self.errors(x)).mean().nan_to_num(nan=torch.inf)

    def weighed(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "R"]:
        """Differences between ends, flat, with the weight that their squares have in the error."""
        return (expand(self.weight.sqrt(), x) * x).flatten()

    def cost(self, levels: Sequence[Level] | Levels) -> Float[Tensor, ""]:
        """What a schedule is judged by."""
        return self.error(self.follow(levels)[-1].x)
