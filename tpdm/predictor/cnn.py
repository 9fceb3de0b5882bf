"""The convolutional Time Predictor, as published (Ye et al. 2024, TPDM, section 3.2)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Beta
from torch.nn import functional as F

from tpdm.nn.adaln import Modulation
from tpdm.nn.tokens import tokens_to_map
from tpdm.predictor.head import BetaHead
from tpdm.registry import NonNegative, Positive, register
from tpdm.types import Features, FeatureSpec


@register("predictor", "cnn")
class CNNPredictor(nn.Module):
    """(Features, t) -> Beta over t_next / t, reading t from the denoiser's own time embedding.

    Convolution, group norm modulated by the time embedding, strided convolution, average to at most `pool` x
    `pool`, maximum over space. Raises ValueError where `groups` do not divide `width`.
    """

    def __init__(
        self,
        width: Positive[int],
        groups: Positive[int],
        pool: Positive[int],
        init_logits: tuple[float, float],
        logit_cap: Positive[float],
        epsilon: NonNegative[float],
        *,
        features: FeatureSpec,
    ):
        super().__init__()
        if width % groups:
            raise ValueError(f"predictor.width={width} does not divide over predictor.groups={groups}")
        self.pool = pool
        self.conv1 = nn.Conv2d(2 * features.width, width, 3, padding=1)
        self.norm = nn.GroupNorm(groups, width, affine=False)
        self.modulation = Modulation(width, 2, features.temb_width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=2, padding=1)
        self.linear = nn.Linear(width, width)
        self.head = BetaHead(width, init_logits, logit_cap, epsilon)

    def forward(self, features: Features, t: Float[Tensor, "B"]) -> Beta:
        features = features.map(lambda x: x.to(self.linear.weight.dtype))
        tokens = torch.cat([features.first, features.last], dim=-1)
        x = self.conv1(tokens_to_map(tokens, features.hw))  # (B, D', H, W)
        shift, scale = self.modulation(features.temb)
        x = F.silu(self.norm(x) * (1 + scale[..., None, None]) + shift[..., None, None])
        x = self.conv2(x)
        x = F.adaptive_avg_pool2d(x, (min(self.pool, x.shape[2]), min(self.pool, x.shape[3])))
        return self.head(F.silu(self.linear(x.amax((2, 3)))))
