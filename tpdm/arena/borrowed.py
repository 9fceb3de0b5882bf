"""An adaptive contestant's schedules without a part of what it knows: what is each part worth?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tpdm.arena.camp import Camp, Found
from tpdm.arena.contestant import Contestant, Entry, Kind, Share
from tpdm.arena.ring import Ring, shared
from tpdm.arena.store import Kept
from tpdm.evaluation.result import Problems, Run
from tpdm.evaluation.schedule import mean_schedule, shuffled
from tpdm.registry import register
from tpdm.sampler.grid import Levels


@dataclass(frozen=True)
class Borrowed(Contestant):
    """`of` is the name of the other in the arena."""

    of: str

    def leans_on(self) -> tuple[str, ...]:
        return (self.of,)

    def check(self, name: str, others: Mapping[str, Contestant]) -> None:
        """Raises ValueError where the other does not adapt by itself: one that borrows too knows
        the schedules of one set alone, and two could borrow from each other."""
        lenders = [other for other, contestant in others.items() if contestant.adapts]
        if self.of not in lenders:
            wrong = "has no schedules of its own" if self.of in others else "is no contestant"
            accepted = ", ".join(lenders) or "none, as nobody here has schedules of its own"
            raise ValueError(f"suite.contestants.{name}.of={self.of} {wrong}; accepted: {accepted}")

    def absent(self, camp: Camp, target: int) -> str | None:
        return camp.absence(self.of, target)


@register("arena", "mean_schedule")
@dataclass(frozen=True)
class MeanSchedule(Borrowed):
    """The mean of the schedules that the other draws on the matching set, for all samples.

    It has the mean number of calls that the other has on the evaluation set, so that the two are even there.
    """

    kind: ClassVar[Kind] = "static"

    def finding(self, camp: Camp, targets: Sequence[int]) -> int:
        return camp.sets.sizes.matching * sum(targets)

    def playing(self, target: int) -> int:
        return 2 * target  # a mean is hardly ever whole

    def enter(self, ring: Ring, target: int) -> Entry:
        mean = ring.played(self.of, target).nfe.mean().item()
        found, levels = self.find(ring, target), list[list[float]]()

        def run_with(num_steps: int) -> Run:
            times = mean_schedule(found.tensors["t"], found.tensors["nfe"], num_steps)
            levels.append((times / ring.camp.runner.t_max).tolist())
            return ring.along(times)

        return Entry(shared(mean, run_with), {"levels": levels}, found.seconds)

    def grids(self, ring: Ring, targets: Sequence[int]) -> Mapping[int, Levels]:
        """Of as many steps as a budget has, the mean of what is drawn at it."""
        of_each = {target: self.find(ring, target).tensors for target in targets}
        times = {target: mean_schedule(of["t"], of["nfe"], target) for target, of in of_each.items()}
        return {target: t / ring.camp.runner.t_max for target, t in times.items()}

    def find(self, ring: Ring, target: int) -> Found:
        """Times `t` and calls `nfe` of the other on the matching set."""
        camp = ring.camp
        return camp.found(
            f"mean_schedule_of_{self.of}_{target}",
            {"mean_schedule": camp.key(self.of), "target": target},
            lambda: Kept({}, drawn(camp.contestants[self.of].enter(ring, target), camp.sets.matching)),
        )


@register("arena", "shuffled")
@dataclass(frozen=True)
class Shuffled(Borrowed):
    """The other's schedules, each dealt to another sample."""

    def enter(self, ring: Ring, target: int) -> Entry:
        t = shuffled(ring.played(self.of, target).t, torch.Generator().manual_seed(ring.seed))
        return Entry([Share(1.0, ring.along(t))], {}, 0.0)


@register("arena", "own_steps")
@dataclass(frozen=True)
class OwnSteps(Borrowed):
    """The baseline with as many steps as the other takes, sample by sample: is its shape worth anything?"""

    def enter(self, ring: Ring, target: int) -> Entry:
        run = ring.along(ring.camp.rows(ring.played(self.of, target).nfe))
        return Entry([Share(1.0, run)], {}, ring.camp.static_seconds(target))


def drawn(entry: Entry, problems: Problems) -> dict[str, Tensor]:
    """Times and calls of an entry's first sampler."""
    (_, run), *_ = entry.shares
    return dict(zip(("t", "nfe"), trajectories(run, problems), strict=True))


def trajectories(run: Run, problems: Problems) -> tuple[Float[Tensor, "B K+1"], Int[Tensor, "B"]]:
    parts = [run(*batch) for batch in problems.batches()]
    longest = max(part.t.shape[1] for part in parts)
    t = torch.cat([torch.nn.functional.pad(part.t, (0, longest - part.t.shape[1])) for part in parts])
    return t.cpu(), torch.cat([part.nfe for part in parts]).cpu()
