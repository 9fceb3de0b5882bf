"""As many steps as a sample is likely to need, foreseen from the denoiser's first call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor

from tpdm.arena.camp import Camp, Found
from tpdm.arena.contestant import Contestant, Entry, Share
from tpdm.arena.ring import Ring
from tpdm.arena.store import Kept, described
from tpdm.evaluation.result import Problems, Run, measure
from tpdm.evaluation.schedule import along
from tpdm.registry import Range, register
from tpdm.sampler.allocation import Allocation, padded, pooled, units
from tpdm.sampler.integrate import name_of
from tpdm.scheduler.path import retimed
from tpdm.types import Condition, DenoiserLike, Features, Trajectory

ROUNDING = torch.finfo(torch.float32).eps ** 2  # an error that is smaller, or 0, is as good as this one
STRENGTHS = [10.0**power for power in range(7)]  # of the ridge; generalised cross-validation picks one


@register("arena", "allocator")
@dataclass(frozen=True)
class Allocator(Contestant):
    """For each sample the number of the baseline's steps whose foreseen error is least at a price for a step.

    What `oracle_steps` would do, with a ridge regression (Hoerl & Kennard 1970) of the logarithm of the error
    after 1 to `most` steps, and of the mean that goes with it, in place of the error itself. It
    reads the features of the first call, which every schedule makes at the same place, so that foreseeing
    costs no call; it learns on `learning`. What it leaves is drawn with by `sampler=allocated`.
    """

    most: Annotated[int, Range(min=2)]

    def absent(self, camp: Camp, target: int) -> str | None:
        if target >= self.most:
            return f"it gives at most {self.most} steps"
        return camp.shortage(self.most)

    def finding(self, camp: Camp, targets: Sequence[int]) -> int:
        return camp.sets.sizes.learning * self.most * (self.most + 1) // 2

    def enter(self, ring: Ring, target: int) -> Entry:
        allocation, seconds = self.find(ring.camp)
        price = allocation.price(target, self.most)
        seconds += ring.camp.static_seconds(target)
        return Entry([Share(1.0, self.run_at(ring.camp, allocation, price))], {"price": price}, seconds)

    def leave(self, camp: Camp, path: Path) -> bool:
        self.find(camp)[0].save(path, {"step": name_of(camp.runner.step), **camp.runner.known_by})
        return True

    def find(self, camp: Camp) -> tuple[Allocation, float]:
        """And the seconds that finding it took."""
        key = {"allocator": described(self), "of": camp.key(camp.baseline)}
        found: Found = camp.found("allocator", key, lambda: self.learn(camp))
        return Allocation(**found.tensors), found.seconds

    def learn(self, camp: Camp) -> Kept:
        on, runner = camp.sets.learning, camp.runner
        times = [camp.static_times(n) for n in range(1, self.most + 1)]
        runs = [along(runner.denoiser, runner.step, t, on.seeds) for t in times]
        errors = torch.stack([measure(run, on, runner.decode).squared_error for run in runs])
        if not errors.isfinite().all():
            raise FloatingPointError("the denoiser answers a sample of suite.learning with what is no number")
        errors, shown = errors.clamp(min=ROUNDING), first_features(runner.denoiser, on, runner.t_max)
        seen, logs = pooled(shown).cpu(), errors.log().T.cpu()
        mean, weights = ridge(seen, logs)
        unforeseen = logs - ((seen - mean) @ weights[:-1] + weights[-1])
        # A log-normal's mean lies half a variance above that of its logarithm (Aitchison & Brown 1957). The
        # mean of the errors themselves is no guide: a few, which nobody foresaw, can be most of it.
        weights = torch.cat([weights[:-1], weights[-1:] + unforeseen.var(0, keepdim=True) / 2])
        levels, nobody = padded([t / runner.t_max for t in times]), torch.empty(self.most, 0)
        learned = Allocation(levels, mean, weights, nobody)
        expected = learned.foreseen(first_features(runner.denoiser, camp.sets.matching, runner.t_max))
        return Kept({}, vars(learned) | {"expected": expected.cpu().contiguous()})

    def run_at(self, camp: Camp, allocation: Allocation, price: float) -> Run:
        def run(noise: Tensor, cond: Condition, seeds: Sequence[int]) -> Trajectory:
            return allocation.run(camp.runner.denoiser, noise, cond, camp.runner.step, price, self.most)

        return run


def first_features(denoiser: DenoiserLike, problems: Problems, t_max: float) -> Features:
    """What the denoiser shows at pure noise."""
    asked = retimed(denoiser)
    with torch.no_grad():
        return Features.cat(
            [asked(x, x.new_full((len(x),), t_max), cond).features for x, cond, _ in problems.batches()]
        )


def ridge(
    x: Float[Tensor, "B F"], y: Float[Tensor, "B N"]
) -> tuple[Float[Tensor, "F"], Float[Tensor, "F+1 N"]]:
    """(mean of x, weights and what is added) in the units of x; columns count alike, whatever theirs are."""
    from sklearn.linear_model import RidgeCV

    mean, scale = units(x.double())
    fit = RidgeCV(STRENGTHS).fit(((x.double() - mean) * scale).numpy(), y.double().numpy())
    weights = torch.from_numpy(fit.coef_).T * scale[:, None]
    return mean.float(), torch.cat([weights, torch.from_numpy(fit.intercept_)[None]]).float()
