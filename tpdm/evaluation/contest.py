"""Who takes part: the predictor, what it is made of, and every fixed schedule, on the same noise and conditions."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from tpdm.evaluation.result import Problems, Result, Run, measure
from tpdm.evaluation.schedule import mean_schedule, shuffled
from tpdm.evaluation.table import Judge, Row, neighbours
from tpdm.registry import build
from tpdm.sampler.adaptive import AdaptiveSampler, mode
from tpdm.sampler.integrate import follow, integrate
from tpdm.scheduler.flow import Flow
from tpdm.scheduler.path import by_noise_level
from tpdm.types import DenoiserLike, TimePredictor, Trajectory

GRIDS: Mapping[str, dict[str, Any]] = {
    "uniform": {"name": "uniform"},
    "shifted": {"name": "shifted", "shift": 3.0},
}
LONG = 28  # steps of the usual fixed schedule
NFE = 8.0  # where fixed schedules are compared when there is no predictor to match


class Contest:
    """Runs every contestant once; results are kept, since several tables and pictures read them."""

    def __init__(
        self,
        denoiser: DenoiserLike,
        sampler: AdaptiveSampler,
        predictors: Mapping[str, TimePredictor],
        problems: Problems,
        decode: Callable[[Tensor], Tensor],
    ):
        self.denoiser, self.sampler, self.problems, self.decode = denoiser, sampler, problems, decode
        self.step_name = sampler.step_name
        self.predicted = {name: self.measure(partial(self.predict, p)) for name, p in predictors.items()}
        self.fixed = cache(self._fixed)  # (solver, grid, num_steps) -> Result

    def measure(self, run: Run) -> Result:
        return measure(run, self.problems, self.decode)

    def predict(
        self, predictor: TimePredictor, noise: Tensor, cond: Tensor, seeds: Sequence[int]
    ) -> Trajectory:
        return self.sampler.rollout(
            predictor, self.denoiser, noise, cond, mode, keep_features=False
        ).trajectory

    def along(self, t: Tensor, noise: Tensor, cond: Tensor, seeds: Sequence[int]) -> Trajectory:
        """The predictor's own step over times given beforehand: one row for all, or a row for each seed."""
        rows = (
            t.expand(len(noise), -1) if t.ndim == 1 else t[[seed - self.problems.seeds[0] for seed in seeds]]
        )
        return integrate(
            self.denoiser, noise, cond, follow(rows.to(noise)), self.sampler.step, t.shape[-1] - 1
        )

    def _fixed(self, solver: str, grid: str, num_steps: int) -> Result:
        """`solver` is one of diffusers', or "own": the predictor's step."""
        if solver == "own":
            levels = by_noise_level(self.denoiser.scheduler).t_max * build("sampler/grid", GRIDS[grid])(
                num_steps
            )
            return self.measure(partial(self.along, levels))
        sampler = build("sampler", {"name": solver, "num_steps": num_steps, "grid": GRIDS[grid]})
        return self.measure(partial(sampler, self.denoiser))

    def rows(self, judge: Judge) -> list[Row]:
        """All contestants as `judge` counts them; fixed ones at the first predictor's mean calls."""
        rows = [judge.row(name, result) for name, result in self.predicted.items()]
        nfe = rows[0].nfe if rows else NFE
        if rows:
            rows[1:1] = self.borrowed_rows(judge, nfe)
        rows += [self.fixed_row(judge, solver, grid, nfe) for solver in self.solvers() for grid in GRIDS]
        rows.append(judge.row(f"fixed {LONG} steps, euler", self.fixed("euler", "uniform", LONG)))
        rows.append(judge.row(f"fixed {LONG} steps, {self.step_name}", self.fixed("own", "uniform", LONG)))
        return rows

    def borrowed_rows(self, judge: Judge, nfe: float) -> list[Row]:
        """The first predictor's schedules without its choice: dealt to other samples, and their mean for all."""
        result, counted = next(iter(self.predicted.values())), judge.counted
        t = result.t.clone()
        t[counted] = shuffled(t[counted], torch.Generator().manual_seed(0))
        means = [mean_schedule(result.t[counted], result.nfe[counted], n) for n in neighbours(nfe)]
        return [
            judge.row("shuffled between samples", self.measure(partial(self.along, t))),
            judge.at("own mean schedule", nfe, [self.measure(partial(self.along, mean)) for mean in means]),
        ]

    def solvers(self) -> tuple[str, ...]:
        """The predictor's own step, then diffusers' solvers; on the flow path DDIM is Euler's method and not run twice."""
        first_order = ("euler",) if isinstance(self.denoiser.scheduler, Flow) else ("euler", "ddim")
        return ("own", *first_order, "heun", "dpmpp_2m", "unipc")

    def fixed_row(self, judge: Judge, solver: str, grid: str, nfe: float) -> Row:
        steps = neighbours((nfe + 1) / 2 if solver == "heun" else nfe)  # Heun makes 2N - 1 calls
        name = self.label(solver)
        return judge.at(f"{grid} {name}", nfe, [self.fixed(solver, grid, n) for n in steps])

    def label(self, solver: str) -> str:
        if solver == "own":
            return self.step_name
        return "euler (= ddim)" if solver == "euler" and "ddim" not in self.solvers() else solver
