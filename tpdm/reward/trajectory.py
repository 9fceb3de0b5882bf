"""How close a sample came to where the exact ODE takes its noise."""

from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor

from tpdm.registry import register
from tpdm.reward.cost import Cost


@register("reward", "trajectory")
class TrajectoryReward:
    """Minus the mean squared error to `target`, the end point of the ODE from the same noise."""

    uses_target = True
    uses_prompts = False

    def __init__(self, cost: Cost):
        self.cost = cost

    def __call__(
        self,
        x0: Float[Tensor, "B C H W"],
        cond: Any,
        target: Float[Tensor, "B C H W"],
        prompts: Sequence[str] | None = None,
    ) -> Float[Tensor, "B"]:
        return -(x0 - target).square().mean((1, 2, 3))
