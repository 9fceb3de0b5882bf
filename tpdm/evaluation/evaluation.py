"""Evaluates a run from its files: the contest on held-out noise and conditions, its tables and pictures."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tpdm.evaluation.contest import Contest
from tpdm.evaluation.report import Groups, draw
from tpdm.evaluation.result import Result, make_problems, measure
from tpdm.evaluation.table import Judge, render
from tpdm.sampler.adaptive import AdaptiveSampler
from tpdm.sampler.reference import reference, reference_levels
from tpdm.types import Codec, Condition, DataShape, DenoiserLike, TimePredictor, Trajectory, UnaidedSampler

SEEDS = 2**31  # where the noises of evaluation are counted from; training has others
CAPTION = """{}: MSE to the end of the exact ODE from the same noise{}.
Fixed schedules at the predictor's mean NFE, between whole numbers."""


class Evaluation(ABC):
    """The contest that every kind of image has; what is said of the images is the judges'.

    `condition` makes of the data's labels or captions what the denoiser is asked with.
    """

    def __init__(
        self,
        num_samples: int,
        batch_size: int,
        reference_steps: int,
        data: Any,
        codec: Codec,
        shape: DataShape,
        condition: Callable[[Any], Condition],
        device: torch.device,
    ):
        self.reference_steps, self.codec = reference_steps, codec
        _, self.cond = data.batch(num_samples, torch.Generator().manual_seed(0))
        self.problems = make_problems(condition(self.cond), tuple(shape), SEEDS, batch_size, device)

    @abstractmethod
    def judges(self) -> Mapping[str, Judge]:
        """One for each table, by its name."""

    @abstractmethod
    def note(self) -> str:
        """What a table's caption adds on its scores."""

    @abstractmethod
    def groups(self) -> Groups | None:
        """What the pictures colour the samples by."""

    def __call__(
        self,
        denoiser: DenoiserLike,
        sampler: AdaptiveSampler | UnaidedSampler,
        predictors: Mapping[str, TimePredictor],
        folder: Path,
    ) -> dict[str, Any]:
        """Prints the tables, draws the pictures into `folder`, returns what belongs into summary.json."""
        exact = self.exact(denoiser)
        problems = replace(self.problems, target=exact.x0)
        contest = Contest(denoiser, sampler, predictors, problems, self.codec.decode)
        made = {
            name: [*contest.rows(judge), judge.row("reference (exact ODE)", exact)]
            for name, judge in self.judges().items()
        }
        for name, rows in made.items():
            print(f"{render(rows, CAPTION.format(name, self.note()))}\n", flush=True)
        draw(contest, self.groups(), folder)
        return {"tables": {name: [row.flat() for row in rows] for name, rows in made.items()}}

    def exact(self, denoiser: DenoiserLike) -> Result:
        """The ODE's own end, as a contestant at no distance from itself."""
        calls = 4 * (len(reference_levels(denoiser.scheduler, self.reference_steps)) - 1) + 1

        def run(noise: Tensor, cond: Condition, seeds: Sequence[int]) -> Trajectory:
            x0 = reference(denoiser, noise, cond, self.reference_steps)
            alive = torch.ones(len(noise), 1, dtype=torch.bool)
            return Trajectory(x0, torch.zeros(len(noise), 2), alive, torch.full((len(noise),), calls))

        result = measure(run, self.problems, self.codec.decode)
        return replace(result, squared_error=torch.zeros_like(result.squared_error))
