"""Bounds: what could be reached by who knew every error beforehand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

from tpdm.arena.camp import Camp
from tpdm.arena.contestant import Contestant, Entry, Kind, Share
from tpdm.arena.ring import Ring
from tpdm.evaluation.result import measure
from tpdm.registry import Positive, register
from tpdm.sampler.allocation import allocate


@dataclass(frozen=True)
class Bound(Contestant):
    """Knows the errors that it picks by."""

    kind: ClassVar[Kind] = "bound"


@register("arena", "oracle_steps")
@dataclass(frozen=True)
class OracleSteps(Bound):
    """For each sample the number of the baseline's steps that is best at a price for a step.

    The price is the same for all, and such that the mean is the budget: no other way to share out so many
    steps has a smaller mean error (Everett 1963). It gives `most` steps at most.
    """

    most: Positive[int]

    def absent(self, camp: Camp, target: int) -> str | None:
        if target > self.most:
            return f"it gives at most {self.most} steps"
        return camp.shortage(self.most)

    def enter(self, ring: Ring, target: int) -> Entry:
        errors = torch.stack([ring.static(n).error for n in range(1, self.most + 1)])
        steps, price = allocate(errors, target)
        return Entry([Share(1.0, ring.along(ring.camp.rows(steps)))], {"price": price}, 0.0)


@register("arena", "oracle_shape")
@dataclass(frozen=True)
class OracleShape(Bound):
    """For each sample the best of some shapes of the baseline's schedule, its levels to these powers."""

    powers: list[Positive[float]]

    def check(self, name: str, others: Mapping[str, Contestant]) -> None:
        super().check(name, others)
        if not self.powers:
            raise ValueError(f"suite.contestants.{name}.powers=[] is empty; accepted: one power or more")

    def playing(self, target: int) -> int:
        return (len(self.powers) + 1) * target

    def enter(self, ring: Ring, target: int) -> Entry:
        runner, times = ring.camp.runner, ring.camp.static_times(target)
        shapes = torch.stack([runner.t_max * (times / runner.t_max) ** p for p in self.powers])
        results = [measure(ring.along(t), ring.evaluation, runner.decode) for t in shapes]
        best = torch.stack([result.squared_error for result in results]).argmin(0)
        return Entry([Share(1.0, ring.along(shapes[best.cpu()]))], {"powers": self.powers}, 0.0)
