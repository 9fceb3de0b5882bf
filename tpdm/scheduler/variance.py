"""Learned variances: the hybrid loss of improved DDPM (Nichol & Dhariwal 2021), in bits per dimension."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from tpdm.scheduler.ddpm import VariancePreserving
from tpdm.scheduler.path import ends, expand

BOUND_WEIGHT = 1e-3  # lambda of L_hybrid = L_simple + lambda L_vlb (section 3.1)
HALF_BIN = 1 / 255  # of the 256 pixel values in [-1, 1]


def hybrid_loss(
    path: VariancePreserving,
    x0: Float[Tensor, "B C H W"],
    eps: Float[Tensor, "B C H W"],
    x: Float[Tensor, "B C H W"],
    t: Float[Tensor, "B"],
    raw: Float[Tensor, "B 2*C H W"],
) -> Float[Tensor, "B"]:
    """MSE on eps, which alone trains the mean, plus the bound, which alone trains the variance.

    The bound is a sum over the table's T entries of which t is one draw, hence the factor T.
    """
    predicted, fraction = raw.chunk(2, dim=1)
    simple = (predicted - eps).square().flatten(1).mean(1)
    bound = variational_bound(path, x0, x, t, predicted.detach(), fraction)
    return simple + BOUND_WEIGHT * path.num_train_timesteps * bound


def variational_bound(
    path: VariancePreserving, x0: Tensor, x: Tensor, t: Float[Tensor, "B"], eps: Tensor, fraction: Tensor
) -> Float[Tensor, "B"]:
    """One term of L_vlb in bits per dimension: a KL, or at the first entry a likelihood (eq. 4 to 7)."""
    q = path.posterior(t)
    predicted_x0, _ = ends("eps", path(t), x, eps)
    true_mean, mean = (expand(q.mean_x0, x) * ends0 + expand(q.mean_x, x) * x for ends0 in (x0, predicted_x0))
    log_variance = interpolated(fraction, expand(q.log_variance, x), expand(q.log_beta, x))
    kl = gaussian_kl(true_mean, expand(q.log_variance, x), mean, log_variance)
    likelihood = discretised_log_likelihood(x0, mean, log_variance / 2)
    first = t * path.num_train_timesteps < 1.001  # the step that ends at t = 0; t itself is rounded
    nats = torch.where(expand(first, x), -likelihood, kl)
    return nats.flatten(1).mean(1) / math.log(2)


def interpolated(fraction: Tensor, log_variance: Tensor, log_beta: Tensor) -> Tensor:
    """Log-variance between the posterior's and beta (eq. 15), from an output in [-1, 1]."""
    v = (fraction + 1) / 2
    return v * log_beta + (1 - v) * log_variance


def gaussian_kl(mean1: Tensor, log_variance1: Tensor, mean2: Tensor, log_variance2: Tensor) -> Tensor:
    """KL(N1 || N2) in nats, elementwise."""
    gap = log_variance2 - log_variance1
    return 0.5 * (gap - 1 + (-gap).exp() + (mean1 - mean2).square() * (-log_variance2).exp())


def discretised_log_likelihood(x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """Log of a Gaussian's mass in the bin of pixel x, the outer bins open (Ho et al. 2020, eq. 13), in nats.

    At least log 1e-12: farther out, the bound of the published models is flat too.
    """
    sharpness = (-log_scale).exp()
    below, above = (normal_cdf(sharpness * (x - mean + side)) for side in (HALF_BIN, -HALF_BIN))
    mass = torch.where(x < -0.999, below, torch.where(x > 0.999, 1 - above, below - above))
    return mass.clamp(min=1e-12).log()


def normal_cdf(x: Tensor) -> Tensor:
    """By the tanh that published losses were computed with (Page 1977); at most 2e-4 from the integral."""
    return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
