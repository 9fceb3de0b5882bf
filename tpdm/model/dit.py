"""DiT: a transformer over latent patches, and its four ways to read time and label (Peebles & Xie 2023)."""

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tpdm.model.official import OfficialDiT
from tpdm.nn.adaln import AdaptiveNorm, Modulation, PlainNorm, layer_norm, modulate
from tpdm.nn.attention import Attention, CrossAttention, check_heads
from tpdm.nn.embed import LabelEmbedding, TimeEmbedding
from tpdm.nn.init import xavier_linear, zero
from tpdm.nn.mlp import Mlp
from tpdm.nn.tokens import check_patches, check_positions, patchify, positions_2d, unpatchify
from tpdm.registry import Fraction, Positive, register
from tpdm.types import CondSpec, DataShape, Features, FeatureSpec


def mlp(width: int) -> Mlp:
    return Mlp(width, 4 * width)


class Block(nn.Module):
    """A transformer block under one signature: (B, N, D) tokens, (B, 2, D) embeddings of time and label.

    `extra_tokens` of the condition travel at the end of the sequence; `final_norm` fits after the last block.
    """

    extra_tokens = 0
    final_norm: Callable[[int], nn.Module] = PlainNorm

    def init_gates(self) -> None:
        """Zeroes what makes the block start as the identity; runs after the model's own initialisation."""


@register("model/block", "in_context")
class InContextBlock(Block):
    """A plain ViT block; time and label are two more tokens of the sequence."""

    extra_tokens = 2

    def __init__(self, width: int, num_heads: int, /):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attention = Attention(width, num_heads)
        self.mlp = mlp(width)

    def forward(self, x: Float[Tensor, "B N D"], cond: Float[Tensor, "B 2 D"]) -> Float[Tensor, "B N D"]:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


@register("model/block", "cross_attention")
class CrossAttentionBlock(Block):
    """Time and label are a sequence of two that the tokens attend to."""

    def __init__(self, width: int, num_heads: int, /):
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width, eps=1e-6) for _ in range(3))
        self.attention = Attention(width, num_heads)
        self.cross = CrossAttention(width, num_heads, width)
        self.mlp = mlp(width)

    def forward(self, x: Float[Tensor, "B N D"], cond: Float[Tensor, "B 2 D"]) -> Float[Tensor, "B N D"]:
        x = x + self.attention(self.norm1(x))
        x = x + self.cross(self.norm2(x), cond)
        return x + self.mlp(self.norm3(x))


@register("model/block", "adaln")
class AdaLNBlock(Block):
    """The sum of time and label shifts and scales both norms."""

    final_norm = AdaptiveNorm

    def __init__(self, width: int, num_heads: int, /):
        super().__init__()
        self.norm1, self.norm2 = layer_norm(width), layer_norm(width)
        self.attention = Attention(width, num_heads)
        self.mlp = mlp(width)
        self.modulation = Modulation(width, 4)

    def forward(self, x: Float[Tensor, "B N D"], cond: Float[Tensor, "B 2 D"]) -> Float[Tensor, "B N D"]:
        shift1, scale1, shift2, scale2 = self.modulation(cond.sum(1))
        x = x + self.attention(modulate(self.norm1(x), shift1, scale1))
        return x + self.mlp(modulate(self.norm2(x), shift2, scale2))


@register("model/block", "adaln_zero")
class AdaLNZeroBlock(Block):
    """adaLN with a gate on each branch; all gates start at zero, so that the block starts as the identity."""

    final_norm = AdaptiveNorm

    def __init__(self, width: int, num_heads: int, /):
        super().__init__()
        self.norm1, self.norm2 = layer_norm(width), layer_norm(width)
        self.attention = Attention(width, num_heads)
        self.mlp = mlp(width)
        self.modulation = Modulation(width, 6)

    def init_gates(self) -> None:
        zero(self.modulation.proj)

    def forward(self, x: Float[Tensor, "B N D"], cond: Float[Tensor, "B 2 D"]) -> Float[Tensor, "B N D"]:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(cond.sum(1))
        x = x + gate1[:, None] * self.attention(modulate(self.norm1(x), shift1, scale1))
        return x + gate2[:, None] * self.mlp(modulate(self.norm2(x), shift2, scale2))


@register("model", "dit")
class DiT(nn.Module):
    """Backbone: (x, timestep, labels) -> raw output with `outputs` values per channel, and Features.

    Raises ValueError where the patch size does not divide the state or the heads do not divide the width.
    """

    positions: Tensor

    def __init__(
        self,
        width: Positive[int],
        depth: Positive[int],
        num_heads: Positive[int],
        patch_size: Positive[int],
        max_frequency: Positive[float],
        label_dropout: Fraction[float],
        block: Callable[..., Block],
        *,
        shape: DataShape,
        cond: CondSpec,
        outputs: int = 1,
    ):
        super().__init__()
        check_heads("model", width, num_heads)
        check_positions("model", width)
        self.patch_size = patch_size
        self.hw = check_patches(patch_size, shape)
        self.features = FeatureSpec(width, width, width, self.hw)

        self.patch = nn.Linear(shape.channels * patch_size**2, width)
        self.register_buffer("positions", positions_2d(width, self.hw), persistent=False)
        self.time = TimeEmbedding(width, max_frequency)
        self.label = LabelEmbedding(cond, width, label_dropout)
        blocks = [block(width, num_heads) for _ in range(depth)]
        self.blocks = nn.ModuleList(blocks)
        self.extra_tokens = blocks[0].extra_tokens
        self.norm = blocks[0].final_norm(width)
        self.head = nn.Linear(width, outputs * shape.channels * patch_size**2)
        self.init_weights()

    def forward(
        self, x: Float[Tensor, "B C H W"], timestep: Float[Tensor, "B"], cond: Tensor
    ) -> tuple[Tensor, Features]:
        text = self.label(cond)  # (B, M, D)
        embedding = torch.stack([self.time(timestep), text.sum(1)], dim=1)  # (B, 2, D)
        temb = embedding.sum(1)
        first = self.patch(patchify(x, self.patch_size).to(text.dtype)) + self.positions.to(text.dtype)

        tokens = torch.cat([first, embedding[:, : self.extra_tokens]], dim=1)
        for block in self.blocks:
            tokens = block(tokens, embedding)
        last = self.norm(tokens[:, : first.shape[1]], temb)

        raw = unpatchify(self.head(last), self.patch_size, self.hw)
        return raw, Features(first, last, temb, text, self.hw)

    @classmethod
    def from_official(cls, state_dict: Mapping[str, Tensor], num_heads: int) -> "DiT":
        """The model of facebookresearch/DiT, from its own names; in eval mode.

        Raises ValueError for a tensor that is missing, left over or of another size.
        """
        given = OfficialDiT(state_dict)
        model = cls(**given.sizes(), num_heads=num_heads, block=AdaLNZeroBlock)
        given.load_into(model)
        return model

    def init_weights(self) -> None:
        """All initialisation of this model, in the order it happens (the paper's, from ViT and ADM)."""
        self.apply(xavier_linear)
        nn.init.normal_(self.label.table.weight, std=0.02)
        for weight in (p for p in self.time.parameters() if p.ndim == 2):
            nn.init.normal_(weight, std=0.02)
        for block in self.modules():
            if isinstance(block, Block):
                block.init_gates()
        if isinstance(self.norm, AdaptiveNorm):
            zero(self.norm.modulation.proj)
        zero(self.head)
