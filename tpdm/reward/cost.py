"""What a step costs: the reward of a finished image together with the denoiser calls spent on it."""

from collections.abc import Callable

from jaxtyping import Float, Int
from torch import Tensor

from tpdm.registry import Fraction, NonNegative, Positive, register

Cost = Callable[..., Tensor]  # (reward (B,), nfe (B,)) -> (B,); `drawn` takes costs (B,) as well


@register("reward/cost", "linear")
def linear(
    reward: Float[Tensor, "B"], nfe: Int[Tensor, "B"], /, cost: NonNegative[float]
) -> Float[Tensor, "B"]:
    """R - cost * NFE: a constant added to R changes no preference."""
    return reward - cost * nfe


@register("reward/cost", "drawn")
def drawn(
    reward: Float[Tensor, "B"],
    nfe: Int[Tensor, "B"],
    cost: Float[Tensor, "B"],
    /,
    low: Positive[float],
    high: Positive[float],
) -> Float[Tensor, "B"]:
    """R - cost * NFE at a cost of each trajectory's own, drawn log-uniformly from low to high and told to the
    predictor, which so learns every budget at once."""
    return reward - cost * nfe


@register("reward/cost", "discounted")
def discounted(
    reward: Float[Tensor, "B"], nfe: Int[Tensor, "B"], /, gamma: Fraction[float]
) -> Float[Tensor, "B"]:
    """R - |R| (1 - gamma^NFE): the reward discounted by the number of steps (Ye et al. 2024), for any sign.

    The discount gamma^NFE R takes the share 1 - gamma^NFE of R away, and the share grows with NFE. From a
    negative R it takes a loss away, and so prefers the longer of two runs with equal images. Here the share
    is one of |R| and always paid: for R >= 0 the result is gamma^NFE R as before, for R < 0 it is
    (2 - gamma^NFE) R, and the derivative in NFE is |R| gamma^NFE log(gamma) <= 0 for both.
    """
    return reward - reward.abs() * (1 - gamma**nfe)
