"""The convolutional Time Predictor, as published (Ye et al. 2024, TPDM, section 3.2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Beta
from torch.nn import functional as F

from tpdm.nn.adaln import Modulation
from tpdm.nn.tokens import folded_to_map, tokens_to_map
from tpdm.predictor.head import BetaHead
from tpdm.registry import NonNegative, Positive, register
from tpdm.runtime.weights import load_exactly, read_weights
from tpdm.types import CostRange, Features, FeatureSpec


@register("predictor", "cnn")
class CNNPredictor(nn.Module):
    """(Features, t, cost) -> Beta over t_next / t, reading t from the denoiser's own time embedding.

    Convolution, group norm modulated by the time embedding, strided convolution, average to at most `pool` x
    `pool`, maximum over space. With `token_order=folded` it reads the tokens as the published one does, which
    takes raster tokens for 2 x 2 patches. Raises ValueError where `groups` do not divide `width`.
    """

    def __init__(
        self,
        width: Positive[int],
        groups: Positive[int],
        pool: Positive[int],
        init_logits: tuple[float, float],
        logit_cap: Positive[float] | None,
        epsilon: NonNegative[float],
        token_order: Literal["raster", "folded"],
        *,
        features: FeatureSpec,
        costs: CostRange | None = None,
    ):
        super().__init__()
        if width % groups:
            raise ValueError(f"predictor.width={width} does not divide over predictor.groups={groups}")
        self.pool, self.token_order = pool, token_order
        self.conv1 = nn.Conv2d(2 * features.width, width, 3, padding=1)
        self.norm = nn.GroupNorm(groups, width, affine=False)
        self.modulation = Modulation(width, 2, features.temb_width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=2, padding=1)
        self.linear = nn.Linear(width, width)
        self.head = BetaHead(width, init_logits, logit_cap, epsilon, costs)

    def forward(
        self, features: Features, t: Float[Tensor, "B"], cost: Float[Tensor, "B"] | None = None
    ) -> Beta:
        features = features.map(lambda x: x.to(self.linear.weight.dtype))
        tokens = torch.cat([features.first, features.last], dim=-1)
        place = tokens_to_map if self.token_order == "raster" else folded_to_map
        x = self.conv1(place(tokens, features.hw))  # (B, D', H, W)
        shift, scale = self.modulation(features.temb)
        x = F.silu(self.norm(x) * (1 + scale[..., None, None]) + shift[..., None, None])
        x = self.conv2(x)
        x = F.adaptive_avg_pool2d(x, (min(self.pool, x.shape[2]), min(self.pool, x.shape[3])))
        return self.head(F.silu(self.linear(x.amax((2, 3)))), cost)

    def digest(self, features: Features) -> Features:
        """No text. The convolution reads every token, and its weights learn."""
        return replace(features, text=None)

    @classmethod
    def from_official(
        cls, state_dict: Mapping[str, Tensor], token_order: Literal["raster", "folded"]
    ) -> CNNPredictor:
        """The published weights, of which each must be there and no other; ValueError names the first.

        Their norm's scale and shift are folded into what the time embedding makes: (x s + b)(1 + m) + n is
        x (1 + m') + n' with m' = s (1 + m) - 1 and n' = n + b (1 + m). No cap on the logits.
        """
        state = {official_name(name): x.float() for name, x in state_dict.items()}
        check_official(state)
        width, inputs = state["conv1.weight"].shape[:2]
        hidden, temb_width = len(state["fc1.bias"]), state["norm1.linear.weight"].shape[1]
        features = FeatureSpec(inputs // 2, temb_width, None, (64, 64))
        made = cls(width, 1, 16, (1.5, 0.5), None, 1.0, token_order, features=features)
        made.norm.eps = 1e-6
        made.linear = nn.Linear(width, hidden)
        made.head = BetaHead(hidden, (1.5, 0.5), None, 1.0)
        load_exactly(made, folded_norm(state), "the official predictor")
        return made.eval()


OFFICIAL = {  # published name -> the one here; the norm's are folded
    "conv1": "conv1",
    "conv2": "conv2",
    "fc1": "linear",
    "fc2": "head.linear",
    "norm1.linear": "modulation.proj",
    "norm1.norm": "",
}
PREFIXES = ("agent_model.time_predictor.", "time_predictor.")


def official_name(name: str) -> str:
    """Without what the reference's checkpoints put before it."""
    return next((name.removeprefix(prefix) for prefix in PREFIXES if name.startswith(prefix)), name)


def check_official(state: Mapping[str, Tensor]) -> None:
    """Raises ValueError for the first name that is missing or left over."""
    wanted = {f"{name}.{part}" for name in OFFICIAL for part in ("weight", "bias")}
    for name in sorted(wanted ^ state.keys()):
        what = "lacks" if name in wanted else "has, and nothing here has,"
        raise ValueError(f"the official predictor {what} {name}")


def folded_norm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The published weights under the names here."""
    found = {
        f"{ours}.{part}": state[f"{theirs}.{part}"]
        for theirs, ours in OFFICIAL.items()
        for part in ("weight", "bias")
        if ours
    }
    scale, shift = state["norm1.norm.weight"], state["norm1.norm.bias"]
    n_weight, m_weight = found["modulation.proj.weight"].chunk(2)
    n_bias, m_bias = found["modulation.proj.bias"].chunk(2)
    found["modulation.proj.weight"] = torch.cat(
        [n_weight + shift[:, None] * m_weight, scale[:, None] * m_weight]
    )
    found["modulation.proj.bias"] = torch.cat([n_bias + shift * (1 + m_bias), scale * (1 + m_bias) - 1])
    return found


@register("predictor", "official")
def official(path: str, token_order: Literal["raster", "folded"], *, features: FeatureSpec) -> CNNPredictor:
    """The published predictor from its file. ValueError where it reads features of other widths."""
    predictor = CNNPredictor.from_official(read_weights(Path(path), "predictor.path"), token_order)
    made_for = (predictor.conv1.in_channels // 2, predictor.modulation.proj.in_features)
    if made_for != (features.width, features.temb_width):
        raise ValueError(
            f"predictor.path={path} reads tokens and time embeddings of widths {made_for}; the model has "
            f"{(features.width, features.temb_width)}"
        )
    return predictor
