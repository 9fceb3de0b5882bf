"""How close a sample came to where the exact ODE takes its noise."""

from jaxtyping import Float
from torch import Tensor

from tpdm.registry import register
from tpdm.reward.cost import Cost


@register("reward", "trajectory")
class TrajectoryReward:
    """Minus the mean squared error to `target`, the end point of the ODE from the same noise."""

    uses_target = True

    def __init__(self, cost: Cost):
        self.cost = cost

    def __call__(
        self, x0: Float[Tensor, "B C H W"], cond: Tensor, target: Float[Tensor, "B C H W"]
    ) -> Float[Tensor, "B"]:
        return -(x0 - target).square().mean((1, 2, 3))
