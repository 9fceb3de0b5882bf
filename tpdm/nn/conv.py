"""Convolutions among tokens."""

from jaxtyping import Float
from torch import Tensor, nn

from tpdm.nn.tokens import map_to_tokens, tokens_to_map


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
