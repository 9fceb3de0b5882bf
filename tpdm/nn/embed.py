"""Embeddings of time and of labels. The only place where a label is dropped."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from tpdm.types import CondSpec, Text


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
        if not isinstance(cond, CondSpec):
            raise ValueError("model reads labels, but data gives captions; use model=tld or model=unet")
        self.null = cond.symbols
        self.dropout = dropout
        self.table = nn.Embedding(cond.slots * (cond.symbols + 1), width)
        self.register_buffer("offset", torch.arange(cond.slots) * (cond.symbols + 1), persistent=False)

    def forward(self, cond: Int[Tensor, "B M"] | Int[Tensor, "B"]) -> Float[Tensor, "B M D"]:
        cond = cond.reshape(-1, len(self.offset))  # labels of one slot may come as (B,)
        if self.training and self.dropout > 0:
            dropped = torch.rand(len(cond), 1, device=cond.device) < self.dropout
            cond = torch.where(dropped, self.null, cond)
        return self.table(cond + self.offset)


class CaptionDropout(nn.Module):
    """In training, a sample's caption becomes none with probability `dropout`."""

    def __init__(self, dropout: float):
        super().__init__()
        self.dropout = dropout

    def forward(self, text: Text) -> Text:
        if not self.training or self.dropout == 0:
            return text
        return text.without(torch.rand(len(text), device=text.pooled.device) < self.dropout)


class NoiseLevelEmbedding(nn.Module):
    """Sines, then cosines, of the noise level through an MLP (TLD); 2 pi to `max_frequency` rad per unit."""

    def __init__(self, width: int, max_frequency: float, fourier_width: int = 256):
        super().__init__()
        self.range = math.log(max_frequency / (2 * math.pi))
        self.fourier_width = fourier_width
        self.mlp = nn.Sequential(nn.Linear(fourier_width, width), nn.GELU(), nn.Linear(width, width))

    def frequencies(self, device: torch.device) -> Float[Tensor, "half"]:
        return 2 * math.pi * torch.linspace(0, self.range, self.fourier_width // 2, device=device).exp()

    def forward(self, level: Float[Tensor, "B"]) -> Float[Tensor, "B D"]:
        angle = level.float()[:, None] * self.frequencies(level.device)
        x = torch.cat([angle.sin(), angle.cos()], dim=1)
        return self.mlp(x.to(next(self.mlp.parameters()).dtype))
