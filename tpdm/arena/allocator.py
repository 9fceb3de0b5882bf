"""As many steps as a sample is likely to need, foreseen from the denoiser's first call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor

from tpdm.arena.camp import Camp, Found
from tpdm.arena.contestant import Contestant, Entry, Share
from tpdm.arena.oracle import allocate, cheapest
from tpdm.arena.ring import Ring
from tpdm.arena.store import Kept, described
from tpdm.evaluation.result import Problems, Run, measure
from tpdm.evaluation.schedule import along
from tpdm.registry import Range, register
from tpdm.sampler.integrate import integrate
from tpdm.sampler.step import Past
from tpdm.scheduler.path import retimed
from tpdm.types import Condition, DenoiserLike, Features, Prediction, Trajectory

STRENGTHS = [10.0**power for power in range(7)]  # of the ridge; generalised cross-validation picks one


@register("arena", "allocator")
@dataclass(frozen=True)
class Allocator(Contestant):
    """For each sample the number of the baseline's steps whose foreseen error is least at a price for a step.

    What `oracle_steps` would do, with a ridge regression (Hoerl & Kennard 1970) of the logarithm of the error
    after 1 to `most` steps in place of the error itself. It reads the features of the first call, which every
    schedule makes at the same place, so that foreseeing costs no call; it learns on `learning`.
    """

    most: Annotated[int, Range(min=2)]

    def absent(self, camp: Camp, target: int) -> str | None:
        if target >= self.most:
            return f"it gives at most {self.most} steps"
        return camp.absence(camp.baseline, self.most)

    def finding(self, camp: Camp, targets: Sequence[int]) -> int:
        return camp.sets.sizes.learning * self.most * (self.most + 1) // 2

    def enter(self, ring: Ring, target: int) -> Entry:
        camp = ring.camp
        found = self.find(camp)
        foresee = Foresight(found.tensors["mean"], found.tensors["weights"])
        on = camp.sets.matching
        _, price = allocate(foresee(first_features(camp.runner.denoiser, on, camp.runner.t_max)), target)
        return Entry([Share(1.0, self.run_at(camp, foresee, price))], {"price": price}, found.seconds)

    def find(self, camp: Camp) -> Found:
        def learn() -> Kept:
            on, runner = camp.sets.learning, camp.runner
            seen = described_by(first_features(runner.denoiser, on, runner.t_max))
            runs = [
                along(runner.denoiser, runner.step, camp.static_times(n), on.seeds)
                for n in range(1, self.most + 1)
            ]
            errors = torch.stack([measure(run, on, runner.decode).squared_error for run in runs])
            mean, weights = ridge(seen.cpu(), errors.log().T.cpu())
            return Kept({}, {"mean": mean, "weights": weights})

        return camp.found("allocator", {"allocator": described(self), "of": camp.key(camp.baseline)}, learn)

    def run_at(self, camp: Camp, foresee: Foresight, price: float) -> Run:
        def run(noise: Tensor, cond: Condition, seeds: Sequence[int]) -> Trajectory:
            times = torch.empty(0)

            def next_time(p: Prediction, t: Tensor, rows: Tensor, k: int, past: Past | None) -> Tensor:
                nonlocal times
                if k == 0:
                    times = camp.rows(cheapest(foresee(p.features), price).cpu()).to(noise)
                return times[rows, min(k + 1, times.shape[1] - 1)]

            return integrate(camp.runner.denoiser, noise, cond, next_time, camp.runner.step, self.most)

        return run


@dataclass(frozen=True)
class Foresight:
    """Features of the first call -> the error after 1 to N steps, (N, B)."""

    mean: Float[Tensor, "F"]
    weights: Float[Tensor, "F+1 N"]  # the last row is added

    def __call__(self, features: Features) -> Float[Tensor, "N B"]:
        seen = described_by(features) - self.mean.to(features.temb.device)
        weights = self.weights.to(seen)
        return (seen @ weights[:-1] + weights[-1]).exp().T


def described_by(features: Features) -> Float[Tensor, "B F"]:
    """Mean, maximum and spread of the tokens over the image, and the embedding of time and condition."""
    tokens = torch.cat([features.first, features.last], -1).float()
    spread = tokens.std(1, correction=0)
    return torch.cat([tokens.mean(1), tokens.amax(1), spread, features.temb.float()], 1)


def first_features(denoiser: DenoiserLike, problems: Problems, t_max: float) -> Features:
    """What the denoiser shows at pure noise."""
    asked, size = retimed(denoiser), problems.batch_size
    parts = zip(problems.noise.split(size), problems.cond.split(size), strict=True)
    with torch.no_grad():
        return Features.cat([asked(x, x.new_full((len(x),), t_max), cond).features for x, cond in parts])


def ridge(
    x: Float[Tensor, "B F"], y: Float[Tensor, "B N"]
) -> tuple[Float[Tensor, "F"], Float[Tensor, "F+1 N"]]:
    """(mean of x, weights and what is added) in the units of x; columns count alike, whatever theirs are."""
    from sklearn.linear_model import RidgeCV

    mean, spread = x.double().mean(0), x.double().std(0)
    scale = torch.where(spread > 1e-6, 1 / spread, 0.0)  # what never changes tells nothing
    fit = RidgeCV(STRENGTHS).fit(((x.double() - mean) * scale).numpy(), y.double().numpy())
    weights = torch.from_numpy(fit.coef_).T * scale[:, None]
    return mean.float(), torch.cat([weights, torch.from_numpy(fit.intercept_)[None]]).float()
