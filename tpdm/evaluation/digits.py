"""The contest on digits, which a classifier can read."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from tpdm.data.digits import count_digits, real_digits
from tpdm.evaluation.digit_classifier import DigitClassifier, digit_accuracy, digit_features
from tpdm.evaluation.evaluation import Evaluation
from tpdm.evaluation.frechet import fit_gaussian, gaussian_frechet, real_floor
from tpdm.evaluation.report import Groups
from tpdm.evaluation.table import Judge, Scores
from tpdm.registry import Positive, register
from tpdm.types import Codec, DataShape


@register("evaluation", "digits")
class DigitEvaluation(Evaluation):
    """Judges samplers of digits: distance to the exact ODE, Frechet distance and accuracy by a classifier.

    Raises ValueError where the data hold no digits, or the samples too few for a Frechet distance.
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
        classifier: DigitClassifier | None,
        device: torch.device,
    ):
        if classifier is None:
            raise ValueError(
                "evaluation=digits reads data=digits and data=digit_scenes alone; use evaluation=images"
            )
        super().__init__(num_samples, batch_size, reference_steps, data, codec, shape, device)
        self.classifier, self.count = classifier, count_digits(self.cond)
        if (digits := int(self.count.sum())) < 2:
            raise ValueError(
                f"evaluation.num_samples={num_samples} holds {digits} digits; a Frechet distance needs two"
            )

    def judges(self) -> Mapping[str, Judge]:
        """Of all scenes, and of those with digits: an empty one is done in two steps, and flatters a mean."""
        subsets = {"all scenes": self.count >= 0}
        if (self.count == 0).any():
            subsets["scenes with digits"] = self.count > 0
        real = fit_gaussian(self.classifier.features(real_digits("test")[0]))

        def judge(counted: Tensor) -> Judge:
            cond = self.cond[counted]

            def score(images: Tensor) -> Scores:
                features = fit_gaussian(digit_features(self.classifier, images, cond))
                accuracy = digit_accuracy(self.classifier, images, cond)
                return {"frechet": gaussian_frechet(features, real), "accuracy": accuracy}

            return Judge(counted, score)

        return {name: judge(counted) for name, counted in subsets.items()}

    def note(self) -> str:
        floor = real_floor(self.classifier)
        return f"; Frechet distance to held-out real digits (real against real: {floor:.3f})"

    def groups(self) -> Groups:
        return Groups(self.count, "digits", "digits in the scene")
