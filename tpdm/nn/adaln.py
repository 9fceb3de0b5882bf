"""Normalisations that a condition may shift and scale (Peebles & Xie 2023, section 3.2)."""

from jaxtyping import Float
from torch import Tensor, nn


def modulate(x: Float[Tensor, "B N D"], shift: Float[Tensor, "B D"], scale: Float[Tensor, "B D"]) -> Tensor:
    return x * (1 + scale[:, None]) + shift[:, None]


def layer_norm(width: int) -> nn.LayerNorm:
    """LayerNorm without parameters of its own, as everywhere that a condition supplies shift and scale."""
    return nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)


class Modulation(nn.Module):
    """Regresses `chunks` vectors of the block's width from the condition."""

    def __init__(self, width: int, chunks: int, cond_width: int | None = None):
        super().__init__()
        self.chunks = chunks
        self.act = nn.SiLU()
        self.proj = nn.Linear(cond_width or width, chunks * width)

    def forward(self, cond: Float[Tensor, "B E"]) -> tuple[Tensor, ...]:
        return self.proj(self.act(cond)).chunk(self.chunks, dim=-1)


class AdaptiveNorm(nn.Module):
    """LayerNorm whose shift and scale come from the condition."""

    def __init__(self, width: int, cond_width: int | None = None):
        super().__init__()
        self.norm = layer_norm(width)
        self.modulation = Modulation(width, 2, cond_width)

    def forward(self, x: Float[Tensor, "B N D"], cond: Float[Tensor, "B E"]) -> Float[Tensor, "B N D"]:
        return modulate(self.norm(x), *self.modulation(cond))


class PlainNorm(nn.Module):
    """LayerNorm with its own shift and scale, under the signature of `AdaptiveNorm`."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, x: Float[Tensor, "B N D"], cond: Float[Tensor, "B E"]) -> Float[Tensor, "B N D"]:
        return self.norm(x)
