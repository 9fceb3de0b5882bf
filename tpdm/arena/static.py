"""One schedule for all samples: known grids, grids that are searched for, and diffusers' solvers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor

from tpdm.arena.camp import Camp, Found
from tpdm.arena.contestant import Contestant, Entry, Kind, Schedule
from tpdm.arena.ring import Ring, around, shared
from tpdm.arena.store import Kept, described
from tpdm.evaluation.result import Problems, Run
from tpdm.registry import Positive, register
from tpdm.sampler.fixed import FixedSampler
from tpdm.sampler.grid import Grid, Levels
from tpdm.search.least_squares import DOWN, EACH, searched
from tpdm.search.problem import Problem
from tpdm.types import Condition, DenoiserLike, Prediction, Trajectory


@dataclass(frozen=True)
class OnGrid(Schedule):
    """A grid that is known beforehand."""

    grid: Grid

    def absent(self, camp: Camp, target: int) -> str | None:
        return refusal(lambda: self.grid(target))

    def find(self, camp: Camp, num_steps: int) -> tuple[Levels, float]:
        return self.grid(num_steps), 0.0

    def grids(self, ring: Ring, targets: Sequence[int]) -> Mapping[int, Levels]:
        return {}  # whoever wants it asks for it by its name


@dataclass(frozen=True)
class Searched(Schedule):
    """What a search finds on the search set."""

    search: Callable[[Problem, int], Levels]

    def absent(self, camp: Camp, target: int) -> str | None:
        """A search that has no answer for so many steps says so before it asks the denoiser anything."""
        on = camp.sets.matching
        problem = Problem(Unasked(camp.runner.denoiser), camp.runner.step, on.noise, on.cond, on.target)
        return refusal(lambda: self.search(problem, target))

    def find(self, camp: Camp, num_steps: int) -> tuple[Levels, float]:
        found = camp.found(
            f"search_{num_steps}",
            {"search": described(self.search), "steps": num_steps},
            lambda: Kept({}, {"levels": self.search(problem_of(camp, camp.sets.search), num_steps)}),
        )
        return found.tensors["levels"], found.seconds


CALLS, AGAIN = 1.5, 0.5  # of a search both ways, by the cube of its steps; what each iteration adds
ONCE = 1 / 3  # what each adds beyond those numbers of steps


@register("arena", "table")
@dataclass(frozen=True)
class Table(Schedule):
    """The best schedule that least squares find for every number of steps.

    The table is found as a whole, for up to `largest` steps: neighbours start from each other.
    """

    largest: Positive[int]
    iterations: Positive[int]

    def finding(self, camp: Camp, targets: Sequence[int]) -> int:
        samples = min(camp.sets.sizes.search, DOWN)
        most, cube = self.largest, min(self.largest, EACH) ** 3
        both_ways, once = CALLS + AGAIN * self.iterations, ONCE * self.iterations
        compared = 2 * camp.sets.sizes.search * most * (most + 1)  # by all: the few are chosen, levels judged
        return compared + round(samples * (both_ways * cube + once * (most**3 - cube)))

    def absent(self, camp: Camp, target: int) -> str | None:
        return None if target <= self.largest else f"its table ends at {self.largest} steps (largest)"

    def find(self, camp: Camp, num_steps: int) -> tuple[Levels, float]:
        found = self.found(camp)
        return found.tensors[str(num_steps)], found.seconds

    def gaps(self, camp: Camp) -> dict[int, float]:
        """By the number of steps: how far above the best of several starts the next best ended."""
        return {int(n): gap for n, gap in self.found(camp).numbers.items() if gap is not None}

    def grids(self, ring: Ring, targets: Sequence[int]) -> Mapping[int, Levels]:
        """All of the table."""
        return {int(n): levels for n, levels in self.found(ring.camp).tensors.items()}

    def found(self, camp: Camp) -> Found:
        def search() -> Kept:
            best = searched(problem_of(camp, camp.sets.search), self.largest, self.iterations)
            gaps = {str(n): found.gap for n, found in best.items()}
            return Kept(gaps, {str(n): found.levels for n, found in best.items()})

        return camp.found("table", {"table": described(self)}, search)


@dataclass(frozen=True)
class BySolver(Contestant):
    """One of diffusers' solvers on a grid of its own."""

    kind: ClassVar[Kind] = "static"

    sampler: FixedSampler

    def absent(self, camp: Camp, target: int) -> str | None:
        lengths = around(self.sampler.solver.steps(target))
        return next(filter(None, (self._absent(camp, num_steps) for num_steps in lengths)), None)

    def _absent(self, camp: Camp, num_steps: int) -> str | None:
        sampler = replace(self.sampler, num_steps=num_steps)
        return refusal(lambda: sampler.check(camp.runner.denoiser.scheduler))

    def playing(self, target: int) -> int:
        return target * len(around(self.sampler.solver.steps(target)))

    def enter(self, ring: Ring, target: int) -> Entry:
        levels: list[list[float]] = []

        def run_with(num_steps: int) -> Run:
            levels.append(self.sampler.grid(num_steps).tolist())
            sampler = replace(self.sampler, num_steps=num_steps)

            def run(noise: Tensor, cond: Condition, seeds: Sequence[int]) -> Trajectory:
                return sampler(ring.camp.runner.denoiser, noise, cond, seeds)

            return run

        return Entry(shared(self.sampler.solver.steps(target), run_with), {"levels": levels}, 0.0)


class BegunError(Exception):
    """A search has asked its first question, so that nothing spoke against it."""


class Unasked:
    """Stands for a denoiser before which nobody comes with a question."""

    def __init__(self, denoiser: DenoiserLike):
        self.scheduler = denoiser.scheduler

    def __call__(self, x: Tensor, t: Tensor, cond: Condition) -> Prediction:
        raise BegunError


def refusal(attempt: Callable[[], object]) -> str | None:
    """Why something cannot be tried; None where it can."""
    try:
        attempt()
    except ValueError as error:
        return str(error)
    except BegunError:
        return None
    return None


def problem_of(camp: Camp, on: Problems) -> Problem:
    """A set as a search takes it."""
    return Problem(camp.runner.denoiser, camp.runner.step, on.noise, on.cond, on.target)
