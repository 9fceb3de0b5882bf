"""TLD: the small text-to-image transformer whose MLP convolves (Puscasu's transformer latent diffusion)."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tpdm.model.official import OfficialTLD
from tpdm.nn.attention import attend, check_heads
from tpdm.nn.conv import DepthwiseMLP
from tpdm.nn.embed import CaptionDropout, NoiseLevelEmbedding
from tpdm.nn.init import zero
from tpdm.nn.tokens import check_patches, patchify, unpatchify
from tpdm.registry import Fraction, Positive, register
from tpdm.types import CondSpec, DataShape, Features, FeatureSpec, Text, TextSpec


class TLDBlock(nn.Module):
    """Attention to itself and to (noise level, caption), both without output projections, and the MLP."""

    def __init__(self, width: int, num_heads: int, dropout: float):
        super().__init__()
        self.num_heads, self.dropout = num_heads, dropout
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.q = nn.Linear(width, width, bias=False)
        self.kv = nn.Linear(width, 2 * width, bias=False)
        self.mlp = DepthwiseMLP(width, dropout)

    def forward(
        self, x: Float[Tensor, "B N D"], context: Float[Tensor, "B 2 D"], hw: tuple[int, int]
    ) -> Float[Tensor, "B N D"]:
        q, k, v = self.heads(self.qkv(self.norm1(x)), 3)
        x = x + attend(q, k, v, self.dropout if self.training else 0.0)
        q, k, v = *self.heads(self.q(self.norm2(x)), 1), *self.heads(self.kv(context), 2)
        x = x + attend(q, k, v, 0.0)
        return x + self.mlp(self.norm3(x), hw)

    def heads(self, x: Float[Tensor, "B N C"], parts: int) -> tuple[Tensor, ...]:
        """`parts` times (B, heads, N, D / heads)."""
        return x.unflatten(-1, (parts, self.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)


@register("model", "tld")
class TLD(nn.Module):
    """Backbone: (x, timestep, caption) -> raw output with `outputs` values per channel, and Features.

    Of a caption it reads the pooled embedding, which may also come alone, as a tensor. Raises ValueError
    where sizes do not divide, or the data has no captions.
    """

    def __init__(
        self,
        width: Positive[int],
        depth: Positive[int],
        num_heads: Positive[int],
        patch_size: Positive[int],
        max_frequency: Positive[float],
        dropout: Fraction[float],
        caption_dropout: Fraction[float],
        *,
        shape: DataShape,
        cond: CondSpec | TextSpec,
        outputs: int = 1,
        fourier_width: int = 256,
    ):
        super().__init__()
        check_heads("model", width, num_heads)
        if not isinstance(cond, TextSpec):
            raise ValueError("model=tld reads captions, but data gives labels; use other data, or model=dit")
        self.patch_size = patch_size
        self.hw = check_patches(patch_size, shape)
        self.features = FeatureSpec(width, width, width, self.hw)

        patch = shape.channels * patch_size**2
        self.patch = nn.Sequential(
            nn.Linear(patch, patch), nn.LayerNorm(patch), nn.Linear(patch, width), nn.LayerNorm(width)
        )
        self.positions = nn.Parameter(torch.empty(self.hw[0] * self.hw[1], width))
        self.noise_level = NoiseLevelEmbedding(width, max_frequency, fourier_width)
        self.drop = CaptionDropout(caption_dropout)
        self.caption = nn.Linear(cond.pooled_width, width)
        self.norm = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(TLDBlock(width, num_heads, dropout) for _ in range(depth))
        self.head = nn.Linear(width, outputs * patch)
        self.init_weights()

    def forward(
        self, x: Float[Tensor, "B C H W"], timestep: Float[Tensor, "B"], cond: Text | Float[Tensor, "B E"]
    ) -> tuple[Tensor, Features]:
        pooled = cond if isinstance(cond, Tensor) else self.drop(cond).pooled
        level = self.noise_level(timestep / 1000)  # what TLD was trained to read
        context = self.norm(torch.stack([level, self.caption(pooled.to(level.dtype))], dim=1))  # (B, 2, D)
        first = self.patch(patchify(x, self.patch_size).to(level.dtype)) + self.positions

        last = first
        for block in self.blocks:
            last = block(last, context, self.hw)

        raw = unpatchify(self.head(last), self.patch_size, self.hw)
        return raw, Features(first, last, context[:, 0], context[:, 1:], self.hw)

    @classmethod
    def from_official(cls, state_dict: Mapping[str, Tensor], num_heads: int) -> "TLD":
        """The model of apapiu/transformer_latent_diffusion, from its own names; in eval mode.

        Raises ValueError for a tensor that is missing, left over or of another size.
        """
        given = OfficialTLD(state_dict)
        model = cls(**given.sizes(), num_heads=num_heads)
        given.load_into(model)
        return model

    def init_weights(self) -> None:
        """What does not start as torch has it."""
        nn.init.normal_(self.positions, std=0.02)
        zero(self.head)
