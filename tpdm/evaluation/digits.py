"""The contest on digits, which a classifier can read."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from tpdm.data.digits import Asked, count_digits, light_on_dark, real_digits
from tpdm.evaluation.digit_classifier import DigitClassifier, digit_accuracy, digit_features
from tpdm.evaluation.evaluation import Evaluation
from tpdm.evaluation.frechet import fit_gaussian, gaussian_frechet, real_floor
from tpdm.evaluation.report import Groups
from tpdm.evaluation.table import Judge, Scores
from tpdm.registry import Positive, register
from tpdm.types import Codec, Condition, DataShape


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
        condition: Callable[[Any], Condition],
        device: torch.device,
    ):
        if classifier is None:
            raise ValueError(
                "evaluation=digits reads digits, digit_scenes and digit_captions alone; use evaluation=images"
            )
        super().__init__(num_samples, batch_size, reference_steps, data, codec, shape, condition, device)
        self.classifier, self.asked = classifier, data.asked(self.cond)
        self.count = count_digits(self.asked.symbols)
        if (digits := int(self.count.sum())) < 2:
            raise ValueError(
                f"evaluation.num_samples={num_samples} holds {digits} digits; a Frechet distance needs two"
            )

    def judges(self) -> Mapping[str, Judge]:
        """Of all scenes, and of those with digits: an empty one is done in two steps, and flatters a mean."""
        subsets = {"all scenes": self.count >= 0}
        if (self.count == 0).any():
            subsets["scenes with digits"] = self.count > 0
        return {name: digit_judge(self.classifier, self.asked, counted) for name, counted in subsets.items()}

    def note(self) -> str:
        floor = real_floor(self.classifier)
        return f"; Frechet distance to held-out real digits (real against real: {floor:.3f})"

    def groups(self) -> Groups:
        return Groups(self.count, "digits", "digits in the scene")


def digit_judge(classifier: DigitClassifier, asked: Asked, counted: Bool[Tensor, "B"]) -> Judge:
    """Frechet distance to the held-out real digits, and accuracy, of what was `asked` and is `counted`."""
    symbols, sign = (of_all[counted] for of_all in asked)
    real = fit_gaussian(classifier.features(real_digits("test")[0]))

    def score(images: Tensor) -> Scores:
        images = light_on_dark(images, sign)
        features = fit_gaussian(digit_features(classifier, images, symbols))
        accuracy = digit_accuracy(classifier, images, symbols)
        return {"frechet": gaussian_frechet(features, real), "accuracy": accuracy}

    return Judge(counted, score)
