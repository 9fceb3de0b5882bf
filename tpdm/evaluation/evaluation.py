"""Evaluates a run from its files: the contest on held-out noise and conditions, its tables and pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tpdm.data.digits import count_digits
from tpdm.evaluation.contest import Contest
from tpdm.evaluation.digit_classifier import DigitClassifier
from tpdm.evaluation.report import captions, draw, tables
from tpdm.evaluation.result import Result, make_problems, measure
from tpdm.registry import Positive, register
from tpdm.sampler.adaptive import AdaptiveSampler
from tpdm.sampler.fixed import FixedSampler
from tpdm.sampler.reference import reference
from tpdm.types import Codec, DataShape, DenoiserLike, TimePredictor, Trajectory

SEEDS = 2**31  # where the noises of evaluation are counted from; training has others


@register("evaluation", "digits")
class DigitEvaluation:
    """Judges samplers of digits: distance to the exact ODE, Frechet distance and accuracy by a classifier.

    Raises ValueError where the samples hold too few digits for a Frechet distance.
    """

    def __init__(
        self,
        num_samples: Positive[int],
        batch_size: Positive[int],
        reference_steps: Positive[int],
        *,
        data: Any,
        codec: Codec,
        shape: DataShape,
        classifier: DigitClassifier,
        device: torch.device,
    ):
        self.reference_steps, self.codec, self.classifier = reference_steps, codec, classifier
        _, cond = data.batch(num_samples, torch.Generator().manual_seed(0))
        if (digits := int(count_digits(cond).sum())) < 2:
            raise ValueError(
                f"evaluation.num_samples={num_samples} holds {digits} digits; a Frechet distance needs two"
            )
        self.problems = make_problems(cond, tuple(shape), SEEDS, batch_size, device)

    def __call__(
        self,
        denoiser: DenoiserLike,
        sampler: AdaptiveSampler | FixedSampler,
        predictors: Mapping[str, TimePredictor],
        folder: Path,
    ) -> dict[str, Any]:
        """Prints the tables, draws the pictures into `folder`, returns what belongs into summary.json."""
        exact = self.exact(denoiser)
        problems = replace(self.problems, target=exact.x0)
        contest = Contest(denoiser, sampler, predictors, problems, self.codec.decode)
        made = tables(contest, self.classifier, exact)
        for text in captions(made, self.classifier):
            print(f"{text}\n", flush=True)
        draw(contest, folder)
        return {"tables": {name: [asdict(row) for row in rows] for name, rows in made.items()}}

    def exact(self, denoiser: DenoiserLike) -> Result:
        """The ODE's own end, as a contestant at no distance from itself."""
        calls = 4 * self.reference_steps + 1

        def run(noise: Tensor, cond: Tensor, seeds: Sequence[int]) -> Trajectory:
            x0 = reference(denoiser, noise, cond, self.reference_steps)
            alive = torch.ones(len(noise), 1, dtype=torch.bool)
            return Trajectory(x0, torch.zeros(len(noise), 2), alive, torch.full((len(noise),), calls))

        result = measure(run, self.problems, self.codec.decode)
        return replace(result, squared_error=torch.zeros_like(result.squared_error))
