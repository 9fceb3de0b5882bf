"""How strongly a denoiser is guided along the path, and on which channels of the state."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from tpdm.registry import Positive, register


@register("guidance", "constant")
@dataclass(frozen=True)
class Constant:
    """The same weight everywhere (Ho & Salimans 2022), on the first `channels` only or, with null, on all."""

    channels: Positive[int] | None

    def weight(self, scale: float, timestep: Float[Tensor, "B"]) -> Float[Tensor, "B"]:
        return torch.full_like(timestep, scale, dtype=torch.float32)


@register("guidance", "power_cosine")
@dataclass(frozen=True)
class PowerCosine:
    """1 + (scale - 1) (1 - cos(pi (1 - timestep / 1000)^power)) / 2 (DiffiT): off at the noise."""

    power: Positive[float]
    channels: Positive[int] | None

    def weight(self, scale: float, timestep: Float[Tensor, "B"]) -> Float[Tensor, "B"]:
        phase = math.pi * (1 - timestep.float() / 1000).pow(self.power)
        return 1 + (scale - 1) * (1 - phase.cos()) / 2
