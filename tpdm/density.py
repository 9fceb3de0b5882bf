"""Which positions u to train on, in [1e-5, 1] with 1 noise; the path's `warp` then turns them into times."""

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from tpdm.registry import Fraction, Positive, register

SMALLEST = 1e-5  # at u = 0 there is nothing to predict: x is x0, and eps = (x - alpha x0) / sigma is 0 / 0


@register("density", "uniform")
def uniform(n: int, generator: Generator, /) -> Float[Tensor, "n"]:
    return torch.rand(n, generator=generator, device=generator.device).clamp(SMALLEST, 1)


@register("density", "logit_normal")
def logit_normal(
    n: int, generator: Generator, /, mean: float, std: Positive[float], uniform_share: Fraction[float]
) -> Float[Tensor, "n"]:
    """sigmoid(mean + std N(0, 1)) (Esser et al. 2024, eq. 19); a share is uniform, so that no end starves."""
    normal = torch.randn(n, generator=generator, device=generator.device)
    even, coin = torch.rand(2, n, generator=generator, device=generator.device)
    u = torch.where(coin < uniform_share, even, torch.sigmoid(mean + std * normal))
    return u.clamp(SMALLEST, 1)


@register("density", "beta")
def beta(n: int, generator: Generator, /, a: Positive[float], b: Positive[float]) -> Float[Tensor, "n"]:
    """Beta(a, b), by its quantiles."""
    from scipy.special import betaincinv

    even = torch.rand(n, generator=generator, device=generator.device)
    u = torch.from_numpy(betaincinv(a, b, even.double().cpu().numpy()))
    return u.to(even).clamp(SMALLEST, 1)
