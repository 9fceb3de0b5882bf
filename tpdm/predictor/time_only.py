"""A predictor that sees only t: the best that one schedule for all samples can do under the same training."""

from dataclasses import replace

from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Beta

from tpdm.nn.embed import LogTimeEmbedding
from tpdm.predictor.head import BetaHead
from tpdm.registry import NonNegative, Positive, register
from tpdm.types import CostRange, Features, FeatureSpec


@register("predictor", "time_only")
class TimeOnlyPredictor(nn.Module):
    """(Features, t, cost) -> Beta over t_next / t, blind to the features; of a cost where it has a range."""

    def __init__(
        self,
        width: Positive[int],
        time_width: Positive[int],
        init_logits: tuple[float, float],
        logit_cap: Positive[float],
        epsilon: NonNegative[float],
        *,
        features: FeatureSpec,
        costs: CostRange | None = None,
    ):
        super().__init__()
        self.time = LogTimeEmbedding(width, time_width)
        self.mlp = nn.Sequential(nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.head = BetaHead(width, init_logits, logit_cap, epsilon, costs)

    def digest(self, features: Features) -> Features:
        """Nothing of them."""
        return replace(features.map(lambda x: x.new_empty(len(x), 0)), text=None)

    def forward(
        self, features: Features, t: Float[Tensor, "B"], cost: Float[Tensor, "B"] | None = None
    ) -> Beta:
        return self.head(self.mlp(self.time(t)), cost)
