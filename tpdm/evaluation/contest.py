"""Who takes part: the predictor, what it is made of, fixed schedules; on the same noise and conditions."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from tpdm.evaluation.result import Problems, Result, Run, measure
from tpdm.evaluation.schedule import along, mean_schedule, shuffled
from tpdm.evaluation.table import Judge, Row, neighbours
from tpdm.registry import build
from tpdm.sampler.adaptive import AdaptiveSampler, mode
from tpdm.sampler.fixed import FixedSampler
from tpdm.sampler.integrate import Step
from tpdm.scheduler.flow import Flow
from tpdm.scheduler.path import by_noise_level
from tpdm.types import Condition, DenoiserLike, TimePredictor, Trajectory, UnaidedSampler

GRIDS: Mapping[str, dict[str, Any]] = {
    "uniform": {"name": "uniform"},
    "shifted": {"name": "shifted", "shift": 3.0},
}
LONG = 28  # steps of the usual fixed schedule
NFE = 8  # steps that stand for the predictor where there is none


class Contest:
    """Runs every contestant once; results are kept, since several tables and pictures read them."""

    def __init__(
        self,
        denoiser: DenoiserLike,
        sampler: AdaptiveSampler | UnaidedSampler,
        predictors: Mapping[str, TimePredictor],
        problems: Problems,
        decode: Callable[[Tensor], Tensor],
    ):
        self.denoiser, self.problems, self.decode = denoiser, problems, decode
        if isinstance(sampler, AdaptiveSampler):
            self.own = {sampler.step_name: sampler.step}
            runs = {name: partial(by_mode, sampler, p, denoiser) for name, p in predictors.items()}
        else:
            self.own = {}
            runs = {f"own sampler, {sampler.title}": partial(sampler, denoiser)}
        self.fixed = cache(self._fixed)  # (solver, grid, num_steps) -> Result
        self.shown = {name: self.measure(run) for name, run in runs.items()}  # the first one leads
        self.has_predictor = bool(self.own and runs)
        if not self.shown:
            self.shown = {f"{NFE} even steps, {step}": self.fixed(step, "uniform", NFE) for step in self.own}

    def measure(self, run: Run) -> Result:
        return measure(run, self.problems, self.decode)

    def along(self, step: Step, t: Tensor) -> Result:
        """The predictor's own step over given times: one row for all, or a row for each problem."""
        return self.measure(along(self.denoiser, step, t, self.problems.seeds))

    def _fixed(self, solver: str, grid: str, num_steps: int) -> Result:
        """`solver` is one of diffusers', or the predictor's own step."""
        if solver in self.own:
            levels = build("sampler/grid", GRIDS[grid])(num_steps)
            return self.along(self.own[solver], by_noise_level(self.denoiser.scheduler).t_max * levels)
        return self.measure(partial(theirs(solver, grid, num_steps), self.denoiser))

    def rows(self, judge: Judge) -> list[Row]:
        """All contestants as `judge` counts them; fixed ones at the first one's mean calls."""
        rows = [judge.row(name, result) for name, result in self.shown.items()]
        nfe = rows[0].nfe
        if self.has_predictor:
            rows[1:1] = [row for step in self.own.values() for row in self.borrowed_rows(judge, nfe, step)]
        rows += [self.fixed_row(judge, solver, grid, nfe) for solver in self.solvers() for grid in GRIDS]
        for solver in ("euler", *self.own):
            rows.append(judge.row(f"fixed {LONG} steps, {solver}", self.fixed(solver, "uniform", LONG)))
        return rows

    def borrowed_rows(self, judge: Judge, nfe: float, step: Step) -> list[Row]:
        """The first predictor's schedules without its choice: dealt to others, and their mean for all."""
        result, counted = next(iter(self.shown.values())), judge.counted
        t = result.t.clone()
        t[counted] = shuffled(t[counted], torch.Generator().manual_seed(0))
        means = [mean_schedule(result.t[counted], result.nfe[counted], n) for n in neighbours(nfe)]
        return [
            judge.row("shuffled between samples", self.along(step, t)),
            judge.at("own mean schedule", nfe, [self.along(step, mean) for mean in means]),
        ]

    def solvers(self) -> tuple[str, ...]:
        """The predictor's step, then diffusers' solvers, none twice: on the flow path DDIM is Euler's."""
        first_order = ("euler",) if isinstance(self.denoiser.scheduler, Flow) else ("euler", "ddim")
        return tuple(dict.fromkeys((*self.own, *first_order, "heun", "dpmpp_2m", "unipc")))

    def fixed_row(self, judge: Judge, solver: str, grid: str, nfe: float) -> Row:
        steps = neighbours(nfe if solver in self.own else theirs(solver, grid, LONG).solver.steps(nfe))
        both = solver == "euler" and "ddim" not in self.solvers()
        name = f"{grid} {solver}" + (" (= ddim)" if both else "")
        return judge.at(name, nfe, [self.fixed(solver, grid, n) for n in steps])


def theirs(solver: str, grid: str, num_steps: int) -> FixedSampler:
    """One of diffusers' solvers over a grid."""
    made: FixedSampler = build("sampler", {"name": solver, "num_steps": num_steps, "grid": GRIDS[grid]})
    return made


def by_mode(
    sampler: AdaptiveSampler,
    predictor: TimePredictor,
    denoiser: DenoiserLike,
    noise: Tensor,
    cond: Condition,
    seeds: Sequence[int],
) -> Trajectory:
    """The predictor's most likely times."""
    return sampler.rollout(predictor, denoiser, noise, cond, mode, keep_features=False).trajectory
