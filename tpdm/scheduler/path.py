"""What holds on every noise path: the two ends behind a raw output, and time measured by the noise level."""

import torch
from jaxtyping import Float
from torch import Tensor

from tpdm.scheduler.flow import Flow
from tpdm.types import Coefficients, Condition, DenoiserLike, Prediction, Scheduler


def expand(c: Float[Tensor, "B"], x: Tensor) -> Tensor:
    """(B,) to (B, 1, ..., 1), to multiply an x of any rank."""
    return c.reshape(-1, *[1] * (x.ndim - 1))


def ends(predicts: str, coefficients: Coefficients, x: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
    """(x0, eps) from x = alpha x0 + sigma eps and whatever else is known, for sigma > 0.

    A velocity is the second equation, d_alpha x0 + d_sigma eps = raw, solved by Cramer's rule.
    """
    alpha, sigma, d_alpha, d_sigma = (expand(c, x) for c in coefficients)
    match predicts:
        case "velocity":
            determinant = alpha * d_sigma - sigma * d_alpha  # 1 on the flow path
            return (d_sigma * x - sigma * raw) / determinant, (alpha * raw - d_alpha * x) / determinant
        case "x0":
            return raw, (x - alpha * raw) / sigma
        case "eps":
            return (x - sigma * raw) / alpha, raw
        case "eps_and_variance":
            return ends("eps", coefficients, x, raw[:, : x.shape[1]])  # the other channels are the variance
    raise unknown(predicts)


def raw_output(predicts: str, coefficients: Coefficients, x0: Tensor, eps: Tensor) -> Tensor:
    """What a network that knows both ends answers with: the inverse of `ends`, but for a variance."""
    match predicts:
        case "velocity":
            return expand(coefficients.d_alpha, x0) * x0 + expand(coefficients.d_sigma, x0) * eps
        case "x0":
            return x0
        case "eps" | "eps_and_variance":
            return eps
    raise unknown(predicts)


def unknown(predicts: str) -> ValueError:
    return ValueError(f"scheduler.predicts={predicts!r} is not one of velocity, x0, eps, eps_and_variance")


class NoiseLevelPath:
    """A variance-preserving path whose time is its noise level l = sigma / (alpha + sigma).

    alpha = (1 - l) / n and sigma = l / n with n^2 = l^2 + (1 - l)^2, whatever the betas were; they only say
    where the path ends (`t_max`) and what the network is told.
    """

    def __init__(self, base: Scheduler) -> None:
        self.base, self.predicts = base, base.predicts
        self.t_max = base.noise_level(torch.ones(1, dtype=torch.float64)).item()

    def __call__(self, t: Float[Tensor, "B"]) -> Coefficients:
        level = t.double()
        n = (level**2 + (1 - level) ** 2).sqrt()
        exact = ((1 - level) / n, level / n, -level / n**3, (1 - level) / n**3)
        return Coefficients(*(c.to(t.dtype) for c in exact))

    def timestep(self, t: Float[Tensor, "B"]) -> Float[Tensor, "B"]:
        return self.base.timestep(self.base.time_at(t))

    def time_told(self, timestep: Float[Tensor, "B"]) -> Float[Tensor, "B"]:
        return self.base.noise_level(self.base.time_told(timestep))

    def warp(self, u: Float[Tensor, "B"]) -> Float[Tensor, "B"]:
        return self.base.noise_level(self.base.warp(u))

    def noise_level(self, t: Float[Tensor, "B"]) -> Float[Tensor, "B"]:
        return t

    def time_at(self, noise_level: Float[Tensor, "B"]) -> Float[Tensor, "B"]:
        return noise_level


class Retimed:
    """A denoiser that is asked for noise levels and answers as at the time of that level."""

    def __init__(self, denoiser: DenoiserLike) -> None:
        self.denoiser = denoiser
        self.scheduler: Scheduler = NoiseLevelPath(denoiser.scheduler)

    def __call__(self, x: Float[Tensor, "B C H W"], t: Float[Tensor, "B"], cond: Condition) -> Prediction:
        return self.denoiser(x, self.denoiser.scheduler.time_at(t), cond)


def by_noise_level(scheduler: Scheduler) -> Flow | NoiseLevelPath:
    """The same path with time measured by the noise level."""
    return scheduler if isinstance(scheduler, Flow | NoiseLevelPath) else NoiseLevelPath(scheduler)


def retimed(denoiser: DenoiserLike) -> DenoiserLike:
    """The same denoiser on that path; itself where time is the noise level already."""
    return denoiser if isinstance(denoiser.scheduler, Flow | NoiseLevelPath) else Retimed(denoiser)
