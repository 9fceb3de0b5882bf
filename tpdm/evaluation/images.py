"""The contest on images of any kind, and the choice of what fits the data."""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from tpdm.evaluation.digit_classifier import DigitClassifier
from tpdm.evaluation.digits import DigitEvaluation
from tpdm.evaluation.evaluation import Evaluation
from tpdm.evaluation.table import Judge
from tpdm.registry import Positive, register
from tpdm.types import Codec, Condition, DataShape


@register("evaluation", "images")
class ImageEvaluation(Evaluation):
    """Judges samplers by the distance to the exact ODE alone."""

    def __init__(
        self,
        num_samples: Positive[int],
        batch_size: Positive[int],
        reference_steps: Positive[int],
        *,
        data: Any,
        codec: Codec,
        shape: DataShape,
        condition: Callable[[Any], Condition],
        device: torch.device,
    ):
        super().__init__(num_samples, batch_size, reference_steps, data, codec, shape, condition, device)

    def judges(self) -> Mapping[str, Judge]:
        return {"all images": Judge(torch.ones(len(self.cond), dtype=torch.bool), lambda images: {})}

    def note(self) -> str:
        return ""

    def groups(self) -> None:
        return None


@register("evaluation", "auto")
def auto(
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
) -> Evaluation:
    """`digits` where a classifier can read the data's digits, `images` elsewhere."""
    choices = (num_samples, batch_size, reference_steps)
    facts: dict[str, Any] = {"data": data, "codec": codec, "shape": shape}
    if classifier is None:
        return ImageEvaluation(*choices, **facts, condition=condition, device=device)
    return DigitEvaluation(*choices, **facts, classifier=classifier, condition=condition, device=device)
