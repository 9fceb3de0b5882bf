"""From two numbers per sample to the Beta over ratio = t_next / t; shared by every predictor."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Beta


class BetaHead(nn.Module):
    """Beta(epsilon + e^a, epsilon + e^b) with the logits (a, b) softly capped: cap * tanh(o / cap).

    With epsilon = 1 the density has one interior mode, sigmoid(a - b). Without the cap the Beta sharpens
    before the reward has been explored; the published one has none (None). The weights start small, so that
    every sample starts at `init_logits`. Always float32: a rounded concentration moves a trajectory's
    importance ratio by percents.
    """

    def __init__(self, width: int, init_logits: tuple[float, float], logit_cap: float | None, epsilon: float):
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

    def forward(self, x: Float[Tensor, "B D"]) -> Beta:
        with torch.autocast(x.device.type, enabled=False):
            logits = self.linear(x.float())
            if self.logit_cap is not None:
                logits = self.logit_cap * torch.tanh(logits / self.logit_cap)
        concentration1, concentration0 = (self.epsilon + logits.exp()).unbind(-1)
        return Beta(concentration1, concentration0, validate_args=False)


def uncapped(logit: float, cap: float) -> float:
    """What the cap makes this logit of."""
    return cap * math.atanh(logit / cap)
