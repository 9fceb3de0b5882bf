"""Latent DiffiT: a transformer whose attention knows the time (Hatamizadeh et al. 2024)."""

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor, nn

from tpdm.model.official import OfficialDiffiT
from tpdm.nn.adaln import layer_norm
from tpdm.nn.attention import TimeAttention, check_heads
from tpdm.nn.embed import LabelEmbedding, TimeEmbedding
from tpdm.nn.init import xavier_linear, zero
from tpdm.nn.mlp import Mlp
from tpdm.nn.tokens import check_patches, check_positions, patchify, positions_2d, unpatchify
from tpdm.registry import Fraction, Positive, register
from tpdm.types import CondSpec, DataShape, Features, FeatureSpec


class DiffiTBlock(nn.Module):
    """x + TMSA(LN(x), c), then x + MLP(LN(x)) (eq. 7 and 8); the attention has its own `width`."""

    def __init__(self, token_width: int, width: int, num_heads: int, cond_width: int, hw: tuple[int, int]):
        super().__init__()
        self.norm1, self.norm2 = layer_norm(token_width), layer_norm(token_width)
        self.attention = TimeAttention(token_width, width, num_heads, cond_width, hw)
        self.mlp = Mlp(token_width, 4 * token_width)

    def forward(self, x: Float[Tensor, "B N D"], cond: Float[Tensor, "B E"]) -> Float[Tensor, "B N D"]:
        x = x + self.attention(self.norm1(x), cond)
        return x + self.mlp(self.norm2(x))


@register("model", "diffit")
class DiffiT(nn.Module):
    """Backbone: (x, timestep, labels) -> raw output with `outputs` values per channel, and Features.

    Time and label reach the tokens through the attention alone. Raises ValueError where the patch size does
    not divide the state or the heads do not divide the width.
    """

    def __init__(
        self,
        width: Positive[int],
        depth: Positive[int],
        num_heads: Positive[int],
        patch_size: Positive[int],
        max_frequency: Positive[float],
        label_dropout: Fraction[float],
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
        self.blocks = nn.ModuleList(
            DiffiTBlock(width, width, num_heads, width, self.hw) for _ in range(depth)
        )
        self.norm = layer_norm(width)
        self.act = nn.SiLU()
        self.head = nn.Linear(width, outputs * shape.channels * patch_size**2)
        self.init_weights()

    def forward(
        self, x: Float[Tensor, "B C H W"], timestep: Float[Tensor, "B"], cond: Tensor
    ) -> tuple[Tensor, Features]:
        text = self.label(cond)  # (B, M, D)
        temb = self.time(timestep) + text.sum(1)
        first = self.patch(patchify(x, self.patch_size).to(text.dtype)) + self.positions.to(text.dtype)

        tokens = first
        for block in self.blocks:
            tokens = block(tokens, temb)
        last = self.norm(tokens)

        raw = unpatchify(self.head(self.act(last)), self.patch_size, self.hw)
        return raw, Features(first, last, temb, text, self.hw)

    @classmethod
    def from_official(cls, state_dict: Mapping[str, Tensor], num_heads: int) -> "DiffiT":
        """The model of NVlabs/DiffiT, from its own names; in eval mode.

        Raises ValueError for a tensor that is missing, left over or of another size.
        """
        given = OfficialDiffiT(state_dict)
        model = cls(**given.sizes(), num_heads=num_heads)
        given.load_into(model)
        return model

    def init_weights(self) -> None:
        """All initialisation of this model but the biases by position, in the order it happens."""
        self.apply(xavier_linear)
        nn.init.normal_(self.label.table.weight, std=0.02)
        for weight in (p for p in self.time.parameters() if p.ndim == 2):
            nn.init.normal_(weight, std=0.02)
        zero(self.head)
