"""One schedule for all samples: known grids, grids that are searched for, and diffusers' solvers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from tpdm.arena.contestant import Entry, Kind
from tpdm.arena.ring import Found, Ring, shared
from tpdm.arena.store import Kept, described
from tpdm.evaluation.result import Run
from tpdm.registry import Positive, register
from tpdm.sampler.fixed import FixedSampler
from tpdm.sampler.grid import Grid, Levels
from tpdm.search.least_squares import table
from tpdm.search.problem import Problem
from tpdm.types import Condition, Trajectory


@dataclass(frozen=True)
class OnGrid:
    """The run's own step on a grid that is known beforehand."""

    grid: Grid
    kind: Kind = "static"

    def leans_on(self) -> tuple[str, ...]:
        return ()

    def absent(self, ring: Ring, target: int) -> str | None:
        return None

    def enter(self, ring: Ring, target: int) -> Entry:
        return own_step(ring, self.grid(target), 0.0)


@dataclass(frozen=True)
class BySolver:
    """One of diffusers' solvers on a grid of its own."""

    sampler: FixedSampler
    kind: Kind = "static"

    def leans_on(self) -> tuple[str, ...]:
        return ()

    def absent(self, ring: Ring, target: int) -> str | None:
        try:
            self.sampler.check(ring.runner.denoiser.scheduler)
        except ValueError as refusal:
            return str(refusal)
        return None

    def enter(self, ring: Ring, target: int) -> Entry:
        twice = self.sampler.solver.name == "heun"
        mean = (target + 1) / 2 if twice else target  # Heun makes 2N - 1 calls
        levels: list[list[float]] = []

        def run_with(num_steps: int) -> Run:
            levels.append(self.sampler.grid(num_steps).tolist())
            sampler = replace(self.sampler, num_steps=num_steps)

            def run(noise: Tensor, cond: Condition, seeds: Sequence[int]) -> Trajectory:
                return sampler(ring.runner.denoiser, noise, cond, seeds)

            return run

        return Entry(shared(mean, run_with), {"levels": levels}, 0.0)


@dataclass(frozen=True)
class Searched:
    """The run's own step on what a search finds on the search set."""

    search: Callable[[Problem, int], Levels]
    kind: Kind = "static"

    def leans_on(self) -> tuple[str, ...]:
        return ()

    def absent(self, ring: Ring, target: int) -> str | None:
        return None

    def enter(self, ring: Ring, target: int) -> Entry:
        found = ring.found(
            f"search_{target}",
            {"search": described(self.search), "steps": target},
            lambda: Kept({}, {"levels": self.search(problem_of(ring), target)}),
        )
        return own_step(ring, found.tensors["levels"], found.seconds)


@register("arena", "table")
@dataclass(frozen=True)
class Table:
    """The run's own step on the best schedule that least squares find for every number of steps.

    The table is found as a whole, for up to `largest` steps: neighbours start from each other.
    """

    largest: Positive[int]
    iterations: Positive[int]

    @property
    def kind(self) -> Kind:
        return "static"

    def leans_on(self) -> tuple[str, ...]:
        return ()

    def absent(self, ring: Ring, target: int) -> str | None:
        return None if target <= self.largest else f"its table ends at {self.largest} steps"

    def enter(self, ring: Ring, target: int) -> Entry:
        found = self.find(ring)
        return own_step(ring, found.tensors[str(target)], found.seconds)

    def find(self, ring: Ring) -> Found:
        def search() -> Kept:
            made = table(problem_of(ring), self.largest, self.iterations, silent=False)
            return Kept({}, {str(n): levels for n, levels in made.items()})

        return ring.found("table", {"table": described(self)}, search)


def problem_of(ring: Ring) -> Problem:
    """The search set as a search takes it."""
    on = ring.sets.search
    return Problem(ring.runner.denoiser, ring.runner.step, on.noise, on.cond, on.target)


def own_step(ring: Ring, levels: Levels, seconds: float) -> Entry:
    times = ring.runner.t_max * levels
    return Entry(shared(len(levels) - 1, lambda n: ring.along(times)), {"levels": [levels.tolist()]}, seconds)
