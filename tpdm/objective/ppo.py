"""The clipped surrogate over whole trajectories."""

import torch
from jaxtyping import Float
from torch import Tensor


def ppo_clip(
    log_prob: Float[Tensor, "B"], old_log_prob: Float[Tensor, "B"], advantage: Float[Tensor, "B"], clip: float
) -> Float[Tensor, "B"]:
    """Negated L^CLIP (Schulman et al. 2017, eq. 7), one importance ratio per trajectory as in TPDM."""
    importance = importance_ratio(log_prob, old_log_prob)
    clipped = importance.clamp(1 - clip, 1 + clip)
    return -torch.minimum(importance * advantage, clipped * advantage)


def importance_ratio(log_prob: Float[Tensor, "B"], old_log_prob: Float[Tensor, "B"]) -> Float[Tensor, "B"]:
    """p(trajectory) now over p(trajectory) when it was drawn."""
    return (log_prob - old_log_prob).exp()
