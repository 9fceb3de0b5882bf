"""Distance of a predictor from a schedule that is known to be sound."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Beta, kl_divergence


def schedule_beta(t: Float[Tensor, "R"], num_steps: int, sharpness: float) -> Beta:
    """The uniform schedule of `num_steps` as a policy: a Beta with its mode at the next uniform time.

    Concentrations sum to sharpness + 2, so that sharpness 0 is the uniform density on (0, 1).
    """
    ratio = (1 - 1 / (num_steps * t)).clamp(0, 1)
    return Beta(1 + sharpness * ratio, 1 + sharpness * (1 - ratio), validate_args=False)


def kl(dist: Beta, reference: Beta) -> Float[Tensor, "R"]:
    """KL(dist || reference) in nats, differentiable in `dist`."""
    divergence: Tensor = kl_divergence(dist, reference)
    return torch.as_tensor(divergence)
