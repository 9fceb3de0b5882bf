"""From two numbers per sample to the Beta over ratio = t_next / t; shared by every predictor."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Beta
from torch.nn import functional as F

from tpdm.types import CostRange

KNOTS = 9  # costs, equal ratios apart, between which the logits are interpolated
SPREAD = 2.6  # by how much the logits' difference falls over all costs before training: 20 steps to 3


class BetaHead(nn.Module):
    """Beta(epsilon + e^a, epsilon + e^b) with the logits (a, b) softly capped: cap * tanh(o / cap).

    With epsilon = 1 the density has one interior mode, sigmoid(a - b). Without the cap the Beta sharpens
    before the reward has been explored; the published one has none (None). The weights start small, so that
    every sample starts at `init_logits`. Always float32: a rounded concentration moves a trajectory's
    importance ratio by percents.

    Made for a range of costs, it is told what a step costs: the dearer, the smaller a and the larger b, so
    that for epsilon >= 1 both the mode and every quantile of the ratio fall, whatever the weights. It starts
    at `init_logits` in the middle of the range.
    """

    def __init__(
        self,
        width: int,
        init_logits: tuple[float, float],
        logit_cap: float | None,
        epsilon: float,
        costs: CostRange | None = None,
    ):
        super().__init__()
        if logit_cap is not None and max(map(abs, init_logits)) >= logit_cap:
            raise ValueError(
                f"predictor.init_logits={list(init_logits)} reach predictor.logit_cap={logit_cap}"
            )
        self.logit_cap, self.epsilon = logit_cap, epsilon
        self.linear = nn.Linear(width, 2)
        nn.init.normal_(self.linear.weight, std=0.01)
        bias = [logit if logit_cap is None else uncapped(logit, logit_cap) for logit in init_logits]
        self.linear.bias.data.copy_(torch.tensor(bias))
        self.thrift = None if costs is None else Thrift(width, costs)

    def forward(self, x: Float[Tensor, "B D"], cost: Float[Tensor, "B"] | None = None) -> Beta:
        assert (cost is None) == (self.thrift is None), (
            "told a cost, or made for a range of them: both or none"
        )
        with torch.autocast(x.device.type, enabled=False):
            logits = self.linear(x.float())
            if self.thrift is not None:
                logits = logits + self.thrift(x.float(), cost)
            if self.logit_cap is not None:
                logits = self.logit_cap * torch.tanh(logits / self.logit_cap)
        concentration1, concentration0 = (self.epsilon + logits.exp()).unbind(-1)
        return Beta(concentration1, concentration0, validate_args=False)


class Thrift(nn.Module):
    """What a step's cost adds to the two logits: the first falls with it and the second rises.

    Piecewise linear in log cost; each piece's slope is read off the sample and positive by a softplus, so
    that no training can turn the order round.
    """

    sign: Tensor

    def __init__(self, width: int, costs: CostRange):
        super().__init__()
        self.costs = costs
        self.linear = nn.Linear(width, 2 * (KNOTS - 1))
        nn.init.normal_(self.linear.weight, std=0.01)
        nn.init.constant_(self.linear.bias, math.log(math.expm1(SPREAD / 2 / (KNOTS - 1))))
        self.register_buffer("sign", torch.tensor([-1.0, 1.0]), persistent=False)

    def forward(self, x: Float[Tensor, "B D"], cost: Float[Tensor, "B"]) -> Float[Tensor, "B 2"]:
        pieces = F.softplus(self.linear(x)).unflatten(-1, (2, KNOTS - 1))
        place = self.costs.share(cost.float()) * (KNOTS - 1)
        passed = (place[:, None] - torch.arange(KNOTS - 1, device=x.device)).clamp(0, 1)  # of each piece
        return self.sign * ((pieces * passed[:, None]).sum(-1) - SPREAD / 4)


def uncapped(logit: float, cap: float) -> float:
    """What the cap makes this logit of."""
    return cap * math.atanh(logit / cap)
