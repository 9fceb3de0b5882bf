"""One predictor for sweeps over both designs: the same interface and file format whichever is inside."""

from collections.abc import Callable
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Beta

from tpdm.registry import register
from tpdm.types import CostRange, Features, FeatureSpec


@register("predictor", "hybrid")
class HybridPredictor(nn.Module):
    """Holds the predictor that `arch` names (conf/predictor/arch), cnn or vit."""

    def __init__(self, arch: Callable[..., Any], *, features: FeatureSpec, costs: CostRange | None = None):
        super().__init__()
        self.inner = arch(features=features, costs=costs)

    def digest(self, features: Features) -> Features:
        return self.inner.digest(features)

    def forward(
        self, features: Features, t: Float[Tensor, "B"], cost: Float[Tensor, "B"] | None = None
    ) -> Beta:
        return self.inner(features, t, cost)
