"""How sure a classifier of digits is of what the condition asked for."""

from collections.abc import Sequence
from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tpdm.registry import register
from tpdm.reward.cost import Cost


class CellClassifier(Protocol):
    """Reads the symbol of every cell of a canvas."""

    empty: int  # the symbol of a cell without a digit

    def log_prob(self, x: Tensor, cond: Tensor) -> Float[Tensor, "B slots"]: ...


@register("reward", "classifier")
class ClassifierReward:
    """Mean log p(asked symbol) over the cells that were to hold a digit; over all cells of an empty scene.

    Raises ValueError where there is no classifier that could read the data.
    """

    uses_target = False
    uses_prompts = False

    def __init__(self, cost: Cost, *, classifier: CellClassifier | None):
        if classifier is None:
            raise ValueError(
                "reward=classifier reads digits, and these data have none; use reward=trajectory"
            )
        self.cost = cost
        self.classifier = classifier

    def __call__(
        self,
        x0: Float[Tensor, "B C H W"],
        cond: Int[Tensor, "B slots"],
        target: Tensor | None,
        prompts: Sequence[str] | None = None,
    ) -> Float[Tensor, "B"]:
        digit = cond != self.classifier.empty
        counted = digit | ~digit.any(1, keepdim=True)  # (B, slots)
        log_prob = torch.where(counted, self.classifier.log_prob(x0, cond), 0.0)
        return log_prob.sum(1) / counted.sum(1)
