"""Convolutions, among tokens too, and the sizes of a U-shape."""

import math

from jaxtyping import Float
from torch import Tensor, nn

from tpdm.nn.tokens import map_to_tokens, tokens_to_map
from tpdm.types import DataShape

Size = tuple[int, int]


class DepthwiseMLP(nn.Module):
    """A transformer's MLP with a 3x3 depth-wise convolution before the GELU (LocalViT, Li et al. 2021)."""

    def __init__(self, width: int, dropout: float):
        super().__init__()
        self.up = nn.Linear(width, 4 * width)
        self.mix = nn.Conv2d(4 * width, 4 * width, 3, padding=1, groups=4 * width)
        self.act = nn.GELU()
        self.down = nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "B N D"], hw: tuple[int, int]) -> Float[Tensor, "B N D"]:
        mixed = self.mix(tokens_to_map(self.up(x), hw))  # (B, 4D, H, W)
        return self.dropout(self.down(self.act(map_to_tokens(mixed))))


def group_norm(channels: int) -> nn.GroupNorm:
    """Groups of equal size, 32 of them if the channels divide."""
    return nn.GroupNorm(math.gcd(32, channels), channels)


def halved(shape: DataShape, stages: int) -> list[Size]:
    """Height and width at each stage of a U-shape; ValueError where one cannot be halved into the next."""
    if stages == 0:
        raise ValueError("model.multipliers=[] leaves no stage; give one number for each resolution")
    if shape.height % 2 ** (stages - 1) or shape.width % 2 ** (stages - 1):
        raise ValueError(
            f"model.multipliers has {stages} stages, but {shape.height}x{shape.width} does not halve "
            f"{stages - 1} times"
        )
    return [(shape.height >> k, shape.width >> k) for k in range(stages)]
