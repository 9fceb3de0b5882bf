"""The transformer Time Predictor: a class token reads the denoiser's first and last tokens."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Beta

from tpdm.nn.adaln import AdaptiveNorm, PlainNorm, layer_norm
from tpdm.nn.attention import Attention, CrossAttention, check_heads
from tpdm.nn.embed import LogTimeEmbedding
from tpdm.nn.mlp import Mlp
from tpdm.nn.tokens import check_positions, patchify, pool_tokens, positions_2d, tokens_to_map
from tpdm.predictor.head import BetaHead
from tpdm.registry import Fraction, NonNegative, Positive, register
from tpdm.types import CostRange, Features, FeatureSpec


class Block(nn.Module):
    """Self-attention, cross-attention to the condition's tokens if asked for, MLP; time modulates."""

    def __init__(
        self,
        width: int,
        num_heads: int,
        mlp_ratio: float,
        dropout: float,
        attention_dropout: float,
        text_width: int,
        norm: type[AdaptiveNorm | PlainNorm],
    ):
        super().__init__()
        self.norm1, self.norm3 = norm(width), norm(width)
        self.attention = Attention(width, num_heads, attention_dropout)
        if text_width:
            self.norm2 = PlainNorm(width)
            self.cross = CrossAttention(width, num_heads, text_width, attention_dropout)
        self.mlp = Mlp(width, int(mlp_ratio * width), dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "B N D"], cond: Float[Tensor, "B D"], text: Tensor | None) -> Tensor:
        x = x + self.dropout(self.attention(self.norm1(x, cond)))
        if text is not None:
            x = x + self.dropout(self.cross(self.norm2(x, cond), text))
        return x + self.dropout(self.mlp(self.norm3(x, cond)))


@register("predictor", "vit")
class ViTPredictor(nn.Module):
    """(Features, t, cost) -> Beta over t_next / t.

    `time` chooses what the predictor is told of t: Fourier features of log t, the denoiser's own embedding,
    or nothing. `text` chooses how it reads the conditioning tokens: their mean beside the time,
    cross-attention, or not at all. `projection_width` is a hidden layer between the class token and the head.
    `patch_embedding` makes one token of a patch of the backbone's: by a linear layer over all of them, or by
    one over their mean, which is then all that a rollout keeps.
    Raises ValueError where the sizes do not fit the features, or there are no conditioning tokens to read.
    """

    positions: Tensor

    def __init__(
        self,
        width: Positive[int],
        depth: Positive[int],
        num_heads: Positive[int],
        patch_size: Positive[int],
        patch_embedding: Literal["linear", "mean"],
        mlp_ratio: Positive[float],
        dropout: Fraction[float],
        attention_dropout: Fraction[float],
        time: Literal["log_t", "temb", "none"],
        time_width: Positive[int],
        text: Literal["none", "mean", "cross_attention"],
        projection_width: Positive[int] | None,
        init_logits: tuple[float, float],
        logit_cap: Positive[float],
        epsilon: NonNegative[float],
        *,
        features: FeatureSpec,
        costs: CostRange | None = None,
    ):
        super().__init__()
        check_heads("predictor", width, num_heads)
        if any(size % patch_size for size in features.hw):
            raise ValueError(
                f"predictor.patch_size={patch_size} does not divide the {features.hw} tokens of the model"
            )
        check_positions("predictor", width)
        if text != "none" and features.text_width is None:
            raise ValueError(
                f"predictor.text={text}, but the model has no conditioning tokens; use text: none"
            )
        self.patch_size = patch_size
        self.pools = patch_embedding == "mean" and patch_size > 1
        self.hw = (features.hw[0] // patch_size, features.hw[1] // patch_size)

        self.norm_first, self.norm_last = layer_norm(features.width), layer_norm(features.width)
        self.patch = nn.Linear(2 * features.width * (1 if self.pools else patch_size**2), width)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.register_buffer("positions", positions_2d(width, self.hw), persistent=False)
        self.log_time = LogTimeEmbedding(width, time_width) if time == "log_t" else None
        self.temb = nn.Linear(features.temb_width, width) if time == "temb" else None
        self.text = nn.Linear(features.text_width or 0, width) if text == "mean" else None
        cross_width = (features.text_width or 0) if text == "cross_attention" else 0
        self.cross_attention, self.reads_text = text == "cross_attention", text != "none"
        norm = PlainNorm if time == "none" and text != "mean" else AdaptiveNorm  # nothing to adapt to
        self.blocks = nn.ModuleList(
            Block(width, num_heads, mlp_ratio, dropout, attention_dropout, cross_width, norm)
            for _ in range(depth)
        )
        self.norm = PlainNorm(width)
        self.projection = (
            nn.Sequential(nn.Linear(width, projection_width), nn.SiLU())
            if projection_width
            else nn.Identity()
        )
        self.head = BetaHead(projection_width or width, init_logits, logit_cap, epsilon, costs)

    def forward(
        self, features: Features, t: Float[Tensor, "B"], cost: Float[Tensor, "B"] | None = None
    ) -> Beta:
        features = self.digest(features).map(lambda x: x.to(self.class_token.dtype))
        patches = self.patch(self.patches(features)) + self.positions
        x = torch.cat([self.class_token.expand(len(t), -1, -1), patches], dim=1)
        cond = self.condition(features, t)
        text = features.text if self.cross_attention else None
        for block in self.blocks:
            x = block(x, cond, text)
        return self.head(self.projection(self.norm(x[:, 0], cond)), cost)

    def digest(self, features: Features) -> Features:
        """The means of the patches, where nothing else is read of them, in the precision of the features;
        no time embedding and no text where they are not read. What is digested already stays as it is."""
        temb = features.temb.new_empty(len(features.temb), 0) if self.temb is None else features.temb
        text = features.text if self.reads_text else None
        first, last, hw = features.first, features.last, features.hw
        if self.pools and hw != self.hw:
            first, last = self.pooled(self.norm_first, first, hw), self.pooled(self.norm_last, last, hw)
            hw = self.hw
        return Features(first, last, temb, text, hw)

    def pooled(self, norm: nn.Module, tokens: Float[Tensor, "B N D"], hw: tuple[int, int]) -> Tensor:
        return pool_tokens(norm(tokens.to(self.class_token.dtype)), hw, self.patch_size).to(tokens.dtype)

    def patches(self, features: Features) -> Float[Tensor, "B M P"]:
        """What the patch embedding reads, one row a patch."""
        if self.pools:
            return torch.cat([features.first, features.last], dim=-1)
        tokens = torch.cat([self.norm_first(features.first), self.norm_last(features.last)], dim=-1)
        return patchify(tokens_to_map(tokens, features.hw), self.patch_size)  # of (B, N, 2D)

    def condition(self, features: Features, t: Float[Tensor, "B"]) -> Float[Tensor, "B D"]:
        """What modulates the blocks: the time and the mean of the conditioning tokens, where asked for."""
        cond = self.class_token.new_zeros(len(t), self.class_token.shape[-1])
        if self.log_time is not None:
            cond = cond + self.log_time(t)
        if self.temb is not None:
            cond = cond + self.temb(features.temb)
        if self.text is not None and features.text is not None:
            cond = cond + self.text(features.text.mean(1))
        return cond
