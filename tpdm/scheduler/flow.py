"""The straight path of flow matching (Lipman et al. 2023; Liu et al. 2023), with SD3's shift."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from tpdm.registry import Positive, register
from tpdm.types import Coefficients


@register("scheduler", "flow")
class Flow:
    """x = (1 - t) x0 + t eps. `shift` moves positions (`warp`), never the path: t is the noise level."""

    t_max = 1.0

    def __init__(
        self, shift: Positive[float], predicts: Literal["velocity", "x0", "eps", "eps_and_variance"]
    ) -> None:
        if predicts not in ("velocity", "x0"):
            raise ValueError(
                f"scheduler.predicts={predicts!r} cannot give x0 on the flow path, where alpha(1) = 0; "
                "use velocity or x0"
            )
        self.shift, self.predicts = shift, predicts

    def __call__(self, t: Float[Tensor, "B"]) -> Coefficients:
        one = torch.ones_like(t)
        return Coefficients(1 - t, t, -one, one)

    def timestep(self, t: Float[Tensor, "B"]) -> Float[Tensor, "B"]:
        return 1000 * t  # the unit that SD3, SiT and most flow models were trained to read

    def time_told(self, timestep: Float[Tensor, "B"]) -> Float[Tensor, "B"]:
        return timestep / 1000

    def warp(self, u: Float[Tensor, "B"]) -> Float[Tensor, "B"]:
        """Esser et al. 2024, eq. 23: more of the positions at high noise, for larger images."""
        return self.shift * u / (1 + (self.shift - 1) * u)

    def noise_level(self, t: Float[Tensor, "B"]) -> Float[Tensor, "B"]:
        return t

    def time_at(self, noise_level: Float[Tensor, "B"]) -> Float[Tensor, "B"]:
        return noise_level
