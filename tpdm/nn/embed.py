"""Embeddings of time and of labels. The only place where a label is dropped."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from tpdm.types import CondSpec


def fourier(value: Float[Tensor, "B"], width: int, max_frequency: float) -> Float[Tensor, "B E"]:
    """Cosines, then sines, of `value`, their frequencies falling by four decades from `max_frequency`."""
    half = (width + 1) // 2
    exponent = torch.arange(half, device=value.device) / half
    angle = value.float()[:, None] * max_frequency * torch.exp(-math.log(1e4) * exponent)
    return torch.cat([angle.cos(), angle.sin()], dim=1)[:, :width]


class TimeEmbedding(nn.Module):
    """Fourier features of the timestep through an MLP (DiT).

    `max_frequency` is in radians per unit of t = timestep / 1000. The published DiT has 1000, which makes the
    network rough in t; at 100 or less a schedule can be moved a little without changing the image at random.
    """

    def __init__(self, width: int, max_frequency: float, fourier_width: int = 256):
        super().__init__()
        self.max_frequency = max_frequency
        self.fourier_width = fourier_width
        self.mlp = nn.Sequential(nn.Linear(fourier_width, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, timestep: Float[Tensor, "B"]) -> Float[Tensor, "B D"]:
        x = fourier(timestep, self.fourier_width, self.max_frequency / 1000)
        return self.mlp(x.to(next(self.mlp.parameters()).dtype))


class LogTimeEmbedding(nn.Module):
    """Fourier features of log t through an MLP: as sensitive at t = 0.01 as at t = 1."""

    def __init__(self, width: int, fourier_width: int, max_frequency: float = 10.0):
        super().__init__()
        self.fourier_width, self.max_frequency = fourier_width, max_frequency
        self.mlp = nn.Sequential(nn.Linear(fourier_width, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, t: Float[Tensor, "B"]) -> Float[Tensor, "B D"]:
        x = fourier(t.float().clamp_min(1e-4).log(), self.fourier_width, self.max_frequency)
        return self.mlp(x.to(next(self.mlp.parameters()).dtype))


class LabelEmbedding(nn.Module):
    """A table for each slot; in training all labels of a sample are dropped with probability `dropout`."""

    offset: Tensor

    def __init__(self, cond: CondSpec, width: int, dropout: float):
        super().__init__()
        self.null = cond.symbols
        self.dropout = dropout
        self.table = nn.Embedding(cond.slots * (cond.symbols + 1), width)
        self.register_buffer("offset", torch.arange(cond.slots) * (cond.symbols + 1), persistent=False)

    def forward(self, cond: Int[Tensor, "B M"]) -> Float[Tensor, "B M D"]:
        if self.training and self.dropout > 0:
            dropped = torch.rand(len(cond), 1, device=cond.device) < self.dropout
            cond = torch.where(dropped, self.null, cond)
        return self.table(cond + self.offset)
