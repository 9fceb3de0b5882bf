"""Advantages from siblings: REINFORCE with a leave-one-out baseline."""

import torch
from jaxtyping import Float
from torch import Tensor

SIMILAR = 1.0  # costs whose logarithms differ by less count as similar


def rloo(reward: Float[Tensor, "P S"]) -> Float[Tensor, "P S"]:
    """Each sample against the mean of its siblings (Kool et al. 2019; Ahmadian et al. 2024, eq. 8)."""
    reward = reward - reward[:, :1]  # what siblings share goes first, before rounding can tell them apart
    others = (reward.sum(1, keepdim=True) - reward) / (reward.shape[1] - 1)
    return reward - others


def standardise(advantage: Float[Tensor, "P S"], clip: float) -> Float[Tensor, "P S"]:
    """In units of the batch's standard deviation, clamped to `clip`, so that no rate has a unit of reward."""
    return (advantage / advantage.std().clamp_min(1e-12)).clamp(-clip, clip)


def standardise_alike(
    advantage: Float[Tensor, "P S"], log_cost: Float[Tensor, "P"], clip: float
) -> Float[Tensor, "P S"]:
    """In units of the standard deviation among groups of a similar cost, clamped to `clip`.

    What is at stake grows with the cost of a step, so that one unit for all would leave the cheap ones
    unheard; one for each group would give a sample on which nothing depends the weight of any other.
    """
    advantage = advantage / log_cost.exp()[:, None]  # in steps: where steps pay, all costs are at one scale
    near = torch.exp(-0.5 * ((log_cost[:, None] - log_cost) / SIMILAR) ** 2)  # (P, P)
    variance = near @ advantage.square().mean(1) / near.sum(1)
    return (advantage / variance.sqrt().clamp_min(1e-12)[:, None]).clamp(-clip, clip)
