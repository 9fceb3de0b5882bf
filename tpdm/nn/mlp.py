"""The layers of a transformer's block that look at one token alone."""

from jaxtyping import Float
from torch import Tensor, nn

from tpdm.nn.activation import TanhGELU


class Mlp(nn.Module):
    """Two linear layers and a GELU between them, `hidden` wide; dropout after both.

    The names of the weights are timm's, and so those of the published DiT.
    """

    def __init__(self, width: int, hidden: int, dropout: float = 0.0):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.act, self.dropout = TanhGELU(), nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
        return self.dropout(self.fc2(self.dropout(self.act(self.fc1(x)))))
