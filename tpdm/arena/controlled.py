"""Steps as long as their own error allows: adaptive without a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from torch import Tensor

from tpdm.arena.camp import Camp
from tpdm.arena.contestant import Contestant, Entry, Share
from tpdm.arena.ring import Ring
from tpdm.arena.store import described
from tpdm.evaluation.result import Run
from tpdm.registry import Positive, Range, register
from tpdm.sampler.error_controlled import ErrorControlledSampler
from tpdm.types import Condition, Trajectory

TOLERANCES = (1e-4, 3.0)  # of a step's error, from the most calls to the fewest


@register("arena", "controlled")
@dataclass(frozen=True)
class Controlled(Contestant):
    """sampler=error_controlled with the run's own step, at the tolerance that meets the budget."""

    first: Annotated[float, Range(above=0, below=1)]
    max_steps: Positive[int]
    t_min: Annotated[float, Range(above=0, below=1)]

    def finding(self, camp: Camp, targets: Sequence[int]) -> int:
        return camp.turning(targets)

    def enter(self, ring: Ring, target: int) -> Entry:
        runner = ring.camp.runner

        def run_at(tolerance: float) -> Run:
            step, bounds = runner.step, (self.first, self.max_steps, self.t_min)
            sampler = ErrorControlledSampler(step, tolerance, *bounds)

            def run(noise: Tensor, cond: Condition, seeds: Sequence[int]) -> Trajectory:
                return sampler(runner.denoiser, noise, cond, seeds)

            return run

        key = {"controlled": described(self)}
        found = ring.camp.matched("controlled", key, run_at, TOLERANCES, target)
        tolerance = found.numbers["knob"]
        return Entry([Share(1.0, run_at(tolerance))], {"tolerance": tolerance}, found.seconds)
