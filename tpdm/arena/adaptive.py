"""The predictors that the run trained, at every budget."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import Annotated, Literal

from torch import Tensor
from torch.distributions import Beta

from tpdm.arena.camp import Camp
from tpdm.arena.contestant import Contestant, Entry, Share
from tpdm.arena.ring import Ring
from tpdm.arena.store import described
from tpdm.evaluation.result import Run
from tpdm.predictor.budget import AtCost
from tpdm.registry import Registered, build, register
from tpdm.sampler.adaptive import AdaptiveSampler, Draw, mode
from tpdm.types import Condition, DenoiserLike, TimePredictor, Trajectory

PACES = (1 / 16, 16.0)  # powers of the ratio, from the most calls to the fewest


@register("arena", "adaptive")
@dataclass(frozen=True)
class Adaptive(Contestant):
    """The most likely times of a predictor. It is told the cost of a step that meets the budget; one that is
    told no cost has its ratios raised to a power in its place.

    `predictor` is a folder of the run; `step` is the step that is taken (null: the run's own).
    """

    predictor: Literal["predictor", "time_only"]
    step: Annotated[str, Registered("sampler/step")] | None

    def absent(self, camp: Camp, target: int) -> str | None:
        there = self.predictor in camp.runner.predictors
        return None if there else f"the run has no {self.predictor}"

    def finding(self, camp: Camp, targets: Sequence[int]) -> int:
        return camp.turning(targets)

    def enter(self, ring: Ring, target: int) -> Entry:
        runner = ring.camp.runner
        trained, sampler = runner.predictors[self.predictor], runner.sampler
        assert sampler is not None, "whoever trains a predictor samples by it"
        if self.step is not None:
            sampler = copy(sampler)
            sampler.step = build("sampler/step", {"name": self.step})
        name, between = "pace", PACES
        if trained.costs is not None:
            name, between = "cost", (trained.costs.low, trained.costs.high)

        def run_at(knob: float) -> Run:
            if name == "cost":
                return by(runner.denoiser, sampler, AtCost(trained.predictor, knob), mode)
            return by(runner.denoiser, sampler, trained.predictor, paced(knob))

        key, label = {"adaptive": described(self)}, f"{self.predictor}_{self.step}"
        found = ring.camp.matched(label, key, run_at, between, target)
        knob = found.numbers["knob"]
        return Entry([Share(1.0, run_at(knob))], {name: knob}, trained.seconds + found.seconds)


def by(denoiser: DenoiserLike, sampler: AdaptiveSampler, predictor: TimePredictor, draw: Draw) -> Run:
    def run(noise: Tensor, cond: Condition, seeds: Sequence[int]) -> Trajectory:
        return sampler.rollout(predictor, denoiser, noise, cond, draw, keep_features=False).trajectory

    return run


def paced(pace: float) -> Draw:
    """The mode to a power: above 1 every step goes further, below it less far."""

    def draw(dist: Beta, rows: Tensor) -> Tensor:
        return dist.mode**pace

    return draw
