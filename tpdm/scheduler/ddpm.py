"""Variance-preserving paths from a table of betas: linear (DDPM, DiT) and cosine (improved DDPM)."""

from typing import Annotated, Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from tpdm.registry import Positive, Range, register
from tpdm.types import Coefficients

Beta = Annotated[float, Range(above=0, below=1)]
Predicts = Literal["velocity", "x0", "eps", "eps_and_variance"]


class Posterior(NamedTuple):
    """q(x_s | x_t, x0) one table step below t, each (B,): mean = mean_x0 * x0 + mean_x * x_t."""

    mean_x0: Tensor
    mean_x: Tensor
    log_variance: Tensor
    log_beta: Tensor  # of q(x_t | x_s): the upper end of what a learned variance may be


class VariancePreserving:
    """alpha^2 = alphas_cumprod, whose entry n (of T) stands at t = (n + 1) / T, after a 1 at t = 0.

    Between two entries log alphas_cumprod is linear in t: alpha and sigma are smooth there, their
    derivatives have a closed form, and every noise level has one time.
    """

    t_max = 1.0

    def __init__(self, betas: Float[Tensor, "T"], predicts: str) -> None:
        if predicts not in ("eps", "eps_and_variance", "x0"):
            raise ValueError(
                f"scheduler.predicts={predicts!r} does not fit a variance-preserving path, whose d_sigma is "
                "infinite at t = 0; use eps, eps_and_variance or x0"
            )
        self.predicts = predicts
        self.num_train_timesteps = len(betas)
        # log alphas_cumprod in float64: a float32 cumprod near 1 moves the first sigmas by up to 3e-4
        self.log_table = F.pad(torch.log1p(-betas.double()).cumsum(0), (1, 0))  # (T+1,)

    def __call__(self, t: Float[Tensor, "B"]) -> Coefficients:
        log_a, slope = self._log_alphas_cumprod(t)
        alpha, sigma = (log_a / 2).exp(), (-torch.expm1(log_a)).sqrt()
        exact = (alpha, sigma, alpha * slope / 2, -log_a.exp() * slope / (2 * sigma))
        return Coefficients(*(c.to(t.dtype) for c in exact))

    def timestep(self, t: Float[Tensor, "B"]) -> Float[Tensor, "B"]:
        """The table index that discrete models are told; below the first entry, that entry."""
        return (self.num_train_timesteps * t.double() - 1).clamp(min=0).to(t.dtype)

    def time_told(self, timestep: Float[Tensor, "B"]) -> Float[Tensor, "B"]:
        """From the first entry on, since the times below it are told as that entry."""
        return ((timestep.double() + 1) / self.num_train_timesteps).to(timestep.dtype)

    def warp(self, u: Float[Tensor, "B"]) -> Float[Tensor, "B"]:
        return u

    def noise_level(self, t: Float[Tensor, "B"]) -> Float[Tensor, "B"]:
        log_a, _ = self._log_alphas_cumprod(t)
        alpha, sigma = (log_a / 2).exp(), (-torch.expm1(log_a)).sqrt()
        return (sigma / (alpha + sigma)).to(t.dtype)

    def time_at(self, noise_level: Float[Tensor, "B"]) -> Float[Tensor, "B"]:
        """alphas_cumprod = 1 / (1 + (sigma / alpha)^2), looked up in the table; at most 1."""
        table = -self.log_table.to(noise_level.device)  # increasing
        level = noise_level.double()
        wanted = torch.log1p((level / (1 - level)) ** 2).clamp(max=table[-1])
        entry = torch.searchsorted(table, wanted.detach(), right=True).clamp(1, self.num_train_timesteps) - 1
        share = (wanted - table[entry]) / (table[entry + 1] - table[entry])
        return ((entry + share) / self.num_train_timesteps).to(noise_level.dtype)

    def posterior(self, t: Float[Tensor, "B"]) -> Posterior:
        """Ho et al. 2020, eq. 6 and 7, for t > 0; on a table entry these are the numbers of its own chain.

        The log-variance of the step to t = 0 would be minus infinity: like Nichol & Dhariwal, it takes the
        value of the entry above.
        """
        step = 1 / self.num_train_timesteps
        s = (t.double() - step).clamp(min=0)
        log_t, log_s = self._log_alphas_cumprod(t)[0], self._log_alphas_cumprod(s)[0]
        beta, noise_t, noise_s = (-torch.expm1(x) for x in (log_t - log_s, log_t, log_s))
        exact = (
            (log_s / 2).exp() * beta / noise_t,
            ((log_t - log_s) / 2).exp() * noise_s / noise_t,
            self._log_variance(t.double().clamp(min=2 * step), step),
            self._log_beta(t.double().clamp(min=step), step),
        )
        return Posterior(*(c.to(t.dtype) for c in exact))

    def _log_variance(self, t: Tensor, step: float) -> Tensor:
        log_t, log_s = self._log_alphas_cumprod(t)[0], self._log_alphas_cumprod(t - step)[0]
        return self._log_beta(t, step) + torch.log(torch.expm1(log_s) / torch.expm1(log_t))

    def _log_beta(self, t: Tensor, step: float) -> Tensor:
        log_t, log_s = self._log_alphas_cumprod(t)[0], self._log_alphas_cumprod(t - step)[0]
        return torch.log(-torch.expm1(log_t - log_s))

    def _log_alphas_cumprod(self, t: Float[Tensor, "B"]) -> tuple[Tensor, Tensor]:
        """Value and slope in t, float64."""
        table = self.log_table.to(t.device)
        place = t.double() * self.num_train_timesteps
        entry = place.detach().long().clamp(0, self.num_train_timesteps - 1)
        rise = table[entry + 1] - table[entry]
        return table[entry] + (place - entry) * rise, rise * self.num_train_timesteps


@register("scheduler", "ddpm")
def ddpm(
    beta_start: Beta, beta_end: Beta, num_train_timesteps: Positive[int], predicts: Predicts
) -> VariancePreserving:
    """Linear betas (Ho et al. 2020)."""
    from diffusers import DDPMScheduler

    table = DDPMScheduler(num_train_timesteps, beta_start, beta_end, "linear")
    return VariancePreserving(table.betas, predicts)


@register("scheduler", "ddpm_cosine")
def ddpm_cosine(num_train_timesteps: Positive[int], predicts: Predicts) -> VariancePreserving:
    """alpha = cos(pi / 2 * (t + .008) / 1.008), its betas capped at .999 (Nichol & Dhariwal 2021, eq. 17)."""
    from diffusers import DDPMScheduler

    return VariancePreserving(
        DDPMScheduler(num_train_timesteps, beta_schedule="squaredcos_cap_v2").betas, predicts
    )
