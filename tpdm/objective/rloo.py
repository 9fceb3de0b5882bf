"""Advantages from siblings: REINFORCE with a leave-one-out baseline."""

from jaxtyping import Float
from torch import Tensor


def rloo(reward: Float[Tensor, "P S"]) -> Float[Tensor, "P S"]:
    """Each sample against the mean of its siblings (Kool et al. 2019; Ahmadian et al. 2024, eq. 8)."""
    reward = reward - reward[:, :1]  # what siblings share goes first, before rounding can tell them apart
    others = (reward.sum(1, keepdim=True) - reward) / (reward.shape[1] - 1)
    return reward - others


def standardise(advantage: Float[Tensor, "P S"], clip: float) -> Float[Tensor, "P S"]:
    """In units of the batch's standard deviation, clamped to `clip`, so that no rate has a unit of reward."""
    return (advantage / advantage.std().clamp_min(1e-12)).clamp(-clip, clip)
