"""How many steps each sample needs, foreseen from the first call, and the best schedule of so many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

import torch
from jaxtyping import Float, Int, jaxtyped
from torch import Tensor

from tpdm.runtime.artifact import load_artifact, save_artifact
from tpdm.sampler.integrate import Step, integrate
from tpdm.sampler.step import Past
from tpdm.scheduler.path import by_noise_level
from tpdm.types import Condition, DenoiserLike, Features, Prediction, Trajectory

HALVINGS = 60  # of the price
KIND = "allocation"  # what the folder holds
ACCEPTED = "the folder arena/allocator of a run, as evaluate suite=arena leaves it there"
MADE_BY = ("step", "denoiser", "guidance_scale", "guidance")  # what the folder says beside
CONSTANT = 1e-6  # spread of a feature that tells nothing


@dataclass(frozen=True)
class Allocation:
    """Shares out steps at a price: to each sample the number at which the error that is foreseen and the
    price of its steps together are least (Everett 1963).

    Foreseen is the logarithm of the error after 1 to M steps, by a linear map of the features of the call at
    pure noise, which every schedule makes. `expected` are the errors of samples on which budgets are met.
    """

    levels: Float[Tensor, "M M+1"]  # row n - 1: the best schedule of n steps, from 1 to 0, and zeros
    mean: Float[Tensor, "F"]  # of the features
    weights: Float[Tensor, "F+1 M"]  # the last row is added
    expected: Float[Tensor, "M B"]

    @property
    def most(self) -> int:
        return len(self.levels)

    def foreseen(self, features: Features) -> Float[Tensor, "M B"]:
        """The error after 1 to M steps. ValueError where these are features of another kind of denoiser."""
        seen = pooled(features)
        if seen.shape[1] != len(self.mean):
            raise ValueError(
                f"sampler.path holds an allocation that reads {len(self.mean)} features, and this denoiser "
                f"shows {seen.shape[1]}; use it with the one that it was learned on"
            )
        weights = self.weights.to(seen)
        return ((seen - self.mean.to(seen)) @ weights[:-1] + weights[-1]).exp().T

    def price(self, nfe: float, most: int) -> float:
        """Of a step, where the samples of `expected` take a mean of `nfe`, or the nearest below it that there
        is a price for, and none over `most`. ValueError for what can be no mean."""
        if not 1 <= nfe <= most:
            raise ValueError(f"nfe={nfe:g} is no mean of 1 to {most} steps; accepted: 1 to {most}")
        return allocate(self.expected[:most], nfe)[1]

    def run(
        self,
        denoiser: DenoiserLike,
        noise: Float[Tensor, "B C H W"],
        cond: Condition,
        step: Step,
        price: float,
        most: int,
    ) -> Trajectory:
        """Every sample along the schedule that its first call speaks for, none over `most` steps."""
        levels = by_noise_level(denoiser.scheduler).t_max * self.levels.to(noise)
        chosen = noise.new_zeros(len(noise), dtype=torch.long)

        def next_time(p: Prediction, t: Tensor, rows: Tensor, k: int, past: Past | None) -> Tensor:
            if k == 0:
                chosen[:] = cheapest(self.foreseen(p.features)[:most], price)
            return levels[chosen[rows] - 1, k + 1]

        return integrate(denoiser, noise, cond, next_time, step, self.most)

    def save(self, folder: Path, made_by: dict[str, Any]) -> None:
        state = {key: value.contiguous() for key, value in vars(self).items()}
        save_artifact(folder, {"kind": KIND, **made_by}, state)

    @classmethod
    def load(cls, folder: Path) -> tuple[Allocation, dict[str, Any]]:
        """And what made it. ValueError where the folder holds something else."""
        if not folder.is_dir():
            seen = "is a file" if folder.exists() else "is missing"
            raise ValueError(f"sampler.path={folder} {seen}; accepted: {ACCEPTED}")
        made_by, state = load_artifact(folder, f"accepted as sampler.path: {ACCEPTED}")
        if made_by.get("kind") != KIND:
            raise ValueError(f"sampler.path={folder} holds no allocation; accepted: {ACCEPTED}")
        if fault := fault_of(made_by, state):
            raise ValueError(f"sampler.path={folder} holds an allocation {fault}; accepted: {ACCEPTED}")
        return cls(**state), made_by


def fault_of(made_by: Mapping[str, Any], state: Mapping[str, Tensor]) -> str | None:
    """What an allocation lacks, or which of its tensors does not fit the others; None where all is there."""
    axes = get_type_hints(Allocation)
    if lacking := [
        *(key for key in MADE_BY if key not in made_by),
        *(key for key in axes if key not in state),
    ]:
        return f"without {', '.join(lacking)}"
    with jaxtyped("context"):
        for name, axis in axes.items():
            if not isinstance(state[name], axis):
                seen = f"{state[name].dtype} of the size {tuple(state[name].shape)}"
                return f"whose {name} is {seen}, which does not fit the others"
    return None


def pooled(features: Features) -> Float[Tensor, "B F"]:
    """Mean, maximum and spread of the tokens over the image, and the embedding of time and condition."""
    tokens = torch.cat([features.first, features.last], -1).float()
    spread = tokens.std(1, correction=0)
    return torch.cat([tokens.mean(1), tokens.amax(1), spread, features.temb.float()], 1)


def units(x: Float[Tensor, "B F"]) -> tuple[Float[Tensor, "F"], Float[Tensor, "F"]]:
    """Mean and inverse spread over the samples, in which features count alike; 0 for what never changes."""
    spread, mean = torch.std_mean(x, 0, correction=0)
    return mean, torch.where(spread > CONSTANT, 1 / spread, 0.0)


def allocate(errors: Float[Tensor, "N B"], mean: float) -> tuple[Int[Tensor, "B"], float]:
    """Steps of each sample, 1 to N: their mean is at most `mean`, as near to it as one price brings it."""

    def at(price: float) -> Tensor:
        return cheapest(errors, price)

    low, high = 0.0, float(errors.max() - errors.min()) + 1e-30
    if at(low).double().mean() <= mean:
        return at(low), low
    for _ in range(HALVINGS):
        middle = (low * high) ** 0.5 if low else high / 1024
        low, high = (low, middle) if at(middle).double().mean() <= mean else (middle, high)
    return at(high), high


def cheapest(errors: Float[Tensor, "N B"], price: float) -> Int[Tensor, "B"]:
    """The number of steps, 1 to N, at which error and steps together cost least."""
    steps = torch.arange(1, len(errors) + 1, dtype=torch.float64, device=errors.device)
    return (errors.double() + price * steps[:, None]).argmin(0) + 1


def padded(schedules: Sequence[Float[Tensor, "N+1"]]) -> Float[Tensor, "M M+1"]:
    """Schedules of 1 to M steps as the rows of `levels`."""
    rows = torch.zeros(len(schedules), len(schedules) + 1)
    for row, levels in zip(rows, schedules, strict=True):
        row[: len(levels)] = levels
    return rows
